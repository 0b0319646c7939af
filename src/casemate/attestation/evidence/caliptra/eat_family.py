"""Two families of tokens: the EAT that a Casemate host makes, and any other OCP EAT.

Both are signed under a DPE leaf whose chain leads over RT alias, FMC alias and LDevID to an anchor.
A host's own token also brings, as private claims, the PCR quote with its log, the anchor's name,
and where a key is asked about its key report with the partition's chain: then the device's state
is verified too, and the key. The private claim of the quote tells the two apart.

Checks, in order: the form of the token (`token`), the chain (`chain`), the token's signature and
nonce, the quote (`quote`) and its log (`replay`), certificates against both (`device`), the token's
claims against all of them (`claimed`), the key (`key_report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casemate.attestation.checks import Check, Checklist
from casemate.attestation.evidence import bindings
from casemate.attestation.evidence.caliptra import claimed, components, device, key_report
from casemate.attestation.evidence.caliptra import token as tokens
from casemate.attestation.evidence.caliptra.bound_key import Session, verify_bound_key
from casemate.attestation.evidence.caliptra.chain import Chain, recalled_chain
from casemate.attestation.evidence.caliptra.key_report_family import (
    KeyReportFamily,
    partition_layers,
    role_of,
)
from casemate.attestation.evidence.caliptra.layers import Layer
from casemate.attestation.evidence.caliptra.quote import read_quote, verify_quote
from casemate.attestation.evidence.caliptra.replay import Boot, replay
from casemate.attestation.evidence.caliptra.token import Token
from casemate.attestation.evidence.family import (
    Component,
    Context,
    Fact,
    FamilyName,
    Measured,
    Piece,
    Verified,
)
from casemate.formats import cbor, eat, pcr_quote
from casemate.formats.eat import DebugStatus

MEDIA_TYPES: tuple[str | int, ...] = ("application/eat+cwt", eat.CONTENT_TYPE_EAT_CWT)
_REQUIRED = frozenset({"token"})
#: What a token with a quote has in it: the key of that claim.
_QUOTE_KEY = cbor.encode(eat.PCR_QUOTE)


class TokenFamily:
    """One of the two; `quoted` says which: tokens with the private claim of a PCR quote."""

    def __init__(self, *, quoted: bool) -> None:
        self._quoted = quoted

    @property
    def name(self) -> FamilyName:
        """See Family."""
        return FamilyName.CALIPTRA if self._quoted else FamilyName.OCP_EAT

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """See Family."""
        return MEDIA_TYPES

    @property
    def required(self) -> frozenset[str]:
        """See Family."""
        return _REQUIRED

    def role(self, data: bytes) -> str | None:
        """See Family."""
        # The claims stand behind the certificates.
        if data.startswith(tokens.PREFIX) and (data.rfind(_QUOTE_KEY) >= 0) is self._quoted:
            return "token"
        return role_of(data)

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """See Family."""
        checks = Checklist()
        checks.require(
            "pieces", len(pieces["token"]) == 1, f"{len(pieces['token'])} tokens; one is appraised"
        )
        piece = pieces["token"][0]
        token = tokens.read_token(piece.data, context, checks)
        chain = recalled_chain(token.certificates, context, checks, family=self.name)
        fmc, runtime, leaf = _firmware_layers(chain, checks)
        tokens.verify_token(token, leaf, context, checks)
        _ueid(token, chain, checks)

        nodes = device.leaf_nodes(leaf, checks)
        pcrs = _quoted_pcrs(token, fmc, checks) if self._quoted else None
        state = _state(token, chain, pcrs, context, checks)
        report, carried = _reports(pieces, token, checks)
        key, partition_key = None, {}
        if report is not None:
            signed = key_report.read_report(report, checks)
            own = partition_layers(pieces.get("partition-chain", ()), carried, context, checks)
            session = Session(token.nonce, chain, nodes)
            key, partition = verify_bound_key(signed, own, session, context, checks)
            partition_key[bindings.PARTITION_KEY] = partition
        found = (
            _device(token, chain, state, checks),
            *state.firmware,
            state.software,
            key,
        )
        return Verified(
            family=self.name,
            pieces=tuple([piece for found in pieces.values() for piece in found]),
            host=chain.host,
            components=tuple([component for component in found if component is not None]),
            checks=checks.passed,
            nonce=token.nonce,
            bindings={
                bindings.DPE_LEAF_KEY: leaf.certificate.spki,
                bindings.RT_ALIAS_KEY: runtime.certificate.spki,
                **partition_key,
            },
            forms=token.forms,
            valid_until=chain.valid_until,
            keys=chain.keys,
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """See Family: the signed parts, the signature, and every certificate but an IDevID's.

        The IDevID's own is covered by an anchor above it, not where it is the anchor.
        """
        return tokens.covered(data) if role == "token" else KeyReportFamily().covered(role, data)


def _reports(
    pieces: Mapping[str, tuple[Piece, ...]], token: Token, checks: Checklist
) -> tuple[bytes | None, tuple[bytes, ...]]:
    """The key report that came in the token or beside it, and the certificates that came in it."""
    given: list[Any] = [piece.data for piece in pieces.get("key-report", ())]
    if eat.KEY_REPORT in token.claims:
        given.append(token.claims[eat.KEY_REPORT])
    checks.require("key-report", len(given) <= 1, "more than one key report; one is appraised")
    carried: Any = token.claims.get(eat.PARTITION_CHAIN, [])
    if not isinstance(carried, list) or not all(
        isinstance(part, bytes) for part in (*given, *carried)
    ):
        checks.refuse("key-report", "the token's key report or partition chain are not bytes")
    if not given and (carried or pieces.get("partition-chain")):
        checks.refuse("key-report", "certificates of a partition came without its key report")
    return (given[0] if given else None), tuple(carried)


def _firmware_layers(chain: Chain, checks: Checklist) -> tuple[Layer, Layer, Layer]:
    if chain.firmware is None:
        checks.refuse(
            "chain-layers",
            "the chain does not end with FMC alias, RT alias and DPE leaf",
            found=", ".join(layer.role.value for layer in chain.layers),
        )
    return chain.firmware


def _ueid(token: Token, chain: Chain, checks: Checklist) -> None:
    if token.ueid is not None and chain.ueid is not None:
        checks.equal(
            "token-ueid",
            expected=chain.ueid,
            found=token.ueid,
            what="the token's UEID against that of its certificates",
        )


def _quoted_pcrs(token: Token, fmc: Layer, checks: Checklist) -> tuple[bytes, ...]:
    data = token.claims.get(eat.PCR_QUOTE)
    if not isinstance(data, bytes) or not isinstance(token.claims.get(eat.PCR_LOG), bytes):
        checks.refuse("quote", "the token does not hold a PCR quote and its log")
    quote = read_quote(data, checks)
    verify_quote(quote, fmc, checks, nonce=pcr_quote.nonce_for(token.nonce))
    return quote.pcrs


@dataclass(frozen=True, slots=True)
class _State:
    """What is measured, held together: it names no host, so hosts of one kind share it.

    `measured` and `facts` are the device's, `checks` are those that passed on the way.
    """

    measured: tuple[Measured, ...]
    facts: Mapping[str, Fact]
    firmware: tuple[Component, ...]
    software: Component | None
    checks: tuple[Check, ...]


def _state(
    token: Token,
    chain: Chain,
    pcrs: tuple[bytes, ...] | None,
    context: Context,
    checks: Checklist,
) -> _State:
    """Hold leaf, certificates, log and claims against each other, or recall what came of it.

    The key has everything that goes into it. Raises EvidenceError.
    """
    log: Any = token.claims.get(eat.PCR_LOG)
    size: Any = token.claims.get(eat.DEVICE_STATUS_SIZE)
    if size not in (None, 17, 18) or isinstance(size, bool):
        checks.refuse("log-device-status", "the token's size of the device status is not 17 or 18")
    quoted = None if pcrs is None else b"".join(pcrs)
    key = (_State, chain.measured, quoted, log, size, token.debug_status, token.concise_evidence)
    known: _State | None = context.certificates.recall(key)
    if known is not None:
        checks.adopt(known.checks)
        return known
    before = len(checks.passed)
    nodes = chain.leaf.nodes or ()
    device.check_owner(nodes, checks)
    boot = None if pcrs is None else replay(log, pcrs, checks, status_size=size)
    evidence = components.Evidence(chain=chain, nodes=nodes, pcrs=pcrs, boot=boot)
    said = components.check(evidence, checks)
    if boot is not None:
        _debug_status(token, boot, checks)
    state = _State(
        components.device_measured(boot),
        components.device_facts(boot),
        components.firmware_components(evidence, said),
        claimed.check_claims(token.concise_evidence, evidence, said, context, checks),
        checks.passed[before:],
    )
    context.certificates.keep(key, state)
    return state


def _debug_status(token: Token, boot: Boot, checks: Checklist) -> None:
    closed = token.debug_status is not DebugStatus.ENABLED
    checks.require(
        "token-dbgstat",
        closed == boot.status.debug_locked,
        "the token's debug status is not that of the measured device status",
        expected="debug locked" if boot.status.debug_locked else "debug open",
        found=token.debug_status.name.lower().replace("_", " "),
    )


def _device(token: Token, chain: Chain, state: _State, checks: Checklist) -> Component:
    """The device's component: the one of its last token, if that said the same."""
    anchor = _anchor_name(token, checks)

    def make() -> Component:
        about = components.Evidence(chain=chain, anchor=anchor, facts=_device_facts(token))
        return components.device_component(about, state.measured, state.facts)

    said = (state, anchor, token.debug_status, token.claims.get(eat.ISSUER))
    return chain.device.of(said, make)


def _device_facts(token: Token) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "debug_status": token.debug_status.name.lower().replace("_", "-"),
    }
    if isinstance(issuer := token.claims.get(eat.ISSUER), str):
        facts["issuer"] = issuer
    return facts


def _anchor_name(token: Token, checks: Checklist) -> str | None:
    name: Any = token.claims.get(eat.ANCHOR)
    if name is not None and not isinstance(name, str):
        checks.refuse("token-anchor", "the name of the token's anchor is not text")
    return name
