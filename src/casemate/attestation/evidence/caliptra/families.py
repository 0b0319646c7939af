"""The families of Caliptra evidence, in the order in which they ask for pieces."""

from __future__ import annotations

from casemate.attestation.evidence.caliptra.certificate_families import (
    CertificatesFamily,
    DpeLeafFamily,
)
from casemate.attestation.evidence.caliptra.eat_family import TokenFamily
from casemate.attestation.evidence.caliptra.key_report_family import KeyReportFamily
from casemate.attestation.evidence.caliptra.pieces_family import PiecesFamily
from casemate.attestation.evidence.family import Family


def caliptra_families() -> tuple[Family, ...]:
    """Those that take a token before those that take its parts alone."""
    return (
        TokenFamily(quoted=True),
        TokenFamily(quoted=False),
        PiecesFamily(),
        KeyReportFamily(),
        DpeLeafFamily(),
        CertificatesFamily(),
    )
