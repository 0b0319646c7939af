"""Keys from outside, requests and certificates, by the Python API against a real module."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, utils

from casemate.formats.pkcs11 import Attribute
from casemate.formats.x509 import split
from casemate.hsm.client import Algorithm, Partition
from casemate.hsm.client.certificates import request, self_signed
from casemate.hsm.client.errors import ArgumentError
from tests.hsm.keys import loaded, pair

_A = Attribute


@pytest.mark.parametrize("form", ["pkcs8 pem", "pkcs8 der", "traditional pem"])
def test_a_key_from_outside_works_and_is_marked_so(web: Partition, form: str) -> None:
    outside = ec.generate_private_key(ec.SECP256R1())
    encoded = outside.private_bytes(
        serialization.Encoding.DER if "der" in form else serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL
        if "traditional" in form
        else serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made = web.import_key(encoded, label="from outside", id=b"\x42")
    signature = made.private.sign(b"message")
    half = len(signature) // 2
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    )
    outside.public_key().verify(der, b"message", ec.ECDSA(hashes.SHA256()))
    made.public.verify(signature, b"message")
    told = made.private.attributes()
    assert told[_A.SENSITIVE] is True
    assert told[_A.LOCAL] is False
    assert told[_A.ALWAYS_SENSITIVE] is False
    assert _A.VALUE not in told


@pytest.mark.parametrize(
    "kind", [ed25519.Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048)]
)
def test_other_kinds_of_keys_from_outside(web: Partition, kind: Callable[[], Any]) -> None:
    outside = kind()
    encoded = outside.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = web.import_key(encoded, label="from outside")
    assert loaded(made) == outside.public_key()
    made.public.verify(made.private.sign(b"x"), b"x")


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"nothing",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"0" * 9999,
    ],
)
def test_what_is_no_key_is_refused(web: Partition, encoded: bytes) -> None:
    with pytest.raises(ArgumentError, match="PKCS #8"):
        web.import_key(encoded, label="bad")


@pytest.mark.parametrize(
    "algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521, Algorithm.ED25519,
                  Algorithm.RSA_2048]
)  # fmt: skip
def test_requests_and_certificates_verify_elsewhere(web: Partition, algorithm: Algorithm) -> None:
    key = pair(web, algorithm).private
    asked = x509.load_der_x509_csr(
        request(key, subject="CN=www.example.org,O=Example", names=["www.example.org", "::1"])
    )
    assert asked.is_signature_valid
    assert asked.subject.rfc4514_string() == "CN=www.example.org,O=Example"
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.org"]
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    made = x509.load_der_x509_certificate(
        self_signed(
            key,
            subject="CN=localhost",
            names=["localhost"],
            not_before=now,
            not_after=now + timedelta(days=365 * 30),
        )
    )
    made.verify_directly_issued_by(made)
    assert made.not_valid_before_utc == now
    assert made.not_valid_after_utc == now + timedelta(days=365 * 30)
    assert made.version is x509.Version.v3


@pytest.mark.parametrize(
    "algorithm", [Algorithm.ML_DSA_44, Algorithm.ML_DSA_65, Algorithm.ML_DSA_87]
)
def test_post_quantum_requests_verify_with_their_own_key(
    web: Partition, algorithm: Algorithm
) -> None:
    made = pair(web, algorithm)
    data = request(made.private, subject="CN=pq")
    parts = split(data)
    made.public.verify(parts.signature, parts.tbs)
    assert made.private.public_key_info() in data


def test_a_bad_subject_is_refused_by_name(web: Partition) -> None:
    key = pair(web, Algorithm.P256).private
    with pytest.raises(ArgumentError, match="not a name"):
        request(key, subject="www.example.org")
