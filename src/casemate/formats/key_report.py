"""Key reports: what a partition says of a key that it holds, as a COSE_Sign1 of its identity key.

The payload is a map: 0 version, 1 the public key as a COSE_Key, 2 how many bytes of that count,
3 flags, 4 application UUID (16 bytes), 5 report data (128 bytes), 6 VM launch id (16 bytes).
Version 1 is the Azure Integrated HSM's: RSA and EC keys, zero-padded to 525 bytes. Version 2 is
ours: keys of any kind, not padded, and 7 is a map from the name of each measured part of the module
to its SHA-384. The protected header is ES384 (-35) and the content type application/cbor.

Sources: Azure/azihsm-sdk (report layout); RFC 9052 and 9053, RFC 8230 (RSA), RFC 9964 (AKP keys).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casemate.formats import cbor, cose, der
from casemate.formats.cbor import CborError
from casemate.formats.cose import CoseError, Sign1

REPORT_DATA_SIZE = 128
_PADDED_KEY_SIZE = 525
_CONTENT_TYPE = "application/cbor"
#: Parts of the module: as many as anybody would list.
_MOST_MEASUREMENTS = 64
#: What a tagged report begins with: tag 18, an array of four, and the protected header.
PREFIX = bytes.fromhex("d28456a201382203706170706c69636174696f6e2f63626f72")


class KeyReportError(ValueError):
    """Bytes that are no key report; the message names the field."""


class Flag(enum.IntFlag):
    """The flags of a key, lowest bit first."""

    IMPORTED = 1 << 0
    SESSION = 1 << 1
    GENERATED = 1 << 2
    ENCRYPT = 1 << 3
    DECRYPT = 1 << 4
    SIGN = 1 << 5
    VERIFY = 1 << 6
    WRAP = 1 << 7
    UNWRAP = 1 << 8
    DERIVE = 1 << 9


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """A report. `public_key` is a SubjectPublicKeyInfo (DER); `kind` names its algorithm."""

    version: int
    public_key: bytes
    kind: str
    flags: Flag
    app_uuid: bytes
    report_data: bytes
    vm_launch_id: bytes
    measurements: Mapping[str, bytes]


def decode(data: bytes) -> tuple[Sign1, KeyReport]:
    """The message, whose signature is to be verified, and the report in it. KeyReportError."""
    try:
        message, tags = cose.decode(data)
        headers = message.headers
    except CoseError as error:
        raise KeyReportError(f"key report: {error}") from None
    if tags != (cose.TAG_SIGN1,):
        raise KeyReportError(f"key report: expected tag 18, found {tags}")
    if headers != {cose.ALGORITHM: cose.ES384, cose.CONTENT_TYPE: _CONTENT_TYPE}:
        raise KeyReportError("key report: expected ES384 (-35) and application/cbor as headers")
    return message, _payload(message.payload)


def _payload(data: bytes) -> KeyReport:
    fields = _map(data, "payload")
    version = fields.get(0)
    if version not in (1, 2) or isinstance(version, bool):
        raise KeyReportError(f"field 0 (version): expected 1 or 2, found {version}")
    expected = set(range(7 if version == 1 else 8))
    if fields.keys() != expected:
        raise KeyReportError(f"version {version} has the fields {sorted(expected)} and no others")
    held, size = _bytes(fields, 1), _number(fields, 2)
    if size > len(held) or any(held[size:]):
        raise KeyReportError("field 1 (key): longer than field 2 says, and not padded with zeros")
    if len(held) != (_PADDED_KEY_SIZE if version == 1 else size):
        raise KeyReportError(f"field 1 (key): {len(held)} bytes in version {version}")
    flags = _number(fields, 3)
    if flags >= 1 << len(Flag):
        raise KeyReportError(f"field 3 (flags): unknown bits in {flags:#x}")
    kind, public_key = _key(_map(held[:size], "key"))
    return KeyReport(
        version=version,
        public_key=public_key,
        kind=kind,
        flags=Flag(flags),
        app_uuid=_bytes(fields, 4, 16),
        report_data=_bytes(fields, 5, REPORT_DATA_SIZE),
        vm_launch_id=_bytes(fields, 6, 16),
        measurements={} if version == 1 else _measurements(fields[7]),
    )


def _map(data: bytes, name: str) -> dict[Any, Any]:
    try:
        value = cbor.decode(data)
    except CborError as error:
        raise KeyReportError(f"{name}: {error}") from None
    if not isinstance(value, dict):
        raise KeyReportError(f"{name}: expected a map")
    return value


def _bytes(fields: Mapping[Any, Any], key: int, size: int | None = None) -> bytes:
    value = fields.get(key)
    if not isinstance(value, bytes) or size not in (None, len(value)):
        wanted = "bytes" if size is None else f"{size} bytes"
        raise KeyReportError(f"field {key}: expected {wanted}")
    return value


def _number(fields: Mapping[Any, Any], key: int) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise KeyReportError(f"field {key}: expected a number")
    return value


def _measurements(value: Any) -> dict[str, bytes]:
    if not isinstance(value, dict) or len(value) > _MOST_MEASUREMENTS:
        raise KeyReportError(
            f"field 7 (measurements): expected a map of at most {_MOST_MEASUREMENTS}"
        )
    for name, digest in value.items():
        if not isinstance(name, str) or not isinstance(digest, bytes) or len(digest) != 48:
            raise KeyReportError("field 7 (measurements): expected names and SHA-384 digests")
    return value


# --- COSE_Key to SubjectPublicKeyInfo -------------------------------------------------------

_EC_PUBLIC_KEY, _RSA = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1"
#: COSE curve: name, identifier, bytes of a coordinate.
_CURVES = {
    1: ("p-256", "1.2.840.10045.3.1.7", 32),
    2: ("p-384", "1.3.132.0.34", 48),
    3: ("p-521", "1.3.132.0.35", 66),
}
#: COSE curve: name, identifier, bytes of the key (RFC 8410).
_OCTET_CURVES = {
    4: ("x25519", "1.3.101.110", 32),
    6: ("ed25519", "1.3.101.112", 32),
}
#: COSE algorithm: name, identifier, bytes of the key (RFC 9881).
_MLDSA = {
    -48: ("ml-dsa-44", "2.16.840.1.101.3.4.3.17", 1312),
    -49: ("ml-dsa-65", "2.16.840.1.101.3.4.3.18", 1952),
    -50: ("ml-dsa-87", "2.16.840.1.101.3.4.3.19", 2592),
}


def _key(key: Mapping[Any, Any]) -> tuple[str, bytes]:
    """The kind and the SubjectPublicKeyInfo of a COSE_Key."""
    match key.get(1):
        case 1 if key.keys() == {1, -1, -2} and key[-1] in _OCTET_CURVES:
            name, oid, size = _OCTET_CURVES[key[-1]]
            return name, _info(oid, b"", _bytes(key, -2, size))
        case 2 if key.keys() == {1, -1, -2, -3} and key[-1] in _CURVES:
            name, oid, size = _CURVES[key[-1]]
            point = b"\x04" + _bytes(key, -2, size) + _bytes(key, -3, size)
            return name, _info(_EC_PUBLIC_KEY, der.object_identifier(oid), point)
        case 3 if key.keys() == {1, -1, -2}:
            modulus, exponent = _bytes(key, -1), _bytes(key, -2)
            numbers = der.sequence(der.unsigned(modulus), der.unsigned(exponent))
            bits = int.from_bytes(modulus, "big").bit_length()
            return f"rsa-{bits}", _info(_RSA, der.element(0x05, b""), numbers)
        case 7 if key.keys() == {1, 3, -1} and key[3] in _MLDSA:
            name, oid, size = _MLDSA[key[3]]
            return name, _info(oid, b"", _bytes(key, -1, size))
    raise KeyReportError("key: a COSE_Key of no kind that partitions report")


def _info(oid: str, parameters: bytes, key: bytes) -> bytes:
    algorithm = der.sequence(der.object_identifier(oid), parameters)
    return der.sequence(algorithm, der.bit_string(key))
