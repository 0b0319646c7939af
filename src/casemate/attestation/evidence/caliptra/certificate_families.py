"""Certificates without a token: a bare chain, or one that ends in a DPE leaf.

They prove whose the keys are and what was measured into them, not that anybody holds them now:
there is no nonce in them.
"""

from __future__ import annotations

from collections.abc import Mapping

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence import bindings
from casemate.attestation.evidence.caliptra import components, device
from casemate.attestation.evidence.caliptra.chain import verify_chain
from casemate.attestation.evidence.caliptra.files import covered_certificates, read_files, roles_of
from casemate.attestation.evidence.caliptra.layers import Role
from casemate.attestation.evidence.caliptra.nodes import Node
from casemate.attestation.evidence.family import Context, FamilyName, Piece, Verified

_LAYERS = frozenset({Role.IDEVID, Role.LDEVID, Role.FMC, Role.RUNTIME})


class CertificatesFamily:
    """A chain of device certificates, from IDevID or LDevID as far down as it goes."""

    @property
    def name(self) -> FamilyName:
        """See Family."""
        return FamilyName.CALIPTRA_CERTIFICATES

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """See Family."""
        return ()

    @property
    def required(self) -> frozenset[str]:
        """See Family."""
        return frozenset({"certificates"})

    def role(self, data: bytes) -> str | None:
        """See Family."""
        found = roles_of(data)
        return "certificates" if found & _LAYERS else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """See Family."""
        return _verify(self.name, pieces, context)

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """See Family: the certificates below the IDevID's."""
        return covered_certificates(data)


class DpeLeafFamily:
    """A DPE leaf with its MultiTcbInfo, and the chain above it."""

    @property
    def name(self) -> FamilyName:
        """See Family."""
        return FamilyName.DPE_LEAF

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """See Family."""
        return ()

    @property
    def required(self) -> frozenset[str]:
        """See Family."""
        return frozenset({"leaf"})

    def role(self, data: bytes) -> str | None:
        """See Family."""
        found = roles_of(data)
        if Role.LEAF in found:
            return "leaf"
        return "certificates" if found & _LAYERS else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """See Family."""
        return _verify(self.name, pieces, context)

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """See Family: the certificates below the IDevID's."""
        return covered_certificates(data)


def _verify(
    name: FamilyName, pieces: Mapping[str, tuple[Piece, ...]], context: Context
) -> Verified:
    checks = Checklist()
    every = tuple(piece for found in pieces.values() for piece in found)
    chain = verify_chain(read_files(every, context, checks), context, checks, family=name)
    nodes: tuple[Node, ...] = ()
    bound = {}
    if (leaf := chain.layer(Role.LEAF)) is not None:
        nodes = device.leaf_nodes(leaf, checks)
        bound[bindings.DPE_LEAF_KEY] = leaf.certificate.spki
    if (runtime := chain.layer(Role.RUNTIME)) is not None:
        bound[bindings.RT_ALIAS_KEY] = runtime.certificate.spki
    evidence = components.Evidence(chain=chain, nodes=nodes)
    layers = components.check(evidence, checks)
    return Verified(
        family=name,
        pieces=every,
        host=chain.host,
        components=components.make(evidence, layers),
        checks=checks.passed,
        bindings=bound,
        valid_until=chain.valid_until,
        keys=chain.keys,
    )
