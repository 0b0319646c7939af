"""A PCR quote by itself, with its log and the device's certificates: what a mailbox returns.

The certificates lead to the FMC alias, further down if there are more: RT alias and DPE leaf are
then verified too. Without the log the quote is authentic, but the device's state is not known. The
device cannot be told from a chain of another device that a quote does not verify under: there is
one FMC alias key in it all.
"""

from __future__ import annotations

from collections.abc import Mapping

from casemate.attestation.checks import Checklist
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence import bindings
from casemate.attestation.evidence.caliptra import components, device
from casemate.attestation.evidence.caliptra.chain import Chain, verify_chain
from casemate.attestation.evidence.caliptra.files import covered_certificates, read_files, roles_of
from casemate.attestation.evidence.caliptra.layers import Role
from casemate.attestation.evidence.caliptra.nodes import Node
from casemate.attestation.evidence.caliptra.quote import read_quote, verify_quote
from casemate.attestation.evidence.caliptra.replay import replay
from casemate.attestation.evidence.family import Component, Context, FamilyName, Piece, Verified
from casemate.formats import pcr_log, pcr_quote
from casemate.formats.pcr_log import EntryId, PcrLogError
from casemate.formats.pcr_quote import PcrQuoteError

#: Where PCRs and nonce stand in a response; digest and signature are its end.
_SIGNED = range(8, 8 + pcr_log.PCR_COUNT * pcr_log.PCR_SIZE + pcr_quote.NONCE_SIZE)


class PiecesFamily:
    """Quote, log and certificates as files of their own."""

    @property
    def name(self) -> FamilyName:
        """See Family."""
        return FamilyName.CALIPTRA

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """See Family: a mailbox response has no media type."""
        return ()

    @property
    def required(self) -> frozenset[str]:
        """See Family."""
        return frozenset({"quote"})

    def role(self, data: bytes) -> str | None:
        """See Family."""
        if _is_quote(data):
            return "quote"
        if _is_log(data):
            return "log"
        found = roles_of(data)
        return "certificates" if found and not found & {Role.PARTITION, Role.EXPORTED} else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """See Family."""
        checks = Checklist()
        for role in ("quote", "log"):
            checks.require(
                "pieces", len(pieces.get(role, ())) <= 1, f"more than one {role}; one is appraised"
            )
        quote = read_quote(pieces["quote"][0].data, checks)
        layers = read_files(pieces.get("certificates", ()), context, checks)
        if not layers:
            raise InfrastructureError(
                "the certificates of the device that made the quote are missing",
                advice="give them with the quote, as PEM or DER: LDevID, FMC alias and RT alias",
            )
        chain = verify_chain(layers, context, checks, family=self.name)
        fmc = chain.layer(Role.FMC)
        if fmc is None:
            checks.refuse(
                "chain-layers",
                "the chain has no FMC alias certificate, whose key signs quotes",
                found=", ".join(layer.role.value for layer in chain.layers),
            )
        nonce = None if context.nonce is None else pcr_quote.nonce_for(context.nonce)
        verify_quote(quote, fmc, checks, nonce=nonce)
        log = pieces["log"][0].data if pieces.get("log") else None
        bound = {}
        if (runtime := chain.layer(Role.RUNTIME)) is not None:
            bound[bindings.RT_ALIAS_KEY] = runtime.certificate.spki
        return Verified(
            family=self.name,
            pieces=tuple(piece for found in pieces.values() for piece in found),
            host=chain.host,
            components=_components(chain, quote.pcrs, log, checks),
            checks=checks.passed,
            nonce=context.nonce,
            bindings=bound,
            valid_until=chain.valid_until,
            keys=chain.keys,
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """See Family: of a quote all but what stands outside its signature; of a log all of it.

        Outside are checksum, FIPS status, reset counters, and the padding of an ML-DSA signature;
        a changed bit there leaves a wrong checksum, which is refused as well.
        """
        if role == "quote":
            digest = _SIGNED.stop + 4 * pcr_log.PCR_COUNT
            return _SIGNED, range(digest, len(data) - (len(data) == pcr_quote.MLDSA_SIZE))
        if role == "log":
            return _covered_log(data)
        return covered_certificates(data)


def _is_quote(data: bytes) -> bool:
    if len(data) not in (pcr_quote.ECC_SIZE, pcr_quote.MLDSA_SIZE):
        return False
    try:
        pcr_quote.decode(data)
    except PcrQuoteError:
        return False
    return True


def _is_log(data: bytes) -> bool:
    if not data or len(data) % pcr_log.ENTRY_SIZE:
        return False
    try:
        entries = pcr_log.decode(data)
    except PcrLogError:
        return False
    return bool(entries) and entries[0].id is EntryId.DEVICE_STATUS


def _components(
    chain: Chain, pcrs: tuple[bytes, ...], log: bytes | None, checks: Checklist
) -> tuple[Component, ...]:
    boot = None if log is None else replay(log, pcrs, checks)
    nodes: tuple[Node, ...] = ()
    if (leaf := chain.layer(Role.LEAF)) is not None:
        nodes = device.leaf_nodes(leaf, checks)
    evidence = components.Evidence(chain=chain, nodes=nodes, pcrs=pcrs, boot=boot)
    return components.make(evidence, components.check(evidence, checks))


def _covered_log(data: bytes) -> tuple[range, ...]:
    """The entries, without unused room behind them."""
    try:
        used = len(pcr_log.decode(data)) * pcr_log.ENTRY_SIZE
    except PcrLogError:
        return ()
    return (range(used),)
