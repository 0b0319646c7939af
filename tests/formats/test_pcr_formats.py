"""The PCR log and the quote as bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import pcr_log, pcr_quote
from casemate.formats.pcr_log import EntryId, MeasurementLogEntry, PcrLogEntry, PcrLogError
from casemate.formats.pcr_quote import PcrQuote, PcrQuoteError

ENTRY = st.builds(
    PcrLogEntry,
    st.sampled_from(EntryId),
    st.integers(0, 2**32 - 1),
    st.binary(min_size=48, max_size=48),
)
MEASUREMENT = st.builds(
    MeasurementLogEntry,
    ENTRY,
    st.binary(min_size=4, max_size=4),
    st.binary(min_size=48, max_size=48),
    st.integers(0, 2**32 - 1),
)


@given(st.lists(ENTRY, max_size=17).map(tuple), st.integers(0, 17))
def test_logs_round_trip(entries: tuple[PcrLogEntry, ...], room: int) -> None:
    data = pcr_log.encode(entries)
    assert len(data) == 56 * len(entries)
    assert pcr_log.decode(data.ljust(min(17, len(entries) + room) * 56, b"\0")) == entries


@given(st.lists(MEASUREMENT, max_size=8).map(tuple))
def test_measurement_logs_round_trip(entries: tuple[MeasurementLogEntry, ...]) -> None:
    data = pcr_log.encode_measurements(entries)
    assert len(data) == 116 * len(entries)
    assert pcr_log.decode_measurements(data) == entries


def test_an_entry_as_bytes() -> None:
    entry = PcrLogEntry(EntryId.RT_TCI, 0b1100, b"d" * 48)
    assert pcr_log.encode_entry(entry).hex() == "060000000c000000" + "64" * 48
    assert entry.pcrs == (2, 3)


def test_replay_is_extend_after_extend() -> None:
    status = PcrLogEntry(EntryId.DEVICE_STATUS, 0b11, bytes(range(18)) + bytes(30))
    vendor = PcrLogEntry(EntryId.VENDOR_PK_INFO_HASH, 0b11, b"v" * 48)
    for size in (17, 18):
        value = hashlib.sha384(bytes(48) + bytes(range(size))).digest()
        value = hashlib.sha384(value + b"v" * 48).digest()
        assert pcr_log.replay((status, vendor), size) == {0: value, 1: value}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes(55), "whole entries"),
        (bytes(56 * 18), "at most 17"),
        (b"\x08\0" + bytes(54), "entry 0: unknown identifier 8"),
        (b"\x01\0\x01" + bytes(53), "entry 0: reserved"),
        (bytes(56) + b"\x01" + bytes(55), "entry 0 is empty, but others follow"),
    ],
)
def test_bad_logs_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(PcrLogError, match=message):
        pcr_log.decode(data)


def test_bad_measurement_logs_are_refused() -> None:
    for data in (bytes(115), bytes(116 * 9), b"\x01" + bytes(114) + b"\x01"):
        with pytest.raises(PcrLogError):
            pcr_log.decode_measurements(data)


def quote(mldsa: bool) -> PcrQuote:
    pcrs = tuple(bytes((index,)) * 48 for index in range(32))
    make = pcr_quote.mldsa_message if mldsa else pcr_quote.ecc_digest
    return PcrQuote(
        pcrs=pcrs,
        nonce=b"n" * 32,
        reset_counters=tuple(range(32)),
        digest=make(pcrs, b"n" * 32),
        signature=b"s" * (4627 if mldsa else 96),
        fips_status=0,
    )


@pytest.mark.parametrize("mldsa", [False, True])
def test_quotes_round_trip(mldsa: bool) -> None:
    data = pcr_quote.encode(quote(mldsa))
    assert len(data) == (pcr_quote.MLDSA_SIZE if mldsa else pcr_quote.ECC_SIZE)
    assert (int.from_bytes(data[:4], "little") + sum(data[4:])) & 0xFFFFFFFF == 0
    assert pcr_quote.decode(data) == quote(mldsa)


def test_what_each_algorithm_signs() -> None:
    made = quote(False)
    whole = hashlib.sha512(b"".join(made.pcrs) + made.nonce).digest()
    assert pcr_quote.ecc_digest(made.pcrs, made.nonce) == whole[:48]
    assert pcr_quote.mldsa_message(made.pcrs, made.nonce) == whole[::-1]


@pytest.mark.parametrize("mldsa", [False, True])
def test_every_changed_byte_of_a_quote_is_noticed(mldsa: bool) -> None:
    data = pcr_quote.encode(quote(mldsa))
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(PcrQuoteError):
            pcr_quote.decode(bytes(damaged))


def test_quotes_of_wrong_sizes_are_refused() -> None:
    good = quote(False)
    for changes in (
        {"nonce": bytes(31)},
        {"pcrs": good.pcrs[1:]},
        {"digest": bytes(47)},
        {"signature": bytes(95)},
    ):
        with pytest.raises(PcrQuoteError):
            pcr_quote.encode(dataclasses.replace(good, **changes))


@settings(max_examples=200)
@given(st.binary(max_size=2000))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode, refused in (
        (pcr_log.decode, PcrLogError),
        (pcr_log.decode_measurements, PcrLogError),
        (pcr_quote.decode, PcrQuoteError),
    ):
        with contextlib.suppress(refused):
            decode(data)
