"""The certificate codec: another parser reads what it writes; outside bytes are bounded."""

from __future__ import annotations

import contextlib
import random

import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import der, x509
from casemate.formats.der_reader import DerError

KEY = ec.derive_private_key(7, ec.SECP384R1())
POINT = KEY.public_key().public_bytes(
    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
)
EXTENSIONS = (
    x509.basic_constraints(3),
    x509.key_usage(digital_signature=True, key_cert_sign=True),
    x509.extended_key_usage("2.23.133.5.4.100.6"),
    x509.subject_key_id(b"s" * 20),
    x509.authority_key_id(b"a" * 20),
)


def certificate() -> bytes:
    tbs = x509.certificate_tbs(
        serial=b"\x04" * 20,
        signature_algorithm=x509.ECDSA_SHA384,
        issuer=x509.name("Issuer", "01"),
        not_before="20230101000000Z",
        not_after="99991231235959Z",
        subject=x509.name("Subject", "02"),
        spki=x509.spki_p384(POINT),
        extensions=EXTENSIONS,
    )
    return x509.join(tbs, x509.ECDSA_SHA384, KEY.sign(tbs, ec.ECDSA(hashes.SHA384())))


def request() -> bytes:
    tbs = x509.request_tbs(
        subject=x509.name("Subject", "02"), spki=x509.spki_p384(POINT), extensions=EXTENSIONS[:3]
    )
    return x509.join(tbs, x509.ECDSA_SHA384, KEY.sign(tbs, ec.ECDSA(hashes.SHA384())))


def test_another_parser_reads_the_certificate() -> None:
    read = reference.load_der_x509_certificate(certificate())
    assert read.serial_number == int.from_bytes(b"\x04" * 20, "big")
    assert read.subject.rfc4514_string() == "2.5.4.5=02,CN=Subject"
    constraints = read.extensions.get_extension_for_class(reference.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 3)
    usage = read.extensions.get_extension_for_class(reference.KeyUsage).value
    assert usage.key_cert_sign
    assert usage.digital_signature
    assert not usage.crl_sign
    assert read.public_bytes(serialization.Encoding.DER) == certificate_of(read)


def certificate_of(read: reference.Certificate) -> bytes:
    tbs = read.tbs_certificate_bytes
    return x509.join(tbs, x509.ECDSA_SHA384, read.signature)


def test_another_parser_reads_the_request() -> None:
    read = reference.load_der_x509_csr(request())
    assert read.is_signature_valid
    assert len(read.extensions) == 3


def test_the_certificate_is_read_back() -> None:
    read = x509.read_certificate(certificate())
    assert read.extensions == EXTENSIONS
    assert (read.not_before, read.not_after) == ("20230101000000Z", "99991231235959Z")
    assert x509.read_public_key(read.spki) == (x509.OID_SECP384R1, POINT)
    assert x509.read_name(read.issuer) == (("2.5.4.3", "Issuer"), ("2.5.4.5", "01"))
    by_oid = {extension.oid: extension.value for extension in read.extensions}
    assert x509.read_basic_constraints(by_oid[x509.OID_BASIC_CONSTRAINTS]) == (True, 3)
    assert x509.read_key_usage(by_oid[x509.OID_KEY_USAGE]) == (True, True)
    assert x509.read_extended_key_usage(by_oid[x509.OID_EXTENDED_KEY_USAGE]) == (
        "2.23.133.5.4.100.6",
    )
    assert x509.read_subject_key_id(by_oid[x509.OID_SUBJECT_KEY_ID]) == b"s" * 20
    assert x509.read_authority_key_id(by_oid[x509.OID_AUTHORITY_KEY_ID]) == b"a" * 20
    r, s = read.signed.ecdsa_r_s
    assert x509.ecdsa_signature(r.to_bytes(48, "big") + s.to_bytes(48, "big")) == (
        read.signed.signature
    )


def test_the_request_is_read_back() -> None:
    read = x509.read_request(request())
    assert read.extensions == EXTENSIONS[:3]
    assert x509.read_public_key(read.spki) == (x509.OID_SECP384R1, POINT)


def test_the_writers_of_single_extensions() -> None:
    assert x509.basic_constraints(None).value.hex() == "30030101ff"
    assert x509.key_usage(key_cert_sign=True).value.hex() == "03020204"
    assert x509.key_usage(digital_signature=True, key_cert_sign=True).value.hex() == "03020284"


@pytest.mark.parametrize("make", [certificate, request])
def test_every_truncation_is_refused(make: object) -> None:
    assert callable(make)
    data: bytes = make()
    read = x509.read_certificate if make is certificate else x509.read_request
    for size in range(len(data)):
        with pytest.raises(DerError):
            read(data[:size])


def test_damage_is_read_or_refused() -> None:
    source = random.Random(1)
    good = certificate()
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        try:
            x509.read_certificate(bytes(data))
        except DerError as error:
            assert str(error)


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (
        x509.read_certificate,
        x509.read_request,
        x509.read_public_key,
        x509.read_name,
        x509.read_basic_constraints,
        x509.read_key_usage,
        x509.read_extended_key_usage,
        x509.read_authority_key_id,
    ):
        with contextlib.suppress(DerError):
            read(data)


def test_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(DerError, match="at most"):
        x509.split(bytes(x509.LARGEST + 1))


def test_extensions_twice_and_too_many_are_refused() -> None:
    def with_extensions(*extensions: x509.Extension) -> bytes:
        tbs = x509.request_tbs(
            subject=x509.name("S", "1"), spki=x509.spki_p384(POINT), extensions=extensions
        )
        return x509.join(tbs, x509.ECDSA_SHA384, b"")

    with pytest.raises(DerError, match="stands twice"):
        x509.read_request(with_extensions(EXTENSIONS[0], EXTENSIONS[0]))
    many = [x509.Extension(f"1.2.{number}", False, b"") for number in range(65)]
    with pytest.raises(DerError, match="more than 64"):
        x509.read_request(with_extensions(*many))


def test_utc_times_are_read_too() -> None:
    tbs = x509.read_certificate(certificate()).signed.tbs
    utc = der.element(0x17, b"230101000000Z") + der.element(0x17, b"510101000000Z")
    generalized = der.generalized_time("20230101000000Z") + der.generalized_time("99991231235959Z")
    inner = tbs[4:].replace(der.sequence(generalized), der.sequence(utc))
    read = x509.read_certificate(x509.join(der.sequence(inner), x509.ECDSA_SHA384, b""))
    assert (read.not_before, read.not_after) == ("20230101000000Z", "19510101000000Z")
