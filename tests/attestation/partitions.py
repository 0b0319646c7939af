"""Partitions made by hand: an identity key, its certificates, and reports of keys.

The module's own reports are compared with these in `tests/attestation/evidence/test_module_key.py`.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cbor2
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from casemate.formats import x509
from casemate.formats.module_parts import PartName


class Authority(Protocol):
    """Certifies a partition by its self-signed certificate."""

    def certify(self, self_signed: bytes) -> tuple[bytes, ...]: ...


@dataclass(frozen=True)
class Partition:
    """A partition: its key, and its certificates, its own first."""

    key: ec.EllipticCurvePrivateKey
    id: uuid.UUID
    chain: tuple[bytes, ...]

    @property
    def spki(self) -> bytes:
        return public(self.key)

    def report(self, data: bytes, **changes: Any) -> bytes:
        """A report of a P-256 key that was generated here and signs; version 2."""
        return report(self.key, self.id, data, **changes)


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def self_signed(name: str, key: ec.EllipticCurvePrivateKey, number: uuid.UUID) -> bytes:
    """The certificate that a module without a root of trust gives a partition."""
    subject = x509.name(f"Casemate partition {name}", number.hex)
    tbs = x509.certificate_tbs(
        serial=b"\x01",
        signature_algorithm=x509.ECDSA_SHA384,
        issuer=subject,
        not_before="20260101000000Z",
        not_after="99991231235959Z",
        subject=subject,
        spki=public(key),
        extensions=(x509.key_usage(digital_signature=True),),
    )
    return x509.join(tbs, x509.ECDSA_SHA384, key.sign(tbs, ec.ECDSA(hashes.SHA384())))


def certified(name: str, authority: Authority | None) -> Partition:
    """A partition; without an authority its certificate is its own."""
    key, number = ec.generate_private_key(ec.SECP384R1()), uuid.uuid5(uuid.NAMESPACE_DNS, name)
    own = self_signed(name, key, number)
    return Partition(key, number, (own,) if authority is None else authority.certify(own))


def ec_key() -> bytes:
    """A COSE_Key on P-256."""
    numbers = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    return cbor2.dumps({1: 2, -1: 1, -2: x, -3: y})


def measurements() -> dict[str, bytes]:
    """What the module's reports say of its parts."""
    return {
        part.value: hashlib.sha384(part.value.encode()).digest()
        for part in PartName
        if part is not PartName.PKCS11
    }


def report(
    signer: ec.EllipticCurvePrivateKey,
    number: uuid.UUID,
    data: bytes,
    *,
    version: int = 2,
    flags: int = 0b10_0100,
    key: bytes | None = None,
    measured: Mapping[str, bytes] | None = None,
) -> bytes:
    """A COSE_Sign1 report, signed."""
    content = ec_key() if key is None else key
    payload: dict[int, Any] = {
        0: version,
        1: content.ljust(525, b"\0") if version == 1 else content,
        2: len(content),
        3: flags,
        4: number.bytes,
        5: data.ljust(128, b"\0"),
        6: bytes(16),
    }
    if version == 2:
        payload[7] = dict(measurements() if measured is None else measured)
    protected = cbor2.dumps({1: -35, 3: "application/cbor"})
    encoded = cbor2.dumps(payload)
    signed = cbor2.dumps(["Signature1", protected, b"", encoded])
    r, s = utils.decode_dss_signature(signer.sign(signed, ec.ECDSA(hashes.SHA384())))
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    return cbor2.dumps(cbor2.CBORTag(18, [protected, {}, encoded, signature]))
