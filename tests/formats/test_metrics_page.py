"""The metrics page: what was written is read, and garbage is refused with its offset."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats.metrics_page import (
    AREAS,
    BUCKETS,
    ENTRIES,
    ENTRY_BYTES,
    HEAD_BYTES,
    Histogram,
    Kind,
    MetricsPageError,
    bound_of,
    decode,
)

Entry = tuple[Kind, Histogram]

COUNTS = st.integers(0, 2**40)
KINDS = st.builds(
    Kind,
    st.none() | st.integers(0, 0xFFFF),
    st.none() | st.integers(0, 0xFFFF_FFFE),
).filter(lambda kind: kind.operation != 0xFFFF)
HISTOGRAMS = st.builds(
    Histogram,
    st.lists(COUNTS, min_size=BUCKETS, max_size=BUCKETS).map(tuple),
    COUNTS,
    COUNTS,
)
AREA_LISTS = st.lists(st.lists(st.tuples(KINDS, HISTOGRAMS), max_size=4), max_size=3)


def encode(
    lists: list[list[Entry]], *, name: bytes = b"web", changes: dict[str, int] | None = None
) -> bytes:
    """A page as docs/metrics.md writes it, by this test's own reading of it."""
    head = {"version": 1, "buckets": 56, "areas": 129, "entries": 128, "bytes": 512, "shift": 7}
    head |= {"since": 1_700_000_000, "used": len(lists)} | (changes or {})
    page = bytearray(HEAD_BYTES + len(lists) * ENTRIES * ENTRY_BYTES)
    struct.pack_into("<4sHHIIIIQI", page, 0, b"CMm1", *head.values())
    page[64 : 64 + len(name)] = name
    for number, area in enumerate(lists):
        for place, (kind, histogram) in enumerate(area):
            offset = HEAD_BYTES + (number * ENTRIES + place) * ENTRY_BYTES
            operation = 0x10000 if kind.operation is None else kind.operation + 1
            mechanism = 0xFFFFFFFF if kind.mechanism is None else kind.mechanism
            struct.pack_into(
                "<IIQQ", page, offset, operation, mechanism, histogram.errors, histogram.nanoseconds
            )
            struct.pack_into("<56Q", page, offset + 64, *histogram.buckets)
    return bytes(page)


@given(AREA_LISTS)
def test_areas_are_added_up(areas: list[list[Entry]]) -> None:
    page = decode(encode(areas))
    expected: dict[Kind, Histogram] = {}
    for kind, histogram in [entry for area in areas for entry in area]:
        expected[kind] = expected.get(kind, Histogram()) + histogram
    assert page.kinds == expected
    assert (page.name, page.since) == ("web", 1_700_000_000)


@given(st.binary(max_size=3 * HEAD_BYTES))
def test_garbage_is_refused_with_its_offset(data: bytes) -> None:
    with pytest.raises(MetricsPageError) as caught:
        decode(data)
    assert 0 <= caught.value.offset <= len(data)


@given(st.data(), AREA_LISTS)
def test_a_damaged_page_is_read_or_refused(data: st.DataObject, areas: list[list[Entry]]) -> None:
    page = bytearray(encode(areas))
    for _ in range(data.draw(st.integers(1, 8))):
        # Where something stands: the head, and the beginning of the first area.
        offset = data.draw(st.integers(0, min(len(page), HEAD_BYTES + 2048) - 1))
        page[offset] = data.draw(st.integers(0, 255))
    try:
        read = decode(memoryview(page))
    except MetricsPageError as error:
        assert 0 <= error.offset <= len(page)
    else:
        assert len(read.kinds) <= AREAS * ENTRIES
        assert all(len(histogram.buckets) == BUCKETS for histogram in read.kinds.values())


@pytest.mark.parametrize(
    ("changes", "offset"),
    [
        ({"version": 2}, 4),
        ({"buckets": 55}, 6),
        ({"areas": 1}, 8),
        ({"entries": 127}, 12),
        ({"bytes": 1024}, 16),
        ({"shift": 8}, 20),
        ({"used": AREAS + 1}, 32),
    ],
)
def test_another_layout_is_refused_by_its_field(changes: dict[str, int], offset: int) -> None:
    with pytest.raises(MetricsPageError) as caught:
        decode(encode([[]], changes=changes))
    assert caught.value.offset == offset


def test_a_page_that_ends_within_an_area_is_refused() -> None:
    page = encode([[], []])
    with pytest.raises(MetricsPageError, match="the end"):
        decode(page[:-1])


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(MetricsPageError) as caught:
        decode(encode([], name=b"w\xffb"))
    assert caught.value.offset == 65


@given(st.integers(0, BUCKETS - 2), st.floats(0.01, 1.0), st.integers(1, 1000))
def test_a_quantile_is_within_its_bucket(bucket: int, fraction: float, count: int) -> None:
    buckets = [0] * BUCKETS
    buckets[bucket] = count
    value = Histogram(tuple(buckets)).quantile(fraction)
    low = (bound_of(bucket - 1) or 0) if bucket else 0
    high = bound_of(bucket)
    assert value is not None and high is not None
    assert low <= value <= high


@given(HISTOGRAMS, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_quantiles_grow(histogram: Histogram, one: float, other: float) -> None:
    low, high = (histogram.quantile(fraction) for fraction in sorted((one, other)))
    assert (low is None) == (high is None) == (histogram.count == 0)
    assert low is None or high is None or low <= high


@given(HISTOGRAMS, HISTOGRAMS)
def test_what_came_since_is_the_difference(earlier: Histogram, more: Histogram) -> None:
    assert (earlier + more) - earlier == more
    # After a restart counts begin anew: nothing is below zero.
    assert min((earlier - (earlier + more)).buckets) == 0
