"""Certificate authorities for tests: X.509 certificates of any shape, signed with real keys.

`cryptography` builds no certificate with serial number 0 and no RSA-PSS one with odd extensions, so
they are joined from the parts of `casemate.formats.x509`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from casemate.attestation.endorsements import NamedBytes, TrustAnchor
from casemate.formats import der, x509

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
NOT_BEFORE, NOT_AFTER = "20250101000000Z", "20450101000000Z"

_SHA384 = der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.2"), b"\x05\x00")
#: RSASSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt: AMD's.
PSS_SHA384 = der.sequence(
    der.object_identifier("1.2.840.113549.1.1.10"),
    der.sequence(
        der.explicit(0, _SHA384),
        der.explicit(1, der.sequence(der.object_identifier("1.2.840.113549.1.1.8"), _SHA384)),
        der.explicit(2, der.integer(48)),
    ),
)
PKCS1_SHA256 = der.sequence(der.object_identifier("1.2.840.113549.1.1.11"), b"\x05\x00")
ECDSA_SHA256 = der.sequence(der.object_identifier("1.2.840.10045.4.3.2"))


@functools.cache
def rsa_key(label: str) -> rsa.RSAPrivateKey:
    """One RSA key for each label and test process: making them is slow."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def spki_of(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def name_of(common_name: str) -> bytes:
    return x509.name(common_name, "test")


def _algorithm(key: PrivateKey, pss: bool) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return PSS_SHA384 if pss else PKCS1_SHA256
    return x509.ECDSA_SHA384 if key.curve.key_size == 384 else ECDSA_SHA256


def _sign(key: PrivateKey, data: bytes, pss: bool) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        if pss:
            scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
            return key.sign(data, scheme, hashes.SHA384())
        return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    algorithm = hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA256()
    return key.sign(data, ec.ECDSA(algorithm))


@dataclass(frozen=True)
class Authority:
    """A key with a name that issues certificates and CRLs; `pss` chooses the RSA padding."""

    common_name: str
    key: PrivateKey
    pss: bool = True

    @property
    def anchor(self) -> TrustAnchor:
        """Its key, named as an anchor by its own certificate's subject."""
        return TrustAnchor(spki_of(self.key), self.common_name, name_of(self.common_name))

    def issue(
        self,
        subject: str,
        key: PrivateKey,
        extensions: tuple[x509.Extension, ...] = (),
        *,
        serial: int = 0,
        not_before: str = NOT_BEFORE,
        not_after: str = NOT_AFTER,
    ) -> bytes:
        """A certificate for another key."""
        algorithm = _algorithm(self.key, self.pss)
        tbs = x509.certificate_tbs(
            serial=serial.to_bytes(16, "big"),
            signature_algorithm=algorithm,
            issuer=name_of(self.common_name),
            not_before=not_before,
            not_after=not_after,
            subject=name_of(subject),
            spki=spki_of(key),
            extensions=extensions,
        )
        return x509.join(tbs, algorithm, _sign(self.key, tbs, self.pss))

    def certify(
        self, other: Authority, *, serial: int = 1, path_length: int | None = None, **times: str
    ) -> bytes:
        """A certificate for another authority, or for itself."""
        usages = (x509.basic_constraints(path_length), CA_KEY_USAGE)
        return self.issue(other.common_name, other.key, usages, serial=serial, **times)

    def revocation_list(
        self,
        *serials: int,
        revoked: datetime = datetime(2025, 2, 1, tzinfo=UTC),
        issued: datetime = datetime(2025, 2, 1, tzinfo=UTC),
        until: datetime = datetime(2035, 1, 1, tzinfo=UTC),
    ) -> bytes:
        """A CRL."""
        builder = (
            pyca.CertificateRevocationListBuilder()
            .issuer_name(_pyca_name(self.common_name))
            .last_update(issued)
            .next_update(until)
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                pyca.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(revoked)
                .build()
            )
        if isinstance(self.key, rsa.RSAPrivateKey) and self.pss:
            scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
            crl = builder.sign(self.key, hashes.SHA384(), rsa_padding=scheme)
        else:
            crl = builder.sign(self.key, hashes.SHA256())
        return crl.public_bytes(Encoding.DER)


#: keyCertSign and cRLSign.
CA_KEY_USAGE = x509.Extension(x509.OID_KEY_USAGE, True, der.bit_string(b"\x06", 1))


def _pyca_name(common_name: str) -> pyca.Name:
    template = x509.join(
        x509.certificate_tbs(
            serial=b"\1",
            signature_algorithm=ECDSA_SHA256,
            issuer=name_of(common_name),
            not_before=NOT_BEFORE,
            not_after=NOT_AFTER,
            subject=name_of(common_name),
            spki=spki_of(ec.derive_private_key(1, ec.SECP256R1())),
            extensions=(),
        ),
        ECDSA_SHA256,
        b"",
    )
    return pyca.load_der_x509_certificate(template).subject


def named(data: bytes, name: str) -> NamedBytes:
    return NamedBytes(data, name)
