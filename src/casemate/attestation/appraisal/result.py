"""Attestation results: a verdict as a signed EAR, as JWT or CWT, and how a relying party reads one.

    token = to_jwt(verdict, signer, lifetime=timedelta(minutes=5))
    result = verify(token, trusted=[signer_key], at=now)

One submodule for each component, each with its AR4SI vector; a could-not-appraise verdict has the
status "none" and vectors of the verifier-malfunction value alone. Two extensions of ours stand
beside the draft's claims:

| JSON | CBOR | where | what |
|---|---|---|---|
| `casemate_verdict` | -72010 | the result | the whole verdict (`appraisal.document`) |
| `casemate_state` | -72011 | result, submodules | the state, by its name here |

`ear_appraisal_policy_ids` names the policy by digest (RFC 6920: ni:///sha-256;...). Results are
signed with ECDSA P-384 and SHA-384 (JWS ES384; COSE algorithm -51). Sources: draft-ietf-rats-ear,
RFC 7515, RFC 8392, RFC 9782.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

import jwt
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

import casemate
from casemate._silicon import P384PrivateKey
from casemate.attestation.appraisal.document import document
from casemate.attestation.appraisal.verdict import ComponentVerdict, PolicyId, Verdict
from casemate.attestation.errors import AttestationError, InputError
from casemate.attestation.states import State
from casemate.formats import base64url, cose, ear
from casemate.formats.ear import Appraisal, Ear, EarError, Tier

DEVELOPER = "Casemate"
VERDICT, STATE = "casemate_verdict", "casemate_state"
CBOR_VERDICT, CBOR_STATE = -72010, -72011
#: COSE: the content type of a CWT that is an EAT, and its tags around the message.
_CONTENT_TYPE, _TAGS = 263, (61, 18)
_ISSUER: dict[bool, int | str] = {True: "iss", False: 1}
#: A signed result is at most this long, in bytes.
LARGEST = 1024 * 1024
_LEEWAY = timedelta(minutes=1)
_SIGNATURE = ec.ECDSA(hashes.SHA384())
_SIZE = 48


class ResultError(AttestationError):
    """A signed result that must not be believed; the message says why."""


class Signer(Protocol):
    """Who signs results, wherever its key is.

    Worker processes sign too: a signer that serves them can be pickled, and threads may share it.
    """

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo (DER) of its P-384 key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-384 over the message: r and s, 96 bytes.

        Raises InfrastructureError where the key cannot be reached.
        """
        ...


class PemSigner:
    """A P-384 key in a PEM file: of a verifier that stands alone, never a module's."""

    def __init__(self, pem: bytes, name: str, passphrase: bytes | None = None) -> None:
        self._parts = (pem, name, passphrase)
        try:
            key = load_pem_private_key(pem, passphrase)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise InputError(f"{name}: no private key that can be read: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
            raise InputError(f"{name}: results are signed with a P-384 key")
        self._key = P384PrivateKey(key.private_numbers().private_value.to_bytes(_SIZE, "big"))
        self.spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def __reduce__(self) -> tuple[Any, ...]:
        return PemSigner, self._parts

    def sign(self, message: bytes) -> bytes:
        """See Signer."""
        return self._key.sign(hashlib.sha384(message).digest())


@dataclass(frozen=True, slots=True)
class Result:
    """A result whose signature holds. `verdict` is the document, None where it has none."""

    state: State
    ear: Ear
    verdict: Mapping[str, Any] | None
    issuer: str | None


def key_id(spki: bytes) -> str:
    """The name of a key in results: base64url of SHA-256 over its SubjectPublicKeyInfo."""
    return base64url.encode(hashlib.sha256(spki).digest())


def jwk(spki: bytes) -> dict[str, str]:
    """The JWK of a results' key, for a JWK set."""
    public = _public_key(spki)
    numbers = public.public_numbers()
    return {
        "kty": "EC",
        "crv": "P-384",
        "x": base64url.encode(numbers.x.to_bytes(_SIZE, "big")),
        "y": base64url.encode(numbers.y.to_bytes(_SIZE, "big")),
        "use": "sig",
        "alg": "ES384",
        "kid": key_id(spki),
    }


# --- making ---------------------------------------------------------------------------------


def to_jwt(
    verdict: Verdict,
    signer: Signer,
    *,
    issued_at: datetime | None = None,
    lifetime: timedelta | None = None,
    issuer: str | None = None,
) -> str:
    """The result as a JWT; issued at the time of appraisal unless told otherwise."""
    values = claims(verdict, issued_at=issued_at, lifetime=lifetime, issuer=issuer)
    return sign(json.dumps(values, separators=(",", ":")).encode(), signer).token


@dataclass(frozen=True, slots=True)
class SignedResult:
    """A JWT in its parts: `message` is header and claims, which the signature is over."""

    message: bytes
    header_text: str
    signature_text: str

    @property
    def token(self) -> str:
        """The JWT."""
        return f"{self.message.decode()}.{self.signature_text}"


def claims(
    verdict: Verdict,
    *,
    issued_at: datetime | None = None,
    lifetime: timedelta | None = None,
    issuer: str | None = None,
) -> dict[str, Any]:
    """The claims of a JWT; see `to_jwt`."""
    return ear.to_json(_ear(verdict, issued_at, lifetime, issuer, in_json=True))


def sign(payload: bytes, signer: Signer) -> SignedResult:
    """The JWT of claims in JSON."""
    header = _header(signer.spki)
    message = base64url.encode_behind(f"{header}.".encode(), payload)
    return SignedResult(message, header, base64url.encode(signer.sign(message)))


@lru_cache(maxsize=16)
def _header(spki: bytes) -> str:
    header = {"typ": "eat+jwt", "alg": "ES384", "kid": key_id(spki)}
    return base64url.encode(json.dumps(header, separators=(",", ":")).encode())


def to_cwt(
    verdict: Verdict,
    signer: Signer,
    *,
    issued_at: datetime | None = None,
    lifetime: timedelta | None = None,
    issuer: str | None = None,
) -> bytes:
    """The result as a CWT (tags 61 and 18)."""
    return _sign_cwt(_ear(verdict, issued_at, lifetime, issuer, in_json=False), signer)


def claims_to_cwt(claims: Mapping[str, Any], signer: Signer) -> bytes:
    """The result in a JWT's claims as a CWT. Raises EarError."""
    read = ear.from_json(claims)
    return _sign_cwt(
        replace(
            read,
            extensions=_in_cbor(read.extensions),
            submods={
                name: replace(part, extensions=_in_cbor(part.extensions))
                for name, part in read.submods.items()
            },
        ),
        signer,
    )


def _in_cbor(extensions: Mapping[int | str, Any]) -> dict[int | str, Any]:
    labels = {VERDICT: CBOR_VERDICT, STATE: CBOR_STATE, _ISSUER[True]: _ISSUER[False]}
    return {labels.get(label, label): value for label, value in extensions.items()}


def _sign_cwt(read: Ear, signer: Signer) -> bytes:
    payload = ear.to_cbor(read)
    protected = cose.protected_header(
        {
            cose.ALGORITHM: cose.ESP384,
            cose.CONTENT_TYPE: _CONTENT_TYPE,
            cose.KEY_ID: hashlib.sha256(signer.spki).digest(),
        }
    )
    signature = signer.sign(cose.to_be_signed(protected, payload))
    return cose.encode(cose.Sign1(protected, payload, signature), tags=_TAGS)


def _ear(
    verdict: Verdict,
    issued_at: datetime | None,
    lifetime: timedelta | None,
    issuer: str | None,
    *,
    in_json: bool,
) -> Ear:
    labels: tuple[int | str, int | str] = (
        (VERDICT, STATE) if in_json else (CBOR_VERDICT, CBOR_STATE)
    )
    issued, expires = times_of(verdict, issued_at, lifetime)
    extensions: dict[int | str, Any] = {
        labels[0]: document(verdict),
        labels[1]: verdict.state.value,
    }
    if issuer is not None:
        extensions[_ISSUER[in_json]] = issuer
    return Ear(
        status=Tier(verdict.state.tier),
        issued_at=issued,
        expires=expires,
        developer=DEVELOPER,
        build=casemate.__version__,
        submods=_submodules(verdict, labels[1]),
        nonce=nonce_of(verdict),
        extensions=extensions,
    )


def times_of(
    verdict: Verdict, issued_at: datetime | None, lifetime: timedelta | None
) -> tuple[int, int | None]:
    """When a result is issued (at the time of appraisal if None is given) and when it expires."""
    issued = issued_at or verdict.at
    expires = None if lifetime is None else int((issued + lifetime).timestamp())
    return int(issued.timestamp()), expires


def nonce_of(verdict: Verdict) -> bytes | None:
    """The nonce of a result: the verdict's, where an EAR takes one of its size."""
    return verdict.nonce if verdict.nonce and 8 <= len(verdict.nonce) <= 64 else None


def _submodules(verdict: Verdict, label: int | str) -> dict[str, Appraisal]:
    submodules: dict[str, Appraisal] = {}
    for part in verdict.components:
        name = submodule_name(part.name, submodules)
        submodules[name] = submodule(part, verdict.policy, label)
    return submodules


def submodule_name(name: str, taken: Collection[str]) -> str:
    """A component's name, or one like it that no other submodule has."""
    while name in taken:
        name += "'"
    return name


def submodule(part: ComponentVerdict, policy: PolicyId, label: int | str = STATE) -> Appraisal:
    """A component as a submodule; `label` is that of its state."""
    return Appraisal(
        status=Tier(part.state.tier),
        vector={int(claim): value for claim, value in part.vector.items()},
        policy_ids=(f"ni:///sha-256;{base64url.encode(policy.digest)}",),
        extensions={label: part.state.value},
    )


# --- reading --------------------------------------------------------------------------------


def verify(token: str | bytes, *, trusted: Iterable[bytes], at: datetime) -> Result:
    """A result that one of the trusted keys (SPKI, DER) signed, JWT or CWT by its bytes.

    Raises ResultError: form, signature, time, or an EAR that contradicts itself.
    """
    raw = token.encode() if isinstance(token, str) else token
    if len(raw) > LARGEST:
        raise ResultError(f"{len(raw)} bytes; a result has at most {LARGEST}")
    keys = list(trusted)
    try:
        if raw[:2] == b"ey":
            read = ear.from_json(_jwt_claims(raw.strip().decode("ascii", "replace"), keys))
            in_json = True
        else:
            read = ear.from_cbor(_cwt_payload(raw, keys))
            in_json = False
    except EarError as error:
        raise ResultError(f"no attestation result: {error}") from None
    _check_times(read, at)
    return _result(read, in_json=in_json)


def _jwt_claims(token: str, keys: list[bytes]) -> Mapping[str, Any]:
    # The signature alone is asked of the library: times are compared with `at`, not with now.
    options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    for spki in _candidates(keys, lambda: jwt.get_unverified_header(token).get("kid")):
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token, _public_key(spki), algorithms=["ES384"], options=options
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.PyJWTError as error:
            raise ResultError(f"no JWT: {error}") from None
        return claims
    raise ResultError("the result's signature verifies under no key that is trusted for results")


def _candidates(keys: list[bytes], named: Any) -> list[bytes]:
    try:
        name = named()
    except jwt.PyJWTError as error:
        raise ResultError(f"no JWT: {error}") from None
    first = [spki for spki in keys if key_id(spki) == name]
    return first or keys


def _cwt_payload(data: bytes, keys: list[bytes]) -> bytes:
    try:
        message, tags = cose.decode(data)
        headers = message.headers
    except cose.CoseError as error:
        raise ResultError(f"no CWT: {error}") from None
    if tags[-1:] != (cose.TAG_SIGN1,):
        raise ResultError("no CWT: expected a COSE_Sign1 in its tag")
    if headers.get(cose.ALGORITHM) not in (cose.ESP384, cose.ES384):
        raise ResultError(f"algorithm {headers.get(cose.ALGORITHM)!r:.40}: expected -51 (ESP384)")
    if len(message.signature) == 2 * _SIZE:
        signature = utils.encode_dss_signature(
            int.from_bytes(message.signature[:_SIZE], "big"),
            int.from_bytes(message.signature[_SIZE:], "big"),
        )
        for spki in keys:
            try:
                _public_key(spki).verify(signature, message.to_be_signed(), _SIGNATURE)
            except InvalidSignature:
                continue
            return message.payload
    raise ResultError("the result's signature verifies under no key that is trusted for results")


def _public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"a results' key cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise InputError("results are signed with a P-384 key, and this is another")
    return key


def _check_times(read: Ear, at: datetime) -> None:
    seconds = at.timestamp()
    if read.issued_at > seconds + _LEEWAY.total_seconds():
        raise ResultError(f"the result is from {_shown(read.issued_at)}, in the future")
    if read.expires is not None and read.expires <= seconds:
        raise ResultError(f"the result ended at {_shown(read.expires)}")


def _shown(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _result(read: Ear, *, in_json: bool) -> Result:
    """The state: ours where it says one that fits `ear_status`, else what the status says."""
    verdict = read.extensions.get(VERDICT if in_json else CBOR_VERDICT)
    stated = read.extensions.get(STATE if in_json else CBOR_STATE)
    issuer = read.extensions.get(_ISSUER[in_json])
    status = read.status
    if status is None:
        status = max((one.status for one in read.submods.values()), default=Tier.NONE)
    state = next(state for state in State if state.tier == status)
    if stated is not None and stated != state.value:
        raise ResultError(f"the result says {stated!r:.40} and has the status {status.name}")
    return Result(
        state,
        read,
        verdict if isinstance(verdict, Mapping) else None,
        issuer if isinstance(issuer, str) else None,
    )
