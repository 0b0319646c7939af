"""Mutual TLS: a client is who its certificate's key says."""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from casemate.attestation.client import VerifierClient, VerifierError
from casemate.attestation.service.configuration import Tls
from casemate.attestation.service.principals import Role
from casemate.attestation.states import State
from tests.attestation.service.running import Running, attest, prepare, running


@dataclass
class Identity:
    """A certificate and its key, in files."""

    certificate: Path
    key: Path
    signer: ec.EllipticCurvePrivateKey
    name: x509.Name

    @property
    def digest(self) -> str:
        spki = self.signer.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(spki).hexdigest()


def identity(folder: Path, name: str, issuer: Identity | None = None) -> Identity:
    """Make a certificate: a CA without an issuer, else one for this host and client."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.now(UTC) - timedelta(minutes=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    signer = key if issuer is None else issuer.signer
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if issuer is None:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )  # fmt: skip
    certificate = builder.sign(signer, hashes.SHA256())
    files = Identity(folder / f"{name}.pem", folder / f"{name}.key", key, subject)
    files.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


@pytest.fixture
def ca(tmp_path: Path) -> Identity:
    return identity(tmp_path, "ca")


@pytest.fixture
def tls(tmp_path: Path, ca: Identity) -> Tls:
    server = identity(tmp_path, "server", ca)
    return Tls(certificate=server.certificate, key=server.key, client_ca=ca.certificate)


def client_of(service: Running, ca: Identity, of: Identity | None) -> VerifierClient:
    return VerifierClient(
        service.url,
        ca=ca.certificate,
        certificate=None if of is None else of.certificate,
        key=None if of is None else of.key,
        timeout=20,
    )


def prepared(service: Running, ca: Identity) -> VerifierClient:
    """Prepare the service by its administrator's token over TLS."""
    prepare(service, ca.certificate)
    return VerifierClient(service.url, token=service.tokens["admin"], ca=ca.certificate)


def test_a_registered_key_is_its_principal(tmp_path: Path, ca: Identity, tls: Tls) -> None:
    web = identity(tmp_path, "web", ca)
    with running(tmp_path / "v", tls=tls) as service, prepared(service, ca) as admin:
        admin.make_principal("web-1", ["attester"], token=False, key=web.digest)
        with client_of(service, ca, web) as client:
            appraisal = attest(client)
            assert appraisal.state is State.AFFIRMING
            assert admin.trust(str(appraisal.host))["principal"] == "web-1"
            # A token that is given decides, also where there is a certificate.
            client._token = "cmv_wrong"
            with pytest.raises(VerifierError, match="token is unknown"):
                client.challenge()


def test_an_unregistered_certificate_has_the_role_that_is_given(
    tmp_path: Path, ca: Identity, tls: Tls
) -> None:
    one, two = identity(tmp_path, "one", ca), identity(tmp_path, "two", ca)
    with (
        running(tmp_path / "v", tls=tls, certificate_role=Role.ATTESTER) as service,
        prepared(service, ca) as admin,
    ):
        with client_of(service, ca, one) as client:
            name = str(attest(client).host)
            with pytest.raises(VerifierError, match="another role"):
                next(client.principals())
        with client_of(service, ca, two) as client:
            assert attest(client).effect == "host-of-another-principal"
        assert admin.trust(name)["principal"] == f"tls:{one.digest[:32]}"


def test_nobody_without_certificate_or_with_a_strange_one(
    tmp_path: Path, ca: Identity, tls: Tls
) -> None:
    strange_ca = identity(tmp_path, "strange-ca")
    strange = identity(tmp_path, "strange", strange_ca)
    known = identity(tmp_path, "known", ca)
    with running(tmp_path / "v", tls=tls) as service:
        with (
            client_of(service, ca, None) as client,
            pytest.raises(VerifierError, match="names no principal"),
        ):
            client.challenge()
        with (
            client_of(service, ca, known) as client,
            pytest.raises(VerifierError, match="not registered"),
        ):
            client.challenge()
        with client_of(service, ca, strange) as client, pytest.raises(VerifierError) as caught:
            client.challenge()
        assert caught.value.status == 0
        with (
            client_of(service, strange_ca, None) as client,
            pytest.raises(VerifierError, match="certificate"),
        ):
            client.challenge()


def test_certificates_can_be_required(tmp_path: Path, ca: Identity, tls: Tls) -> None:
    required = Tls(certificate=tls.certificate, key=tls.key, client_ca=tls.client_ca, required=True)
    with running(tmp_path / "v", tls=required) as service:
        with client_of(service, ca, None) as client, pytest.raises(VerifierError) as caught:
            client.challenge()
        assert caught.value.status == 0
        with client_of(service, ca, identity(tmp_path, "known", ca)) as client:
            assert client.health()["ready"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
def test_old_protocols_are_refused(tmp_path: Path, ca: Identity, tls: Tls) -> None:
    import socket
    from urllib.parse import urlsplit

    context = ssl.create_default_context(cafile=str(ca.certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with running(tmp_path / "v", tls=tls) as service:
        address = urlsplit(service.url)
        with (
            socket.create_connection((str(address.hostname), address.port or 0), 10) as plain,
            pytest.raises(ssl.SSLError),
        ):
            context.wrap_socket(plain, server_hostname="127.0.0.1")
