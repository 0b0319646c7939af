"""The registry: every family, and which files make up one piece of evidence.

Composite families come first: a piece that belongs to an Azure composite must not be taken for a
lone SEV-SNP report. A family takes its pieces when all roles that it requires are there; what no
family takes cannot be appraised as evidence and is refused, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.family import Family, Piece


@dataclass(frozen=True, slots=True)
class Selection:
    """One piece of evidence: its family, and the pieces by role."""

    family: Family
    pieces: Mapping[str, tuple[Piece, ...]]


def families() -> tuple[Family, ...]:
    """Every family, composites first. Their modules load here, not before."""
    from casemate.attestation.evidence.azure_snp_vtpm import AzureSnpVtpm, AzureSnpVtpmJson
    from casemate.attestation.evidence.caliptra.families import caliptra_families
    from casemate.attestation.evidence.sev_snp import SevSnp
    from casemate.attestation.evidence.tdx import Tdx
    from casemate.attestation.evidence.tpm import Tpm

    return (AzureSnpVtpm(), AzureSnpVtpmJson(), SevSnp(), Tdx(), *caliptra_families(), Tpm())


def select(pieces: Sequence[Piece], known: Sequence[Family]) -> tuple[Selection, ...]:
    """Group pieces into evidence. Raises EvidenceError for a piece that no family takes."""
    selections, left = _select(pieces, known)
    if left:
        Checklist().refuse(
            "family",
            f"{left[0].name}: these {len(left[0].data)} bytes are evidence of no known family",
        )
    return selections


def select_what_fits(pieces: Sequence[Piece], known: Sequence[Family]) -> tuple[Selection, ...]:
    """Group pieces into evidence, and leave out what no family takes.

    A piece whose wrapper says a type that families have goes to one of those; a type that none has
    is no news, and the bytes tell.
    """
    return _select(pieces, known)[0]


def _select(
    pieces: Sequence[Piece], known: Sequence[Family]
) -> tuple[tuple[Selection, ...], list[Piece]]:
    """The selections, and the pieces that no family takes."""
    typed: set[str | int] = set()
    if [piece for piece in pieces if piece.media_type is not None]:
        typed.update(kind for family in known for kind in family.media_types)
    left = list(pieces)
    selections = []
    for family in known:
        if not left:
            break
        roles: dict[str, list[Piece]] = {}
        for piece in left:
            if typed and piece.media_type in typed and piece.media_type not in family.media_types:
                continue
            role = family.role(piece.data)
            if role is not None:
                roles.setdefault(role, []).append(piece)
        if roles and family.required <= roles.keys():
            taken = {id(piece) for found in roles.values() for piece in found}
            left = [piece for piece in left if id(piece) not in taken]
            selections.append(
                Selection(family, {role: tuple(found) for role, found in roles.items()})
            )
    return tuple(selections), left
