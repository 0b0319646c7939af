"""A second verifier of Caliptra quotes, written from the public description of their bytes alone.

It shares no code with the product, so that a mistake there is not made here. From the description:

- An ECC response is checksum u32, FIPS status u32, 32 PCRs of 48 bytes, nonce 32, 32 reset counters
  u32, digest 48, r 48, s 48; an ML-DSA response has digest 64 and signature 4628 instead, of which
  the last byte is padding. Integers are little-endian.
- The digest is SHA-512 over PCRs and nonce. The P-384 key signs its first 48 bytes as a digest; the
  ML-DSA-87 key signs all 64, last byte first, as a message. The FMC alias key signs.
- A log entry is id u16, reserved 2, mask u32, data 48; entry 1 (device status) measures 18 bytes of
  it, or 17. A PCR is extended by SHA-384(old || data), beginning with zeros.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey


class RefusedError(Exception):
    """The quote or its log is not what it claims to be."""


@dataclass(frozen=True)
class Quoted:
    """What a quote shows: 32 PCRs, and the device status that the log holds (empty without)."""

    pcrs: list[bytes]
    status: bytes = b""


def verify(response: bytes, fmc_certificate: bytes, nonce: bytes) -> Quoted:
    """Check a response under the FMC alias certificate (DER), for a nonce of 32 bytes."""
    signed, after = response[8 : 8 + 32 * 48 + 32], 8 + 32 * 48 + 32 + 32 * 4
    if signed[-32:] != nonce:
        raise RefusedError("another nonce")
    digest = hashlib.sha512(signed).digest()
    key = x509.load_der_x509_certificate(fmc_certificate).public_key()
    try:
        if isinstance(key, MLDSA87PublicKey) and len(response) == after + 64 + 4628:
            message = digest[::-1]
            if response[after : after + 64] != message or response[-1]:
                raise RefusedError("digest or padding")
            key.verify(response[after + 64 : -1], message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and len(response) == after + 144:
            if response[after : after + 48] != digest[:48]:
                raise RefusedError("digest")
            r, s = response[after + 48 : after + 96], response[after + 96 :]
            der = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            key.verify(der, digest[:48], ec.ECDSA(utils.Prehashed(hashes.SHA384())))
        else:
            raise RefusedError("size or key")
    except InvalidSignature:
        raise RefusedError("signature") from None
    return Quoted([signed[48 * n : 48 * n + 48] for n in range(32)])


def replay(quoted: Quoted, log: bytes) -> Quoted:
    """Check that a log of a cold boot leads to PCR 0 to 3; with the device status in it."""
    for size in (18, 17):
        values = [bytes(48)] * 32
        status = b""
        for at in range(0, len(log), 56):
            entry = log[at : at + 56]
            kind, mask = int.from_bytes(entry[:2], "little"), int.from_bytes(entry[4:8], "little")
            data = entry[8 : 8 + size] if kind == 1 else entry[8:]
            status = data if kind == 1 else status
            for index in range(32):
                if mask >> index & 1:
                    values[index] = hashlib.sha384(values[index] + data).digest()
        if values[:4] == quoted.pcrs[:4]:
            return Quoted(quoted.pcrs, status)
    raise RefusedError("the log does not replay")


def lifecycle_and_debug(status: bytes) -> tuple[int, bool]:
    """Lifecycle and whether debug is locked: behind the owner's eleven bytes and the PQC type."""
    return status[12], bool(status[13])
