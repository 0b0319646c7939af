"""Moves a key from one partition into another: wrapped here, unwrapped there, never in the open.

CKM_RSA_AES_KEY_WRAP with OAEP and SHA-256 on both sides (PKCS#11 3.2, section 6.1.22): a fresh
AES-256 key under the recipient's RSA key, the released key (PKCS #8) under that by AES-KWP.
"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.formats import spki
from casemate.formats.pkcs11 import Attribute, ObjectClass
from casemate.formats.pkcs11_wire import Template
from casemate.hsm.client import Key, KeyPair, Partition
from casemate.release.gate import Recipient

_A = Attribute


@dataclass(frozen=True, slots=True)
class ReleasedKey:
    """A wrapped private key (RSA block, then AES-KWP) and its public key (SubjectPublicKeyInfo)."""

    wrapped: bytes
    spki: bytes


def wrap(broker: Partition, key: Key, recipient: Recipient) -> ReleasedKey:
    """Wrap a private key of the broker's partition to a recipient that the gate let through.

    The key must be extractable; raises the client's errors where the partition refuses.
    """
    wrapping = broker.create(
        {
            _A.CLASS: ObjectClass.PUBLIC_KEY,
            **recipient.attributes,
            _A.LABEL: recipient.host,
            _A.TOKEN: False,
            _A.WRAP: True,
            _A.ENCRYPT: False,
            _A.VERIFY: False,
        }
    )
    if not isinstance(wrapping, Key):
        raise TypeError(f"a public key became {type(wrapping).__name__}")
    try:
        return ReleasedKey(wrapping.wrap(key), key.public_key_info())
    finally:
        wrapping.destroy()


def unwrap(
    partition: Partition,
    wrapping_key: Key,
    released: ReleasedKey,
    *,
    label: str,
    id: bytes = b"",
    stored: bool = True,
) -> KeyPair:
    """Take a released signing key into a partition, with its public half; it never leaves again."""
    public = spki.to_attributes(released.spki)
    common: Template = {_A.LABEL: label, _A.ID: id, _A.TOKEN: stored}
    private = wrapping_key.unwrap(
        released.wrapped,
        {
            _A.CLASS: ObjectClass.PRIVATE_KEY,
            _A.KEY_TYPE: public[_A.KEY_TYPE],
            **common,
            _A.SENSITIVE: True,
            _A.EXTRACTABLE: False,
            _A.SIGN: True,
        },
    )
    made = partition.create({_A.CLASS: ObjectClass.PUBLIC_KEY, **public, **common, _A.VERIFY: True})
    if not isinstance(made, Key):
        raise TypeError(f"a public key became {type(made).__name__}")
    return KeyPair(made, private)
