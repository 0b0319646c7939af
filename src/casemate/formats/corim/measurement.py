"""What is measured, where, and which values it has: the model that evidence and references share.

The names are those of draft-ietf-rats-corim, section 5.1.4 (environment-map, measurement-map,
measurement-values-map). Type choices keep their CBOR tag (`casemate.formats.cbor.Tag`): a class id
is Tag(111, OID content bytes), Tag(37, 16 bytes of a UUID) or Tag(560, bytes). All values are
hashable, so that they can be compared and counted: a thumbprint's tag (557, 559, 561) holds a
Digest, a COSE_Key's (558) the deterministic encoding of its map. This module neither encodes nor
decodes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from operator import attrgetter

from casemate.formats.cbor import Tag

#: Tags of the type choices (draft-ietf-rats-corim, section 10).
TAG_OID, TAG_UUID, TAG_UEID, TAG_BYTES = 111, 37, 550, 560

TAG_SVN, TAG_MIN_SVN, TAG_MASKED_RAW_VALUE, TAG_INT_RANGE = 552, 553, 563, 564

#: Tags of keys: base64 text (PEM) of key, certificate, path; thumbprints of them; COSE_Key; DER.
TAG_PKIX_KEY, TAG_PKIX_CERTIFICATE, TAG_PKIX_PATH = 554, 555, 556
TAG_KEY_THUMBPRINT, TAG_CERTIFICATE_THUMBPRINT, TAG_PATH_THUMBPRINT = 557, 559, 561
TAG_COSE_KEY, TAG_CERTIFICATE_DER = 558, 562
TEXT_KEYS = frozenset({TAG_PKIX_KEY, TAG_PKIX_CERTIFICATE, TAG_PKIX_PATH})
THUMBPRINT_KEYS = frozenset({TAG_KEY_THUMBPRINT, TAG_CERTIFICATE_THUMBPRINT, TAG_PATH_THUMBPRINT})

#: Hash algorithms by number, with digest sizes in bytes: named information (IANA, RFC 6920), and
#: below zero those of COSE (RFC 9054).
SHA256, SHA384, SHA512 = 1, 7, 8
DIGEST_SIZES = {
    SHA256: 32,
    2: 16,
    3: 15,
    4: 12,
    5: 8,
    6: 4,
    SHA384: 48,
    SHA512: 64,
    9: 28,
    10: 32,
    11: 48,
    12: 64,
    -16: 32,
    -43: 48,
    -44: 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment-map: the class of a thing, an instance, a group. Absent fields are None."""

    class_id: Tag | None = None
    vendor: str | None = None
    model: str | None = None
    layer: int | None = None
    index: int | None = None
    instance: Tag | None = None
    group: Tag | None = None

    def covers(self, other: Environment) -> bool:
        """Whether every field that stands here stands in the other with the same value."""
        return all(
            own is None or own == theirs
            for own, theirs in zip(_ATTRIBUTES(self), _ATTRIBUTES(other), strict=True)
        )


_ATTRIBUTES = attrgetter(*(field.name for field in fields(Environment)))


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest: a named-information algorithm (number or name) and its bytes."""

    algorithm: int | str
    value: bytes


class SvnKind(enum.Enum):
    """How a security version number compares: as it is, or as the least that is taken."""

    EXACT = "exact"
    MINIMUM = "minimum"


@dataclass(frozen=True, slots=True)
class Svn:
    """A security version number."""

    value: int
    kind: SvnKind = SvnKind.EXACT


@dataclass(frozen=True, slots=True)
class RawValue:
    """Raw bytes; where a mask stands, only its set bits compare (both of one size)."""

    value: bytes
    mask: bytes | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A version and its scheme (RFC 9393's numbers or names)."""

    version: str
    scheme: int | str | None = None


@dataclass(frozen=True, slots=True)
class IntRange:
    """A range of integers; None is unbounded. A single value has equal ends."""

    minimum: int | None
    maximum: int | None


class Flag(enum.IntEnum):
    """The flags-map: facts about the mode that a thing runs in."""

    IS_CONFIGURED = 0
    IS_SECURE = 1
    IS_RECOVERY = 2
    IS_DEBUG = 3
    IS_REPLAY_PROTECTED = 4
    IS_INTEGRITY_PROTECTED = 5
    IS_RUNTIME_MEASURED = 6
    IS_IMMUTABLE = 7
    IS_TCB = 8
    IS_CONFIDENTIALITY_PROTECTED = 9
    IS_RUNTIME_UPDATABLE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementValues:
    """A measurement-values-map. Absent fields are None or empty.

    `digests` are alternatives by algorithm; `flags` are by number, a Flag where it has a name;
    `integrity_registers` maps a register (number or name) to its digests, as pairs in the order of
    the registers; `extensions` are keys that this model does not name, with their values as encoded
    CBOR (bytes).
    """

    version: Version | None = None
    svn: Svn | None = None
    digests: tuple[Digest, ...] = ()
    flags: tuple[tuple[int, bool], ...] = ()
    raw_value: RawValue | None = None
    mac_address: bytes | None = None
    ip_address: bytes | None = None
    serial_number: str | None = None
    ueid: bytes | None = None
    uuid: bytes | None = None
    name: str | None = None
    crypto_keys: tuple[Tag, ...] = ()
    integrity_registers: tuple[tuple[int | str, tuple[Digest, ...]], ...] = ()
    int_range: IntRange | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A measurement-map: which element of its environment (None: the only one), and its values."""

    values: MeasurementValues
    key: int | str | Tag | None = None
    authorized_by: tuple[Tag, ...] = ()
