"""Keeps a verdict: the challenge is used up, trust is accounted, the appraisal stands, all or none.

The one change that an appraisal makes to the database. The challenge is read again inside the
transaction: of two requests that race with one nonce, one counts.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from casemate.attestation.service.database import appraisals, challenges, hosts
from casemate.attestation.service.database.appraisals import Kept
from casemate.attestation.service.principals import Principal
from casemate.attestation.service.trust import (
    Effect,
    Outcome,
    Standing,
    TrustRules,
    account,
)
from casemate.attestation.states import State
from casemate.audit.ocsf import Finding


class Appraised(NamedTuple):
    """What is left of a verdict when its worker has made everything of it that is wanted.

    `claims` is the claims set of the result, which holds the verdict's document at `place`, or the
    bare document, as JSON; `kept` is how it is kept; `envelope` makes the signed result of it
    (`results`; None: none is signed). `finding` is what its event says (`events`).
    `policy` and `references` are SHA-256.
    """

    outcome: Outcome
    correlation_id: str
    policy: bytes
    references: bytes
    claims: bytes
    place: slice
    kept: Kept
    envelope: bytes | None
    finding: Finding

    @property
    def document(self) -> bytes:
        """The verdict as JSON."""
        return self.claims[self.place]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A verdict that is on disk: its number, what it did to trust, and the host's standing now."""

    number: int
    appraised: Appraised
    effect: Effect
    standing: Standing | None
    principal: str
    challenge: int | None


def record(
    connection: sqlite3.Connection,
    appraised: Appraised,
    *,
    principal: Principal,
    challenge: int | None,
    rules: TrustRules,
) -> Recorded:
    """Keep a verdict on evidence that a principal handed in for a challenge (None: without one)."""
    outcome = appraised.outcome
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
        at=outcome.at,
        principal=principal.name,
        host=outcome.host,
        state=outcome.state,
        effect=effect,
        challenge=challenge,
        correlation=appraised.correlation_id,
        policy=appraised.policy,
        reference=appraised.references,
        claims=appraised.kept,
        envelope=appraised.envelope,
    )
    if effect.changes_trust and standing is not None:
        hosts.put(connection, standing, number)
    # A fault of the verifier does not cost the host its nonce.
    if challenge is not None and outcome.state is not State.COULD_NOT_APPRAISE:
        challenges.mark_used(connection, challenge, outcome.at)
    return Recorded(
        number=number,
        appraised=appraised,
        effect=effect,
        standing=standing,
        principal=principal.name,
        challenge=challenge,
    )
