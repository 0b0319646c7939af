"""A key report by itself, with the certificates of the partition that signed it.

The partition hangs on a device (exported CDI, RT alias and so on up to an anchor), or on whatever
anchor the operator named for it: the maker of an Azure Integrated HSM, or the very certificate of a
partition that no root of trust vouches for. Then nothing is said of the firmware around the key but
what the report says itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from casemate.attestation import x509_path, x509_validation
from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence import bindings
from casemate.attestation.evidence.caliptra import components, key_report
from casemate.attestation.evidence.caliptra.bundle import read_bundle
from casemate.attestation.evidence.caliptra.chain import read_chain, verify_chain
from casemate.attestation.evidence.caliptra.files import covered_certificates, roles_of
from casemate.attestation.evidence.caliptra.layers import Layer, Role
from casemate.attestation.evidence.family import (
    Context,
    FamilyName,
    Host,
    Piece,
    Verified,
)
from casemate.formats import cose
from casemate.formats import key_report as reports
from casemate.formats.cose import CoseError


def role_of(data: bytes) -> str | None:
    """Whether bytes are a key report, or certificates with a partition's or its authority's."""
    if data.startswith(reports.PREFIX):
        return "key-report"
    found = roles_of(data)
    return "partition-chain" if found & {Role.PARTITION, Role.EXPORTED} else None


def partition_layers(
    pieces: Sequence[Piece], carried: Sequence[bytes], context: Context, checks: Checklist
) -> tuple[Layer, ...]:
    """The partition's chain from its pieces, or else what the evidence carried, topmost first.

    Both are given with the partition's own certificate first.
    """
    checks.require(
        "partition-chain",
        len(pieces) <= 1,
        "more than one partition's certificates: give those of the one that signed the report",
    )
    certificates = read_bundle(pieces[0].data) if pieces else carried
    return tuple(reversed(read_chain(certificates, context, checks)))


class KeyReportFamily:
    """Key reports that come without a token."""

    @property
    def name(self) -> FamilyName:
        """See Family."""
        return FamilyName.KEY_REPORT

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """See Family: a key report has no media type of its own."""
        return ()

    @property
    def required(self) -> frozenset[str]:
        """See Family."""
        return frozenset({"key-report"})

    def role(self, data: bytes) -> str | None:
        """See Family."""
        return role_of(data)

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """See Family."""
        checks = Checklist()
        given = pieces["key-report"]
        checks.require("pieces", len(given) == 1, f"{len(given)} key reports; one is appraised")
        signed = key_report.read_report(given[0].data, checks)
        try:
            carried = signed.message.x5chain
        except CoseError as error:
            checks.refuse("partition-chain", str(error))
        layers = partition_layers(pieces.get("partition-chain", ()), carried, context, checks)
        if not layers:
            raise InfrastructureError(
                "the certificates of the partition that signed the key report are missing",
                advice="give them with the report: `casemate key attest --chain` writes them",
            )
        partition = layers[-1]
        bound = {bindings.PARTITION_KEY: partition.certificate.spki}
        keys: tuple[bytes, ...] = (partition.certificate.spki,)
        if _is_certified(layers):
            chain = verify_chain(layers, context, checks, family=self.name)
            nodes = key_report.authority_nodes(chain, checks)
            host, valid_until, keys = chain.host, chain.valid_until, chain.keys
            evidence = components.Evidence(chain=chain, nodes=nodes)
            found = components.make(evidence, components.check(evidence, checks))
            if (runtime := chain.layer(Role.RUNTIME)) is not None:
                bound[bindings.RT_ALIAS_KEY] = runtime.certificate.spki
        else:
            path = _named_path(layers, context, checks)
            host = Host(hashlib.sha256(partition.certificate.spki).digest(), "partition")
            valid_until, nodes, found = path.valid_until, (), ()
        key_report.verify_signature(signed, partition.key, checks)
        if partition.role is Role.PARTITION:
            key_report.check_partition(signed.report, partition, checks)
        if nodes:
            key_report.check_measurements(signed.report, nodes, checks)
        if context.nonce is not None:
            key_report.check_nonce(signed.report, context.nonce, checks)
        key = key_report.component(signed.report, certified=bool(nodes), partition=partition)
        return Verified(
            family=self.name,
            pieces=tuple(piece for found in pieces.values() for piece in found),
            host=host,
            components=(*found, key),
            checks=checks.passed,
            nonce=context.nonce,
            bindings={**bound, bindings.REPORT_DATA: signed.report.report_data},
            forms=(f"key-report-version-{signed.report.version}",),
            valid_until=valid_until,
            keys=keys,
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """See Family: headers, payload and signature; certificates below the IDevID's."""
        if role != "key-report":
            return covered_certificates(data)
        try:
            message, _ = cose.decode(data)
        except CoseError:
            return ()
        starts = ((data.find(part), part) for part in (message.protected, message.payload))
        tail = range(len(data) - len(message.signature), len(data))
        return (*(range(start, start + len(part)) for start, part in starts), tail)


def _is_certified(layers: Sequence[Layer]) -> bool:
    """Whether a device certified the partition; decided by what the chain claims to be."""
    own = layers[-1].certificate
    return layers[-1].role is Role.PARTITION and own.issuer != own.subject


def _named_path(layers: Sequence[Layer], context: Context, checks: Checklist) -> x509_path.Path:
    sources = [NamedBytes(layer.der, f"certificate of {layer.common_name}") for layer in layers]
    signer, *extra = reversed([x509_path.read(source) for source in sources])
    trusted = x509_path.trusted_keys(context.endorsements, {}, FamilyName.KEY_REPORT.value)
    path = x509_path.build(
        signer,
        context.endorsements,
        checks,
        trusted=trusted,
        certificates=context.certificates,
        extra=extra,
    )
    x509_validation.validate(path, checks, endorsements=context.endorsements, at=context.at)
    return path
