"""A PCR quote: all 32 PCRs and a nonce under the FMC alias key, as the mailbox returns it.

ECC response: checksum u32, FIPS status u32, PCRs 32 x 48, nonce 32, reset counters 32 x u32,
digest 48, r 48, s 48. ML-DSA response: the same with digest 64 and signature 4628 (4627 and one
byte of padding). Integers are little-endian.

The digest is SHA-512 over PCRs and nonce. ECC takes its first 48 bytes as the digest to sign.
ML-DSA takes all 64 bytes, last byte first, as the message to sign. The reset counters are not
signed.

Source: caliptra-sw runtime/README.md, api/src/mailbox.rs, runtime/src/pcr.rs.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass

from casemate.formats.pcr_log import PCR_COUNT, PCR_SIZE

NONCE_SIZE = 32
ECC_SIZE = 8 + PCR_COUNT * PCR_SIZE + NONCE_SIZE + 4 * PCR_COUNT + 48 + 96
MLDSA_SIZE = 8 + PCR_COUNT * PCR_SIZE + NONCE_SIZE + 4 * PCR_COUNT + 64 + 4628

_HEAD = struct.Struct("<II" + f"{PCR_SIZE}s" * PCR_COUNT + f"{NONCE_SIZE}s{PCR_COUNT}I")
#: So many bytes sum up to less than Adler-32's modulus, 65521.
_ADLER_WHOLE = 256


class PcrQuoteError(ValueError):
    """Bytes that are no quote; the message says which field."""


@dataclass(frozen=True, slots=True)
class PcrQuote:
    """A quote's fields. `signature` is r and s (96 bytes) or an ML-DSA-87 signature (4627)."""

    pcrs: tuple[bytes, ...]
    nonce: bytes
    reset_counters: tuple[int, ...]
    digest: bytes
    signature: bytes
    fips_status: int = 0

    @property
    def is_mldsa(self) -> bool:
        """Which of the two it is."""
        return len(self.digest) == 64


def ecc_digest(pcrs: tuple[bytes, ...], nonce: bytes) -> bytes:
    """The 48 bytes that the ECC key signs as a digest."""
    return hashlib.sha512(b"".join(pcrs) + nonce).digest()[:48]


def mldsa_message(pcrs: tuple[bytes, ...], nonce: bytes) -> bytes:
    """The 64 bytes that the ML-DSA key signs as a message."""
    return hashlib.sha512(b"".join(pcrs) + nonce).digest()[::-1]


def nonce_for(verifier_nonce: bytes) -> bytes:
    """A quote's nonce for a verifier's: itself if it has 32 bytes, else its SHA-256."""
    if len(verifier_nonce) == NONCE_SIZE:
        return verifier_nonce
    return hashlib.sha256(verifier_nonce).digest()


def checksum(data: bytes) -> int:
    """The mailbox checksum over a response after the checksum field: the sum of all is 0."""
    # The lower half of Adler-32 is 1 and the sum of the bytes: a tenth of the time of sum().
    pieces = range(0, len(data), _ADLER_WHOLE)
    sums = (zlib.adler32(data[at : at + _ADLER_WHOLE]) & 0xFFFF for at in pieces)
    return (len(pieces) - sum(sums)) & 0xFFFFFFFF


def encode(quote: PcrQuote) -> bytes:
    """The response's bytes. Raises PcrQuoteError for a wrong size."""
    expected = (64, 4627) if quote.is_mldsa else (48, 96)
    if (len(quote.digest), len(quote.signature)) != expected:
        raise PcrQuoteError(
            f"digest and signature: expected {expected[0]} and {expected[1]} bytes, found "
            f"{len(quote.digest)} and {len(quote.signature)}"
        )
    if len(quote.pcrs) != PCR_COUNT or any(len(pcr) != PCR_SIZE for pcr in quote.pcrs):
        raise PcrQuoteError(f"PCRs: expected {PCR_COUNT} of {PCR_SIZE} bytes")
    if len(quote.nonce) != NONCE_SIZE:
        raise PcrQuoteError(f"nonce: expected {NONCE_SIZE} bytes, found {len(quote.nonce)}")
    head = _HEAD.pack(0, quote.fips_status, *quote.pcrs, quote.nonce, *quote.reset_counters)
    body = head[4:] + quote.digest + quote.signature + (b"\0" if quote.is_mldsa else b"")
    return checksum(body).to_bytes(4, "little") + body


def decode(data: bytes) -> PcrQuote:
    """A quote from a response's bytes; nothing is verified but the form and the checksum.

    Raises PcrQuoteError: another size, wrong checksum, padding set.
    """
    if len(data) not in (ECC_SIZE, MLDSA_SIZE):
        raise PcrQuoteError(
            f"a quote has {ECC_SIZE} (ECC) or {MLDSA_SIZE} (ML-DSA) bytes; found {len(data)}"
        )
    fields = _HEAD.unpack_from(data)
    stated, fips_status, nonce = fields[0], fields[1], fields[2 + PCR_COUNT]
    if stated != (found := checksum(data[4:])):
        raise PcrQuoteError(f"checksum: states {stated:08x}, is {found:08x}")
    rest = data[_HEAD.size :]
    if len(data) == ECC_SIZE:
        digest, signature = rest[:48], rest[48:]
    else:
        digest, signature = rest[:64], rest[64:-1]
        if rest[-1]:
            raise PcrQuoteError("the padding byte after the signature is set")
    return PcrQuote(
        pcrs=fields[2 : 2 + PCR_COUNT],
        nonce=nonce,
        reset_counters=fields[3 + PCR_COUNT :],
        digest=digest,
        signature=signature,
        fips_status=fips_status,
    )
