"""The DER writer against an independent reader."""

from __future__ import annotations

import doctest

from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import der


def test_the_example_of_the_docstring_runs() -> None:
    assert doctest.testmod(der).failed == 0


@given(st.integers(min_value=0, max_value=2**300))
def test_integers_read_back(value: int) -> None:
    assert core.Integer.load(der.integer(value), strict=True).native == value


@given(st.binary(max_size=70000))
def test_octet_strings_of_any_length_read_back(content: bytes) -> None:
    assert core.OctetString.load(der.octet_string(content), strict=True).native == content


@given(
    st.tuples(st.integers(0, 2), st.integers(0, 39)),
    st.lists(st.integers(0, 2**40), min_size=1, max_size=10),
)
def test_object_identifiers_read_back(head: tuple[int, int], arcs: list[int]) -> None:
    dotted = ".".join(str(arc) for arc in (*head, *arcs))
    assert core.ObjectIdentifier.load(der.object_identifier(dotted), strict=True).dotted == dotted


def test_a_set_is_sorted() -> None:
    assert der.set_of([der.integer(2), der.integer(1)]) == der.set_of(
        [der.integer(1), der.integer(2)]
    )
