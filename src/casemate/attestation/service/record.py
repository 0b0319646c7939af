"""Keeps a verdict: the challenge is used up, trust is accounted, the appraisal stands, all or none.

The one change that an appraisal makes to the database. The challenge is read again inside the
transaction: of two requests that race with one nonce, one counts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.service.database import appraisals, challenges, hosts
from casemate.attestation.service.principals import Principal
from casemate.attestation.service.trust import (
    Effect,
    Outcome,
    Standing,
    TrustRules,
    account,
)
from casemate.attestation.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Appraised:
    """A verdict and its forms.

    `document` is the verdict as JSON has it. Kept are `claims`, the claims set of the signed result
    (it holds the document) or the bare document, compressed; and `envelope`, what makes the signed
    result of them (`results`), None where results are not signed.
    """

    verdict: Verdict
    document: Mapping[str, Any]
    claims: bytes
    envelope: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A verdict that is on disk: its number, what it did to trust, and the host's standing now."""

    number: int
    appraised: Appraised
    effect: Effect
    standing: Standing | None
    principal: str
    challenge: int | None

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.appraised.verdict


def outcome_of(verdict: Verdict) -> Outcome:
    """Return what trust depends on."""
    return Outcome(
        state=verdict.state,
        host=None if verdict.host is None else verdict.host.name,
        answered=verdict.nonce,
        at=verdict.at,
        valid_until=verdict.valid_until,
    )


def record(
    connection: sqlite3.Connection,
    appraised: Appraised,
    *,
    principal: Principal,
    challenge: int | None,
    rules: TrustRules,
) -> Recorded:
    """Keep a verdict on evidence that a principal handed in for a challenge (None: without one)."""
    verdict = appraised.verdict
    outcome = outcome_of(verdict)
    issued = None if challenge is None else challenges.find(connection, challenge)
    before = None if outcome.host is None else hosts.find(connection, outcome.host)
    effect, standing = account(
        outcome,
        principal=principal,
        challenge=issued,
        standing=None if before is None else before.standing,
        rules=rules,
    )
    number = appraisals.insert(
        connection,
        at=verdict.at,
        principal=principal.name,
        host=outcome.host,
        state=verdict.state,
        effect=effect,
        challenge=challenge,
        correlation=verdict.correlation_id,
        policy=verdict.policy.digest,
        reference=verdict.references,
        claims=appraised.claims,
        envelope=appraised.envelope,
    )
    if effect.changes_trust and standing is not None:
        hosts.put(connection, standing, number)
    # A fault of the verifier does not cost the host its nonce.
    if challenge is not None and verdict.state is not State.COULD_NOT_APPRAISE:
        challenges.mark_used(connection, challenge, verdict.at)
    return Recorded(
        number=number,
        appraised=appraised,
        effect=effect,
        standing=standing,
        principal=principal.name,
        challenge=challenge,
    )
