"""The IDevID CSR envelope: what a new device hands to its manufacturer.

Layout (little-endian): marker 0x00435352, size u32, ECC request (length u32, 512 bytes), ML-DSA
request (length u32, 8192 bytes), then HMAC-SHA512 of all before under the device's CSR key (64).

Source: caliptra-sw drivers/src/persistent.rs, rom/dev/src/flow/cold_reset/idev_id.rs.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass

from casemate.rot.crypto import RotCrypto
from casemate.rot.errors import RotError

MARKER = 0x0043_5352
_ECC_ROOM, _MLDSA_ROOM = 512, 8192
_LAYOUT = struct.Struct(f"<III{_ECC_ROOM}sI{_MLDSA_ROOM}s")
SIZE = _LAYOUT.size + 64


@dataclass(frozen=True, slots=True)
class CsrEnvelope:
    """The two requests (DER) and the MAC (64 bytes)."""

    ecc_csr: bytes
    mldsa_csr: bytes
    mac: bytes


def _body(ecc_csr: bytes, mldsa_csr: bytes) -> bytes:
    if len(ecc_csr) > _ECC_ROOM or len(mldsa_csr) > _MLDSA_ROOM:
        raise RotError("a request does not fit into the CSR envelope")
    return _LAYOUT.pack(MARKER, SIZE, len(ecc_csr), ecc_csr, len(mldsa_csr), mldsa_csr)


def seal(crypto: RotCrypto, ecc_csr: bytes, mldsa_csr: bytes) -> bytes:
    """The envelope's bytes with their MAC."""
    body = _body(ecc_csr, mldsa_csr)
    return body + crypto.csr_mac(body)


def decode(data: bytes) -> CsrEnvelope:
    """The envelope's fields; the MAC is not checked. Raises RotError with the field."""
    if len(data) != SIZE:
        raise RotError(f"a CSR envelope has {SIZE} bytes, found {len(data)}")
    marker, size, ecc_size, ecc, mldsa_size, mldsa = _LAYOUT.unpack_from(data)
    if marker != MARKER:
        raise RotError(f"CSR envelope: marker: expected {MARKER:#010x}, found {marker:#010x}")
    if size != SIZE:
        raise RotError(f"CSR envelope: size: expected {SIZE}, states {size}")
    for name, length, room in (
        ("ECC request", ecc_size, ecc),
        ("ML-DSA request", mldsa_size, mldsa),
    ):
        if length > len(room) or any(room[length:]):
            raise RotError(f"CSR envelope: {name}: length {length} does not fit its bytes")
    return CsrEnvelope(ecc[:ecc_size], mldsa[:mldsa_size], data[_LAYOUT.size :])


def check_mac(envelope: CsrEnvelope, csr_mac: Callable[[bytes], bytes]) -> None:
    """Check the MAC; `csr_mac` computes it with the key that manufacturer and chip share.

    Raises RotError if the requests are not those that the device made.
    """
    body = _body(envelope.ecc_csr, envelope.mldsa_csr)
    if not hmac.compare_digest(csr_mac(body), envelope.mac):
        raise RotError("CSR envelope: its MAC is not the device's: changed on the way, or not its")
