"""The DER reader: what it takes, what it refuses, and that no bytes bring it down."""

from __future__ import annotations

import pytest
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import der, der_reader
from casemate.formats.der_reader import DerError, Reader, parse_one


@given(st.integers(min_value=-(2**200), max_value=2**200))
def test_integers_of_another_writer(value: int) -> None:
    assert der_reader.read_integer(parse_one(core.Integer(value).dump())) == value


@given(
    st.tuples(st.integers(0, 2), st.integers(0, 39)), st.lists(st.integers(0, 2**40), max_size=8)
)
def test_object_identifiers_round_trip(head: tuple[int, int], arcs: list[int]) -> None:
    dotted = ".".join(map(str, (*head, *arcs)))
    assert der_reader.read_oid(parse_one(der.object_identifier(dotted))) == dotted


@given(st.binary(max_size=300), st.integers(0, 7))
def test_bit_strings_round_trip(content: bytes, unused: int) -> None:
    unused = unused if content else 0
    element = parse_one(der.bit_string(content, unused))
    assert der_reader.read_bit_string(element) == (content, unused)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "expected an element, found the end"),
        ("30", "cut off after the tag"),
        ("3080", "length is indefinite"),
        ("308100", "not in its shortest form"),
        ("30820001ff", "not in its shortest form"),
        ("3085000000000100", "too long"),
        ("300500", "content of 5 bytes, but only 1 are left"),
        ("1f8101", "tag numbers above 30"),
        ("020100ff", "unexpected bytes after"),
    ],
)
def test_bad_der_names_the_reason(data: str, message: str) -> None:
    with pytest.raises(DerError, match=message):
        parse_one(bytes.fromhex(data))


@pytest.mark.parametrize("data", ["0200", "02020001", "0202ff80"])
def test_integers_not_in_shortest_form(data: str) -> None:
    with pytest.raises(DerError, match="shortest form"):
        der_reader.read_integer(parse_one(bytes.fromhex(data)))


@pytest.mark.parametrize("data", ["0600", "060280", "060180", "0603558001"])
def test_bad_object_identifiers(data: str) -> None:
    with pytest.raises(DerError):
        der_reader.read_oid(parse_one(bytes.fromhex(data)))


def test_bad_booleans_and_bit_strings() -> None:
    with pytest.raises(DerError, match="neither 00 nor FF"):
        der_reader.read_boolean(parse_one(bytes.fromhex("010101")))
    for data in ("0300", "030108", "030101"):
        with pytest.raises(DerError, match="malformed"):
            der_reader.read_bit_string(parse_one(bytes.fromhex(data)))


def test_offsets_count_from_the_start() -> None:
    inner = der.sequence(der.integer(1), b"\x02\x02\x00\x01")
    data = der.sequence(der.octet_string(b"abc"), inner)
    fields = parse_one(data).children()
    fields.next()
    numbers = fields.next().children()
    numbers.next()
    with pytest.raises(DerError) as caught:
        der_reader.read_integer(numbers.next())
    assert caught.value.offset == data.index(b"\x02\x02\x00\x01")


def test_a_primitive_element_holds_no_elements() -> None:
    with pytest.raises(DerError, match="holds no elements"):
        parse_one(der.integer(1)).children()


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        elements = list(Reader(data))
    except DerError as error:
        assert 0 <= error.offset <= len(data)
        return
    assert b"".join(element.encoded for element in elements) == data
