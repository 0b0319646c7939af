"""The messages by which a module has its partitions certified by the root of trust that started it.

They pass on a stream that both ends inherited. A request is a u32 length (little-endian) and the
partition's self-signed certificate (DER): it names the partition and proves that its key is there.
An answer is a u32 count, then for each certificate a u32 length and its DER, the partition's own
first; or a count of 0, then a u32 length and why not, in UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable

#: Bounds of what is read: certificates of a P-384 chain are near 1 KiB.
MOST_CERTIFICATES = 8
LARGEST = 16 * 1024

#: Reads exactly so many bytes; raises EOFError where the stream ends before.
Read = Callable[[int], bytes]


class CertificationFormatError(ValueError):
    """Bytes that are no such message; the message of the error names the field."""


class CertificationRefusedError(Exception):
    """The root of trust does not certify; the message says why."""


def encode_request(certificate: bytes) -> bytes:
    """A request for the partition with this self-signed certificate (DER)."""
    return _counted(certificate)


def read_request(read: Read) -> bytes:
    """The certificate of the next request. Raises CertificationFormatError, EOFError."""
    return _read_counted(read, "request")


def encode_answer(certificates: tuple[bytes, ...]) -> bytes:
    """An answer with these certificates (DER), the partition's own first."""
    return _number(len(certificates)) + b"".join(map(_counted, certificates))


def encode_refusal(reason: str) -> bytes:
    """An answer that says why there are no certificates."""
    return _number(0) + _counted(reason.encode()[:LARGEST])


def read_answer(read: Read) -> tuple[bytes, ...]:
    """The certificates of an answer.

    Raises CertificationRefusedError, CertificationFormatError, EOFError.
    """
    count = int.from_bytes(read(4), "little")
    if count > MOST_CERTIFICATES:
        raise CertificationFormatError(
            f"answer: expected at most {MOST_CERTIFICATES} certificates, found {count}"
        )
    if count == 0:
        raise CertificationRefusedError(_read_counted(read, "reason").decode(errors="replace"))
    return tuple(_read_counted(read, f"certificate {number}") for number in range(count))


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def _counted(data: bytes) -> bytes:
    return _number(len(data)) + data


def _read_counted(read: Read, what: str) -> bytes:
    size = int.from_bytes(read(4), "little")
    if size > LARGEST:
        raise CertificationFormatError(f"{what}: expected at most {LARGEST} bytes, found {size}")
    return read(size)
