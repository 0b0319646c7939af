"""Silicon's readers of CBOR and DER against second ones in Python: same values, same refusals.

And its base64url against the standard library's.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate._silicon import certificate_parts
from casemate.formats import base64url, cbor, cose, der, der_reader, x509
from casemate.formats.cbor import CborError, Tag
from casemate.formats.der_reader import DerError
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.formats import second_cbor, second_der

KEY = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=8) | st.binary(max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | KEY,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEY, inner, max_size=4)
        | st.builds(Tag, st.integers(0, 2**64 - 1), inner)
    ),
    max_leaves=20,
)
#: What the readers are given: well-formed at first, then cut, flipped or filled with anything.
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)


def edited(data: bytes, edits: list[tuple[int, int]], cut: int | None) -> bytes:
    """The same bytes with some replaced, and only the first `cut` of them."""
    found = bytearray(data)
    for place, value in edits:
        if found:
            found[place % len(found)] = value
    return bytes(found if cut is None else found[: cut % (len(found) + 1)])


def twice(key: Any) -> bytes:
    """A map with the same key two times."""
    return b"\xa2" + 2 * (cbor2.dumps(key) + b"\0")


def cbor_of(reader: Any, data: bytes, **bounds: int) -> tuple[Any, ...]:
    try:
        value = reader.decode(data, **bounds)
    except CborError as error:
        return str(error), error.offset
    # 1 and True are equal, so types are compared too.
    return value, repr(value)


@settings(max_examples=400)
@given(VALUE, EDITS, st.none() | st.integers(0, 2**16))
def test_both_read_cbor_alike(value: Any, edits: list[tuple[int, int]], cut: int | None) -> None:
    data = edited(cbor.encode(value), edits, cut)
    assert cbor_of(cbor, data) == cbor_of(second_cbor, data)


@settings(max_examples=400)
@given(st.binary(max_size=120), st.integers(0, 30))
def test_both_take_any_bytes_for_cbor_alike(data: bytes, most_items: int) -> None:
    assert cbor_of(cbor, data) == cbor_of(second_cbor, data)
    bounds = {"most_items": most_items}
    assert cbor_of(cbor, data, **bounds) == cbor_of(second_cbor, data, **bounds)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x81" * depth + b"\0", id=f"{depth} arrays") for depth in (31, 32, 33, 5000)
    ]
    + [pytest.param(b"\xa1\0" * depth + b"\0", id=f"{depth} maps") for depth in (31, 32, 33, 5000)]
    + [pytest.param(b"\xc1" * depth + b"\0", id=f"{depth} tags") for depth in (31, 32, 33, 5000)]
    + [
        pytest.param(bytes((major << 5 | 27,)) + count.to_bytes(8, "big") + b"\0" * rest,
                     id=f"{count} of {major}, {rest} there")
        for major in range(8)
        for count in (2**32, 2**63 - 1, 2**63, 2**64 - 1)
        for rest in (0, 9)
    ]
    + [
        pytest.param(cbor2.dumps([0] * 20_000), id="one item too many"),
        pytest.param(cbor2.dumps([0] * 19_999), id="as many items as are taken"),
        pytest.param(b"\x3b" + b"\xff" * 8, id="the lowest number"),
        pytest.param(b"\x3b" + b"\x7f" + b"\xff" * 7, id="the lowest of 64 bits"),
        pytest.param(b"\xa2\x41a\0\x41a\0", id="a key of bytes twice"),
        pytest.param(b"\xa2\x61'\0\x61'\0", id="a key of text twice"),
        pytest.param(b"\xa2\x38\x63\0\x38\x63\0", id="a number twice"),
        pytest.param(twice("é" * 38), id="the longest key that an error shows whole"),
        pytest.param(twice("é" * 39), id="a key that an error cuts"),
        pytest.param(twice(bytes(5000)), id="a long key of bytes twice"),
        pytest.param(b"\x63\xed\xa0\x80", id="half a surrogate pair"),
        pytest.param(bytes(cbor.LARGEST + 1), id="too large"),
    ],
)  # fmt: skip
def test_both_bound_cbor_alike(data: bytes) -> None:
    assert cbor_of(cbor, data) == cbor_of(second_cbor, data)


def walked(reader: Any, data: bytes) -> list[Any]:
    """Everything that a walk over all elements shows, and how it ended."""
    seen: list[Any] = []
    open_readers = [reader(data, 7)]
    try:
        while open_readers:
            one = open_readers[-1]
            seen.append((one.offset, one.at_end(), one.peek()))
            if one.at_end():
                one.end("the last")
                open_readers.pop()
                continue
            element = one.next()
            seen.append((element.tag, element.offset, element.content, element.encoded))
            if element.tag & 0x20 and len(open_readers) < 40:
                open_readers.append(element.children())
    except DerError as error:
        seen.append((str(error), error.offset))
    return seen


@settings(max_examples=300)
@given(
    st.sampled_from(["strings", "certificate", "numbers"]),
    EDITS,
    st.none() | st.integers(0, 2**16),
)
def test_both_walk_der_alike(kind: str, edits: list[tuple[int, int]], cut: int | None) -> None:
    whole = {
        "strings": der.sequence(der.octet_string(bytes(300)), der.sequence(der.boolean(True))),
        "certificate": hosts.manufacturer_certificate(Algorithm.ECC),
        "numbers": der.sequence(*(der.integer(1 << bits) for bits in range(40))),
    }[kind]
    data = edited(whole, edits, cut)
    assert walked(der_reader.Reader, data) == walked(second_der.Reader, data)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_both_take_any_bytes_for_der_alike(data: bytes) -> None:
    assert walked(der_reader.Reader, data) == walked(second_der.Reader, data)


@given(st.binary(max_size=40), st.integers(0, 255), st.booleans())
def test_both_expect_alike(data: bytes, tag: int, more: bool) -> None:
    def ask(reader: Any) -> tuple[Any, ...]:
        one = reader(data)
        try:
            element = one.next(tag, "the thing")
            if more:
                one.end("the thing")
            element.expect(tag, "it").expect(0x30, "a sequence").children()
        except DerError as error:
            return str(error), error.offset, one.offset
        return element.encoded, one.offset

    assert ask(der_reader.Reader) == ask(second_der.Reader)


def test_an_element_outlives_its_reader_and_its_input() -> None:
    element = x509.split(hosts.manufacturer_certificate(Algorithm.ECC)).tbs
    inner = der_reader.parse_one(element).children().next()
    del element
    assert inner.encoded == bytes.fromhex("a003020102")


@cache
def certificates() -> tuple[bytes, ...]:
    """Those of a host's chain, and one with the older kind of time."""
    message, _ = cose.decode(hosts.boot(1).token())
    older = certificate_with(not_before=der.element(0x17, b"261125000000Z"))
    return (*message.x5chain, hosts.manufacturer_certificate(Algorithm.ECC), older)


def certificate_with(
    *, not_before: bytes, extensions: tuple[x509.Extension, ...] = (), rest: bytes = b""
) -> bytes:
    """A certificate of these parts; `rest` stands behind its extensions."""
    tbs = der.sequence(
        der.explicit(0, der.integer(2)),
        der.integer(5),
        x509.ECDSA_SHA384,
        x509.name("issuer", "1"),
        der.sequence(not_before, der.element(0x18, b"20991231235959Z")),
        x509.name("subject", "2"),
        x509.spki_p384(bytes(97)),
        der.explicit(3, x509.extension_list(extensions)),
        rest,
    )
    return x509.join(tbs, x509.ECDSA_SHA384, x509.ecdsa_signature(bytes(95) + b"1"))


def read_by(read: Any, data: bytes) -> Any:
    try:
        return read(data)
    except DerError as error:
        return str(error), error.offset


def test_the_usual_form_is_read_quickly() -> None:
    for data in certificates():
        assert certificate_parts(data, x509.ECDSA_SHA384) is not None
        assert x509.read_certificate(data) == x509.read_any_certificate(data)


@settings(max_examples=600)
@given(st.integers(0, 6), EDITS, st.none() | st.integers(0, 2**16))
def test_both_ways_read_certificates_alike(
    place: int, edits: list[tuple[int, int]], cut: int | None
) -> None:
    whole = certificates()
    data = edited(whole[place % len(whole)], edits, cut)
    assert read_by(x509.read_certificate, data) == read_by(x509.read_any_certificate, data)


def _with(**parts: Any) -> bytes:
    return certificate_with(**({"not_before": der.element(0x18, b"20260101000000Z")} | parts))


UNUSUAL = {
    "nothing": b"",
    "too large": bytes(x509.LARGEST + 1),
    "an extension twice": _with(extensions=(x509.subject_key_id(b"1"),) * 2),
    "as many extensions as are taken": _with(
        extensions=tuple(x509.Extension(f"1.2.{n}", False, b"") for n in range(64))
    ),
    "more extensions": _with(
        extensions=tuple(x509.Extension(f"1.2.{n}", False, b"") for n in range(65))
    ),
    "something behind": _with(rest=der.integer(1)),
    "no time": _with(not_before=der.integer(1)),
    "a time with fractions": _with(not_before=der.element(0x18, b"20260101000000.5Z")),
    "a time of the last century": _with(not_before=der.element(0x17, b"500101000000Z")),
    "a time that is not ASCII": _with(not_before=der.element(0x18, "2026010100000²Z".encode())),
    "ML-DSA": hosts.manufacturer_certificate(Algorithm.MLDSA),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_both_ways_take_unusual_certificates_alike(name: str) -> None:
    data = UNUSUAL[name]
    assert read_by(x509.read_certificate, data) == read_by(x509.read_any_certificate, data)


@given(st.binary(max_size=600))
def test_base64url_is_that_of_the_standard_library(data: bytes) -> None:
    text = base64url.encode(data)
    assert text == base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert base64url.decode(text) == data
