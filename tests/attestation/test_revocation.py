"""OCSP responses about certificates on a path; CRLs are tested with the families."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.checks import Checklist
from casemate.attestation.collateral.cache import CollateralCache
from casemate.attestation.collateral.endorse import add_items
from casemate.attestation.collateral.fetching import Request, Response
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.wanted import Kind, Ocsp
from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.x509_path import build, read, trusted_keys
from casemate.attestation.x509_validation import validate
from tests.attestation.authorities import spki_of
from tests.attestation.tdx_maker import Issuer, p256_key

AT = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
ROOT = Issuer("OCSP root", p256_key("ocsp-root"))
ROOT_CERTIFICATE = ROOT.issue("OCSP root", ROOT.key, serial=1, authority=True)
SIGNER = ROOT.issue("signer", p256_key("ocsp-signer"), serial=77)


def respond(
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    certificate: pyca.Certificate = SIGNER,
    issuer: pyca.Certificate = ROOT_CERTIFICATE,
    key: ec.EllipticCurvePrivateKey = ROOT.key,
    responder: pyca.Certificate | None = None,
    identity: pyca.Certificate | None = None,
    made: datetime = AT - DAY,
    ends: datetime = AT + DAY,
) -> bytes:
    is_revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate,
        issuer,
        hashes.SHA256(),
        status,
        made,
        ends,
        made if is_revoked else None,
        None,
    )
    by = identity or responder or issuer
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, by)
    if responder is not None:
        builder = builder.certificates([responder])
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def check(*responses: bytes, **changes: object) -> Checklist:
    anchor = TrustAnchor(spki_of(ROOT.key), "root")
    endorsements = Endorsements(
        anchors=(anchor,),
        certificates=(NamedBytes(ROOT_CERTIFICATE.public_bytes(Encoding.DER), "root"),),
        revocations=tuple(NamedBytes(data, "response.der") for data in responses),
        **changes,  # type: ignore[arg-type]
    )
    return check_with(endorsements)


def check_with(endorsements: Endorsements) -> Checklist:
    checks = Checklist()
    path = build(
        read(NamedBytes(SIGNER.public_bytes(Encoding.DER), "signer")),
        endorsements,
        checks,
        trusted=trusted_keys(endorsements, {}, "tpm"),
        certificates=VerifiedCertificates(),
    )
    validate(path, checks, endorsements=endorsements, at=AT)
    return checks


def test_good_and_revoked() -> None:
    assert "revocation" in {found.name for found in check(respond()).passed}
    check(respond(), require_revocation=True)
    with pytest.raises(EvidenceError, match="revoked on 2026-05-31"):
        check(respond(ocsp.OCSPCertStatus.REVOKED))
    with pytest.raises(EvidenceError, match="revoked"):
        check(respond(ocsp.OCSPCertStatus.REVOKED, made=AT - 9 * DAY, ends=AT - DAY))


def test_a_response_that_says_nothing_here() -> None:
    other = ROOT.issue("other", p256_key("other"), serial=78)
    elsewhere = Issuer("other root", p256_key("other-root"))
    same_serial = elsewhere.issue("x", p256_key("x"), serial=77)
    elsewhere_root = elsewhere.issue("other root", elsewhere.key, serial=1, authority=True)
    for silent in (
        respond(certificate=other),
        respond(ocsp.OCSPCertStatus.UNKNOWN),
        respond(made=AT + DAY, ends=AT + 2 * DAY),
        respond(certificate=same_serial, issuer=elsewhere_root, key=elsewhere.key),
    ):
        check(silent)
        with pytest.raises(InfrastructureError, match="the policy requires one"):
            check(silent, require_revocation=True)


def test_stale_and_forged_responses() -> None:
    stale = respond(made=AT - 9 * DAY, ends=AT - DAY)
    with pytest.raises(InfrastructureError, match="ended on 2026-05-31"):
        check(stale)
    check(stale, stale_until=AT - 2 * DAY)
    forger = Issuer("OCSP root", p256_key("forger"))
    theirs = forger.issue("OCSP root", forger.key, serial=1, authority=True)
    with pytest.raises(InfrastructureError, match="cannot be used"):
        check(respond(key=forger.key, identity=theirs))


def test_a_responder_that_the_issuer_certified() -> None:
    key = p256_key("responder")

    def certified(by: Issuer, *, purpose: bool = True) -> pyca.Certificate:
        builder = (
            pyca.CertificateBuilder()
            .issuer_name(ROOT_CERTIFICATE.subject)
            .subject_name(pyca.Name([]))
            .public_key(key.public_key())
            .serial_number(9)
            .not_valid_before(AT - 9 * DAY)
            .not_valid_after(AT + 9 * DAY)
        )
        if purpose:
            usage = pyca.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
            builder = builder.add_extension(usage, critical=False)
        return builder.sign(by.key, hashes.SHA256())

    check(respond(key=key, responder=certified(ROOT)), require_revocation=True)
    for wrong in (certified(ROOT, purpose=False), certified(Issuer("x", p256_key("x")))):
        with pytest.raises(InfrastructureError, match="cannot be used"):
            check(respond(key=key, responder=wrong))


def test_responses_are_fetched_kept_and_used(tmp_path: Path) -> None:
    questions: list[Request] = []

    class Responder:
        def fetch(self, request: Request) -> Response:
            questions.append(request)
            return Response(respond())

    cache = CollateralCache(CollateralStore(tmp_path), Responder(), now=lambda: AT)
    wanted = Ocsp(
        SIGNER.public_bytes(Encoding.DER),
        ROOT_CERTIFICATE.public_bytes(Encoding.DER),
        "http://ocsp.example",
    )
    item = cache.get(wanted)
    assert (item.kind, item.valid_until) == (Kind.OCSP, AT + DAY)
    assert questions[0].body is not None
    asked = ocsp.load_der_ocsp_request(questions[0].body)
    assert asked.serial_number == 77
    anchor = TrustAnchor(spki_of(ROOT.key), "root")
    root = NamedBytes(ROOT_CERTIFICATE.public_bytes(Encoding.DER), "root")
    base = Endorsements(anchors=(anchor,), certificates=(root,), require_revocation=True)
    check_with(add_items(base, [item]))
