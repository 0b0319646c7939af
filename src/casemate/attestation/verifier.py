"""A verifier: everything that an appraisal needs apart from the evidence, read once, used for many.

    verifier = Verifier(endorsements, references, policy)
    verdict = verifier.appraise(pieces, at=now, nonce=nonce, correlation_id=id)

It can be sent to another process; its cache of verified certificates stays behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from casemate.attestation.appraisal.appraise import appraise
from casemate.attestation.appraisal.policy import Policy
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.evidence import registry
from casemate.attestation.evidence.family import Context, Family, Piece, Quirk
from casemate.attestation.reference.store import ReferenceSet


@dataclass(frozen=True, slots=True)
class Verifier:
    """See the module. `families` are all that are known."""

    endorsements: Endorsements
    references: ReferenceSet
    policy: Policy
    quirks: frozenset[Quirk] = frozenset()
    families: tuple[Family, ...] = field(default_factory=registry.families, repr=False)
    certificates: VerifiedCertificates = field(
        default_factory=VerifiedCertificates, compare=False, repr=False
    )

    def appraise(
        self,
        pieces: Sequence[Piece],
        *,
        at: datetime,
        nonce: bytes | None,
        correlation_id: str,
        along: Endorsements | None = None,
    ) -> Verdict:
        """Appraise one attester's evidence; see `appraisal.appraise`.

        `along` are certificates, CRLs and collateral for it alone, which came with it or were
        looked up for it (`Endorsements.with_`); its anchors are not looked at.
        """
        context = Context(
            at=at,
            endorsements=self.endorsements if along is None else self.endorsements.with_(along),
            nonce=nonce,
            quirks=self.quirks,
            certificates=self.certificates,
        )
        return appraise(
            pieces,
            context=context,
            references=self.references,
            policy=self.policy,
            correlation_id=correlation_id,
            families=self.families,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Without families and cache: each process has its own."""
        # A copy has no derived indexes either.
        endorsements = replace(self.endorsements)
        return Verifier, (endorsements, self.references, self.policy, self.quirks)
