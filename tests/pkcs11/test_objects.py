"""Objects, attributes and searches through the library."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_ulong

import pytest

from tests.pkcs11.constants import (
    UNAVAILABLE,
    Attribute,
    Class,
    KeyType,
    Mechanism,
    Rv,
)
from tests.pkcs11.cryptoki import CkAttribute, CkError, Cryptoki, Session, Value, c_template

DATA: dict[Attribute, Value] = {
    Attribute.CLASS: Class.DATA,
    Attribute.LABEL: b"note",
    Attribute.VALUE: b"content",
}


def test_a_data_object_from_creation_to_destruction(session: Session) -> None:
    handle = session.create(DATA)
    assert session.attribute(handle, Attribute.VALUE) == b"content"
    assert session.attribute(handle, Attribute.APPLICATION) == b""
    session.call("C_SetAttributeValue", handle, c_template({Attribute.LABEL: b"renamed"}), 1)
    assert session.attribute(handle, Attribute.LABEL) == b"renamed"
    copy = c_ulong()
    session.call("C_CopyObject", handle, c_template({Attribute.LABEL: b"copy"}), 1, byref(copy))
    assert session.attribute(copy.value, Attribute.VALUE) == b"content"
    size = c_ulong()
    session.call("C_GetObjectSize", handle, byref(size))
    assert size.value > 0
    session.destroy(handle)
    assert session.raw("C_DestroyObject", handle) == Rv.OBJECT_HANDLE_INVALID
    session.destroy(copy.value)


def test_good_attributes_are_filled_beside_bad_ones(session: Session) -> None:
    _, private = session.p256(b"mixed")
    buffers = [ctypes.create_string_buffer(8) for _ in range(4)]
    kinds = [Attribute.KEY_TYPE, Attribute.VALUE, Attribute.MODULUS_BITS, Attribute.LABEL]
    lengths = [8, 8, 8, 3]
    template = (CkAttribute * 4)(
        *(
            CkAttribute(kind, ctypes.addressof(buffer), length)
            for kind, buffer, length in zip(kinds, buffers, lengths, strict=True)
        )
    )
    code = session.raw("C_GetAttributeValue", private, template, 4)
    assert code in (Rv.ATTRIBUTE_SENSITIVE, Rv.ATTRIBUTE_TYPE_INVALID, Rv.BUFFER_TOO_SMALL)
    assert [entry.length for entry in template] == [8] + 3 * [UNAVAILABLE]
    assert int.from_bytes(buffers[0].raw, "little") == KeyType.EC
    for kind, expected in (
        (Attribute.VALUE, Rv.ATTRIBUTE_SENSITIVE),
        (Attribute.MODULUS_BITS, Rv.ATTRIBUTE_TYPE_INVALID),
    ):
        with pytest.raises(CkError, match=expected.name):
            session.attribute(private, kind)


def test_allowed_mechanisms_and_nested_templates_come_back(session: Session) -> None:
    oid = bytes.fromhex("06082a8648ce3d030107")
    _, private = session.generate_pair(
        Mechanism.EC_KEY_PAIR_GEN,
        {Attribute.EC_PARAMS: oid},
        {Attribute.SIGN: True, Attribute.ALLOWED_MECHANISMS: [Mechanism.ECDSA]},
    )
    raw = session.attribute(private, Attribute.ALLOWED_MECHANISMS)
    assert raw == Mechanism.ECDSA.to_bytes(8, "little")


def test_a_search_gives_every_match_once(session: Session) -> None:
    label: dict[Attribute, Value] = {Attribute.LABEL: b"many", Attribute.CLASS: Class.DATA}
    made = [session.create({**label, Attribute.VALUE: bytes([n])}) for n in range(30)]
    assert sorted(session.find(label)) == sorted(made)
    assert session.find({**label, Attribute.VALUE: b"\x07"}) == [made[7]]
    assert session.find({Attribute.LABEL: b"none such"}) == []
    for handle in made:
        session.destroy(handle)


def test_searches_have_a_beginning_and_an_end(session: Session) -> None:
    count = c_ulong()
    found = (c_ulong * 4)()
    assert session.raw("C_FindObjects", found, 4, byref(count)) == Rv.OPERATION_NOT_INITIALIZED
    assert session.raw("C_FindObjectsFinal") == Rv.OPERATION_NOT_INITIALIZED
    session.call("C_FindObjectsInit", None, 0)
    assert session.raw("C_FindObjectsInit", None, 0) == Rv.OPERATION_ACTIVE
    session.call("C_FindObjectsFinal")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({}, {Rv.TEMPLATE_INCOMPLETE}),
        ({Attribute.CLASS: 77}, {Rv.ATTRIBUTE_VALUE_INVALID, Rv.TEMPLATE_INCONSISTENT}),
        ({Attribute.CLASS: b"\0"}, {Rv.ATTRIBUTE_VALUE_INVALID}),
        (
            {Attribute.CLASS: Class.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES},
            {Rv.TEMPLATE_INCOMPLETE},
        ),
        (
            {**DATA, Attribute.MODULUS_BITS: 5},
            {Rv.ATTRIBUTE_TYPE_INVALID, Rv.TEMPLATE_INCONSISTENT},
        ),
    ],
)
def test_wrong_templates_are_refused(
    session: Session, template: dict[Attribute, bytes | int], expected: set[Rv]
) -> None:
    with pytest.raises(CkError) as caught:
        session.create(template)
    assert caught.value.code in expected


def test_a_key_of_one_partition_has_no_address_in_another(library: Cryptoki) -> None:
    web, db = (library.open_session(library.slot(name)) for name in ("web", "db"))
    ours = [session.p256(b"same label", token=True)[1] for session in (web, db)]
    assert web.find({Attribute.LABEL: b"same label", Attribute.CLASS: Class.PRIVATE_KEY}) == [
        ours[0]
    ]
    message = b"\x01" * 32
    public = db.find({Attribute.LABEL: b"same label", Attribute.CLASS: Class.PUBLIC_KEY})[0]
    signature = web.sign(Mechanism.ECDSA, ours[0], message)
    with pytest.raises(CkError, match="SIGNATURE_INVALID"):
        db.verify(Mechanism.ECDSA, public, message, signature)
    for session in (web, db):
        for handle in session.find({Attribute.LABEL: b"same label"}):
            session.destroy(handle)
