"""Who stands behind a signed manifest: its COSE signature, up to a key that may sign; and signing.

Signers are public keys that the operator named. The manifest is signed by one of them, or by the
first certificate of its x5chain, which then leads to one of them (RFC 5280). The time for which
those certificates are valid becomes one more for which the manifest is: when they end, its values
are no longer in force, and nothing else breaks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from casemate.attestation import x509_path, x509_validation
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.checks import Checklist
from casemate.attestation.cose_signature import CoseSignatureError, verify
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError, InputError
from casemate.formats import cose, x509
from casemate.formats.corim import manifest
from casemate.formats.corim.manifest import Corim, Signer, Validity
from casemate.formats.cose import CoseError, Sign1
from casemate.formats.der_reader import DerError


@dataclass(frozen=True, slots=True)
class SignedBy:
    """The named signer (its key, DER, and name), and the key that made the signature.

    `validity` is that of its certificates, None where the signer's own key signed.
    """

    signer: bytes
    name: str
    key: bytes
    validity: Validity | None = None


def signed_by(
    message: Sign1, signers: Sequence[NamedBytes], *, at: datetime, name: str
) -> SignedBy:
    """Verify a manifest's signature. `signers` are public keys or certificates (DER).

    Raises InputError: no signer's key made it, or its certificates do not lead to one.
    """
    known: dict[bytes, str] = {}
    for signer in signers:
        known.setdefault(_spki(signer), signer.name)
    if not known:
        raise InputError(
            f"{name}: signed, but nobody is named who may sign reference values: give the signer's "
            "public key or certificate"
        )
    try:
        chain = message.x5chain
    except CoseError as error:
        raise InputError(f"{name}: {error}") from None
    if chain:
        return _by_certificate(message, chain, known, at=at, name=name)
    for spki, signer_name in known.items():
        try:
            verify(message, spki)
        except CoseSignatureError:
            continue
        return SignedBy(spki, signer_name, spki)
    raise InputError(
        f"{name}: the signature is by none of the {len(known)} keys that may sign reference "
        f"values ({', '.join(sorted(known.values())[:4])})"
    )


def _spki(signer: NamedBytes) -> bytes:
    try:
        return x509.read_certificate(signer.data).spki
    except DerError:
        pass
    try:
        x509.read_public_key(signer.data)
    except DerError as error:
        raise InputError(
            f"{signer.name}: neither a public key nor a certificate in DER: {error}"
        ) from None
    return signer.data


def _by_certificate(
    message: Sign1,
    chain: Sequence[bytes],
    known: dict[bytes, str],
    *,
    at: datetime,
    name: str,
) -> SignedBy:
    nothing = Endorsements()
    checks = Checklist()
    try:
        leaf, *above = [
            x509_path.read(NamedBytes(certificate, f"{name}, certificate {number}"))
            for number, certificate in enumerate(chain, 1)
        ]
        verify(message, leaf.fields.spki)
        path = x509_path.build(
            leaf,
            nothing,
            checks,
            trusted={hashlib.sha256(spki).digest(): title for spki, title in known.items()},
            certificates=VerifiedCertificates(),
            extra=above,
        )
        begins = max(certificate.not_before for certificate in path.certificates)
        ends = path.valid_until
        moment = min(max(at, begins), ends)
        x509_validation.validate(path, checks, endorsements=nothing, at=moment)
    except (CoseSignatureError, DerError, EvidenceError, InfrastructureError) as error:
        raise InputError(f"{name}: {error}") from None
    return SignedBy(path.anchor_spki, path.anchor, leaf.fields.spki, Validity(begins, ends))


class SigningKey(Protocol):
    """Something that signs a manifest."""

    @property
    def algorithm(self) -> int:
        """COSE's number of its algorithm."""
        ...

    @property
    def spki(self) -> bytes:
        """Its public key (DER)."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature over a message as COSE carries it: r and s, or as it is."""
        ...


def sign(corim: Corim, key: SigningKey, signer: Signer) -> bytes:
    """A signed manifest (tag 18); `signer` says who signs and how long that holds.

    Its key id is SHA-256 of the public key.
    """
    key_id = hashlib.sha256(key.spki).digest()
    protected = manifest.protected_header(key.algorithm, signer, key_id=key_id)
    payload = manifest.encode(corim)
    signature = key.sign(cose.to_be_signed(protected, payload))
    return cose.encode(Sign1(protected, payload, signature))
