"""Revocation of the certificates on an X.509 path: CRLs (RFC 5280) and OCSP responses (RFC 6960).

Both come from `Endorsements.revocations`, as DER. A statement counts if its issuer is the
certificate's, or for OCSP a responder that the issuer certified for that, and if it was made by the
time of appraisal. One that says "revoked" is believed even when it has ended. One that has ended is
otherwise refused, except as `Endorsements.stale_until` allows. A certificate that no statement
speaks of is accepted unless `Endorsements.require_revocation` is set.

A statement that cannot be read, or whose signature is wrong, is nobody's evidence:
InfrastructureError.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.signatures import SignatureError, scheme_of, verify
from casemate.attestation.x509_path import Path, PathCertificate, common_name, read
from casemate.formats import der_reader, x509
from casemate.formats.der_reader import DerError

_SIGN_CRLS = 0x02
_OID_OCSP_SIGNING = "1.3.6.1.5.5.7.3.9"
_FETCH = "fetch it again: casemate collateral fetch"


@dataclass(frozen=True, slots=True)
class _Crl:
    crl: pyca.CertificateRevocationList
    parameters: bytes
    name: str


@dataclass(frozen=True, slots=True)
class _Response:
    response: ocsp.OCSPResponse
    name: str


@dataclass(frozen=True, slots=True)
class Statements:
    """All statements: CRLs by issuer (DER), OCSP responses by serial number."""

    crls: dict[bytes, list[_Crl]] = field(default_factory=dict)
    responses: dict[int, list[_Response]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Subject:
    """A certificate and its issuer: its key, and its certificate where the path has it."""

    certificate: PathCertificate
    issuer_spki: bytes
    issuer: PathCertificate | None


def statements_of(endorsements: Endorsements) -> tuple[Statements, ...]:
    """The statements of each layer, read when first asked for. Raises InfrastructureError."""
    return tuple(map(_statements_of, endorsements.layers))


def _statements_of(layer: Endorsements) -> Statements:
    found = layer.derived.get("revocation")
    if isinstance(found, Statements):
        return found
    statements = Statements()
    for source in layer.revocations:
        _read(source, statements)
    layer.derived["revocation"] = statements
    return statements


def _read(source: NamedBytes, statements: Statements) -> None:
    try:
        crl = pyca.load_der_x509_crl(source.data)
        issuer, parameters = crl_fields(crl)
    except (ValueError, DerError) as error:
        try:
            response = ocsp.load_der_ocsp_response(source.data)
            found = _Response(response, source.name)
            statements.responses.setdefault(response.serial_number, []).append(found)
        except ValueError:
            raise InfrastructureError(
                f"{source.name}: cannot be read as a CRL or an OCSP response: {error}",
                advice=_FETCH,
            ) from None
    else:
        statements.crls.setdefault(issuer, []).append(_Crl(crl, parameters, source.name))


def crl_fields(crl: pyca.CertificateRevocationList) -> tuple[bytes, bytes]:
    """The issuer's name and the parameters of the signature algorithm, both DER."""
    fields = der_reader.parse_one(crl.tbs_certlist_bytes, der_reader.SEQUENCE, "CRL").children()
    element = fields.next()
    if element.tag == der_reader.INTEGER:
        element = fields.next()
    _, parameters = x509.read_algorithm(element)
    return fields.next(der_reader.SEQUENCE, "issuer").encoded, parameters


def is_revocation_checked(path: Path, endorsements: Endorsements) -> bool:
    """Whether a statement about some certificate on the path was at hand."""
    return any(
        certificate.fields.issuer in statements.crls
        or certificate.fields.serial in statements.responses
        for statements in statements_of(endorsements)
        for certificate in path.certificates
    )


def require_unrevoked(
    path: Path, checks: Checklist, *, endorsements: Endorsements, at: datetime
) -> None:
    """Hold a path's certificates against all statements; the anchor's own is not asked about.

    Raises EvidenceError and InfrastructureError as the module says.
    """
    statements = statements_of(endorsements)
    for position, certificate in enumerate(path.certificates):
        if certificate.fields.spki == path.anchor_spki:
            continue
        above = path.certificates[position + 1 : position + 2]
        issuer = above[0] if above else None
        subject = _Subject(certificate, issuer.fields.spki if issuer else path.anchor_spki, issuer)
        spoken = 0
        for found in statements:
            spoken += _ask_crls(subject, found, checks, endorsements, at)
            spoken += _ask_responders(subject, found, checks, endorsements, at)
        if spoken:
            checks.require("revocation", True, "", passed=f"{certificate.title} is not revoked")
        elif endorsements.require_revocation:
            raise InfrastructureError(
                f"there is no CRL of {common_name(certificate.fields.issuer)} for "
                f"{certificate.title}, and the policy requires one",
                advice="fetch it: casemate collateral fetch",
            )


def _require_current(
    what: str, end: datetime | None, endorsements: Endorsements, at: datetime
) -> None:
    if end is None or at <= end:
        return
    if endorsements.stale_until is not None and end > endorsements.stale_until:
        return
    raise InfrastructureError(
        f"{what} ended on {end:%Y-%m-%d}; the time of appraisal is {at:%Y-%m-%d}",
        advice=f"{_FETCH}; or allow stale collateral by policy",
    )


# --- CRLs -----------------------------------------------------------------------------------


def _ask_crls(
    subject: _Subject,
    statements: Statements,
    checks: Checklist,
    endorsements: Endorsements,
    at: datetime,
) -> int:
    spoken = 0
    fields = subject.certificate.fields
    for listed in statements.crls.get(fields.issuer, ()):
        if listed.crl.last_update_utc > at:
            continue
        _verify_crl(listed, subject)
        entry = listed.crl.get_revoked_certificate_by_serial_number(fields.serial)
        if entry is not None and entry.revocation_date_utc <= at:
            _refuse_revoked(subject, entry.revocation_date_utc, listed.name, checks)
        what = f"the CRL {listed.name} of {common_name(fields.issuer)}"
        _require_current(what, listed.crl.next_update_utc, endorsements, at)
        spoken += 1
    return spoken


def _refuse_revoked(subject: _Subject, when: datetime, name: str, checks: Checklist) -> None:
    checks.refuse("revoked", f"{subject.certificate.title} was revoked on {when:%Y-%m-%d} ({name})")


def _verify_crl(listed: _Crl, subject: _Subject) -> None:
    try:
        if subject.issuer is not None and not _may_sign_crls(subject.issuer):
            raise SignatureError(f"{subject.issuer.title} may not sign CRLs")
        crl = listed.crl
        scheme = scheme_of(crl.signature_algorithm_oid.dotted_string, listed.parameters)
        verify(subject.issuer_spki, scheme, crl.signature, crl.tbs_certlist_bytes)
    except (SignatureError, DerError) as error:
        raise InfrastructureError(
            f"the CRL {listed.name} of {common_name(subject.certificate.fields.issuer)} cannot be "
            f"used: {error}",
            advice=_FETCH,
        ) from None


def _may_sign_crls(issuer: PathCertificate) -> bool:
    usage = issuer.fields.extension(x509.OID_KEY_USAGE)
    if usage is None:
        return True
    bits, _ = der_reader.read_bit_string(der_reader.parse_one(usage.value))
    return bool(bits and bits[0] & _SIGN_CRLS)


# --- OCSP -----------------------------------------------------------------------------------


def _ask_responders(
    subject: _Subject,
    statements: Statements,
    checks: Checklist,
    endorsements: Endorsements,
    at: datetime,
) -> int:
    spoken = 0
    for found in statements.responses.get(subject.certificate.fields.serial, ()):
        response = found.response
        if not _is_about(response, subject) or response.this_update_utc > at:
            continue
        _verify_response(found, subject, at)
        status, when = response.certificate_status, response.revocation_time_utc
        if status is ocsp.OCSPCertStatus.REVOKED and when is not None and when <= at:
            _refuse_revoked(subject, when, found.name, checks)
        if status is ocsp.OCSPCertStatus.UNKNOWN:
            continue
        what = f"the OCSP response {found.name}"
        _require_current(what, response.next_update_utc, endorsements, at)
        spoken += 1
    return spoken


def _is_about(response: ocsp.OCSPResponse, subject: _Subject) -> bool:
    """Whether the response names the issuer by its name and key."""
    name = response.hash_algorithm.name
    try:
        _, key = x509.read_public_key(subject.issuer_spki)
        by_key = hashlib.new(name, key).digest() == response.issuer_key_hash
        issuer = subject.certificate.fields.issuer
        return by_key and hashlib.new(name, issuer).digest() == response.issuer_name_hash
    except (DerError, ValueError):
        return False


def _verify_response(found: _Response, subject: _Subject, at: datetime) -> None:
    response = found.response
    try:
        scheme = scheme_of(response.signature_algorithm_oid.dotted_string, b"")
        signer = _responder_key(response, subject, at)
        verify(signer, scheme, response.signature, response.tbs_response_bytes)
    except (SignatureError, DerError, ValueError) as error:
        raise InfrastructureError(
            f"the OCSP response {found.name} about {subject.certificate.title} cannot be used: "
            f"{error}",
            advice=_FETCH,
        ) from None


def _responder_key(response: ocsp.OCSPResponse, subject: _Subject, at: datetime) -> bytes:
    """The key that signs: a responder's that the issuer certified, else the issuer's own."""
    if not response.certificates:
        return subject.issuer_spki
    responder = read(NamedBytes(response.certificates[0].public_bytes(Encoding.DER), "responder"))
    fields = responder.fields
    if fields.spki == subject.issuer_spki:
        return fields.spki
    signed = fields.signed
    scheme = scheme_of(signed.algorithm, signed.parameters)
    verify(subject.issuer_spki, scheme, signed.signature, signed.tbs)
    purposes = fields.extension(x509.OID_EXTENDED_KEY_USAGE)
    if purposes is None or _OID_OCSP_SIGNING not in x509.read_extended_key_usage(purposes.value):
        raise SignatureError("the responder's certificate is not for signing OCSP responses")
    if not responder.not_before <= at <= responder.not_after:
        raise SignatureError("the responder's certificate is not valid at the time of appraisal")
    return fields.spki
