"""The DICE extensions: round trips, an independent reader, refusals."""

from __future__ import annotations

import contextlib
from typing import ClassVar

import pytest
from asn1crypto import core
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import der, dice
from casemate.formats.der_reader import DerError

TEXT = st.none() | st.text(max_size=10).filter(lambda text: text.isprintable())
NUMBER = st.none() | st.integers(0, 2**64)
FLAGS = st.none() | st.binary(min_size=1, max_size=4).map(lambda raw: (raw, 0))
FWID = st.builds(
    dice.Fwid,
    st.sampled_from((dice.OID_SHA256, dice.OID_SHA384, dice.OID_SHA512)),
    st.binary(max_size=64),
)
INFO = st.builds(
    dice.TcbInfo,
    vendor=TEXT,
    model=TEXT,
    version=TEXT,
    svn=NUMBER,
    layer=NUMBER,
    index=NUMBER,
    fwids=st.none() | st.lists(FWID, max_size=3).map(tuple),
    flags=FLAGS,
    vendor_info=st.none() | st.binary(max_size=20),
    type=st.none() | st.binary(max_size=20),
    flags_mask=FLAGS,
)


@given(INFO)
def test_tcb_info_round_trips(info: dice.TcbInfo) -> None:
    assert dice.decode_tcb_info(dice.encode_tcb_info(info)) == info


@given(st.lists(INFO, max_size=4).map(tuple))
def test_multi_tcb_info_round_trips(infos: tuple[dice.TcbInfo, ...]) -> None:
    assert dice.decode_multi_tcb_info(dice.encode_multi_tcb_info(infos)) == infos


class Fwid(core.Sequence):  # type: ignore[misc]
    _fields: ClassVar = [("algorithm", core.ObjectIdentifier), ("digest", core.OctetString)]


class Fwids(core.SequenceOf):  # type: ignore[misc]
    _child_spec = Fwid


class TcbInfo(core.Sequence):  # type: ignore[misc]
    """The module of the specification, for another reader."""

    _fields: ClassVar = [
        ("vendor", core.UTF8String, {"implicit": 0, "optional": True}),
        ("model", core.UTF8String, {"implicit": 1, "optional": True}),
        ("version", core.UTF8String, {"implicit": 2, "optional": True}),
        ("svn", core.Integer, {"implicit": 3, "optional": True}),
        ("layer", core.Integer, {"implicit": 4, "optional": True}),
        ("index", core.Integer, {"implicit": 5, "optional": True}),
        ("fwids", Fwids, {"implicit": 6, "optional": True}),
        ("flags", core.BitString, {"implicit": 7, "optional": True}),
        ("vendor_info", core.OctetString, {"implicit": 8, "optional": True}),
        ("type", core.OctetString, {"implicit": 9, "optional": True}),
        ("flags_mask", core.BitString, {"implicit": 10, "optional": True}),
    ]


def test_another_reader_sees_the_same() -> None:
    info = dice.TcbInfo(
        vendor="v",
        model="m",
        version="1",
        svn=0x0105,
        layer=2,
        index=3,
        fwids=(dice.Fwid(dice.OID_SHA384, b"d" * 48),),
        flags=(b"\x80", 0),
        vendor_info=b"i",
        type=b"t",
    )
    read = TcbInfo.load(dice.encode_tcb_info(info), strict=True).native
    assert read["svn"] == 0x0105
    assert (read["vendor"], read["model"], read["version"]) == ("v", "m", "1")
    assert read["fwids"] == [{"algorithm": dice.OID_SHA384, "digest": b"d" * 48}]
    assert (read["layer"], read["index"], read["type"], read["vendor_info"]) == (2, 3, b"t", b"i")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (der.integer(1), "expected TcbInfo"),
        (der.sequence(der.implicit(11, b"")), "no field with tag"),
        (der.sequence(der.implicit(6, b"")), "no field with tag"),
        (der.sequence(der.implicit(4, b"\1"), der.implicit(3, b"\1")), "repeated or out of order"),
        (der.sequence(der.implicit(3, b"\1"), der.implicit(3, b"\1")), "repeated or out of order"),
        (der.sequence(der.implicit(0, b"\xff")), "not UTF-8"),
        (der.sequence(der.implicit(3, b"")), "shortest form"),
        (der.sequence(der.explicit(6, der.sequence(der.integer(1)))), "hash algorithm"),
        (der.sequence() + b"\0", "unexpected bytes"),
    ],
)
def test_bad_tcb_info_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DerError, match=message):
        dice.decode_tcb_info(data)


def test_lists_without_end_are_refused() -> None:
    many = der.sequence(*[der.sequence()] * (dice.MOST_TCB_INFOS + 1))
    with pytest.raises(DerError, match="more than 256"):
        dice.decode_multi_tcb_info(many)
    fwid = der.sequence(der.object_identifier(dice.OID_SHA384), der.octet_string(b""))
    with pytest.raises(DerError, match="more than 64"):
        dice.decode_tcb_info(der.sequence(der.explicit(6, fwid * 65)))


def test_ueid() -> None:
    assert dice.encode_ueid(bytes(17)).hex() == "30130411" + "00" * 17
    assert dice.decode_ueid(dice.encode_ueid(b"abc")) == b"abc"
    with pytest.raises(DerError):
        dice.decode_ueid(der.sequence(der.octet_string(b""), der.octet_string(b"")))


@settings(max_examples=300)
@given(st.binary(max_size=100))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (dice.decode_tcb_info, dice.decode_multi_tcb_info, dice.decode_ueid):
        with contextlib.suppress(DerError):
            decode(data)
