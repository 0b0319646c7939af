"""The judgement of verified components: their claims, the policy's clauses, the trust vector.

Two rules stand above every policy: a component that was compared and of which nothing met a
reference value is at best a warning, and so is one with a claim that differs; and where nothing at
all met a reference value, the whole is at best a warning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from casemate.attestation.appraisal.conditions import ConditionError, Values
from casemate.attestation.appraisal.policy import Clause, Policy
from casemate.attestation.appraisal.verdict import (
    ClaimVerdict,
    ClauseVerdict,
    Comparison,
    ComponentVerdict,
)
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.evidence.family import Component, Fact, FamilyName, Verified
from casemate.attestation.reference.matching import Matched
from casemate.attestation.states import State, worst
from casemate.attestation.trust_vector import TrustClaim

#: What a claim says where nothing was there to compare with (AR4SI, section 2.3): unrecognised
#: runtime, configuration elements unavailable, unrecognised file system. Others say nothing.
_NO_REFERENCE = {
    TrustClaim.EXECUTABLES: 33,
    TrustClaim.CONFIGURATION: 36,
    TrustClaim.FILE_SYSTEM: 32,
}
#: Approved, and trustworthy-instance; contraindicated: one number for each claim in AR4SI.
_MET, _TRUSTWORTHY_INSTANCE, _DIFFERS = 2, 2, 96
#: Labels of claims that one sentence names.
_NAMED = 4
_FACT = re.compile(r"\{([a-z0-9_]+)\}")

Reason = tuple[State, str]


class Judged(NamedTuple):
    """What came of it: `floor` is the best state that the whole can have."""

    components: tuple[ComponentVerdict, ...]
    clauses: tuple[ClauseVerdict, ...]
    reasons: tuple[Reason, ...]
    floor: State


def judge(
    verified: Sequence[Verified],
    matched: Matched,
    policy: Policy,
    *,
    at: datetime,
    fresh: bool,
    known: VerifiedCertificates | None = None,
) -> Judged:
    """Judge every component; `fresh`: the evidence holds together and answers a nonce.

    `known` recalls the judgements of equal components, where the policy reads nothing else.
    """
    if not verified:
        return Judged((), (), (), State.AFFIRMING)
    shared = _Shared(verified, at=at, fresh=fresh)
    judging = _Judging(matched, policy, shared, known)
    judgements = [judging.of(part, each.family) for each in verified for part in each.components]
    components = [judgement.verdict for judgement in judgements]
    reasons = [reason for judgement in judgements for reason in judgement.reasons]
    reasons += [(State.WARNING, note) for note in matched.notes]
    clauses, why = _whole(policy, shared, components)
    met = sum([judgement.met for judgement in judgements])
    if not met:
        why.append((State.WARNING, "authentic, but nothing of it met a reference value"))
    else:
        why.append((State.AFFIRMING, f"authentic, and all {met} claims met their reference values"))
    return Judged(
        tuple(components),
        clauses,
        (*reasons, *why),
        worst([State.AFFIRMING if met else State.WARNING, *(clause.state for clause in clauses)]),
    )


class _Shared:
    """What conditions read of the whole, made where one is asked."""

    def __init__(self, verified: Sequence[Verified], *, at: datetime, fresh: bool) -> None:
        self._verified = verified
        self._at = at
        self._fresh = fresh

    def values(self) -> dict[str, Any]:
        verified, host = self._verified, self._verified[0].host
        return {
            "host": {"kind": host.kind, "name": host.name, "key_digest": host.key_digest.hex()},
            "fresh": self._fresh,
            "forms": [form for each in verified for form in each.forms],
            "components": [part.name for each in verified for part in each.components],
            "families": [str(each.family) for each in verified],
            "at": self._at,
        }


class Asked:
    """A component, and what it is judged by."""

    def __init__(
        self,
        part: Component,
        family: FamilyName,
        claims: tuple[ClaimVerdict, ...],
        facts: Mapping[str, Fact],
    ) -> None:
        self.part = part
        self.name = part.name
        self.family = family
        self.claims = claims
        self.facts = facts


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What came of one component: its verdict, the reasons, and how many claims were met.

    `part` is the component that it was made of.
    """

    part: Component
    verdict: ComponentVerdict
    reasons: tuple[Reason, ...]
    met: int

    def for_(self, part: Component) -> _Judgement:
        """The same of another component, equal in all that was asked about."""
        kept = self.verdict
        verdict = ComponentVerdict(
            name=kept.name,
            family=kept.family,
            state=kept.state,
            claims=kept.claims,
            clauses=kept.clauses,
            checks=part.checks,
            facts=part.facts,
            vector=kept.vector,
        )
        return _Judgement(part, verdict, self.reasons, self.met)


class _Judging:
    """One judgement of all components, recalling what came of equal ones where it can.

    Hosts of a kind share most components, and a host that comes again has all of its own: they
    come with their last judgement. Those of another host are known by what the policy reads of
    them. Endorsed facts are looked at anew each time.
    """

    def __init__(
        self, matched: Matched, policy: Policy, shared: _Shared, known: VerifiedCertificates | None
    ) -> None:
        self.matched = matched
        self.policy = policy
        self.shared = shared
        self.known = known if policy.facts_read is not None else None

    def of(self, part: Component, family: FamilyName) -> _Judgement:
        """The judgement of a component."""
        claims = self.matched.claims.get(part.name, ())
        endorsed = self.matched.facts.get(part.name)
        if endorsed or self.known is None:
            facts = {**(endorsed or {}), **part.facts}
            return _component(Asked(part, family, claims, facts), self.policy, self.shared)
        known = self.known
        found: _Judgement = part.judged.of(
            (self.policy.id.digest, family, claims),
            lambda: self._by_facts(Asked(part, family, claims, part.facts), known),
        )
        return found

    def _by_facts(self, asked: Asked, known: VerifiedCertificates) -> _Judgement:
        part = asked.part
        # With their types, since True and 1 are equal here and not in a condition.
        facts = [
            (name, type(value), value)
            for name in self.policy.facts_read or ()
            if (value := part.facts.get(name)) is not None
        ]
        key = (
            _Judgement,
            self.policy.id.digest,
            asked.name,
            asked.family,
            id(asked.claims),
            *facts,
        )
        found: _Judgement | None = known.recall(key)
        if found is None:
            found = _component(asked, self.policy, self.shared)
            known.keep(key, found)
        elif found.part is not part:
            found = found.for_(part)
        return found


def _component(asked: Asked, policy: Policy, shared: _Shared) -> _Judgement:
    name, claims, facts = asked.name, asked.claims, asked.facts
    clauses, any_holds = policy.asked_of(name, asked.family)
    values = Values(
        {
            **shared.values(),
            "component": name,
            "family": str(asked.family),
            "facts": facts,
            "claims": [_as_values(claim) for claim in claims],
        }
    )
    hits = _hits(clauses, any_holds.holds, values, {**facts, **_labels(claims)})
    vector = _vector(claims)
    for clause, verdict in hits:
        if clause.claim is not None:
            vector[clause.claim] = max(vector.get(clause.claim, 0), verdict.state.tier)
    reasons = [
        (verdict.state, f"{name}: {verdict.sentence}")
        for clause, verdict in hits
        if not _repeats(clause, claims)
    ]
    reasons += [
        (
            worst([State.WARNING, *(v.state for c, v in hits if _repeats(c, claims))]),
            f"{name}: {_difference(claim)}",
        )
        for claim in claims
        if claim.comparison is Comparison.DIFFERS
    ]
    state = worst([_floor(claims), *(verdict.state for _, verdict in hits)])
    vector = {claim: capped for claim, value in vector.items() if (capped := _capped(value, state))}
    judged = ComponentVerdict(
        name=name,
        family=asked.family,
        state=state,
        claims=claims,
        clauses=tuple(verdict for _, verdict in hits),
        checks=asked.part.checks,
        facts=facts,
        vector=vector,
    )
    met = sum(claim.comparison is Comparison.MET for claim in claims)
    return _Judgement(asked.part, judged, tuple(reasons), met)


def _whole(
    policy: Policy, shared: _Shared, components: Sequence[ComponentVerdict]
) -> tuple[tuple[ClauseVerdict, ...], list[Reason]]:
    asked, any_holds = policy.asked_of("", None, whole=True)
    if not asked:
        return (), []
    claims = [claim for part in components for claim in part.claims]
    values = Values(
        {
            **shared.values(),
            "component": "",
            "family": "",
            "facts": {},
            "claims": [_as_values(claim) for claim in claims],
        }
    )
    hits = [verdict for _, verdict in _hits(asked, any_holds.holds, values, _labels(claims))]
    return tuple(hits), [(verdict.state, verdict.sentence) for verdict in hits]


def _hits(
    asked: Sequence[Clause], any_holds: Any, values: Values, facts: Mapping[str, Fact]
) -> list[tuple[Clause, ClauseVerdict]]:
    """The clauses that hold, or that fail: those count as contraindicated."""
    try:
        if not any_holds(values):
            return []
    except ConditionError:
        # One of them fails, and another may hold: ask each.
        pass
    hits = []
    for clause in asked:
        try:
            if clause.condition.holds(values):
                sentence = fill(clause.sentence, facts)
                hits.append(
                    (clause, ClauseVerdict(name=clause.name, state=clause.state, sentence=sentence))
                )
        except ConditionError as error:
            sentence = f"the policy's clause {clause.name} cannot be asked: {error}"
            hits.append(
                (
                    clause,
                    ClauseVerdict(name=clause.name, state=State.CONTRAINDICATED, sentence=sentence),
                )
            )
    return hits


def _labels(claims: Sequence[ClaimVerdict]) -> dict[str, Fact]:
    """What a sentence may say of the claims: {differing} and {missing}."""
    differing = [claim.label for claim in claims if claim.comparison is Comparison.DIFFERS]
    missing = [claim.label for claim in claims if claim.comparison is Comparison.NO_REFERENCE]
    return {"differing": _enumerated(differing), "missing": _enumerated(missing)}


def _enumerated(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def fill(sentence: str, facts: Mapping[str, Fact]) -> str:
    """A clause's sentence with {name} replaced by that fact; unknown names stay as they are."""

    def shown(name: re.Match[str]) -> str:
        value = facts.get(name[1], name[0])
        return value.hex() if isinstance(value, bytes) else str(value)

    return _FACT.sub(shown, sentence)


def _as_values(claim: ClaimVerdict) -> dict[str, Any]:
    return {
        "label": claim.label,
        "found": claim.found,
        "comparison": claim.comparison.value,
        "claim": claim.claim.json_name,
        "reference": claim.reference or "",
        "expected": list(claim.expected),
    }


def _repeats(clause: Clause, claims: Sequence[ClaimVerdict]) -> bool:
    """Whether the clause says no more than the differing claims, which say it better."""
    return '"differs"' in clause.condition.text and any(
        claim.comparison is Comparison.DIFFERS for claim in claims
    )


def _difference(claim: ClaimVerdict) -> str:
    expected = " or ".join(claim.expected) or "another value"
    return f"{claim.label} differs: expected {expected}, found {claim.found}"


def _capped(value: int, state: State) -> int:
    """A claim no worse than its component: where the policy takes what differs, so does it."""
    if value < 32 or state is State.CONTRAINDICATED:
        return value
    return min(value, State.WARNING.tier + 31) if state is State.WARNING else 0


def _floor(claims: Sequence[ClaimVerdict]) -> State:
    comparisons = {claim.comparison for claim in claims}
    if Comparison.DIFFERS in comparisons or (claims and Comparison.MET not in comparisons):
        return State.WARNING
    return State.AFFIRMING


def _vector(claims: Sequence[ClaimVerdict]) -> dict[TrustClaim, int]:
    vector = {TrustClaim.INSTANCE_IDENTITY: _TRUSTWORTHY_INSTANCE}
    for claim in claims:
        if claim.comparison is Comparison.MET:
            value = _MET
        elif claim.comparison is Comparison.DIFFERS:
            value = _DIFFERS
        else:
            value = _NO_REFERENCE.get(claim.claim, 0)
        if value:
            vector[claim.claim] = max(vector.get(claim.claim, 0), value)
    return vector
