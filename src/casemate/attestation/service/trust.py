"""What a verdict does to a host's trust, and what that trust is at a given time.

A host is who its verified keys say (`Host.name`); a principal (a peer that authenticated itself)
speaks for hosts. Of each host one thing is kept, its standing: the last verdict that counted.

A verdict counts, that is, changes the standing of the host that it names, only if

1. it is not could-not-appraise: the verifier's faults change nobody's trust;
2. it names a host: evidence that was not authentic says nothing about anybody;
3. it answers a nonce that the verifier issued, that has neither been used nor expired, and that was
   issued to the principal that hands in the evidence;
4. that principal is an attester and speaks for the host. A host that nobody speaks for yet is
   enrolled by the first affirming or warning verdict, if the service enrols on first use; never by
   a bad one. A relying party's own appraisal (background check) is an answer to it and no more;
5. its nonce was issued after that of the verdict that stands: what is older came too late.

So forged evidence cannot revoke a good host (rule 2), nor can somebody else's tampering with its
evidence (rules 3 and 4), nor can a replay refresh it (rule 3).

A standing gives trust at a time `t`, and nothing is changed by asking:

    contraindicated                                  -> contraindicated, until another counts
    affirming or warning, at <= t < good_until       -> that verdict
    affirming or warning, otherwise                  -> expired
    none                                             -> unknown

`good_until` is the time of the appraisal plus its maximum age, or earlier, where a certificate or
collateral that it rests on ends. So trust decays by age alone while the verifier cannot appraise.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.states import State


class TrustState(enum.StrEnum):
    """What a host's trust is at a time."""

    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class Effect(enum.StrEnum):
    """What a verdict did to trust, and if nothing, by which rule."""

    COUNTED = "counted"
    ENROLLED = "enrolled"
    VERIFIER_FAILED = "verifier-failed"
    NOT_AUTHENTIC = "not-authentic"
    NO_NONCE = "no-nonce"
    FOREIGN_NONCE = "foreign-nonce"
    NONCE_USED = "nonce-used"
    NONCE_EXPIRED = "nonce-expired"
    NOT_ANSWERED = "nonce-not-answered"
    NOT_ATTESTER = "principal-is-no-attester"
    FOREIGN_HOST = "host-of-another-principal"
    NOT_ENROLLED = "host-not-enrolled"
    SUPERSEDED = "superseded"

    @property
    def changes_trust(self) -> bool:
        """Whether the host's standing is now this verdict."""
        return self in (Effect.COUNTED, Effect.ENROLLED)

    @property
    def sentence(self) -> str:
        """The effect for people."""
        return _SENTENCES[self]


_SENTENCES = {
    Effect.COUNTED: "the host's trust is now this verdict's",
    Effect.ENROLLED: "the host is enrolled to this principal; its trust is now this verdict's",
    Effect.VERIFIER_FAILED: "the verifier failed; trust is as it was and decays by age",
    Effect.NOT_AUTHENTIC: "no host was proven; nobody's trust changed",
    Effect.NO_NONCE: "no nonce was named: the evidence may be old; nobody's trust changed",
    Effect.FOREIGN_NONCE: "the nonce was issued to another principal; nobody's trust changed",
    Effect.NONCE_USED: "the nonce had been used; nobody's trust changed",
    Effect.NONCE_EXPIRED: "the nonce had expired; nobody's trust changed",
    Effect.NOT_ANSWERED: "the evidence does not answer the nonce; nobody's trust changed",
    Effect.NOT_ATTESTER: "the principal is no attester (background check); trust is as it was",
    Effect.FOREIGN_HOST: "another principal speaks for this host; nobody's trust changed",
    Effect.NOT_ENROLLED: "the host is not enrolled, and this verdict does not enrol it",
    Effect.SUPERSEDED: "a verdict with a newer nonce stands; trust is as it was",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """A nonce as it was issued. `number` grows with every challenge; `value` is 32 bytes."""

    number: int
    value: bytes
    principal: str
    issued: datetime
    expires: datetime
    used: bool = False


class Outcome(NamedTuple):
    """What trust depends on in a verdict. `answered` is the nonce that the evidence carries."""

    state: State
    host: str | None
    answered: bytes | None
    at: datetime
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is kept of a host: who speaks for it, and the last verdict that counted (None: none).

    `challenge` is the number of the nonce which that verdict answered. `good_at` is the time of the
    last affirming or warning verdict, also after a contraindicated one.
    """

    host: str
    principal: str
    verdict: State | None = None
    at: datetime | None = None
    challenge: int = 0
    good_at: datetime | None = None
    good_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRules:
    """The service's settings: how long a good appraisal lasts, and whether first use enrols."""

    maximum_age: timedelta
    enrol_on_first_use: bool = True


def account(
    outcome: Outcome,
    *,
    principal: Principal,
    challenge: Challenge | None,
    standing: Standing | None,
    rules: TrustRules,
) -> tuple[Effect, Standing | None]:
    """Apply the rules in their order; returns the effect and the host's standing afterwards."""
    if outcome.state is State.COULD_NOT_APPRAISE:
        return Effect.VERIFIER_FAILED, standing
    if outcome.host is None:
        return Effect.NOT_AUTHENTIC, standing
    refusal = _refuse_challenge(outcome, principal.name, challenge)
    if refusal is not None or challenge is None:
        return refusal or Effect.NO_NONCE, standing
    if not principal.may(Role.ATTESTER):
        return Effect.NOT_ATTESTER, standing
    good = outcome.state in (State.AFFIRMING, State.WARNING)
    if standing is None:
        if not (good and rules.enrol_on_first_use):
            return Effect.NOT_ENROLLED, None
        effect, standing = Effect.ENROLLED, Standing(host=outcome.host, principal=principal.name)
    elif standing.principal != principal.name:
        return Effect.FOREIGN_HOST, standing
    elif challenge.number <= standing.challenge:
        return Effect.SUPERSEDED, standing
    else:
        effect = Effect.COUNTED
    return effect, Standing(
        host=standing.host,
        principal=standing.principal,
        verdict=outcome.state,
        at=outcome.at,
        challenge=challenge.number,
        good_at=outcome.at if good else standing.good_at,
        good_until=_end(outcome, rules) if good else standing.good_until,
    )


def _refuse_challenge(
    outcome: Outcome, principal: str, challenge: Challenge | None
) -> Effect | None:
    """Rule 3."""
    if challenge is None:
        return Effect.NO_NONCE
    if challenge.principal != principal:
        return Effect.FOREIGN_NONCE
    if challenge.used:
        return Effect.NONCE_USED
    if not challenge.issued <= outcome.at < challenge.expires:
        return Effect.NONCE_EXPIRED
    if outcome.answered != challenge.value:
        return Effect.NOT_ANSWERED
    return None


def _end(outcome: Outcome, rules: TrustRules) -> datetime:
    end = outcome.at + rules.maximum_age
    return end if outcome.valid_until is None else min(end, outcome.valid_until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """A host's trust at the time `asked`. `until` is when it ends by age, where it does."""

    state: TrustState
    asked: datetime
    since: datetime | None = None
    until: datetime | None = None


def trust_at(standing: Standing | None, at: datetime) -> Trust:
    """Compute trust; the same standing gives the same answer for the same time."""
    if standing is None or standing.verdict is None or standing.at is None:
        return Trust(state=TrustState.UNKNOWN, asked=at)
    if standing.verdict is State.CONTRAINDICATED:
        return Trust(state=TrustState.CONTRAINDICATED, asked=at, since=standing.at)
    alive = standing.good_until is not None and standing.at <= at < standing.good_until
    return Trust(
        state=TrustState(standing.verdict.value) if alive else TrustState.EXPIRED,
        asked=at,
        since=standing.at,
        until=standing.good_until,
    )
