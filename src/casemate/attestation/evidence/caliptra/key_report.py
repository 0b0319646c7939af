"""A key report: signed by a partition's identity key, and of the host that its evidence says.

The partition's key is certified by an exported CDI of the device's DPE, below the RT alias key.
Checks, in order: the report's form; who certified the partition; its signature; that it names the
partition of its certificate; that its measurements are those that the device's DPE stashed; and
what it answers to: by itself the nonce, zero-padded; with a token see `bound_key`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import device, environments
from casemate.attestation.evidence.caliptra.chain import Chain
from casemate.attestation.evidence.caliptra.layers import Layer, Role
from casemate.attestation.evidence.caliptra.nodes import Node
from casemate.attestation.evidence.caliptra.signatures import PublicKey, SignatureError
from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats import key_report as reports
from casemate.formats.corim.measurement import SHA384, Digest, Measurement, MeasurementValues
from casemate.formats.cose import Sign1
from casemate.formats.key_report import Flag, KeyReport, KeyReportError
from casemate.formats.module_parts import PartName

_ROOT_OF_TRUST, _NAMED = "root-of-trust", "anchor"


@dataclass(frozen=True, slots=True)
class Signed:
    """A report with its signature still to be verified."""

    message: Sign1
    report: KeyReport


def read_report(data: bytes, checks: Checklist) -> Signed:
    """Read a report. Raises EvidenceError."""
    try:
        message, report = reports.decode(data)
    except KeyReportError as error:
        checks.refuse("key-report", str(error))
    checks.require(
        "key-report-flags",
        not (Flag.IMPORTED in report.flags and Flag.GENERATED in report.flags),
        "the key report says that the key was both imported and generated",
    )
    return Signed(message, report)


def verify_signature(signed: Signed, key: PublicKey, checks: Checklist) -> None:
    """Check the report's signature by the partition's key. Raises EvidenceError."""
    try:
        key.verify_raw(signed.message.signature, signed.message.to_be_signed())
    except SignatureError as error:
        checks.refuse(
            "key-report-signature", f"the key report is not signed by its partition: {error}"
        )
    checks.note("key-report-signature", "the partition's key signed the key report")


def check_partition(report: KeyReport, partition: Layer, checks: Checklist) -> None:
    """The report names the partition that its certificate names (its UUID)."""
    checks.equal(
        "key-report-partition",
        expected=partition.serial_number.lower(),
        found=report.app_uuid.hex(),
        what="the partition that the key report names, against its certificate",
    )


def check_measurements(report: KeyReport, nodes: Sequence[Node], checks: Checklist) -> None:
    """Every part that the report names was stashed under that part's id, with that digest."""
    stashed = {(node.kind, node.current) for node in nodes[2:]}
    for name, digest in report.measurements.items():
        part = _part(name)
        checks.require(
            "key-report-measurements",
            part is not None and (part.fw_id, digest) in stashed,
            f"the key report measures {name!r} differently from the device",
            found=digest.hex(),
        )


def authority_nodes(chain: Chain, checks: Checklist) -> tuple[Node, ...]:
    """The measurements of the CDI that certified a partition. Raises EvidenceError."""
    exported = chain.layer(Role.EXPORTED)
    if exported is None:
        checks.refuse(
            "partition-authority",
            "the partition's certificate does not hang on an exported CDI of a device",
            found=", ".join(layer.role.value for layer in chain.layers),
        )
    nodes = device.leaf_nodes(exported, checks)
    device.check_owner(nodes, checks)
    return nodes


def check_nonce(report: KeyReport, nonce: bytes, checks: Checklist) -> None:
    """The report data is a verifier's nonce, zero-padded."""
    checks.equal(
        "nonce",
        expected=nonce.hex(),
        found=report.report_data[: len(nonce)].hex(),
        what="the nonce in the key report's data",
    )
    checks.require(
        "key-report-data",
        not any(report.report_data[len(nonce) :]),
        "the key report's data goes on behind the nonce",
    )


def component(report: KeyReport, *, certified: bool, partition: Layer | None) -> Component:
    """The key. `certified` says whether a root of trust vouches for the partition."""
    facts: dict[str, Fact] = {
        "version": report.version,
        "kind": report.kind,
        "public_key": report.public_key,
        "app_uuid": report.app_uuid.hex(),
        "vm_launch_id": report.vm_launch_id.hex(),
        "certified_by": _ROOT_OF_TRUST if certified else _NAMED,
        **{str(flag.name).lower(): flag in report.flags for flag in Flag},
    }
    if partition is not None:
        facts["partition"] = partition.common_name.removeprefix("Casemate partition ")
    measured = tuple(
        Measured(
            label=name,
            environment=environments.of_firmware(part.fw_id)
            if (part := _part(name)) is not None
            else environments.of_type(name.encode()),
            measurement=Measurement(values=MeasurementValues(digests=(Digest(SHA384, digest),))),
            claim=TrustClaim.EXECUTABLES,
        )
        for name, digest in report.measurements.items()
    )
    return Component(name="key", measured=measured, facts=facts)


def _part(name: str) -> PartName | None:
    return PartName(name) if name in PartName._value2member_map_ else None
