"""The wire's bodies: what is encoded decodes, and any bytes decode or say where not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import pkcs11_wire as wire
from casemate.formats.pkcs11 import Attribute, Mechanism, ObjectClass

VALUES: dict[Attribute, wire.Value] = {
    Attribute.CLASS: ObjectClass.PRIVATE_KEY,
    Attribute.TOKEN: True,
    Attribute.LABEL: "schlüssel",
    Attribute.ID: b"\x00\x01",
    Attribute.MODULUS_BITS: 2048,
    Attribute.ALLOWED_MECHANISMS: (1, 2, 0x1041),
    Attribute.WRAP_TEMPLATE: {Attribute.EXTRACTABLE: True, Attribute.LABEL: "inner"},
}


def test_a_template_comes_back() -> None:
    assert wire.decode_template(wire.encode_template(VALUES)) == VALUES


@given(st.binary(max_size=200))
def test_any_template_decodes_or_says_where_not(body: bytes) -> None:
    try:
        wire.decode_template(body)
    except wire.MalformedBody as error:
        assert 0 <= error.offset <= len(body)


@given(st.binary(max_size=200))
def test_any_answers_decode_or_say_where_not(body: bytes) -> None:
    try:
        wire.decode_answers(body)
    except wire.MalformedBody as error:
        assert 0 <= error.offset <= len(body)


@given(st.binary(max_size=260))
def test_any_partition_info_decodes_or_says_where_not(body: bytes) -> None:
    try:
        wire.PartitionInfo.decode(body)
    except wire.MalformedBody as error:
        assert error.offset == len(body) < 200


def test_answers_leave_out_what_is_sensitive_or_absent() -> None:
    body = struct.pack("<QII", Attribute.VALUE, 1, 0)
    body += struct.pack("<QII", Attribute.LABEL, 0, 3) + b"tls"
    body += struct.pack("<QII", Attribute.MODULUS, 2, 0)
    body += struct.pack("<QII", Attribute.ID, 4, 9)
    assert wire.decode_answers(body) == {Attribute.LABEL: "tls"}


@pytest.mark.parametrize(
    ("parameters", "encoded"),
    [
        (wire.Bytes(b"iv"), "01 02000000 6976"),
        (wire.Number(16), "02 1000000000000000"),
        (wire.Counter(bytes(16)), "03 80000000 10000000" + "00" * 16),
        (wire.Gcm(b"\x01" * 12, b"a"), "04 60000000 80000000 0c000000" + "01" * 12 + "0100000061"),
        (
            wire.GcmMessage(b"\0\0", generate=True),
            "05 00000000 80000000 0100000000000000 020000000000 00000000 00000000",
        ),
        (
            wire.Oaep(Mechanism.SHA256),
            "06 5002000000000000 0200000000000000 0100000000000000 00000000",
        ),
        (
            wire.Pss(Mechanism.SHA384),
            "07 6002000000000000 0300000000000000 3000000000000000",
        ),
        (wire.Ecdh(b"\x04"), "09 0100000000000000 00000000 01000000 04"),
        (wire.Eddsa(), "0a 00 00000000"),
        (wire.SignContext(b"c"), "0b 0000000000000000 01000000 63"),
        (
            wire.Hkdf(salt=b"s", info=b"i"),
            "0d 01 01 5002000000000000 0200000000000000 0000000000000000 01000000 73 01000000 69",
        ),
        (
            wire.CounterKdf(label=b"L", context=b"C"),
            "0e 5102000000000000 05 00 00000000 01 00 20000000 04 01000000 4c 04 01000000 00"
            " 04 01000000 43 03 00 20000000 0100000000000000",
        ),
        (wire.CbcData(b"i", b"d"), "14 01000000 69 01000000 64"),
    ],
)
def test_parameters_have_the_form_of_the_document(
    parameters: wire.Parameters, encoded: str
) -> None:
    assert parameters.encode().hex() == encoded.replace(" ", "")
