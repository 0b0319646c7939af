"""Integrity registers of a TcbInfo: what a DPE leaf carries, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import der, dice
from casemate.formats.der_reader import DerError

DIGEST = dice.Fwid(dice.OID_SHA384, b"\1" * 48)
registers = st.builds(
    dice.IntegrityRegister,
    st.lists(
        st.binary(min_size=1, max_size=64).map(lambda d: dice.Fwid(dice.OID_SHA384, d)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.none() | st.text(st.characters(max_codepoint=127), max_size=10),
    st.none() | st.integers(0, 2**40),
)


@given(st.lists(registers, max_size=4).map(tuple))
def test_registers_read_back(found: tuple[dice.IntegrityRegister, ...]) -> None:
    info = dice.TcbInfo(svn=1, type=b"type", integrity_registers=found)
    assert dice.decode_tcb_info(dice.encode_tcb_info(info)) == info


def tcb_info(register: bytes) -> bytes:
    return der.sequence(der.explicit(11, register))


FWID = der.sequence(der.object_identifier(dice.OID_SHA384), der.octet_string(b"\1" * 48))
NUMBER, DIGESTS = der.implicit(1, b"\0"), der.explicit(2, FWID)


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (der.sequence(NUMBER), "without digests"),
        (der.sequence(DIGESTS, NUMBER), "out of order"),
        (der.sequence(DIGESTS, DIGESTS), "repeated"),
        (der.sequence(DIGESTS, der.implicit(3, b"x")), "no field with tag"),
        (der.sequence(der.implicit(0, b"\xff"), DIGESTS), "no field with tag 80"),
        (der.octet_string(b""), "integrity register"),
        (der.sequence(DIGESTS) * 65, "more than 64 integrity registers"),
    ],
)
def test_registers_that_are_none(register: bytes, message: str) -> None:
    with pytest.raises(DerError, match=message):
        dice.decode_tcb_info(tcb_info(register))


def test_a_primitive_register_list_is_refused() -> None:
    with pytest.raises(DerError, match="no field with tag 8b"):
        dice.decode_tcb_info(der.sequence(der.implicit(11, b"")))
