"""A device whose keys are all in our hands: a real host's certificates, quote, token, signed anew.

What a test changes on the way is signed like everything else: only the rule that it breaks is left
to notice.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils

from casemate.attestation.evidence.caliptra.layers import Role
from casemate.formats import cbor, cose, eat, pcr_quote, x509
from casemate.formats.pcr_quote import PcrQuote
from casemate.rot.evidence import leaf_certificate
from casemate.rot.identity import Algorithm
from tests.attestation import hosts

ORDER = (Role.IDEVID, Role.LDEVID, Role.FMC, Role.RUNTIME, Role.LEAF)


@dataclass(frozen=True)
class Fields:
    """What a certificate is made of; names and key are DER."""

    issuer: bytes
    subject: bytes
    spki: bytes
    not_before: str
    not_after: str
    extensions: tuple[x509.Extension, ...]

    def without(self, oid: str) -> Fields:
        """The same without one extension."""
        rest = tuple(extension for extension in self.extensions if extension.oid != oid)
        return dataclasses.replace(self, extensions=rest)

    def having(self, *added: x509.Extension) -> Fields:
        """The same with extensions in place of those of their kind."""
        changed = self
        for extension in added:
            changed = changed.without(extension.oid)
        return dataclasses.replace(changed, extensions=(*changed.extensions, *added))


#: Changes a certificate before it is signed.
Change = Callable[[Fields], Fields]


@cache
def key(role: Role) -> ec.EllipticCurvePrivateKey:
    """The private key of a layer."""
    return ec.generate_private_key(ec.SECP384R1())


def point(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )


def named(certificate: x509.Certificate, public: bytes) -> bytes:
    """The certificate's subject, but for another key."""
    common_name = dict(x509.read_name(certificate.subject))[x509.OID_COMMON_NAME]
    return x509.name(common_name, hashlib.sha256(public).hexdigest().upper())


def sign(signer: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """r and s, 96 bytes."""
    return _raw(signer.sign(message, ec.ECDSA(hashes.SHA384())))


def _raw(signature: bytes) -> bytes:
    r, s = utils.decode_dss_signature(signature)
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def issue(fields: Fields, signer: ec.EllipticCurvePrivateKey) -> bytes:
    """A certificate (DER)."""
    tbs = x509.certificate_tbs(
        serial=b"\x05" + hashlib.sha256(fields.spki).digest()[:15],
        signature_algorithm=x509.ECDSA_SHA384,
        issuer=fields.issuer,
        not_before=fields.not_before,
        not_after=fields.not_after,
        subject=fields.subject,
        spki=fields.spki,
        extensions=fields.extensions,
    )
    return x509.join(tbs, x509.ECDSA_SHA384, x509.ecdsa_signature(sign(signer, tbs)))


@cache
def host(number: int = 1) -> hosts.Host:
    """The real host that is copied."""
    return hosts.boot(number)


def chain(changes: Mapping[Role, Change] | None = None) -> dict[Role, bytes]:
    """The certificates of the device by layer, the topmost first."""
    real = (
        host().idevid[Algorithm.ECC],
        *host().attester.chain(Algorithm.ECC),
        leaf_certificate(host().attester, Algorithm.ECC),
    )
    made: dict[Role, bytes] = {}
    signer = hosts.manufacturer().ecc_key
    above = x509.read_certificate(hosts.manufacturer_certificate(Algorithm.ECC))
    issuer, issuer_key_id = above.subject, _key_id(above)
    for role, data in zip(ORDER, real, strict=True):
        old, public = x509.read_certificate(data), point(key(role))
        own_id = hashlib.sha256(public).digest()[:20]
        fields = Fields(
            issuer=issuer,
            subject=old.subject if role is Role.LEAF else named(old, public),
            spki=x509.spki_p384(public),
            not_before=old.not_before,
            not_after=old.not_after,
            extensions=old.extensions,
        ).having(x509.authority_key_id(issuer_key_id))
        if role is not Role.LEAF:
            fields = fields.having(x509.subject_key_id(own_id))
        change = (changes or {}).get(role)
        fields = fields if change is None else change(fields)
        made[role] = issue(fields, signer)
        issuer, issuer_key_id, signer = fields.subject, own_id, key(role)
    return made


def _key_id(certificate: x509.Certificate) -> bytes:
    found = certificate.extension(x509.OID_SUBJECT_KEY_ID)
    assert found is not None
    return x509.read_subject_key_id(found.value)


@cache
def real_claims() -> dict[int | str, Any]:
    """The claims of the real host's token."""
    message, _ = cose.decode(host().token())
    return eat.decode_claims(message.payload)


def quote(**changes: Any) -> PcrQuote:
    """The real host's quote, changed and signed with our FMC alias key."""
    real = pcr_quote.decode(real_claims()[eat.PCR_QUOTE])
    changed = dataclasses.replace(real, **changes)
    digest = pcr_quote.ecc_digest(changed.pcrs, changed.nonce)
    signature = key(Role.FMC).sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA384())))
    return dataclasses.replace(changed, digest=digest, signature=_raw(signature))


def token(
    *,
    certificates: Mapping[Role, bytes] | None = None,
    claims: Mapping[int, Any] | None = None,
    headers: Mapping[int | str, Any] | None = None,
    without: tuple[int, ...] = (),
    tags: tuple[int, ...] = eat.TOKEN_TAGS,
) -> bytes:
    """A token under our leaf; claims and headers are changed before it is signed."""
    content = real_claims() | {eat.PCR_QUOTE: pcr_quote.encode(quote())} | dict(claims or {})
    payload = cbor.encode({name: value for name, value in content.items() if name not in without})
    stated: Mapping[int | str, Any] = {
        cose.ALGORITHM: cose.ESP384,
        cose.CONTENT_TYPE: eat.CONTENT_TYPE_EAT_CWT,
    }
    protected = cose.protected_header(stated if headers is None else headers)
    used = chain() if certificates is None else certificates
    message = cose.Sign1(
        protected,
        payload,
        sign(key(Role.LEAF), cose.to_be_signed(protected, payload)),
        {cose.X5CHAIN: list(used.values())[::-1]},
    )
    return cose.encode(message, tags=tags)
