"""Validation of a built X.509 path: a straight list of checks (RFC 5280, section 6).

Issuers are authorities, within their path length, with certificate signing among their usages; no
critical extension is unknown; every certificate is valid at the time of appraisal; none is revoked.
`revocation` has the last of these.
"""

from __future__ import annotations

from datetime import datetime

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.revocation import require_unrevoked
from casemate.attestation.x509_path import Path, PathCertificate
from casemate.formats import x509
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
        passed=f"{issuer.common_name} may issue certificates",
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
        passed=f"{certificate.common_name} is valid until {end:%Y-%m-%d}",
    )
