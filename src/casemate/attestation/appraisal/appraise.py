"""The appraisal: pieces of evidence in, a verdict out, and never an exception for what they hold.

The order: group the pieces into families' evidence, verify each, see that they are one host's
(`cohesion`), compare with reference values, apply the policy (`judge`). Whatever the evidence is at
fault for makes it contraindicated; what the verifier, its collateral or its store is at fault for
could-not-appraise. A family that fails in a way that it should not (a defect) is the evidence's
fault too, since only its bytes led there: an attacker gains nothing by finding a defect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain

from casemate.attestation.appraisal import cohesion, judge
from casemate.attestation.appraisal.policy import Policy
from casemate.attestation.appraisal.verdict import ComponentVerdict, Verdict
from casemate.attestation.checks import Check
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence import registry
from casemate.attestation.evidence.family import Context, Family, FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import Selection
from casemate.attestation.reference.matching import Matched, compare
from casemate.attestation.reference.store import ReferenceSet
from casemate.attestation.states import State, worst
from casemate.attestation.trust_vector import VERIFIER_MALFUNCTION, TrustClaim

#: AR4SI: "unrecognized-instance".
_UNRECOGNISED_INSTANCE = 97


@dataclass(slots=True)
class _Outcome:
    """What came of one appraisal so far."""

    verified: list[Verified] = field(default_factory=list)
    components: list[ComponentVerdict] = field(default_factory=list)
    reasons: list[tuple[State, str]] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def appraise(
    pieces: Sequence[Piece],
    *,
    context: Context,
    references: ReferenceSet,
    policy: Policy,
    correlation_id: str,
    families: Sequence[Family] | None = None,
) -> Verdict:
    """Appraise all pieces as one attester's evidence; `families` are all if None."""
    outcome = _Outcome()
    try:
        selections = registry.select(pieces, registry.families() if families is None else families)
        if not selections:
            raise InfrastructureError("there is no evidence to appraise")
    except EvidenceError as error:
        selections = ()
        _refused(outcome, error, None)
    except InfrastructureError as error:
        selections = ()
        _not_appraised(outcome, error, None)
    for selection in selections:
        _verify(outcome, selection, context)
    whole = _hold_together(outcome, selections, context)
    judged = judge.judge(
        outcome.verified,
        _compare(outcome.verified, references, context),
        policy,
        at=context.at,
        fresh=whole and context.nonce is not None,
        known=context.certificates,
    )
    verified = outcome.verified
    components = (*outcome.components, *judged.components)
    states = [part.state for part in components]
    states += [one for one, _ in outcome.reasons]
    state = worst([*(states or [State.COULD_NOT_APPRAISE]), judged.floor])
    return Verdict(
        state=state,
        reasons=_in_order([*outcome.reasons, *judged.reasons], state),
        components=components,
        at=context.at,
        policy=policy.id,
        correlation_id=correlation_id,
        evidence=tuple([(piece.name, piece.digest) for piece in pieces]),
        references=references.digest,
        host=verified[0].host if whole else None,
        nonce=next((each.nonce for each in verified if each.nonce), None) if whole else None,
        checks=(*outcome.checks, *chain.from_iterable([each.checks for each in verified])),
        clauses=judged.clauses,
        forms=tuple(dict.fromkeys([form for each in verified for form in each.forms])),
        advice=tuple(dict.fromkeys(outcome.advice)),
        valid_until=_earliest(verified),
    )


def without_appraisal(
    pieces: Sequence[Piece],
    error: EvidenceError | InfrastructureError,
    *,
    at: datetime,
    policy: Policy,
    references: bytes,
    correlation_id: str,
) -> Verdict:
    """The verdict where nothing was appraised: the infrastructure failed before, or the evidence is
    refused unread, such as that which kills its worker.
    """
    outcome = _Outcome()
    if isinstance(error, EvidenceError):
        _refused(outcome, error, None)
    else:
        _not_appraised(outcome, error, None)
    return Verdict(
        state=worst(state for state, _ in outcome.reasons),
        reasons=tuple(sentence for _, sentence in outcome.reasons),
        components=tuple(outcome.components),
        at=at,
        policy=policy.id,
        correlation_id=correlation_id,
        evidence=tuple((piece.name, piece.digest) for piece in pieces),
        references=references,
        checks=tuple(outcome.checks),
        advice=tuple(outcome.advice),
    )


def _verify(outcome: _Outcome, selection: Selection, context: Context) -> None:
    family = selection.family
    try:
        outcome.verified.append(family.verify(selection.pieces, context))
    except EvidenceError as error:
        _refused(outcome, error, family.name)
    except InfrastructureError as error:
        _not_appraised(outcome, error, family.name)
        absent = context.endorsements.absent
        outcome.reasons.extend((State.COULD_NOT_APPRAISE, sentence) for sentence in absent)
    except (OSError, MemoryError) as error:
        _not_appraised(
            outcome,
            InfrastructureError(f"the verifier failed: {error or 'no memory'}"),
            family.name,
        )
    except Exception as error:
        check = Check(
            "verifier-defect",
            False,
            f"the evidence makes the verifier fail ({type(error).__name__}: {error}): refused",
        )
        _refused(outcome, EvidenceError(check), family.name)


def _compare(verified: Sequence[Verified], references: ReferenceSet, context: Context) -> Matched:
    """Compare with reference values, or recall what came of the same measurements before.

    Families give hosts of one kind the very same measurements, so their identity is the key: what
    is kept holds them, so that no other ones take their place in memory.
    """
    components = [part for each in verified for part in each.components]
    keys = [key for each in verified for key in each.keys]
    if references.index.depends_on_keys or references.index.has_augmentations:
        return compare(components, references, at=context.at, keys=keys)
    measured = [part.measured for part in components]
    key = (
        compare,
        tuple([part.name for part in components]),
        tuple(map(id, measured)),
        references.digest,
        references.period(context.at),
    )
    kept: tuple[object, Matched] | None = context.certificates.recall(key)
    if kept is not None:
        return kept[1]
    matched = compare(components, references, at=context.at, keys=keys)
    context.certificates.keep(key, (measured, matched))
    return matched


def _hold_together(outcome: _Outcome, selections: Sequence[Selection], context: Context) -> bool:
    """Whether all evidence is authentic and one host's."""
    if not selections or len(outcome.verified) < len(selections):
        return False
    try:
        outcome.checks.extend(cohesion.check(outcome.verified, context.nonce))
    except EvidenceError as error:
        _refused(outcome, error, None)
        return False
    return True


def _refused(outcome: _Outcome, error: EvidenceError, family: FamilyName | None) -> None:
    outcome.checks = [error.check, *outcome.checks]
    outcome.reasons.append((State.CONTRAINDICATED, error.check.sentence))
    outcome.components.append(
        ComponentVerdict(
            name=error.component or family or "evidence",
            family=family,
            state=State.CONTRAINDICATED,
            checks=(*error.passed, error.check),
            vector={TrustClaim.INSTANCE_IDENTITY: _UNRECOGNISED_INSTANCE},
        )
    )


def _not_appraised(
    outcome: _Outcome, error: InfrastructureError, family: FamilyName | None
) -> None:
    outcome.reasons.append((State.COULD_NOT_APPRAISE, str(error)))
    if error.advice:
        outcome.advice.append(error.advice)
    outcome.components.append(
        ComponentVerdict(
            name=family or "evidence",
            family=family,
            state=State.COULD_NOT_APPRAISE,
            vector=dict.fromkeys(TrustClaim, VERIFIER_MALFUNCTION),
        )
    )


def _in_order(reasons: Sequence[tuple[State, str]], state: State) -> tuple[str, ...]:
    """The sentences, those of the worst state first; each once."""
    if len(reasons) == 1 and reasons[0][0] is state:
        return (reasons[0][1],)
    order = [State.CONTRAINDICATED, State.COULD_NOT_APPRAISE, State.WARNING, State.AFFIRMING]
    ranked = sorted(reasons, key=lambda reason: order.index(reason[0]))
    return tuple(
        dict.fromkeys(
            sentence
            for each, sentence in ranked
            if state is State.AFFIRMING or each is not State.AFFIRMING
        )
    )


def _earliest(verified: Sequence[Verified]) -> datetime | None:
    return min([v.valid_until for v in verified if v.valid_until is not None], default=None)


def digest_of(pieces: Sequence[Piece]) -> bytes:
    """SHA-256 over all pieces' digests in their order: the name of one set of evidence."""
    return hashlib.sha256(b"".join(piece.digest for piece in pieces)).digest()
