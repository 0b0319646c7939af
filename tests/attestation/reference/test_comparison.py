"""The rules of comparison, one by one, and what people read of values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.attestation.reference.comparison import describe, differences, satisfies
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    Digest,
    Flag,
    IntRange,
    MeasurementValues,
    RawValue,
    Svn,
    SvnKind,
    Version,
)
from tests.formats.corim import strategies as known

A, B = bytes(32), bytes(31) + b"\x01"
LONG = bytes(48)
LEAST = SvnKind.MINIMUM
MASKED = RawValue(b"\x12\x30", b"\xff\xf0")


def v(**attributes: object) -> MeasurementValues:
    return MeasurementValues(**attributes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "entry", "met"),
    [
        # Digests: shared algorithms decide, all of them; none shared decides against.
        (v(digests=(Digest(1, A),)), v(digests=(Digest(1, A),)), True),
        (v(digests=(Digest(1, A),)), v(digests=(Digest(1, B),)), False),
        (v(digests=(Digest(1, A),)), v(digests=(Digest(10, A),)), False),
        (v(digests=(Digest(1, A),)), v(), False),
        (v(digests=(Digest(1, A),)), v(digests=(Digest(1, A), Digest(7, LONG))), True),
        (v(digests=(Digest(1, A), Digest(7, LONG))), v(digests=(Digest(7, LONG),)), True),
        (
            v(digests=(Digest(1, A), Digest(7, LONG))),
            v(digests=(Digest(1, B), Digest(7, LONG))),
            False,
        ),
        # One algorithm by several names, so that a weaker one cannot hide behind a name.
        (v(digests=(Digest(-16, A),)), v(digests=(Digest(1, A),)), True),
        (v(digests=(Digest("sha-256", A),)), v(digests=(Digest(1, A),)), True),
        (v(digests=(Digest("own", A),)), v(digests=(Digest("own", A),)), True),
        (v(digests=(Digest(1, A), Digest(-16, A))), v(digests=(Digest(1, A),)), False),
        (v(digests=(Digest(1, A),)), v(digests=(Digest(1, A), Digest("sha-256", B))), False),
        # SVN: exact, at least; a least one among the claims is a state, not a number.
        (v(svn=Svn(5)), v(svn=Svn(5)), True),
        (v(svn=Svn(5)), v(svn=Svn(6)), False),
        (v(svn=Svn(5)), v(), False),
        (v(svn=Svn(5, LEAST)), v(svn=Svn(6)), True),
        (v(svn=Svn(5, LEAST)), v(svn=Svn(5)), True),
        (v(svn=Svn(5, LEAST)), v(svn=Svn(4)), False),
        (v(svn=Svn(5)), v(svn=Svn(5, LEAST)), False),
        (v(svn=Svn(5, LEAST)), v(svn=Svn(5, LEAST)), True),
        (v(svn=Svn(5, LEAST)), v(svn=Svn(6, LEAST)), False),
        # Raw values, whole and under a mask.
        (v(raw_value=RawValue(b"\x12\x34")), v(raw_value=RawValue(b"\x12\x34")), True),
        (v(raw_value=RawValue(b"\x12\x34")), v(raw_value=RawValue(b"\x12\x35")), False),
        (v(raw_value=MASKED), v(raw_value=RawValue(b"\x12\x3f")), True),
        (
            v(raw_value=RawValue(b"\x12\x30", b"\xff\xf0")),
            v(raw_value=RawValue(b"\x12\x4f")),
            False,
        ),
        (v(raw_value=RawValue(b"\x12", b"\x00")), v(raw_value=RawValue(b"\x12\x34")), False),
        (v(raw_value=RawValue(b"\x12", b"\x00\x00")), v(raw_value=RawValue(b"\x12")), False),
        (v(raw_value=RawValue(b"\x12")), v(raw_value=RawValue(b"\x12", b"\x00")), False),
        (v(raw_value=RawValue(b"")), v(), False),
        # Flags: those of the condition.
        (v(flags=((Flag.IS_DEBUG, False),)), v(flags=((Flag.IS_DEBUG, False),)), True),
        (v(flags=((Flag.IS_DEBUG, False),)), v(flags=((Flag.IS_DEBUG, True),)), False),
        (v(flags=((Flag.IS_DEBUG, False),)), v(flags=((Flag.IS_TCB, False),)), False),
        (v(flags=((3, False),)), v(flags=((1, True), (3, False))), True),
        # Integrity registers: those of the condition, by number or by name.
        (
            v(integrity_registers=((1, (Digest(1, A),)),)),
            v(integrity_registers=((0, (Digest(1, B),)), (1, (Digest(1, A),)))),
            True,
        ),
        (
            v(integrity_registers=((1, (Digest(1, A),)),)),
            v(integrity_registers=(("1", (Digest(1, A),)),)),
            False,
        ),
        (
            v(integrity_registers=((1, (Digest(1, A), Digest(7, LONG))),)),
            v(integrity_registers=((1, (Digest(7, LONG),)),)),
            True,
        ),
        (v(integrity_registers=((1, (Digest(1, A),)),)), v(), False),
        # Ranges of integers.
        (v(int_range=IntRange(1, 5)), v(int_range=IntRange(3, 3)), True),
        (v(int_range=IntRange(1, 5)), v(int_range=IntRange(6, 6)), False),
        (v(int_range=IntRange(None, 5)), v(int_range=IntRange(-9, -9)), True),
        (v(int_range=IntRange(1, None)), v(int_range=IntRange(0, 0)), False),
        (v(int_range=IntRange(1, 5)), v(int_range=IntRange(2, 4)), True),
        (v(int_range=IntRange(1, 5)), v(int_range=IntRange(2, None)), False),
        (v(int_range=IntRange(3, 3)), v(int_range=IntRange(2, 4)), False),
        (v(int_range=IntRange(3, 3)), v(), False),
        # Versions are equal or not; a scheme that is not asked for is not looked at.
        (v(version=Version("1.2")), v(version=Version("1.2", 16384)), True),
        (v(version=Version("1.2", 1)), v(version=Version("1.2", 16384)), False),
        (v(version=Version("1.2")), v(version=Version("1.3")), False),
        # Keys in their order.
        (v(crypto_keys=(Tag(554, "a"),)), v(crypto_keys=(Tag(554, "a"), Tag(554, "b"))), True),
        (v(crypto_keys=(Tag(554, "b"),)), v(crypto_keys=(Tag(554, "a"), Tag(554, "b"))), False),
        (v(crypto_keys=(Tag(554, "a"),)), v(crypto_keys=(Tag(555, "a"),)), False),
        # Plain values, and several attributes at once.
        (v(name="a", serial_number="1"), v(name="a", serial_number="1"), True),
        (v(name="a", serial_number="1"), v(name="a", serial_number="2"), False),
        (v(mac_address=bytes(6)), v(mac_address=bytes(6), ip_address=bytes(4)), True),
        (v(ueid=bytes(7)), v(uuid=bytes(16)), False),
        # What has no rule is never met, even by itself.
        (v(extensions=((-1, b"\x00"),)), v(extensions=((-1, b"\x00"),)), False),
        (v(name="a"), v(name="a", extensions=((-1, b"\x00"),)), True),
    ],
)
def test_a_condition_is_met_or_not(
    condition: MeasurementValues, entry: MeasurementValues, met: bool
) -> None:
    assert satisfies(condition, entry) is met


@given(known.VALUES)
def test_values_meet_themselves_unless_there_is_no_rule(values: MeasurementValues) -> None:
    own_mask = values.raw_value is not None and values.raw_value.mask is not None
    differing = set(differences(values, values))
    expected = set()
    if values.extensions:
        expected.add("extensions")
    if own_mask:
        expected.add("raw_value")
    assert differing - {"digests", "integrity_registers"} == expected


@given(
    known.VALUES, known.VALUES, st.sampled_from(["svn", "name", "digests", "int_range", "flags"])
)
def test_a_condition_that_asks_less_is_met_where_one_that_asks_more_is(
    more: MeasurementValues, entry: MeasurementValues, attribute: str
) -> None:
    less = MeasurementValues(**{attribute: getattr(more, attribute)})
    if satisfies(more, entry):
        assert satisfies(less, entry)
    else:
        assert set(differences(less, entry)) <= set(differences(more, entry))


def test_values_as_people_read_them() -> None:
    values = MeasurementValues(
        digests=(Digest(7, bytes.fromhex("ab") * 48),),
        svn=Svn(5, LEAST),
        version=Version("1.0"),
        raw_value=RawValue(b"\x01", b"\xff"),
        flags=((Flag.IS_DEBUG, False), (20, True)),
        int_range=IntRange(1, None),
        integrity_registers=((0, (Digest("own", b"\x01"),)),),
    )
    text = describe(values)
    assert f"SHA-384 {'ab' * 48}" in text
    for part in (
        "SVN at least 5",
        "version 1.0",
        "01 under the mask ff",
        "is-debug no",
        "flag 20 yes",
        "from 1",
        "register 0 digest own 01",
    ):
        assert part in text
    assert describe(values, {"svn"}) == "SVN at least 5"
    assert describe(MeasurementValues()) == "nothing"


@given(known.VALUES)
def test_every_value_has_a_text(values: MeasurementValues) -> None:
    assert describe(values) not in ("", "nothing")
