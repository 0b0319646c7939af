"""The API attacks A1 to A5 that Tookan found in tokens, with AES and RSA-2048: each must fail.

Bortolozzo, Centenaro, Focardi, Steel, "Attacking and Fixing PKCS#11 Security Tokens", CCS 2010.
"""

from __future__ import annotations

from ctypes import byref, c_ulong, create_string_buffer

import pytest

from tests.pkcs11.constants import Attribute, Mechanism, Rv
from tests.pkcs11.cryptoki import (
    CkError,
    Session,
    Value,
    c_mechanism,
    c_template,
)

NOT_WRAPPED = {Rv.KEY_NOT_WRAPPABLE, Rv.KEY_UNEXTRACTABLE, Rv.MECHANISM_INVALID}


def aes(session: Session, **flags: bool) -> int:
    """A generated AES-256 key with these attributes."""
    template: dict[Attribute, Value] = {
        Attribute[name.upper()]: value for name, value in flags.items()
    }
    return session.generate(Mechanism.AES_KEY_GEN, {**template, Attribute.VALUE_LEN: 32})


def wrap(session: Session, mechanism: int, wrapping: int, key: int) -> int:
    """The result code of wrapping one key with another."""
    buffer, length = create_string_buffer(1024), c_ulong(1024)
    parameter = bytes(16) if mechanism in (Mechanism.AES_CBC, Mechanism.AES_CBC_PAD) else None
    return session.raw(
        "C_WrapKey", byref(c_mechanism(mechanism, parameter)), wrapping, key, buffer, byref(length)
    )


AES_WRAPS = [
    Mechanism.AES_KEY_WRAP,
    Mechanism.AES_KEY_WRAP_KWP,
    Mechanism.AES_ECB,
    Mechanism.AES_CBC,
    Mechanism.AES_CBC_PAD,
]


@pytest.mark.parametrize("mechanism", AES_WRAPS)
def test_a1_what_wraps_a_sensitive_key_does_not_decrypt(
    session: Session, mechanism: Mechanism
) -> None:
    target = aes(session, sensitive=True, extractable=True)
    both = aes(session, sensitive=True, wrap=True, decrypt=True)
    assert wrap(session, mechanism, both, target) in NOT_WRAPPED


@pytest.mark.parametrize("mechanism", [Mechanism.AES_KEY_WRAP, Mechanism.AES_KEY_WRAP_KWP])
def test_a1_in_two_steps(session: Session, mechanism: Mechanism) -> None:
    """A key that has wrapped does not learn to decrypt."""
    target = aes(session, sensitive=True, extractable=True)
    wrapping = aes(session, sensitive=True, wrap=True)
    assert wrap(session, mechanism, wrapping, target) == Rv.OK
    change = ("C_SetAttributeValue", wrapping, c_template({Attribute.DECRYPT: True}), 1)
    assert session.raw(*change) != Rv.OK


def test_a2_a_public_key_does_not_wrap_for_a_private_key_that_decrypts(session: Session) -> None:
    target = aes(session, sensitive=True, extractable=True)
    public, _ = session.generate_pair(
        Mechanism.RSA_PKCS_KEY_PAIR_GEN,
        {Attribute.MODULUS_BITS: 2048, Attribute.WRAP: True},
        {Attribute.DECRYPT: True},
    )
    assert wrap(session, Mechanism.RSA_PKCS, public, target) in NOT_WRAPPED


@pytest.mark.parametrize(
    "flags",
    [{"sensitive": True}, {"sensitive": False, "extractable": False}],
    ids=["a3-sensitive", "a4-unextractable"],
)
def test_a3_a4_a_protected_value_is_not_read(session: Session, flags: dict[str, bool]) -> None:
    key = aes(session, **flags)
    with pytest.raises(CkError, match="ATTRIBUTE_SENSITIVE"):
        session.attribute(key, Attribute.VALUE)


@pytest.mark.parametrize(
    ("flags", "attribute", "weaker"),
    [
        ({"sensitive": True}, Attribute.SENSITIVE, False),
        ({"extractable": False, "sensitive": False}, Attribute.EXTRACTABLE, True),
    ],
    ids=["a5a-sensitive", "a5b-extractable"],
)
def test_a5_protection_is_not_taken_back(
    session: Session, flags: dict[str, bool], attribute: Attribute, weaker: bool
) -> None:
    key = aes(session, **flags)
    change = c_template({attribute: weaker})
    assert session.raw("C_SetAttributeValue", key, change, 1) == Rv.ATTRIBUTE_READ_ONLY
    copy = c_ulong()
    assert session.raw("C_CopyObject", key, change, 1, byref(copy)) != Rv.OK
    assert session.attribute(key, attribute) == bytes([not weaker])
