"""CBOR and COSE_Sign1: strict, bounded, and the same as another library sees it."""

from __future__ import annotations

import contextlib

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import cbor, cose, eat
from casemate.formats.cbor import CborError, Tag
from casemate.formats.cose import CoseError, Sign1

KEY = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | KEY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEY, inner, max_size=4),
    max_leaves=20,
)


@given(VALUE)
def test_values_round_trip_and_another_library_agrees(value: object) -> None:
    data = cbor.encode(value)
    assert cbor.decode(data) == value
    assert cbor2.loads(data) == value


@given(VALUE, st.integers(1000, 2**32))
def test_tags_round_trip(value: object, number: int) -> None:
    assert cbor.decode(cbor.encode(Tag(number, value))) == Tag(number, value)


def test_map_keys_are_in_the_order_of_their_encoding() -> None:
    assert cbor.encode({-1: 0, 10: 0, "a": 0, 1: 0}).hex() == "a401000a00200061610" + "0"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "found the end"),
        ("1801", "shortest form"),
        ("190001", "shortest form"),
        ("1a00000001", "shortest form"),
        ("1b0000000000000001", "shortest form"),
        ("19ff", "cut off"),
        ("5f4100ff", "indefinite"),
        ("9fff", "indefinite"),
        ("1c", "reserved"),
        ("4201", "cut off"),
        ("62c328", "not UTF-8"),
        ("a201000100", "stands twice"),
        ("a1f500", "no number and no string"),
        ("a18000", "no number and no string"),
        ("0000", "unexpected bytes"),
        ("f97e00", "float"),
        ("f7", "simple value 23"),
        ("9affffffff", "cannot follow"),
        ("bb7fffffffffffffff", "cannot follow"),
    ],
)
def test_what_is_not_strict_is_refused(data: str, message: str) -> None:
    with pytest.raises(CborError, match=message):
        cbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize("key", ["k" * 39, "é" * 100_000, bytes(100_000)])
def test_an_error_about_a_key_shows_its_beginning_alone(key: str | bytes) -> None:
    with pytest.raises(CborError) as raised:
        cbor.decode(b"\xa2" + 2 * (cbor2.dumps(key) + b"\0"))
    offset = 2 + len(cbor2.dumps(key))
    shown = repr(key)[:40]
    assert str(raised.value) == f"at offset {offset}: the key {shown}... stands twice"


def test_depth_items_and_size_are_bounded() -> None:
    with pytest.raises(CborError, match="deeper than 32"):
        cbor.decode(b"\x81" * 100 + b"\x00")
    with pytest.raises(CborError, match="more than 20000 items"):
        cbor.decode(cbor2.dumps([0] * 20_001))
    with pytest.raises(CborError, match="at most"):
        cbor.decode(bytes(cbor.LARGEST + 1))


@settings(max_examples=500)
@given(st.binary(max_size=100))
def test_what_is_read_is_what_another_library_reads(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except CborError:
        return
    if not isinstance(value, Tag) and data[:1] < b"\xc0":
        with contextlib.suppress(Exception):
            assert cbor2.loads(data) == value


def test_sign1_round_trips_within_its_tags() -> None:
    protected = cose.protected_header({cose.ALGORITHM: cose.ESP384})
    message = Sign1(protected, b"payload", b"signature", {cose.X5CHAIN: [b"leaf", b"ca"]})
    data = cose.encode(message, tags=eat.TOKEN_TAGS)
    assert data.hex().startswith("d9d9f7d83dd284")
    read, tags = cose.decode(data)
    assert (read, tags) == (message, (55799, 61, 18))
    assert read.headers == {1: -51}
    assert read.x5chain == (b"leaf", b"ca")
    assert Sign1(protected, b"", b"", {cose.X5CHAIN: b"leaf"}).x5chain == (b"leaf",)
    assert Sign1(b"", b"", b"").x5chain == ()


def test_the_bytes_to_sign() -> None:
    assert cose.to_be_signed(b"\xa0", b"p", b"a").hex() == "846a5369676e61747572653141a041614170"
    assert cose.protected_header({}) == b""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([b"", {}, b""], "array of four"),
        ({}, "array of four"),
        (["", {}, b"", b""], "protected: expected a byte string"),
        ([b"", [], b"", b""], "unprotected: expected a map"),
        ([b"", {}, None, b""], "payload: expected a byte string"),
        ([b"\x80", {}, b"", b""], "protected header: expected a map"),
        ([b"\xff", {}, b"", b""], "protected header: at offset 0"),
        ([b"\xa1\x01\x00", {1: 0}, b"", b""], "in both headers"),
    ],
)
def test_other_shapes_are_refused(value: object, message: str) -> None:
    with pytest.raises(CoseError, match=message):
        cose.decode(cbor.encode(value))


def test_a_chain_of_another_shape_is_refused() -> None:
    for chain in (["leaf"], 5, [b"c"] * 17):
        with pytest.raises(CoseError, match="x5chain"):
            _ = Sign1(b"", b"", b"", {cose.X5CHAIN: chain}).x5chain


@settings(max_examples=300)
@given(st.binary(max_size=150))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(CoseError):
        cose.decode(data)
    with contextlib.suppress(eat.EatError):
        eat.decode_claims(data)
