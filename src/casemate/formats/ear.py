"""EAR: attestation results as the claims set of a token, in JSON (for a JWT) and CBOR (for a CWT).

Written is the current draft's form. Also read are the profiles and spellings before it:
`ear.status` for `ear_status` and so on, and one policy id as bare text. An EAR that contradicts
itself (a status better than its worst claim or submodule) is refused. Nothing here signs.

Sources: draft-ietf-rats-ear, draft-ietf-rats-ar4si (trustworthiness vector).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from casemate.formats import base64url, cbor
from casemate.formats.base64url import Base64Error
from casemate.formats.cbor import CborError, Tag

#: The current profile, and the older ones that are read.
PROFILE = "tag:ietf.org,2026:rats/ear#03"
OLDER_PROFILES = ("tag:ietf.org,2025-07:ear", "tag:github.com,2023:veraison/ear")
#: Media types of signed results (draft-ietf-rats-ear, section 4, and RFC 9782).
MEDIA_TYPE_JWT, MEDIA_TYPE_CWT = "application/eat+jwt", "application/eat+cwt"


class EarError(ValueError):
    """A claims set that is no EAR; the message names the claim."""


class Tier(enum.IntEnum):
    """The trustworthiness tiers."""

    NONE = 0
    AFFIRMING = 2
    WARNING = 32
    CONTRAINDICATED = 96

    @classmethod
    def of(cls, value: int) -> Tier:
        """The tier of a claim's value, from -128 to 127."""
        magnitude = value if value >= 0 else -value - 1
        if magnitude <= (1 if value >= 0 else 0):
            return cls.NONE
        if magnitude < 32:
            return cls.AFFIRMING
        return cls.WARNING if magnitude < 96 else cls.CONTRAINDICATED


#: The claims of the trustworthiness vector, each at its number.
VECTOR_NAMES = (
    "instance-identity",
    "configuration",
    "executables",
    "file-system",
    "hardware",
    "runtime-opaque",
    "storage-opaque",
    "sourced-data",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraisal:
    """The result of one submodule. `vector` maps numbers of claims to values (-128 to 127).

    `extensions` are claims that the draft does not name, by their label in the encoding at hand.
    """

    status: Tier
    vector: Mapping[int, int] = field(default_factory=dict)
    policy_ids: tuple[str, ...] = ()
    profile: str | None = None
    nonce: bytes | None = None
    extensions: Mapping[int | str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ear:
    """A result. Times are seconds since 1970; `nonce` (8 to 64 bytes) is the relying party's.

    `developer` and `build` identify the verifier. `extensions` as in Appraisal.
    """

    issued_at: int
    developer: str
    build: str
    submods: Mapping[str, Appraisal]
    status: Tier | None = None
    expires: int | None = None
    raw_evidence: bytes | None = None
    nonce: bytes | None = None
    profile: str = PROFILE
    extensions: Mapping[int | str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim's labels: in CBOR, in JSON, and in JSON as older drafts spell it."""

    number: int
    name: str
    older: tuple[str, ...] = ()


_ISSUED_AT, _EXPIRES = _Claim(6, "iat"), _Claim(4, "exp")
_PROFILE, _SUBMODS, _NONCE = (
    _Claim(265, "eat_profile"),
    _Claim(266, "submods"),
    _Claim(10, "eat_nonce"),
)
_STATUS = _Claim(1000, "ear_status", ("ear.status",))
_VECTOR = _Claim(1001, "ear_trustworthiness_vector", ("ear.trustworthiness-vector",))
_RAW_EVIDENCE = _Claim(1002, "ear_raw_evidence", ("ear.raw-evidence",))
_POLICY_IDS = _Claim(
    1003,
    "ear_appraisal_policy_ids",
    ("ear.appraisal-policy-ids", "ear.appraisal-policy-id", "ear_appraisal_policy_id"),
)
_VERIFIER_ID = _Claim(1004, "ear_verifier_id", ("ear.verifier-id",))
_DEVELOPER, _BUILD = _Claim(0, "developer"), _Claim(1, "build")


def to_json(ear: Ear) -> dict[str, Any]:
    """The claims set with JSON's names and values, for a JWT. Raises EarError if it is no EAR."""
    return {str(key): value for key, value in _Writer(json=True).ear(ear).items()}


def submodule_to_json(appraisal: Appraisal) -> dict[str, Any]:
    """One submodule as `to_json` has it."""
    return {str(key): value for key, value in _Writer(json=True).submodule(appraisal).items()}


def to_cbor(ear: Ear) -> bytes:
    """The claims set in CBOR, for a CWT. Raises EarError if it is no EAR."""
    return cbor.encode(_Writer(json=False).ear(ear))


def from_json(claims: Mapping[str, Any]) -> Ear:
    """The result in a JWT's claims. Raises EarError."""
    return _Reader(json=True).ear(claims)


def from_cbor(data: bytes) -> Ear:
    """The result in a CWT's payload. Raises EarError."""
    try:
        claims = cbor.decode(data)
    except CborError as error:
        raise EarError(f"claims: {error}") from None
    return _Reader(json=False).ear(claims)


def check(ear: Ear) -> None:
    """Refuse a result that contradicts itself or leaves out what the draft demands."""
    for name, appraisal in ear.submods.items():
        check_submodule(name, appraisal)
    check_whole(ear.status, ear.nonce, [found.status for found in ear.submods.values()])


def check_submodule(name: str, appraisal: Appraisal) -> None:
    """Refuse a submodule that contradicts itself."""
    path = f"submods.{name}"
    _check_nonce(f"{path}.eat_nonce", appraisal.nonce)
    for number, value in appraisal.vector.items():
        if not 0 <= number < len(VECTOR_NAMES) or not -128 <= value <= 127:
            raise EarError(f"{path}.ear_trustworthiness_vector: {number} is {value}")
    _check_status(path, appraisal.status, map(Tier.of, appraisal.vector.values()))


def check_whole(status: Tier | None, nonce: bytes | None, below: Sequence[Tier]) -> None:
    """Refuse what contradicts its submodules, whose statuses are `below`."""
    if not below:
        raise EarError("submods: expected at least one")
    _check_nonce("eat_nonce", nonce)
    if status is not None:
        _check_status("", status, below)
        if status is Tier.AFFIRMING and Tier.NONE in below:
            raise EarError("ear_status: affirming although something is not appraised")


def _check_nonce(path: str, nonce: bytes | None) -> None:
    if nonce is not None and not 8 <= len(nonce) <= 64:
        raise EarError(f"{path}: expected 8 to 64 bytes, found {len(nonce)}")


def _check_status(path: str, status: Tier, below: Iterable[Tier]) -> None:
    worst = max(below, default=Tier.NONE)
    if status is not Tier.NONE and status < worst:
        name = f"{path}.ear_status" if path else "ear_status"
        raise EarError(f"{name}: {status.name.lower()} although something is {worst.name.lower()}")


class _Writer:
    def __init__(self, *, json: bool) -> None:
        self._json = json

    def ear(self, ear: Ear) -> dict[int | str, Any]:
        check(ear)
        if ear.profile != PROFILE:
            raise EarError(f"eat_profile: only {PROFILE} is written")
        return self._map(
            ear.extensions,
            {
                _PROFILE: ear.profile,
                _STATUS: None if ear.status is None else self._tier(ear.status),
                _ISSUED_AT: ear.issued_at,
                _EXPIRES: ear.expires,
                _VERIFIER_ID: self._map({}, {_DEVELOPER: ear.developer, _BUILD: ear.build}),
                _RAW_EVIDENCE: self._bytes(ear.raw_evidence),
                _SUBMODS: {name: self.submodule(found) for name, found in ear.submods.items()},
                _NONCE: self._bytes(ear.nonce),
            },
        )

    def submodule(self, appraisal: Appraisal) -> dict[int | str, Any]:
        vector = {
            (VECTOR_NAMES[number] if self._json else int(number)): value
            for number, value in sorted(appraisal.vector.items())
        }
        return self._map(
            appraisal.extensions,
            {
                _PROFILE: appraisal.profile,
                _STATUS: self._tier(appraisal.status),
                _VECTOR: vector or None,
                _POLICY_IDS: list(appraisal.policy_ids) or None,
                _NONCE: self._bytes(appraisal.nonce),
            },
        )

    def _map(
        self, extensions: Mapping[int | str, Any], claims: dict[_Claim, Any]
    ) -> dict[int | str, Any]:
        named: dict[int | str, Any] = {
            (claim.name if self._json else claim.number): value
            for claim, value in claims.items()
            if value is not None
        }
        if both := named.keys() & extensions.keys():
            raise EarError(f"{sorted(map(str, both))[0]}: an extension by the name of a claim")
        if self._json and not all(isinstance(key, str) for key in extensions):
            raise EarError("an extension's label is a number, which JSON does not have")
        return named | dict(extensions)

    def _tier(self, tier: Tier) -> int | str:
        return tier.name.lower() if self._json else int(tier)

    def _bytes(self, data: bytes | None) -> str | bytes | None:
        return base64url.encode(data) if self._json and data is not None else data


class _Reader:
    def __init__(self, *, json: bool) -> None:
        self._json = json

    def ear(self, claims: Any) -> Ear:
        found = self._claims(claims, "")
        profile = found.text(_PROFILE)
        if profile not in (PROFILE, *OLDER_PROFILES):
            found.refuse(_PROFILE, f"the profile {profile!r:.80} is not that of an EAR")
        verifier = self._claims(found.need(_VERIFIER_ID), found.path(_VERIFIER_ID))
        submods = found.need(_SUBMODS)
        if not isinstance(submods, Mapping) or not all(isinstance(name, str) for name in submods):
            found.refuse(_SUBMODS, "expected a map with texts as labels")
        ear = Ear(
            profile=profile,
            status=None if found.absent(_STATUS) else self._tier(found),
            issued_at=found.time(_ISSUED_AT),
            expires=None if found.absent(_EXPIRES) else found.time(_EXPIRES),
            developer=verifier.text(_DEVELOPER),
            build=verifier.text(_BUILD),
            raw_evidence=self._bytes(found, _RAW_EVIDENCE),
            submods={
                name: self._appraisal(value, f"submods.{name}") for name, value in submods.items()
            },
            nonce=self._bytes(found, _NONCE),
            extensions=found.left(),
        )
        check(ear)
        return ear

    def _appraisal(self, value: Any, path: str) -> Appraisal:
        found = self._claims(value, path)
        return Appraisal(
            status=self._tier(found),
            vector=self._vector(found),
            policy_ids=self._policy_ids(found),
            profile=None if found.absent(_PROFILE) else found.text(_PROFILE),
            nonce=self._bytes(found, _NONCE),
            extensions=found.left(),
        )

    def _tier(self, found: _Claims) -> Tier:
        value = found.need(_STATUS)
        known: dict[Any, Tier] = {
            (tier.name.lower() if self._json else int(tier)): tier for tier in Tier
        }
        if isinstance(value, bool) or not isinstance(value, (int, str)) or value not in known:
            found.refuse(_STATUS, f"{value!r:.40} is no tier")
        return known[value]

    def _vector(self, found: _Claims) -> dict[int, int]:
        if found.absent(_VECTOR):
            return {}
        value = found.need(_VECTOR)
        if not isinstance(value, Mapping):
            found.refuse(_VECTOR, "expected a map")
        labels: dict[Any, int] = {
            (name if self._json else number): number for number, name in enumerate(VECTOR_NAMES)
        }
        result = {}
        for label, number in value.items():
            if label not in labels or not isinstance(number, int) or isinstance(number, bool):
                found.refuse(_VECTOR, f"{label!r:.40}: {number!r:.40} is no trustworthiness claim")
            result[labels[label]] = number
        return result

    def _policy_ids(self, found: _Claims) -> tuple[str, ...]:
        if found.absent(_POLICY_IDS):
            return ()
        value = found.need(_POLICY_IDS)
        ids = [value] if isinstance(value, str) else value
        if not isinstance(ids, list) or not ids or not all(isinstance(one, str) for one in ids):
            found.refuse(_POLICY_IDS, "expected texts")
        return tuple(ids)

    def _bytes(self, found: _Claims, claim: _Claim) -> bytes | None:
        if found.absent(claim):
            return None
        value = found.need(claim)
        if self._json and isinstance(value, str):
            try:
                return base64url.decode(value.rstrip("="))
            except Base64Error as error:
                found.refuse(claim, str(error))
        if self._json or not isinstance(value, bytes):
            found.refuse(claim, "expected bytes")
        return value

    def _claims(self, value: Any, path: str) -> _Claims:
        if not isinstance(value, Mapping):
            raise EarError(f"{path or 'claims'}: expected a map")
        return _Claims(value, path, self._json)


class _Claims:
    """A map of claims and which of them were taken."""

    def __init__(self, values: Mapping[Any, Any], path: str, json: bool) -> None:
        self._values = values
        self._path = path
        self._json = json
        self._taken: set[Any] = set()

    def path(self, claim: _Claim) -> str:
        return f"{self._path}.{claim.name}" if self._path else claim.name

    def refuse(self, claim: _Claim, message: str) -> NoReturn:
        raise EarError(f"{self.path(claim)}: {message}")

    def _labels(self, claim: _Claim) -> list[Any]:
        labels = (claim.name, *claim.older) if self._json else (claim.number,)
        return [label for label in labels if label in self._values]

    def absent(self, claim: _Claim) -> bool:
        return not self._labels(claim)

    def need(self, claim: _Claim) -> Any:
        labels = self._labels(claim)
        if len(labels) > 1:
            self.refuse(claim, "stands there in two spellings")
        if not labels:
            self.refuse(claim, "is missing")
        self._taken.add(labels[0])
        return self._values[labels[0]]

    def text(self, claim: _Claim) -> str:
        value = self.need(claim)
        if isinstance(value, Tag) and value.number == 32:
            value = value.value
        if not isinstance(value, str):
            self.refuse(claim, "expected text")
        return value

    def time(self, claim: _Claim) -> int:
        value = self.need(claim)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.refuse(claim, "expected whole seconds")
        return value

    def left(self) -> dict[int | str, Any]:
        return {label: value for label, value in self._values.items() if label not in self._taken}
