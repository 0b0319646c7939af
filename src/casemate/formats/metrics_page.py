"""The metrics page of a partition, as a module writes it (docs/metrics.md).

>>> bound_of(0), bound_of(1), bound_of(2), bound_of(BUCKETS - 1)
(128, 192, 256, None)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

#: Bytes of a page, and of its head.
PAGE_BYTES, HEAD_BYTES = 8_458_240, 4096
#: Buckets of a histogram, and the power of two that ends the first one, in nanoseconds.
BUCKETS, FIRST_SHIFT = 56, 7
#: Areas of a page, entries of an area, bytes of an entry.
AREAS, ENTRIES, ENTRY_BYTES = 129, 128, 512

_MAGIC, _VERSION = b"CMm1", 1
_HEAD = struct.Struct("<4sHHIIIIQI28x64s")
_ENTRY = struct.Struct("<IIQQ40x56Q")
_OTHERS, _NO_MECHANISM = 0x1_0000, 0xFFFF_FFFF


class MetricsPageError(ValueError):
    """Bytes that are no metrics page."""

    def __init__(self, offset: int, found: object, expected: object) -> None:
        """Name the offset, what stands there, and what should."""
        super().__init__(f"metrics page, byte {offset}: found {found!r}, expected {expected!r}")
        self.offset = offset


def bound_of(bucket: int) -> int | None:
    """What everything in a bucket is below, in nanoseconds; None for the last, which has no end."""
    if bucket >= BUCKETS - 1:
        return None
    low = 1 << FIRST_SHIFT + bucket // 2
    return low if bucket % 2 == 0 else low + low // 2


@dataclass(frozen=True, slots=True)
class Histogram:
    """Requests by the time that they took, the time of all of them, and how many failed."""

    buckets: tuple[int, ...] = (0,) * BUCKETS
    nanoseconds: int = 0
    errors: int = 0

    @property
    def count(self) -> int:
        """All requests."""
        return sum(self.buckets)

    def __add__(self, other: Histogram) -> Histogram:
        """Return what both have."""
        return Histogram(
            tuple(one + two for one, two in zip(self.buckets, other.buckets, strict=True)),
            self.nanoseconds + other.nanoseconds,
            self.errors + other.errors,
        )

    def __sub__(self, earlier: Histogram) -> Histogram:
        """Return what has come since; never below zero."""
        return Histogram(
            tuple(
                max(0, now - then) for now, then in zip(self.buckets, earlier.buckets, strict=True)
            ),
            max(0, self.nanoseconds - earlier.nanoseconds),
            max(0, self.errors - earlier.errors),
        )

    def quantile(self, fraction: float) -> float | None:
        """Return the time in nanoseconds that this fraction of the requests stayed below.

        Within a bucket the requests are taken as evenly spread; the last bucket gives its
        beginning. None without requests.
        """
        total = self.count
        if total == 0:
            return None
        wanted, passed = fraction * total, 0
        for bucket, here in enumerate(self.buckets):
            if here and passed + here >= wanted:
                low = bound_of(bucket - 1) or 0 if bucket else 0
                high = bound_of(bucket) or low
                return low + (high - low) * max(0.0, wanted - passed) / here
            passed += here
        return float(bound_of(BUCKETS - 2) or 0)


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """An operation's code (docs/transport.md, section 4) and its mechanism (CK_MECHANISM_TYPE).

    No operation: everything that found no place of its own. No mechanism: the operation has none,
    or the request named one that does not exist.
    """

    operation: int | None
    mechanism: int | None


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """What a page says: all its areas together."""

    name: str
    #: When the counts began, in seconds since 1970.
    since: int
    kinds: dict[Kind, Histogram]


def decode(page: bytes | bytearray | memoryview) -> MetricsPage:
    """Read a page, of which areas that were never used may be missing. Raises `MetricsPageError`.

    The module may write while this reads: each number is whole; two may be a request apart.
    """
    if len(page) < HEAD_BYTES:
        raise MetricsPageError(len(page), "the end", f"a head of {HEAD_BYTES} bytes")
    magic, version, buckets, areas, entries, entry_bytes, shift, since, used, name = (
        _HEAD.unpack_from(page)
    )
    for offset, found, expected in (
        (0, magic, _MAGIC),
        (4, version, _VERSION),
        (6, buckets, BUCKETS),
        (8, areas, AREAS),
        (12, entries, ENTRIES),
        (16, entry_bytes, ENTRY_BYTES),
        (20, shift, FIRST_SHIFT),
    ):
        if found != expected:
            raise MetricsPageError(offset, found, expected)
    if used > AREAS:
        raise MetricsPageError(32, used, f"at most {AREAS}")
    end = HEAD_BYTES + used * ENTRIES * ENTRY_BYTES
    if len(page) < end:
        raise MetricsPageError(len(page), "the end", f"{used} areas, to byte {end}")
    try:
        text = name.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError as error:
        raise MetricsPageError(64 + error.start, name[error.start], "ASCII") from error
    kinds: dict[Kind, Histogram] = {}
    for kind, histogram in _entries(page, used):
        before = kinds.get(kind)
        kinds[kind] = histogram if before is None else before + histogram
    return MetricsPage(text, since, kinds)


def _entries(page: bytes | bytearray | memoryview, used: int) -> Iterator[tuple[Kind, Histogram]]:
    for area in range(used):
        for entry in range(ENTRIES):
            offset = HEAD_BYTES + (area * ENTRIES + entry) * ENTRY_BYTES
            operation, mechanism, errors, nanoseconds, *buckets = _ENTRY.unpack_from(page, offset)
            if operation == 0:
                break
            if operation > _OTHERS:
                raise MetricsPageError(offset, operation, f"at most {_OTHERS}")
            kind = Kind(
                None if operation == _OTHERS else operation - 1,
                None if mechanism == _NO_MECHANISM else mechanism,
            )
            yield kind, Histogram(tuple(buckets), nanoseconds, errors)
