"""TPM 2.0 structures of a quote: what was attested, its signature, the attestation key.

Integers are big-endian; a TPM2B is a 16-bit size and that many bytes. Encoding and decoding only;
decoding is bounded by the input and names the field that is wrong.

Sources: TCG TPM 2.0 Library, part 2, sections 10.12 (TPMS_ATTEST), 10.6 (TPML_PCR_SELECTION),
11.3 (TPMT_SIGNATURE), 12.2 (TPMT_PUBLIC).
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from casemate.formats import x509

GENERATED = 0xFF544347
ATTEST_QUOTE = 0x8018
QUOTE_MAGIC = struct.pack(">IH", GENERATED, ATTEST_QUOTE)
MOST_PCRS = 32
_MOST_BANKS = 16


class TpmError(ValueError):
    """Bytes that are not the structure; the message names the field."""


class Algorithm(enum.IntEnum):
    """Algorithm identifiers (TPM_ALG_ID) of what is taken here."""

    RSA = 0x0001
    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    RSASSA = 0x0014
    RSAPSS = 0x0016
    ECDSA = 0x0018
    ECC = 0x0023


#: Hashes by identifier: hashlib's name and the digest's size in bytes.
HASHES = {
    Algorithm.SHA1: ("sha1", 20),
    Algorithm.SHA256: ("sha256", 32),
    Algorithm.SHA384: ("sha384", 48),
    Algorithm.SHA512: ("sha512", 64),
}
_CURVES: dict[int, tuple[str, ec.EllipticCurve]] = {
    0x0003: ("P-256", ec.SECP256R1()),
    0x0004: ("P-384", ec.SECP384R1()),
}


class Attribute(enum.IntFlag):
    """Attributes of a key (TPMA_OBJECT) that an attestation key is judged by."""

    FIXED_TPM = 1 << 1
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


class _Reader:
    """Reads fields one after another; every error names the field and its offset."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def take(self, size: int, what: str) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise TpmError(f"{what}: cut off at offset {self._offset}")
        part = self._data[self._offset : end]
        self._offset = end
        return part

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "big")

    def sized(self, what: str) -> bytes:
        return self.take(self.number(2, what), what)

    def hash(self, what: str) -> Algorithm:
        number = self.number(2, what)
        if number not in HASHES:
            raise TpmError(f"{what}: hash algorithm {number:#06x} is not taken")
        return Algorithm(number)

    def end(self, what: str) -> None:
        if self._offset != len(self._data):
            raise TpmError(f"unexpected bytes after {what} at offset {self._offset}")


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """The PCRs of one bank, in ascending order; `select_size` is the bitmap's size in bytes."""

    bank: Algorithm
    pcrs: tuple[int, ...]
    select_size: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """TPMS_ATTEST of a quote.

    `signer` is the key's qualified name, `qualifying_data` what the caller asked to be signed
    (up to 64 bytes), `pcr_digest` the digest over the selected PCRs in the order of `selections`.
    `clock` counts milliseconds; `safe` says that it has not gone back.
    """

    signer: bytes
    qualifying_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


def decode_quote(data: bytes) -> Quote:
    """A quote from the bytes that were signed. Raises TpmError."""
    reader = _Reader(data)
    if (magic := reader.number(4, "magic")) != GENERATED:
        raise TpmError(f"magic: expected {GENERATED:08x}, found {magic:08x}: no TPM made this")
    if (kind := reader.number(2, "type")) != ATTEST_QUOTE:
        raise TpmError(f"type: expected a quote ({ATTEST_QUOTE:04x}), found {kind:04x}")
    signer = reader.sized("qualified signer")
    qualifying_data = reader.sized("qualifying data")
    clock = reader.number(8, "clock")
    reset_count = reader.number(4, "reset count")
    restart_count = reader.number(4, "restart count")
    if (safe := reader.number(1, "safe")) > 1:
        raise TpmError(f"safe: expected 0 or 1, found {safe}")
    firmware_version = reader.number(8, "firmware version")
    selections = _selections(reader)
    pcr_digest = reader.sized("PCR digest")
    reader.end("the quote")
    return Quote(
        signer=signer,
        qualifying_data=qualifying_data,
        clock=clock,
        reset_count=reset_count,
        restart_count=restart_count,
        safe=bool(safe),
        firmware_version=firmware_version,
        selections=selections,
        pcr_digest=pcr_digest,
    )


def _selections(reader: _Reader) -> tuple[PcrSelection, ...]:
    count = reader.number(4, "number of PCR banks")
    if count > _MOST_BANKS:
        raise TpmError(f"number of PCR banks: {count}, at most {_MOST_BANKS} are taken")
    selections = []
    for _ in range(count):
        bank = reader.hash("PCR bank")
        size = reader.number(1, "PCR selection")
        if size > MOST_PCRS // 8:
            raise TpmError(f"PCR selection: {size} bytes, at most {MOST_PCRS // 8} are taken")
        bits = int.from_bytes(reader.take(size, "PCR selection"), "little")
        pcrs = tuple(number for number in range(8 * size) if bits >> number & 1)
        selections.append(PcrSelection(bank, pcrs, size))
    if len({selection.bank for selection in selections}) != len(selections):
        raise TpmError("PCR bank: one is selected twice")
    return tuple(selections)


def encode_quote(quote: Quote) -> bytes:
    """The bytes that are signed."""
    parts = [
        QUOTE_MAGIC,
        _sized(quote.signer),
        _sized(quote.qualifying_data),
        struct.pack(
            ">QII?Q",
            quote.clock,
            quote.reset_count,
            quote.restart_count,
            quote.safe,
            quote.firmware_version,
        ),
        len(quote.selections).to_bytes(4, "big"),
    ]
    for selection in quote.selections:
        bits = sum(1 << number for number in selection.pcrs)
        parts.append(struct.pack(">HB", selection.bank, selection.select_size))
        parts.append(bits.to_bytes(selection.select_size, "little"))
    return b"".join((*parts, _sized(quote.pcr_digest)))


@dataclass(frozen=True, slots=True)
class Signature:
    """TPMT_SIGNATURE: the scheme, its hash, and the raw RSA signature or the DER of r and s."""

    scheme: Algorithm
    hash: Algorithm
    value: bytes


def decode_signature(data: bytes) -> Signature:
    """A signature. Raises TpmError."""
    reader = _Reader(data)
    scheme = reader.number(2, "signature scheme")
    if scheme not in (Algorithm.RSASSA, Algorithm.RSAPSS, Algorithm.ECDSA):
        raise TpmError(f"signature scheme: {scheme:#06x} is not taken")
    hash_algorithm = reader.hash("signature hash")
    if scheme == Algorithm.ECDSA:
        r, s = reader.sized("signature r"), reader.sized("signature s")
        size = max(len(r), len(s), 1)
        value = x509.ecdsa_signature(r.rjust(size, b"\0") + s.rjust(size, b"\0"))
    else:
        value = reader.sized("signature")
    reader.end("the signature")
    return Signature(Algorithm(scheme), hash_algorithm, value)


def encode_rsa_signature(scheme: Algorithm, hash_algorithm: Algorithm, value: bytes) -> bytes:
    """TPMT_SIGNATURE of an RSA key."""
    return struct.pack(">HH", scheme, hash_algorithm) + _sized(value)


def encode_ecdsa_signature(hash_algorithm: Algorithm, r: bytes, s: bytes) -> bytes:
    """TPMT_SIGNATURE of an EC key; r and s are big-endian."""
    return struct.pack(">HH", Algorithm.ECDSA, hash_algorithm) + _sized(r) + _sized(s)


@dataclass(frozen=True, slots=True)
class PublicArea:
    """TPMT_PUBLIC of an RSA or EC key: its attributes, name (algorithm and digest) and SPKI."""

    attributes: Attribute
    name_algorithm: Algorithm
    spki: bytes


def decode_public(data: bytes) -> PublicArea:
    """A public area, also within a TPM2B_PUBLIC. Raises TpmError."""
    if len(data) >= 2 and int.from_bytes(data[:2], "big") == len(data) - 2:
        data = data[2:]
    reader = _Reader(data)
    kind = reader.number(2, "key type")
    name_algorithm = reader.hash("name algorithm")
    attributes = Attribute(reader.number(4, "attributes"))
    reader.sized("policy")
    if reader.number(2, "symmetric algorithm") != Algorithm.NULL:
        reader.take(4, "symmetric key size and mode")
    if (scheme := reader.number(2, "scheme")) != Algorithm.NULL:
        reader.take(2, "scheme's hash")
        if scheme not in (Algorithm.RSASSA, Algorithm.RSAPSS, Algorithm.ECDSA):
            raise TpmError(f"scheme: {scheme:#06x} is not taken")
    if kind == Algorithm.RSA:
        spki = _rsa_key(reader)
    elif kind == Algorithm.ECC:
        spki = _elliptic_key(reader)
    else:
        raise TpmError(f"key type: {kind:#06x} is neither RSA nor ECC")
    reader.end("the public area")
    return PublicArea(attributes, name_algorithm, spki)


def _rsa_key(reader: _Reader) -> bytes:
    reader.number(2, "key size")
    exponent = reader.number(4, "exponent") or 65537
    return rsa_spki(int.from_bytes(reader.sized("modulus"), "big"), exponent)


def rsa_spki(modulus: int, exponent: int) -> bytes:
    """SubjectPublicKeyInfo of an RSA key. Raises TpmError for numbers that are no key."""
    try:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise TpmError(f"RSA key: {error}") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _elliptic_key(reader: _Reader) -> bytes:
    number = reader.number(2, "curve")
    if number not in _CURVES:
        raise TpmError(f"curve: {number:#06x} is neither P-256 nor P-384")
    if reader.number(2, "key derivation") != Algorithm.NULL:
        reader.take(2, "key derivation's hash")
    x, y = reader.sized("x"), reader.sized("y")
    try:
        point = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x, "big"), int.from_bytes(y, "big"), _CURVES[number][1]
        )
        key = point.public_key()
    except ValueError as error:
        raise TpmError(f"EC key: {error}") from None
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
