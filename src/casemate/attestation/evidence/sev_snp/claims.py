"""What a SEV-SNP report claims: its component, by the CoRIM profile for SEV-SNP.

One component, `sev-snp`. Environment and measurements follow
draft-deeglaze-amd-sev-snp-corim-profile (0fbed55):

- class id: OID 1.3.6.1.4.1.3704.3.1 (VCEK) or .2 (VLEK), content bytes under tag 111; instance: the
  chip id or the provider's id, as bytes under tag 560.
- measurements by the profile's numbers (`Key`). Host data has 32 bytes and is given as a raw value,
  since the profile's digest of 48 bytes cannot hold it. Report data, report id and chip id are
  facts: no reference value knows them.
- each security patch level also by name ("reported-tcb/snp"), as an SVN of its own: the profile's
  TCB versions are one number of 64 bits, which orders them by microcode alone.

Only the launch measurement is missed where no reference value stands for it.

Facts: the policy's and the platform's bits, VMPL, versions, levels ("reported_tcb_snp"),
identifiers, and whether a CRL was at hand.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats import sev_snp
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    SHA384,
    TAG_BYTES,
    TAG_OID,
    Digest,
    Environment,
    Flag,
    IntRange,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
    Version,
)
from casemate.formats.sev_snp import Product, Report, SignerExtensions

COMPONENT = "sev-snp"
CLASS_VCEK = Tag(TAG_OID, bytes.fromhex("2b060104019c780301"))
CLASS_VLEK = Tag(TAG_OID, bytes.fromhex("2b060104019c780302"))

#: Version schemes (RFC 9393): decimal, semantic versioning.
_DECIMAL, _SEMVER = 4, 16384


class Key(enum.IntEnum):
    """Measurement keys of the CoRIM profile."""

    VERSION = 0
    GUEST_SVN = 1
    POLICY = 2
    FAMILY_ID = 3
    IMAGE_ID = 4
    VMPL = 5
    CURRENT_TCB = 6
    PLATFORM_INFO = 7
    MEASUREMENT = 641
    HOST_DATA = 642
    ID_KEY_DIGEST = 643
    AUTHOR_KEY_DIGEST = 644
    REPORTED_TCB = 647
    COMMITTED_TCB = 3329
    CURRENT_VERSION = 3330
    COMMITTED_VERSION = 3936
    LAUNCH_TCB = 3968


def component(
    report: Report, extensions: SignerExtensions, *, revocation_checked: bool
) -> Component:
    """The component that a report makes, with what its signer's certificate states."""
    if extensions.hardware_id is None:
        class_id, instance = CLASS_VLEK, (extensions.csp_id or "").encode()
    else:
        class_id, instance = CLASS_VCEK, extensions.hardware_id
    environment = Environment(class_id=class_id, instance=Tag(TAG_BYTES, instance))
    return Component(
        name=COMPONENT,
        measured=tuple(_measured(report, extensions.product, environment)),
        facts={**_facts(report, extensions), "revocation_checked": revocation_checked},
    )


def _measured(report: Report, product: Product, environment: Environment) -> Iterator[Measured]:
    def one(
        label: str, key: Key | str | None, claim: TrustClaim, values: MeasurementValues
    ) -> Measured:
        return Measured(
            label=label,
            environment=environment,
            measurement=Measurement(key=int(key) if isinstance(key, Key) else key, values=values),
            claim=claim,
            optional=key is not Key.MEASUREMENT,
        )

    executables, configuration = TrustClaim.EXECUTABLES, TrustClaim.CONFIGURATION
    hardware = TrustClaim.HARDWARE
    yield one("launch measurement", Key.MEASUREMENT, executables, _digest(report.measurement))
    yield one("guest SVN", Key.GUEST_SVN, executables, _svn(report.guest_svn))
    yield one("family id", Key.FAMILY_ID, executables, _raw(report.family_id))
    yield one("image id", Key.IMAGE_ID, executables, _raw(report.image_id))
    yield one(
        "guest policy", Key.POLICY, configuration, _raw(report.policy.value.to_bytes(8, "little"))
    )
    yield one(
        "debug mode",
        None,
        configuration,
        MeasurementValues(flags=((Flag.IS_DEBUG, report.policy.debug_allowed),)),
    )
    yield one(
        "privilege level (VMPL)",
        Key.VMPL,
        configuration,
        MeasurementValues(int_range=IntRange(report.vmpl, report.vmpl)),
    )
    yield one("host data", Key.HOST_DATA, configuration, _raw(report.host_data))
    if any(report.id_key_digest):
        yield one("ID key", Key.ID_KEY_DIGEST, executables, _digest(report.id_key_digest))
    if report.author_key_enabled:
        yield one(
            "author key", Key.AUTHOR_KEY_DIGEST, executables, _digest(report.author_key_digest)
        )
    yield one(
        "platform information",
        Key.PLATFORM_INFO,
        configuration,
        _raw(report.platform_info.value.to_bytes(8, "little")),
    )
    yield one(
        "report version",
        Key.VERSION,
        hardware,
        MeasurementValues(version=Version(str(report.version), _DECIMAL)),
    )
    for name, key, version in (
        ("current firmware", Key.CURRENT_VERSION, report.current_version),
        ("committed firmware", Key.COMMITTED_VERSION, report.committed_version),
    ):
        text = ".".join(map(str, version))
        yield one(name, key, hardware, MeasurementValues(version=Version(text, _SEMVER)))
    for name, key, tcb in _tcbs(report):
        yield one(f"{name} TCB", key, hardware, _svn(int.from_bytes(tcb, "little")))
        for level, value in sev_snp.split_tcb(tcb, product).items():
            yield one(f"{name} TCB, {level}", f"{name}-tcb/{level}", hardware, _svn(value))


def _tcbs(report: Report) -> tuple[tuple[str, Key, bytes], ...]:
    return (
        ("reported", Key.REPORTED_TCB, report.reported_tcb),
        ("current", Key.CURRENT_TCB, report.current_tcb),
        ("committed", Key.COMMITTED_TCB, report.committed_tcb),
        ("launch", Key.LAUNCH_TCB, report.launch_tcb),
    )


def _facts(report: Report, extensions: SignerExtensions) -> dict[str, Fact]:
    policy, platform = report.policy, report.platform_info
    facts: dict[str, Fact] = {
        "product": extensions.product.value,
        "signing_key": extensions.signing_key.name.lower(),
        "report_version": report.version,
        "vmpl": report.vmpl,
        "debug": policy.debug_allowed,
        "migration_agent": policy.migration_agent_allowed,
        "smt_allowed": policy.smt_allowed,
        "single_socket": policy.single_socket,
        "cxl_allowed": policy.cxl_allowed,
        "abi_major": policy.abi[0],
        "abi_minor": policy.abi[1],
        "smt": platform.smt_enabled,
        "tsme": platform.tsme_enabled,
        "ecc": platform.ecc_enabled,
        "rapl_disabled": platform.rapl_disabled,
        "ciphertext_hiding": platform.ciphertext_hiding,
        "alias_check_complete": platform.alias_check_complete,
        "guest_svn": report.guest_svn,
        "chip_id": report.chip_id,
        "chip_id_masked": report.chip_id_is_masked,
        "report_id": report.report_id,
        "report_data": report.report_data,
        "host_data": report.host_data,
        "family_id": report.family_id,
        "image_id": report.image_id,
        "firmware_version": ".".join(map(str, report.current_version)),
    }
    if extensions.csp_id is not None:
        facts["provider"] = extensions.csp_id
    if report.launch_mitigations is not None and report.current_mitigations is not None:
        facts["launch_mitigations"] = report.launch_mitigations
        facts["current_mitigations"] = report.current_mitigations
    for name, _, tcb in _tcbs(report):
        for level, value in sev_snp.split_tcb(tcb, extensions.product).items():
            facts[f"{name}_tcb_{level}"] = value
    return facts


def _digest(value: bytes) -> MeasurementValues:
    return MeasurementValues(digests=(Digest(SHA384, value),))


def _raw(value: bytes) -> MeasurementValues:
    return MeasurementValues(raw_value=RawValue(value))


def _svn(value: int) -> MeasurementValues:
    return MeasurementValues(svn=Svn(value))
