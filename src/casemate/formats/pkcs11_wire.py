"""The bodies of a partition's messages: templates, attribute queries, mechanism parameters.

docs/transport.md, sections 5 to 7. All integers are little-endian; a parameter block is one form
byte and that form's fields; `counted` bytes have a u32 length before them. Decoders are total:
`MalformedBody` names the byte.

>>> decode_template(encode_template({Attribute.LABEL: "tls", Attribute.TOKEN: True}))
{<Attribute.TOKEN: 1>: True, <Attribute.LABEL: 3>: 'tls'}
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

from casemate.formats.pkcs11 import Attribute, Hedge, KeyType, Mechanism, Mgf, ObjectClass

Value: TypeAlias = "bool | int | str | bytes | date | tuple[int, ...] | Template"
Template: TypeAlias = "Mapping[Attribute, Value]"

_A = Attribute
_BOOLEANS = frozenset(
    {
        _A.TOKEN, _A.PRIVATE, _A.TRUSTED, _A.SENSITIVE, _A.ENCRYPT, _A.DECRYPT, _A.WRAP, _A.UNWRAP,
        _A.SIGN, _A.SIGN_RECOVER, _A.VERIFY, _A.VERIFY_RECOVER, _A.DERIVE, _A.EXTRACTABLE,
        _A.LOCAL, _A.NEVER_EXTRACTABLE, _A.ALWAYS_SENSITIVE, _A.MODIFIABLE, _A.COPYABLE,
        _A.DESTROYABLE, _A.ALWAYS_AUTHENTICATE, _A.WRAP_WITH_TRUSTED, _A.ENCAPSULATE,
        _A.DECAPSULATE,
    }
)  # fmt: skip
_NUMBERS = frozenset(
    {
        _A.CLASS, _A.CERTIFICATE_TYPE, _A.CERTIFICATE_CATEGORY, _A.KEY_TYPE, _A.MODULUS_BITS,
        _A.VALUE_BITS, _A.VALUE_LEN, _A.KEY_GEN_MECHANISM, _A.PROFILE_ID, _A.PARAMETER_SET,
        _A.OBJECT_VALIDATION_FLAGS, _A.VALIDATION_TYPE, _A.VALIDATION_LEVEL, _A.VALIDATION_FLAG,
        _A.VALIDATION_AUTHORITY_TYPE,
    }
)  # fmt: skip
_TEXTS = frozenset({_A.LABEL, _A.APPLICATION, _A.URL, _A.UNIQUE_ID})
_DATES = frozenset({_A.START_DATE, _A.END_DATE})
_TEMPLATES = frozenset(
    {
        _A.WRAP_TEMPLATE, _A.UNWRAP_TEMPLATE, _A.DERIVE_TEMPLATE, _A.ENCAPSULATE_TEMPLATE,
        _A.DECAPSULATE_TEMPLATE,
    }
)  # fmt: skip
#: CK_UNAVAILABLE_INFORMATION: a number that the object does not tell.
UNAVAILABLE = (1 << 64) - 1
#: The capacity that asks for an attribute's length only.
_LENGTH_ONLY = 0xFFFFFFFF


class MalformedBody(ValueError):  # noqa: N818 (the wire's own word)
    """A body that ends before its fields do, or goes on behind them."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"malformed message body at byte {offset}: {what}")
        self.offset = offset


# --- attributes ------------------------------------------------------------------------------


def encode_value(attribute: Attribute, value: Value) -> bytes:
    """Return an attribute's value as the wire carries it; raises `TypeError` by name."""
    if isinstance(value, bool):
        return bytes((value,))
    if isinstance(value, int):
        return struct.pack("<Q", value)
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, date):
        return value.strftime("%Y%m%d").encode()
    if isinstance(value, tuple):
        return struct.pack(f"<{len(value)}Q", *value)
    if isinstance(value, Mapping):
        return encode_template(value)
    raise TypeError(f"attribute {attribute.name} cannot be a {type(value).__name__}")


def encode_template(template: Template) -> bytes:
    """Return a template: for each attribute u64 type, u32 length, value."""
    out = bytearray()
    for attribute, value in template.items():
        encoded = encode_value(attribute, value)
        out += struct.pack("<QI", attribute, len(encoded)) + encoded
    return bytes(out)


def decode_value(attribute: Attribute, raw: bytes) -> Value:
    """Return a value in its attribute's own type; a value of another length stays bytes."""
    if attribute in _BOOLEANS and len(raw) == 1:
        return raw != b"\0"
    if attribute in _NUMBERS and len(raw) == 8:
        return _named(attribute, int.from_bytes(raw, "little"))
    if attribute in _TEXTS:
        return raw.decode("utf-8", "replace")
    if attribute in _DATES and len(raw) == 8 and raw.isdigit():
        try:
            return date(int(raw[:4]), int(raw[4:6]), int(raw[6:]))
        except ValueError:
            return raw
    if attribute is _A.ALLOWED_MECHANISMS and len(raw) % 8 == 0:
        return struct.unpack(f"<{len(raw) // 8}Q", raw)
    if attribute in _TEMPLATES:
        return decode_template(raw)
    return raw


def _named(attribute: Attribute, number: int) -> int:
    """Return the enum's member where the number has a name."""
    enums: dict[Attribute, type[KeyType] | type[ObjectClass] | type[Mechanism]] = {
        _A.KEY_TYPE: KeyType,
        _A.CLASS: ObjectClass,
        _A.KEY_GEN_MECHANISM: Mechanism,
    }
    enum = enums.get(attribute)
    if enum is None:
        return number
    try:
        return enum(number)
    except ValueError:
        return number


def decode_template(body: bytes) -> dict[Attribute, Value]:
    """Return the attributes of a template; types without a name here are left out."""
    found: dict[Attribute, Value] = {}
    offset = 0
    while offset < len(body):
        if len(body) - offset < 12:
            raise MalformedBody(offset, "an attribute needs 12 bytes before its value")
        kind, length = struct.unpack_from("<QI", body, offset)
        offset += 12
        if length > len(body) - offset:
            raise MalformedBody(offset, f"a value of {length} bytes does not fit")
        if kind in _KNOWN:
            attribute = Attribute(kind)
            found[attribute] = decode_value(attribute, body[offset : offset + length])
        offset += length
    return found


def encode_query(attributes: Iterable[Attribute], *, capacity: int = 4096) -> bytes:
    """Return a query: for each attribute u64 type, u32 bytes of room."""
    return b"".join(struct.pack("<QI", attribute, capacity) for attribute in attributes)


def decode_answers(body: bytes) -> dict[Attribute, Value]:
    """Return what a query found; sensitive and absent attributes are left out."""
    found: dict[Attribute, Value] = {}
    offset = 0
    while offset < len(body):
        if len(body) - offset < 16:
            raise MalformedBody(offset, "an answer needs 16 bytes before its value")
        kind, status, length = struct.unpack_from("<QII", body, offset)
        offset += 16
        if status != 0:
            continue
        if length > len(body) - offset:
            raise MalformedBody(offset, f"a value of {length} bytes does not fit")
        if kind in _KNOWN:
            attribute = Attribute(kind)
            found[attribute] = decode_value(attribute, body[offset : offset + length])
        offset += length
    return found


def decode_handles(body: bytes) -> list[int]:
    """Return u64 numbers: handles or mechanism types."""
    if len(body) % 8:
        raise MalformedBody(len(body) & ~7, "a number needs 8 bytes")
    return list(struct.unpack(f"<{len(body) // 8}Q", body))


def decode_certificates(body: bytes) -> list[bytes]:
    """Return the certificates of a chain: for each a u32 length and its DER."""
    found = []
    offset = 0
    while offset < len(body):
        if len(body) - offset < 4:
            raise MalformedBody(offset, "a length needs 4 bytes")
        (length,) = struct.unpack_from("<I", body, offset)
        offset += 4
        if length > len(body) - offset:
            raise MalformedBody(offset, f"a certificate of {length} bytes does not fit")
        found.append(body[offset : offset + length])
        offset += length
    return found


_KNOWN = frozenset(int(attribute) for attribute in Attribute)


# --- mechanism parameters --------------------------------------------------------------------


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


@dataclass(frozen=True, slots=True)
class Bytes:
    """An IV, a data unit number, key-derivation string data."""

    data: bytes

    def encode(self) -> bytes:
        """Return the parameter block."""
        return b"\x01" + _counted(self.data)


@dataclass(frozen=True, slots=True)
class Number:
    """A length of a MAC in bytes, a bit position, a handle."""

    number: int

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BQ", 2, self.number)


@dataclass(frozen=True, slots=True)
class Counter:
    """AES-CTR: the first counter block (16 bytes), of which `bits` count."""

    block: bytes
    bits: int = 128

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BI", 3, self.bits) + _counted(self.block)


@dataclass(frozen=True, slots=True)
class Gcm:
    """AES-GCM: IV, associated data, length of the tag in bits."""

    iv: bytes
    associated: bytes = b""
    tag_bits: int = 128

    def encode(self) -> bytes:
        """Return the parameter block."""
        head = struct.pack("<BII", 4, len(self.iv) * 8, self.tag_bits)
        return head + _counted(self.iv) + _counted(self.associated)


@dataclass(frozen=True, slots=True)
class GcmMessage:
    """AES-GCM where tag and IV stand apart; with `generate` the module makes the IV."""

    iv: bytes
    associated: bytes = b""
    tag: bytes = b""
    tag_bits: int = 128
    fixed_bits: int = 0
    generate: bool = False

    def encode(self) -> bytes:
        """Return the parameter block (CKG_GENERATE or CKG_NO_GENERATE)."""
        head = struct.pack("<BIIQ", 5, self.fixed_bits, self.tag_bits, int(self.generate))
        return head + _counted(self.iv) + _counted(self.associated) + _counted(self.tag)


@dataclass(frozen=True, slots=True)
class Oaep:
    """RSA OAEP: hash, mask generation with the same hash unless given, label."""

    hash: Mechanism = Mechanism.SHA256
    mgf: Mgf | None = None
    label: bytes = b""

    def fields(self) -> bytes:
        """Return the fields without the form byte."""
        mgf = MGF_OF[self.hash] if self.mgf is None else self.mgf
        return struct.pack("<QQQ", self.hash, mgf, 1) + _counted(self.label)

    def encode(self) -> bytes:
        """Return the parameter block."""
        return b"\x06" + self.fields()


@dataclass(frozen=True, slots=True)
class Pss:
    """RSA PSS: hash, mask generation with the same hash unless given, bytes of salt."""

    hash: Mechanism = Mechanism.SHA256
    salt_length: int | None = None
    mgf: Mgf | None = None

    def encode(self) -> bytes:
        """Return the parameter block; without a length the salt is as long as the hash."""
        mgf = MGF_OF[self.hash] if self.mgf is None else self.mgf
        salt = HASH_BYTES[self.hash] if self.salt_length is None else self.salt_length
        return struct.pack("<BQQQ", 7, self.hash, mgf, salt)


@dataclass(frozen=True, slots=True)
class RsaAesWrap:
    """RSA_AES_KEY_WRAP: bits of the temporary AES key, and how it is wrapped."""

    aes_bits: int = 256
    oaep: Oaep = Oaep()

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BI", 8, self.aes_bits) + self.oaep.fields()


@dataclass(frozen=True, slots=True)
class Ecdh:
    """ECDH: the other side's public value, and the key derivation (CKD_NULL = 1)."""

    public: bytes
    kdf: int = 1
    shared: bytes = b""

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BQ", 9, self.kdf) + _counted(self.shared) + _counted(self.public)


@dataclass(frozen=True, slots=True)
class Eddsa:
    """Ed25519 with a context, or its prehash variant."""

    prehash: bool = False
    context: bytes = b""

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BB", 10, self.prehash) + _counted(self.context)


@dataclass(frozen=True, slots=True)
class SignContext:
    """ML-DSA: context (at most 255 bytes) and whether fresh randomness goes in."""

    context: bytes = b""
    hedge: Hedge = Hedge.PREFERRED

    def encode(self) -> bytes:
        """Return the parameter block."""
        return struct.pack("<BQ", 11, self.hedge) + _counted(self.context)


@dataclass(frozen=True, slots=True)
class Hkdf:
    """HKDF: its steps, hash, salt (bytes, or a key by handle) and info."""

    hash: Mechanism = Mechanism.SHA256
    salt: bytes | None = None
    info: bytes = b""
    extract: bool = True
    expand: bool = True
    salt_key: int | None = None

    def encode(self) -> bytes:
        """Return the parameter block (CKF_HKDF_SALT_NULL 1, _DATA 2, _KEY 4)."""
        kind = 4 if self.salt_key is not None else 2 if self.salt is not None else 1
        head = struct.pack(
            "<BBBQQQ", 13, self.extract, self.expand, self.hash, kind, self.salt_key or 0
        )
        return head + _counted(self.salt or b"") + _counted(self.info)


@dataclass(frozen=True, slots=True)
class CounterKdf:
    """SP 800-108 in counter mode: [i] || label || 00 || context || [L], as SP 800-108 writes it."""

    prf: Mechanism = Mechanism.SHA256_HMAC
    label: bytes = b""
    context: bytes = b""
    counter_bits: int = 32
    length_bits: int = 32

    def encode(self) -> bytes:
        """Return the parameter block: the fields in their order, no further keys."""
        fields = [
            struct.pack("<BBI", 1, 0, self.counter_bits),
            b"\x04" + _counted(self.label),
            b"\x04" + _counted(b"\0"),
            b"\x04" + _counted(self.context),
            struct.pack("<BBIQ", 3, 0, self.length_bits, 1),
        ]
        fields = [field for field in fields if field != b"\x04" + _counted(b"")]
        head = struct.pack("<BQBB", 14, self.prf, len(fields), 0)
        return head + _counted(b"") + b"".join(fields)


@dataclass(frozen=True, slots=True)
class CbcData:
    """AES_CBC_ENCRYPT_DATA: a key is the encryption of data under an IV (16 bytes)."""

    iv: bytes
    data: bytes

    def encode(self) -> bytes:
        """Return the parameter block."""
        return b"\x14" + _counted(self.iv) + _counted(self.data)


Parameters: TypeAlias = (
    Bytes
    | Number
    | Counter
    | Gcm
    | GcmMessage
    | Oaep
    | Pss
    | RsaAesWrap
    | Ecdh
    | Eddsa
    | SignContext
    | Hkdf
    | CounterKdf
    | CbcData
)

#: The mask generation function over the same hash.
MGF_OF = {
    Mechanism.SHA_1: Mgf.SHA1,
    Mechanism.SHA224: Mgf.SHA224,
    Mechanism.SHA256: Mgf.SHA256,
    Mechanism.SHA384: Mgf.SHA384,
    Mechanism.SHA512: Mgf.SHA512,
    Mechanism.SHA3_224: Mgf.SHA3_224,
    Mechanism.SHA3_256: Mgf.SHA3_256,
    Mechanism.SHA3_384: Mgf.SHA3_384,
    Mechanism.SHA3_512: Mgf.SHA3_512,
}
#: Bytes of each hash.
HASH_BYTES = {
    Mechanism.SHA_1: 20,
    Mechanism.SHA224: 28,
    Mechanism.SHA256: 32,
    Mechanism.SHA384: 48,
    Mechanism.SHA512: 64,
    Mechanism.SHA3_224: 28,
    Mechanism.SHA3_256: 32,
    Mechanism.SHA3_384: 48,
    Mechanism.SHA3_512: 64,
}


# --- what a partition says about itself --------------------------------------------------------

_INFO = struct.Struct("<32s32s16s16s5Q2I2Q2s2sI4Q")


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """The answer to PartitionInfo; counts are None where the partition does not tell."""

    label: str
    manufacturer: str
    model: str
    serial: str
    flags: int
    pin_length: tuple[int, int]
    firmware: tuple[int, int]
    state: int
    validation_flags: int
    objects_max: int | None
    token_objects: int

    @property
    def login_required(self) -> bool:
        """CKF_LOGIN_REQUIRED."""
        return bool(self.flags & 0x4)

    @property
    def pin_initialised(self) -> bool:
        """CKF_USER_PIN_INITIALIZED."""
        return bool(self.flags & 0x8)

    @classmethod
    def decode(cls, body: bytes) -> PartitionInfo:
        """Return the fields of the first bytes; a newer module may send more."""
        if len(body) < _INFO.size:
            raise MalformedBody(len(body), f"PartitionInfo has {_INFO.size} bytes or more")
        fields = _INFO.unpack_from(body)
        texts = [field.decode("utf-8", "replace").rstrip(" \0") for field in fields[:4]]
        return cls(
            label=texts[0],
            manufacturer=texts[1],
            model=texts[2],
            serial=texts[3],
            flags=fields[4],
            pin_length=(fields[10], fields[9]),
            firmware=(fields[14][0], fields[14][1]),
            state=fields[15],
            validation_flags=fields[17],
            objects_max=fields[18] or None,
            token_objects=fields[19],
        )
