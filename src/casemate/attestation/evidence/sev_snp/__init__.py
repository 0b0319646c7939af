"""AMD SEV-SNP: a report signed by its chip's key (VCEK) or by a cloud provider's (VLEK).

Checks, in order: the report's form; that it is signed at all; its signer among the endorsements
(`signer`); the kind of key and the processor against the signer's certificate; the report's
signature; the signer's path up to AMD's root and its revocation. `claims` has the conventions of
environments, measurements and facts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.bindings import REPORT_DATA, answers
from casemate.attestation.evidence.family import (
    Component,
    Context,
    FamilyName,
    Host,
    Piece,
    Verified,
)
from casemate.attestation.evidence.sev_snp.claims import COMPONENT, component
from casemate.attestation.evidence.sev_snp.signer import Signer, find_signer
from casemate.attestation.revocation import is_revocation_checked
from casemate.attestation.vendor_anchors import AMD_ROOT_KEYS
from casemate.attestation.x509_path import (
    Path,
    PathCertificate,
    build,
    common_name,
    indexes_of,
    trusted_keys,
)
from casemate.attestation.x509_validation import validate
from casemate.formats import sev_snp
from casemate.formats.sev_snp import Report, SevSnpError, SigningKey

ROLE = "report"
#: Bytes of a name in an error.
_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A report whose signature and path hold, for this family and for composites with it."""

    report: Report
    signer: Signer
    path: Path

    @property
    def host(self) -> Host:
        """The chip by its VCEK; of a VLEK, which a provider's chips share, the provider's key."""
        kind = "vcek" if self.signer.extensions.signing_key is SigningKey.VCEK else "vlek"
        return Host(hashlib.sha256(self.signer.certificate.fields.spki).digest(), kind)

    def component(self, context: Context) -> Component:
        """The component that the report makes."""
        checked = is_revocation_checked(self.path, context.endorsements)
        return component(self.report, self.signer.extensions, revocation_checked=checked)


class SevSnp:
    """The family of lone reports."""

    name = FamilyName.SEV_SNP
    media_types: tuple[str | int, ...] = ("application/vnd.amd.sev-snp.attestation-report", 10572)
    required = frozenset({ROLE})

    def role(self, data: bytes) -> str | None:
        """A report has a size and a version that nothing else has."""
        if len(data) == sev_snp.REPORT_SIZE and 2 <= data[0] <= 15 and not any(data[1:4]):
            return ROLE
        return None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Verify one report."""
        checks = Checklist(COMPONENT)
        piece = only(pieces[ROLE], "report", checks)
        authenticated = authenticate(piece.data, context, checks)
        report = authenticated.report
        return Verified(
            family=self.name,
            pieces=(piece,),
            host=authenticated.host,
            components=(authenticated.component(context),),
            checks=checks.passed,
            nonce=answers(report.report_data, context.nonce),
            bindings={REPORT_DATA: report.report_data},
            valid_until=authenticated.path.valid_until,
            keys=(authenticated.signer.certificate.fields.spki,),
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """All of it: 672 signed bytes, the signature itself, and zeros that must be zero."""
        return (range(sev_snp.REPORT_SIZE),)


def only(found: tuple[Piece, ...], what: str, checks: Checklist) -> Piece:
    """The only piece of a role."""
    checks.require("pieces", len(found) == 1, f"expected one {what}, found {len(found)}")
    return found[0]


def authenticate(
    data: bytes,
    context: Context,
    checks: Checklist,
    *,
    extra: tuple[PathCertificate, ...] = (),
) -> Authenticated:
    """Verify a report's signature and its signer; `extra` certificates came with it."""
    try:
        report = sev_snp.decode(data)
    except SevSnpError as error:
        checks.refuse("form", str(error))
    checks.require("form", True, "", passed=f"a report of version {report.version}")
    checks.require(
        "signing-key",
        report.signing_key in (SigningKey.VCEK, SigningKey.VLEK),
        f"the report is signed by no key (signing key {report.signing_key})",
    )
    signer = find_signer(report, data, context, checks, extra)
    extensions = signer.extensions
    line = "SEV-" if extensions.signing_key is SigningKey.VCEK else "SEV-VLEK-"
    checks.equal(
        "signer-issuer",
        expected=line + extensions.product.value,
        found=common_name(signer.certificate.fields.issuer),
        what="issuer of the signer",
    )
    if signer.certificate in extra:
        _require_issuer_at_hand(signer.certificate, context, checks)
    path = build(
        signer.certificate,
        context.endorsements,
        checks,
        trusted=trusted_keys(context.endorsements, AMD_ROOT_KEYS, FamilyName.SEV_SNP),
        certificates=context.certificates,
        extra=extra,
    )
    validate(path, checks, endorsements=context.endorsements, at=context.at)
    checks.require("path", True, "", passed=f"the signer's path ends at {path.anchor}")
    return Authenticated(report, signer, path)


def _require_issuer_at_hand(
    certificate: PathCertificate, context: Context, checks: Checklist
) -> None:
    """Refuse a certificate that came with the evidence and names its issuer almost right.

    That one is at hand under its whole name, so nothing is missing but what the evidence altered.
    """
    issuer = certificate.fields.issuer
    indexes = indexes_of(context.endorsements)
    if any(index.with_subject(issuer) for index in indexes):
        return
    name = common_name(issuer)
    for index in indexes:
        for known in index.all:
            if known.common_name == name:
                subject = known.fields.subject
                pairs = zip(subject, issuer, strict=False)
                at = next((n for n, (one, other) in enumerate(pairs) if one != other), 0)
                checks.refuse(
                    "signer-issuer",
                    f"{certificate.title} names an issuer {name}, but its whole name is not that "
                    f"of {known.title}: they differ from byte {at} on",
                    expected=subject[at : at + _SHOWN].hex(),
                    found=issuer[at : at + _SHOWN].hex(),
                )
