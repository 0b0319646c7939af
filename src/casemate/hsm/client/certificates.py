"""Certificate requests and self-signed certificates whose signature is made in the partition.

Sources: RFC 2986 (requests), RFC 5280 (certificates, UTCTime before 2050), RFC 4055 (RSA),
RFC 5758 (ECDSA), RFC 8410 (Ed25519), RFC 9881 (ML-DSA).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from cryptography import x509 as pyca
from cryptography.hazmat.primitives import serialization

from casemate.formats import der, x509
from casemate.formats.pkcs11 import CURVES, Attribute, KeyType, Mechanism
from casemate.formats.pkcs11_wire import Pss, SignContext
from casemate.hsm.client.algorithms import Method
from casemate.hsm.client.errors import ArgumentError
from casemate.hsm.client.keys import Key

_A, _M = Attribute, Mechanism
_OID_SUBJECT_ALT_NAME = "2.5.29.17"
_OID_SERVER_AUTH = "1.3.6.1.5.5.7.3.1"
_OID_CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
_RSA_PSS_SHA256 = der.sequence(
    der.object_identifier("1.2.840.113549.1.1.10"),
    der.sequence(
        der.explicit(0, der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1"))),
        der.explicit(
            1,
            der.sequence(
                der.object_identifier("1.2.840.113549.1.1.8"),
                der.sequence(der.object_identifier("2.16.840.1.101.3.4.2.1")),
            ),
        ),
        der.explicit(2, der.integer(32)),
    ),
)


@dataclass(frozen=True, slots=True)
class Signature:
    """How a key signs an X.509 structure: its AlgorithmIdentifier (DER) and the mechanism."""

    algorithm: bytes
    method: Method
    is_ecdsa: bool = False


def _identifier(oid: str, *parameters: bytes) -> bytes:
    return der.sequence(der.object_identifier(oid), *parameters)


def signature_for(key: Key, *, rsa_pss: bool = False) -> Signature:
    """Return how this private key signs certificates; raises `ArgumentError` where it cannot."""
    kind = key.key_type
    if kind is KeyType.EC:
        curves = {
            CURVES["P-256"]: ("1.2.840.10045.4.3.2", _M.ECDSA_SHA256),
            CURVES["P-384"]: ("1.2.840.10045.4.3.3", _M.ECDSA_SHA384),
            CURVES["P-521"]: ("1.2.840.10045.4.3.4", _M.ECDSA_SHA512),
        }
        curve = key.described.get(_A.EC_PARAMS)
        if isinstance(curve, bytes) and curve in curves:
            oid, mechanism = curves[curve]
            return Signature(_identifier(oid), Method(mechanism), is_ecdsa=True)
    if kind is KeyType.RSA and rsa_pss:
        return Signature(_RSA_PSS_SHA256, Method(_M.SHA256_RSA_PKCS_PSS, Pss()))
    if kind is KeyType.RSA:
        null = der.element(0x05, b"")
        return Signature(_identifier("1.2.840.113549.1.1.11", null), Method(_M.SHA256_RSA_PKCS))
    if kind is KeyType.EC_EDWARDS:
        return Signature(_identifier("1.3.101.112"), Method(_M.EDDSA))
    if kind is KeyType.ML_DSA:
        parameter_set = key.described.get(_A.PARAMETER_SET)
        if isinstance(parameter_set, int):
            oid = f"2.16.840.1.101.3.4.3.{16 + parameter_set}"
            return Signature(_identifier(oid), Method(_M.ML_DSA, SignContext()))
    raise ArgumentError(f"a {key.algorithm} key cannot sign a certificate")


def subject_name(text: str) -> bytes:
    """Return the DER of a name written as RFC 4514 has it, such as "CN=web,O=Example"."""
    try:
        return pyca.Name.from_rfc4514_string(text).public_bytes()
    except ValueError as error:
        raise ArgumentError(
            f"{text!r} is not a name: {error}", advice="write it like CN=www.example.org,O=Example"
        ) from error


def alternative_names(names: Iterable[str]) -> tuple[x509.Extension, ...]:
    """Return a subject alternative name extension of DNS names and IP addresses, or nothing."""
    general: list[pyca.GeneralName] = []
    for name in names:
        try:
            general.append(pyca.IPAddress(ip_address(name)))
        except ValueError:
            general.append(pyca.DNSName(name))
    if not general:
        return ()
    value = pyca.SubjectAlternativeName(general).public_bytes()
    return (x509.Extension(_OID_SUBJECT_ALT_NAME, False, value),)


def request(key: Key, *, subject: str, names: Iterable[str] = (), rsa_pss: bool = False) -> bytes:
    """Return a PKCS#10 request (DER), signed in the partition."""
    signature = signature_for(key, rsa_pss=rsa_pss)
    tbs = x509.request_tbs(
        subject=subject_name(subject),
        spki=key.public_key_info(),
        extensions=alternative_names(names),
    )
    return _signed(key, tbs, signature)


def self_signed(
    key: Key,
    *,
    subject: str,
    names: Iterable[str] = (),
    not_before: datetime,
    not_after: datetime,
    serial: bytes | None = None,
    rsa_pss: bool = False,
) -> bytes:
    """Return a self-signed end-entity certificate (DER) for TLS, signed in the partition."""
    signature = signature_for(key, rsa_pss=rsa_pss)
    name, spki = subject_name(subject), key.public_key_info()
    number = serial if serial is not None else b"\x01" + os.urandom(15)
    key_id = hashlib.sha256(spki).digest()[:20]
    extensions = (
        x509.key_usage(digital_signature=True),
        x509.extended_key_usage(_OID_SERVER_AUTH, _OID_CLIENT_AUTH),
        x509.subject_key_id(key_id),
        *alternative_names(names),
    )
    tbs = der.sequence(
        der.explicit(0, der.integer(2)),
        der.unsigned(number),
        signature.algorithm,
        name,
        der.sequence(_time(not_before), _time(not_after)),
        name,
        spki,
        der.explicit(3, x509.extension_list(extensions)),
    )
    return _signed(key, tbs, signature)


def _signed(key: Key, tbs: bytes, signature: Signature) -> bytes:
    made = key.sign(
        tbs, mechanism=signature.method.mechanism, parameters=signature.method.parameters
    )
    if signature.is_ecdsa:
        made = x509.ecdsa_signature(made)
    return x509.join(tbs, signature.algorithm, made)


def _time(moment: datetime) -> bytes:
    """Return a Time: UTCTime up to 2049, GeneralizedTime after (RFC 5280, 4.1.2.5)."""
    utc = moment.astimezone(UTC)
    if utc.year < 2050:
        return der.element(0x17, f"{utc:%y%m%d%H%M%SZ}".encode())
    return der.generalized_time(f"{utc:%Y%m%d%H%M%SZ}")


def pem(data: bytes, what: str) -> str:
    """Return DER as PEM with the label `what`."""
    text = base64.encodebytes(data).decode().replace("\n", "")
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN {what}-----\n{lines}\n-----END {what}-----\n"


def read_certificate(data: bytes) -> pyca.Certificate:
    """Read a certificate in PEM or DER; raises `ArgumentError`."""
    try:
        if data.lstrip().startswith(b"-----"):
            return pyca.load_pem_x509_certificate(data)
        return pyca.load_der_x509_certificate(data)
    except ValueError as error:
        raise ArgumentError(f"not a certificate in PEM or DER: {error}") from error


def certificate_parts(certificate: pyca.Certificate) -> tuple[bytes, bytes]:
    """Return a certificate's DER and the DER of its subject's name."""
    der_bytes = certificate.public_bytes(serialization.Encoding.DER)
    return der_bytes, certificate.subject.public_bytes()


def matching_id(certificate: pyca.Certificate, keys: Iterable[Key]) -> bytes:
    """Return the CKA_ID of the key that the certificate is for; b"" where there is none."""
    wanted = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for key in keys:
        try:
            if key.public_key_info() == wanted:
                return key.id
        except ArgumentError:
            continue
    return b""
