"""Validation of a built X.509 path: a straight list of checks (RFC 5280, section 6).

Issuers are authorities, within their path length, with certificate signing among their usages; no
critical extension is unknown; every certificate is valid at the time of appraisal; none is revoked.

Revocation: a listed certificate is refused even by a stale CRL. A CRL that ended is accepted only
as `Endorsements.stale_until` says; a missing one only unless `require_revocation` is set. A CRL
that was issued after the time of appraisal says nothing about it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509 as pyca

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.signatures import SignatureError, scheme_of, verify
from casemate.attestation.x509_path import Path, PathCertificate, common_name
from casemate.formats import der_reader, x509
from casemate.formats.der_reader import DerError

_OID_CRL_DISTRIBUTION, _OID_AUTHORITY_INFO = "2.5.29.31", "1.3.6.1.5.5.7.1.1"
_OID_SUBJECT_ALT_NAME, _OID_CERTIFICATE_POLICIES = "2.5.29.17", "2.5.29.32"
_UNDERSTOOD = {
    x509.OID_BASIC_CONSTRAINTS,
    x509.OID_KEY_USAGE,
    x509.OID_EXTENDED_KEY_USAGE,
    x509.OID_SUBJECT_KEY_ID,
    x509.OID_AUTHORITY_KEY_ID,
    _OID_CRL_DISTRIBUTION,
    _OID_AUTHORITY_INFO,
    _OID_SUBJECT_ALT_NAME,
    _OID_CERTIFICATE_POLICIES,
}
_SIGN_CRLS = 0x02


def validate(path: Path, checks: Checklist, *, endorsements: Endorsements, at: datetime) -> None:
    """Hold a path against RFC 5280. Raises EvidenceError and InfrastructureError."""
    for below, issuer in enumerate(path.certificates[1:]):
        _require_authority(issuer, below, checks)
    for certificate in path.certificates:
        _require_understood(certificate, checks)
    for certificate in path.certificates:
        _require_valid(certificate, at, checks)
    require_unrevoked(path, checks, endorsements=endorsements, at=at)


def _require_authority(issuer: PathCertificate, below: int, checks: Checklist) -> None:
    """`below` counts the authorities between this one and the signer."""
    constraints = issuer.fields.extension(x509.OID_BASIC_CONSTRAINTS)
    usage = issuer.fields.extension(x509.OID_KEY_USAGE)
    try:
        authority, limit = (
            x509.read_basic_constraints(constraints.value) if constraints else (False, None)
        )
        signs = usage is None or x509.read_key_usage(usage.value)[1]
    except DerError as error:
        checks.refuse("authority", f"{issuer.title}: {error}")
    if not authority:
        checks.refuse(
            "authority", f"{issuer.title} is no certificate authority but issued a certificate"
        )
    if limit is not None and below > limit:
        checks.refuse(
            "path-length", f"{issuer.title} allows {limit} authorities below it; there are {below}"
        )
    checks.require(
        "authority",
        signs,
        f"{issuer.title} may not sign certificates but signed one",
        passed=f"{common_name(issuer.fields.subject)} may issue certificates",
    )


def _require_understood(certificate: PathCertificate, checks: Checklist) -> None:
    for extension in certificate.fields.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            checks.refuse(
                "critical-extension",
                f"{certificate.title} has the critical extension {extension.oid}, which is not "
                "understood",
            )


def _require_valid(certificate: PathCertificate, at: datetime, checks: Checklist) -> None:
    start, end = certificate.not_before, certificate.not_after
    if at < start:
        checks.refuse(
            "not-yet-valid",
            f"{certificate.title} is not valid before {start:%Y-%m-%d}; the time of appraisal is "
            f"{at:%Y-%m-%d}",
        )
    if at > end:
        checks.refuse(
            "expired",
            f"{certificate.title} expired on {end:%Y-%m-%d}; the time of appraisal is "
            f"{at:%Y-%m-%d}",
        )
    checks.require(
        "validity",
        True,
        "",
        passed=f"{common_name(certificate.fields.subject)} is valid until {end:%Y-%m-%d}",
    )


def is_revocation_checked(path: Path, endorsements: Endorsements) -> bool:
    """Whether a CRL of some issuer on the path was at hand."""
    lists = revocation_lists(endorsements)
    return any(certificate.fields.issuer in lists for certificate in path.certificates)


# --- revocation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _RevocationList:
    crl: pyca.CertificateRevocationList
    issuer: bytes
    parameters: bytes
    name: str


def revocation_lists(endorsements: Endorsements) -> Mapping[bytes, Sequence[_RevocationList]]:
    """The endorsements' CRLs by issuer (DER), read once."""
    found = endorsements.derived.get("x509-crls")
    if isinstance(found, dict):
        return found
    lists: dict[bytes, list[_RevocationList]] = {}
    for source in endorsements.revocations:
        try:
            crl = pyca.load_der_x509_crl(source.data)
            issuer, parameters = _crl_fields(crl)
        except (ValueError, DerError) as error:
            raise InfrastructureError(
                f"{source.name}: cannot be read as a CRL: {error}",
                advice="fetch it again: casemate collateral fetch",
            ) from None
        lists.setdefault(issuer, []).append(_RevocationList(crl, issuer, parameters, source.name))
    endorsements.derived["x509-crls"] = lists
    return lists


def _crl_fields(crl: pyca.CertificateRevocationList) -> tuple[bytes, bytes]:
    """The issuer's name and the parameters of the signature algorithm, both DER."""
    fields = der_reader.parse_one(crl.tbs_certlist_bytes, der_reader.SEQUENCE, "CRL").children()
    element = fields.next()
    if element.tag == der_reader.INTEGER:
        element = fields.next()
    _, parameters = x509.read_algorithm(element)
    return fields.next(der_reader.SEQUENCE, "issuer").encoded, parameters


def require_unrevoked(
    path: Path, checks: Checklist, *, endorsements: Endorsements, at: datetime
) -> None:
    """No certificate of a path is revoked, as far as CRLs are at hand.

    Raises EvidenceError, and InfrastructureError for a CRL that is missing, stale or not its
    issuer's.
    """
    lists = revocation_lists(endorsements)
    for position, certificate in enumerate(path.certificates):
        if certificate.fields.spki == path.anchor_spki:
            continue
        issuer = path.certificates[position + 1 : position + 2]
        spki = issuer[0].fields.spki if issuer else path.anchor_spki
        usable = [
            listed
            for listed in lists.get(certificate.fields.issuer, ())
            if listed.crl.last_update_utc <= at
        ]
        for listed in usable:
            _verify_crl(listed, spki, issuer)
            _require_unlisted(certificate, listed, checks, at)
            _require_current_crl(listed, endorsements, at)
        if usable:
            checks.require("revocation", True, "", passed=f"{certificate.title} is not revoked")
        elif endorsements.require_revocation:
            raise InfrastructureError(
                f"there is no CRL of {common_name(certificate.fields.issuer)} for "
                f"{certificate.title}, and the policy requires one",
                advice="fetch it: casemate collateral fetch",
            )


def _require_unlisted(
    certificate: PathCertificate, listed: _RevocationList, checks: Checklist, at: datetime
) -> None:
    entry = listed.crl.get_revoked_certificate_by_serial_number(certificate.fields.serial)
    if entry is not None and entry.revocation_date_utc <= at:
        checks.refuse(
            "revoked",
            f"{certificate.title} was revoked on {entry.revocation_date_utc:%Y-%m-%d} "
            f"({listed.name})",
        )


def _verify_crl(listed: _RevocationList, spki: bytes, issuer: Sequence[PathCertificate]) -> None:
    try:
        if issuer and not _may_sign_crls(issuer[0]):
            raise SignatureError(f"{issuer[0].title} may not sign CRLs")
        crl = listed.crl
        scheme = scheme_of(crl.signature_algorithm_oid.dotted_string, listed.parameters)
        verify(spki, scheme, crl.signature, crl.tbs_certlist_bytes)
    except (SignatureError, DerError) as error:
        raise InfrastructureError(
            f"the CRL {listed.name} of {common_name(listed.issuer)} cannot be used: {error}",
            advice="fetch it again: casemate collateral fetch",
        ) from None


def _may_sign_crls(issuer: PathCertificate) -> bool:
    usage = issuer.fields.extension(x509.OID_KEY_USAGE)
    if usage is None:
        return True
    bits, _ = der_reader.read_bit_string(der_reader.parse_one(usage.value))
    return bool(bits and bits[0] & _SIGN_CRLS)


def _require_current_crl(listed: _RevocationList, endorsements: Endorsements, at: datetime) -> None:
    end = listed.crl.next_update_utc
    if end is None or at <= end:
        return
    if endorsements.stale_until is not None and end > endorsements.stale_until:
        return
    raise InfrastructureError(
        f"the CRL {listed.name} of {common_name(listed.issuer)} ended on {end:%Y-%m-%d}; the time "
        f"of appraisal is {at:%Y-%m-%d}",
        advice="fetch it again: casemate collateral fetch; or allow stale collateral by policy",
    )
