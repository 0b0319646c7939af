"""An OCP EAT: its form, strict or by named quirks, its signature, and the claims of the profile.

The strict form is tag 55799 (61 (18 (COSE_Sign1))), a protected header with the algorithm ESP384
(-51) or ML-DSA-87 (-50) and content type 263, the certificates in x5chain, and claims with the
profile's object identifier. Every form that was seen is noted by name, quirk or not.

| form | what was seen | taken |
|---|---|---|
| `profile-oid` | the profile as the content of 1.3.6.1.4.1.42623.1.3 | always |
| `profile-text` | tag 111 around that identifier in dotted digits, as firmware emits | always |
| `profile-tagged` | tag 111 around its content: the CDDL asks for the content alone | always |
| a quirk's name | see `casemate.attestation.evidence.family.Quirk` | if the quirk is on |

Sources: opencomputeproject/Security specifications/ietf-eat-profile (CDDL and prose), RFC 9711,
RFC 9052, RFC 9360 (x5chain); caliptra-mcu-sw for what its firmware and verifier do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra.files import is_covered
from casemate.attestation.evidence.caliptra.layers import Layer
from casemate.attestation.evidence.caliptra.signatures import Algorithm, SignatureError
from casemate.attestation.evidence.family import Context, Quirk
from casemate.formats import cose, eat
from casemate.formats.cbor import Tag
from casemate.formats.cose import CoseError, Sign1
from casemate.formats.eat import DebugStatus, EatError

_TAG_OID = 111
_TAGS = str(eat.TOKEN_TAGS)
_PROFILE_TEXT = ("1.3.6.1.4.1.42623.1.3", b"1.3.6.1.4.1.42623.1.3")
#: The arcs that the specification's own example and the reference verifier write instead.
_EXAMPLE_PROFILE = bytes.fromhex("2b0601040182e42b0103")
_REFERENCE_PROFILE = bytes.fromhex("2b06010401824d1f0103")
_ALGORITHMS = {
    cose.ESP384: Algorithm.ECC,
    cose.ES384: Algorithm.ECC,
    cose.ML_DSA_87: Algorithm.MLDSA,
}
#: A token begins with its outermost tag (RFC 8949, 3.4.6), and then tag 61 and 18.
PREFIX = bytes.fromhex("d9d9f7d83dd284")


class Token(NamedTuple):
    """A token's parts; `claims` by key, `forms` in the order in which they were seen."""

    message: Sign1
    claims: Mapping[int | str, Any]
    algorithm: Algorithm
    certificates: tuple[bytes, ...]
    nonce: bytes
    debug_status: DebugStatus
    concise_evidence: tuple[bytes, ...]
    ueid: bytes | None
    forms: tuple[str, ...]


def read_token(data: bytes, context: Context, checks: Checklist) -> Token:
    """Read a token and hold its form to the profile. Raises EvidenceError; verifies nothing."""
    try:
        message, tags = cose.decode(data)
        headers, certificates = message.headers, message.x5chain
    except CoseError as error:
        checks.refuse("token", f"token: {error}")
    checks.require(
        "token-tags",
        tags == eat.TOKEN_TAGS,
        "the token is not wrapped in tags 55799, 61 and 18",
        expected=_TAGS,
        found=_TAGS if tags == eat.TOKEN_TAGS else str(tags),
    )
    forms = _Forms(context.quirks, checks)
    algorithm = _algorithm(headers, forms)
    _content_type(headers, forms)
    checks.require("token-x5chain", bool(certificates), "the token brings no certificates")
    try:
        claims = eat.decode_claims(message.payload)
    except EatError as error:
        checks.refuse("token-claims", f"token: {error}")
    _profile(claims.get(eat.PROFILE), forms)
    _issuer_and_id(claims, forms)
    debug: Any = claims.get(eat.DEBUG_STATUS)
    if not _is_integer(debug) or debug not in DebugStatus._value2member_map_:
        checks.refuse("token-dbgstat", "claim 263 (dbgstat) is not a number from 0 to 4")
    ueid = claims.get(eat.UEID)
    if ueid is not None and not _is_bytes(ueid, 7, 33):
        checks.refuse("token-ueid", "claim 256 (ueid) is not 7 to 33 bytes")
    nonce = claims.get(eat.NONCE)
    if not isinstance(nonce, bytes) or not 8 <= len(nonce) <= 64:
        checks.refuse("token-nonce", "claim 10 (nonce) is not 8 to 64 bytes")
    return Token(
        message=message,
        claims=claims,
        algorithm=algorithm,
        certificates=certificates,
        nonce=nonce,
        debug_status=DebugStatus(debug),
        concise_evidence=_measurements(claims.get(eat.MEASUREMENTS), checks),
        ueid=ueid,
        forms=tuple(forms.seen),
    )


def verify_token(token: Token, leaf: Layer, context: Context, checks: Checklist) -> None:
    """Check signature and nonce under the verified leaf. Raises EvidenceError."""
    if leaf.key.algorithm is not token.algorithm:
        checks.refuse(
            "token-algorithm",
            f"the token is signed with {token.algorithm.value}, the leaf's key is for "
            f"{leaf.key.algorithm.value}",
        )
    checks.note("token-algorithm", "token algorithm")
    try:
        leaf.key.verify_raw(token.message.signature, token.message.to_be_signed())
    except SignatureError as error:
        checks.refuse("token-signature", f"the token is not signed by its leaf: {error}")
    checks.note("token-signature", "the token is signed by its leaf's key")
    if context.nonce is not None:
        checks.equal(
            "nonce", expected=context.nonce, found=token.nonce, what="the verifier's nonce"
        )


class _Forms:
    """The forms that were seen, and which quirks are on."""

    def __init__(self, quirks: frozenset[Quirk], checks: Checklist) -> None:
        self.checks = checks
        self.seen: list[str] = []
        self._quirks = quirks

    def quirk(self, name: str, sentence: str, quirk: Quirk) -> None:
        """Take a form if its quirk is on, and note it; else refuse."""
        self.checks.require(
            name,
            quirk in self._quirks,
            f"{sentence}; the quirk {quirk.value} would take it",
            passed=f"{sentence}, as the quirk {quirk.value} takes it",
        )
        self.seen.append(quirk.value)


def _algorithm(headers: Mapping[int | str, Any], forms: _Forms) -> Algorithm:
    stated = headers.get(cose.ALGORITHM)
    if not _is_integer(stated) or stated not in _ALGORITHMS:
        forms.checks.refuse(
            "token-header-algorithm",
            "the token's algorithm is none of the profile's",
            expected="-51 (ESP384) or -50 (ML-DSA-87)",
            found=str(stated)[:32],
        )
    if stated == cose.ES384:
        forms.quirk(
            "token-header-algorithm",
            "the token's algorithm is -35 (ES384), not the fully specified -51",
            Quirk.COSE_ES384,
        )
    return _ALGORITHMS[stated]


def _content_type(headers: Mapping[int | str, Any], forms: _Forms) -> None:
    if cose.CONTENT_TYPE not in headers:
        forms.quirk(
            "token-content-type",
            "the token's protected header has no content type",
            Quirk.NO_CONTENT_TYPE,
        )
        return
    stated = headers[cose.CONTENT_TYPE]
    forms.checks.require(
        "token-content-type",
        stated in (eat.CONTENT_TYPE_EAT_CWT, "application/eat+cwt"),
        "the token's content type is not that of an EAT",
        expected="263",
        found=str(stated)[:32],
    )


def _profile(value: Any, forms: _Forms) -> None:
    tagged = isinstance(value, Tag) and value.number == _TAG_OID
    content = value.value if isinstance(value, Tag) and tagged else value
    if content == eat.OCP_PROFILE:
        forms.seen.append("profile-tagged" if tagged else "profile-oid")
    elif content in _PROFILE_TEXT and tagged:
        forms.seen.append("profile-text")
    elif content == _EXAMPLE_PROFILE:
        forms.quirk(
            "token-profile",
            "the profile is the identifier of the specification's example",
            Quirk.OCP_PROFILE_SPEC_EXAMPLE,
        )
    elif content == _REFERENCE_PROFILE:
        forms.quirk(
            "token-profile",
            "the profile is the identifier in the reference verifier's constant",
            Quirk.OCP_PROFILE_REFERENCE_VERIFIER,
        )
    else:
        forms.checks.refuse(
            "token-profile",
            "claim 265 (eat_profile) is not the OCP profile",
            expected=eat.OCP_PROFILE.hex(),
            found=content.hex()[:80] if isinstance(content, bytes) else str(content)[:80],
        )


def _issuer_and_id(claims: Mapping[int | str, Any], forms: _Forms) -> None:
    issuer, token_id = claims.get(eat.ISSUER), claims.get(eat.CWT_ID)
    if issuer is None or token_id is None:
        forms.quirk(
            "token-issuer-and-id",
            "the token has no issuer (claim 1) or no id (claim 7)",
            Quirk.NO_ISSUER_OR_ID,
        )
    if issuer is not None and not isinstance(issuer, str):
        forms.checks.refuse("token-issuer-and-id", "claim 1 (iss) is not text")
    if token_id is not None and not _is_bytes(token_id, 8, 64):
        forms.checks.refuse("token-issuer-and-id", "claim 7 (cti) is not 8 to 64 bytes")


def _measurements(value: Any, checks: Checklist) -> tuple[bytes, ...]:
    found = []
    for entry in value if isinstance(value, list) else ():
        if (
            not isinstance(entry, list)
            or len(entry) != 2
            or entry[0] != eat.CONTENT_TYPE_CONCISE_EVIDENCE
            or not isinstance(entry[1], bytes)
        ):
            checks.refuse(
                "token-measurements",
                "claim 273 (measurements) has an entry that is not concise evidence (10571)",
            )
        found.append(entry[1])
    checks.require(
        "token-measurements", bool(found), "claim 273 (measurements) is missing or empty"
    )
    return tuple(found)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_bytes(value: Any, least: int, most: int) -> bool:
    return isinstance(value, bytes) and least <= len(value) <= most


def covered(data: bytes) -> tuple[range, ...]:
    """The ranges of a token that its signatures cover; none for bytes that are no token."""
    try:
        message, _ = cose.decode(data)
        certificates = message.x5chain
    except CoseError:
        return ()
    parts = [
        message.protected,
        message.payload,
        message.signature,
        *filter(is_covered, certificates),
    ]
    found = []
    for part in parts:
        start = data.find(part)
        if part and start >= 0:
            found.append(range(start, start + len(part)))
    return tuple(found)
