"""A verdict and its result as JSON text: a frame that hosts of a kind share, and what fills it.

    text = Serialiser().claims(verdict, lifetime=timedelta(minutes=5))
    text.whole  # what `result.sign` signs
    text.document  # the verdict in it

The text is byte for byte what `json.dumps` makes of the same values, without spaces: of the claims
of a result, or of `document.document`. Tests hold it to that. What a host has for itself (nonce,
names, digests, times) stands apart from the frame, which has a NUL for each: JSON text has no
control characters. A frame is made once for all hosts of a kind, and a store keeps it once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import casemate
from casemate.attestation.appraisal import document as documents
from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.verdict import ComponentVerdict, Verdict
from casemate.attestation.checks import Check
from casemate.attestation.evidence.family import Fact
from casemate.attestation.states import State
from casemate.formats import base64url, ear

_VERIFIER_ID = json.dumps(
    {"developer": result.DEVELOPER, "build": casemate.__version__}, separators=(",", ":")
)
_TIERS = {state: ear.Tier(state.tier) for state in State}
_TIER_NAMES = {state: tier.name.lower() for state, tier in _TIERS.items()}
#: Components whose text is kept.
CAPACITY = 4_096
#: Facts of components that are kept, some 3 KiB each, and frames, some 16 KiB each.
FACTS_CAPACITY, FRAMES_CAPACITY = 1_024, 256
#: Facts of so many characters are names of one host.
_LONG = 24
#: Where a host's own value stands in a frame.
_GAP = "\0"

_K = TypeVar("_K")
_V = TypeVar("_V")
_S = TypeVar("_S", str, bytes)
_quoted = json.encoder.encode_basestring_ascii


@dataclass(frozen=True, slots=True)
class Text:
    """JSON text. `whole` has the verdict's document in the range `place`.

    `shared` are the parts that hosts of a kind share, `between` what stands between them, one
    less. `frame` and `own` are each of them joined by NUL; `filled` makes the whole of them again.
    Where `shared` is the same list, components are judged the same, but for their facts.
    """

    whole: bytes
    place: slice
    shared: list[str]
    between: list[str]

    @property
    def document(self) -> bytes:
        """The verdict's document as JSON."""
        return self.whole[self.place]

    @property
    def frame(self) -> bytes:
        """What hosts of a kind share."""
        return _GAP.join(self.shared).encode()

    @property
    def own(self) -> bytes:
        """What is a host's own."""
        return _GAP.join(self.between).encode()


def filled(frame: bytes, own: bytes) -> bytes:
    """The whole text of its frame and what stands between. Raises ValueError if they do not fit."""
    gap = _GAP.encode()
    around, between = frame.split(gap), own.split(gap)
    if len(around) != len(between) + 1:
        raise ValueError(f"a frame with {len(around) - 1} gaps, but {len(between)} values")
    return b"".join(_in_turn(around, between))


def _in_turn(around: list[_S], between: list[_S]) -> list[_S]:
    """What is around and what is between, one less, in turn."""
    parts = around + between
    parts[::2], parts[1::2] = around, between
    return parts


class ByJudgement(Generic[_V]):
    """What follows from a component's judgement, that is, from all of its verdict but the facts.

    Components of hosts of a kind have the very same parts, so those are compared by identity.
    """

    def __init__(self, make: Callable[[ComponentVerdict], _V], capacity: int = CAPACITY) -> None:
        self._make = make
        self._capacity = capacity
        # The verdict is held, so that nothing else has the identity of its parts.
        self._kept: dict[int, tuple[ComponentVerdict, _V]] = {}

    def of(self, verdict: ComponentVerdict) -> _V:
        """What `make` returned for this judgement."""
        kept = self._kept.get(id(verdict.vector))
        if kept is not None and (kept[0] is verdict or _is_same(kept[0], verdict)):
            return kept[1]
        value = self._make(verdict)
        if len(self._kept) >= self._capacity:
            self._kept.clear()
        self._kept[id(verdict.vector)] = verdict, value
        return value


def _is_same(one: ComponentVerdict, other: ComponentVerdict) -> bool:
    return (
        one.vector is other.vector
        and one.claims is other.claims
        and one.clauses is other.clauses
        and one.checks is other.checks
        and one.state is other.state
        and one.family is other.family
        and one.name == other.name
    )


@dataclass(frozen=True, slots=True)
class _Component:
    """What is kept of a component's judgement: its text up to the facts."""

    verdict: ComponentVerdict
    head: str

    @classmethod
    def of(cls, verdict: ComponentVerdict) -> _Component:
        values = documents.component(verdict)
        del values["facts"]
        return cls(verdict, f'{_plain(values)[:-1]},"facts":')


@dataclass(frozen=True, slots=True)
class _Facts:
    """A component's facts as text: their frame, and what fills it. `names` are a host's own."""

    facts: Mapping[str, Fact]
    frame: str
    own: list[str]
    names: list[str]

    @classmethod
    def of(cls, facts: Mapping[str, Fact]) -> _Facts:
        shown, own, names = [], [], []
        for name, value in facts.items():
            if isinstance(value, str):
                text = _quoted(value)
                if len(value) >= _LONG:
                    names.append(value)
                    own.append(text)
                    text = _GAP
            elif isinstance(value, bytes):
                own.append(value.hex())
                text = f'"{_GAP}"'
            elif isinstance(value, bool):
                text = "true" if value else "false"
            else:
                text = str(value)
            shown.append(f"{_quoted(name)}:{text}")
        # Hosts of a kind have the very same frame.
        return cls(facts, sys.intern(f"{{{','.join(shown)}}}"), own, names)


class _Check(NamedTuple):
    """A check of a frame, and which of its values are a host's own."""

    check: Check
    expected: bool
    found: bool

    @classmethod
    def of(cls, check: Check, names: Collection[str]) -> _Check:
        return cls(check, check.expected in names, check.found in names)

    @property
    def frame(self) -> str:
        """The check's text."""
        name, passed, sentence, expected, found = self.check
        return (
            f'{{"name":{_quoted(name)},"passed":{"true" if passed else "false"},'
            f'"sentence":{_quoted(sentence)},"expected":{_shown(expected, self.expected)},'
            f'"found":{_shown(found, self.found)}}}'
        )

    def fill(self, other: Check, own: list[str]) -> bool:
        """Add what another check has in the gaps; False if the frame is not its own."""
        name, passed, sentence, expected, found = other
        check, own_expected, own_found = self
        if name != check.name or passed is not check.passed or sentence != check.sentence:
            return False
        if own_expected and expected is not None:
            own.append(_quoted(expected))
        elif expected != check.expected:
            return False
        if own_found and found is not None:
            own.append(_quoted(found))
        elif found != check.found:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame: its text as cut by the gaps, and the checks that it is for.

    The document begins after `before` characters and the values between them, and ends `after`
    characters before the end. `held` is what must live for the frame's key to stay its own. Of
    the checks, those without a host's own value stand by themselves.
    """

    shared: list[str]
    before: int
    after: int
    checks: list[Check | _Check]
    held: object

    def own_of(self, checks: Sequence[Check]) -> list[str] | None:
        """What these checks have in the gaps; None if the frame is not theirs."""
        if len(checks) != len(self.checks):
            return None
        own: list[str] = []
        for known, check in zip(self.checks, checks, strict=True):
            # Mostly the same object.
            if known is check:
                continue
            if not (known.fill(check, own) if isinstance(known, _Check) else known == check):
                return None
        return own


class _Claims(NamedTuple):
    """Which claims a result has around the document."""

    expires: bool
    nonce: bool
    issuer: str | None


class Serialiser:
    """Makes texts, and keeps the frames of those that it made. Bounded."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._components = ByJudgement(_Component.of, capacity)
        self._facts = _Kept[int, _Facts](min(capacity, FACTS_CAPACITY))
        self._frames = _Kept[tuple[object, ...], _Frame](min(capacity, FRAMES_CAPACITY))

    def document(self, verdict: Verdict) -> Text:
        """The verdict's document alone."""
        return self._text(verdict, None, [])

    def claims(
        self,
        verdict: Verdict,
        *,
        issued_at: datetime | None = None,
        lifetime: timedelta | None = None,
        issuer: str | None = None,
    ) -> Text:
        """The claims of the verdict's result, as `result.claims` has them. Raises EarError."""
        issued, expires = result.times_of(verdict, issued_at, lifetime)
        nonce = result.nonce_of(verdict)
        own = [str(issued)]
        if expires is not None:
            own.append(str(expires))
        if nonce is not None:
            own.append(base64url.encode(nonce))
        return self._text(verdict, _Claims(expires is not None, nonce is not None, issuer), own)

    def _text(self, verdict: Verdict, claims: _Claims | None, before: list[str]) -> Text:
        """The text whose values in front of the document are `before`."""
        components = [self._components.of(part) for part in verdict.components]
        facts = [self._facts_of(part.facts) for part in verdict.components]
        key = (
            claims,
            verdict.state,
            verdict.reasons,
            verdict.advice,
            None if verdict.host is None else verdict.host.kind,
            verdict.nonce is None,
            verdict.valid_until is None,
            id(verdict.policy),
            verdict.references,
            tuple([name for name, _ in verdict.evidence]),
            verdict.forms,
            tuple(map(id, components)),
            tuple([one.frame for one in facts]),
            verdict.clauses,
        )
        frame = self._frames.get(key)
        of_checks = None if frame is None else frame.own_of(verdict.checks)
        if frame is None or of_checks is None:
            names = _names(verdict, facts, frame)
            frame = _frame(verdict, claims, components, facts, names)
            self._frames.put(key, frame)
            of_checks = frame.own_of(verdict.checks) or []
        own = [*before, *_own(verdict)]
        for one in facts:
            own += one.own
        own += of_checks
        whole = "".join(_in_turn(frame.shared, own)).encode()
        start = frame.before + sum(map(len, before))
        return Text(whole, slice(start, len(whole) - frame.after), frame.shared, own)

    def _facts_of(self, facts: Mapping[str, Fact]) -> _Facts:
        # What is kept holds the facts, so that nothing else has their identity.
        found = self._facts.get(id(facts))
        if found is None:
            found = _Facts.of(facts)
            self._facts.put(id(facts), found)
        return found


class _Kept(Generic[_K, _V]):
    """Values by key. Bounded: a full one begins anew."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: dict[_K, _V] = {}
        self.get = self._values.get

    def put(self, key: _K, value: _V) -> None:
        """Keep a value."""
        if len(self._values) >= self._capacity:
            self._values.clear()
        self._values[key] = value


def _own(verdict: Verdict) -> list[str]:
    """What stands in the gaps of the document up to its components, in order."""
    own: list[str] = []
    if verdict.host is not None:
        own += _quoted(verdict.host.name), verdict.host.key_digest.hex()
    if verdict.nonce is not None:
        own.append(verdict.nonce.hex())
    own.append(documents.time(verdict.at))
    if verdict.valid_until is not None:
        own.append(documents.time(verdict.valid_until))
    own.append(_quoted(verdict.correlation_id))
    own += [digest.hex() for _, digest in verdict.evidence]
    return own


def _names(verdict: Verdict, facts: Sequence[_Facts], other: _Frame | None) -> set[str]:
    """What is the host's own in checks: its nonce and names, and what another of its kind lacks."""
    names = {name for one in facts for name in one.names}
    if verdict.nonce is not None:
        names.add(verdict.nonce.hex())
    for known, check in zip(() if other is None else other.checks, verdict.checks, strict=False):
        like = known.check if isinstance(known, _Check) else known
        if like.name == check.name:
            shown = like.expected, like.found
            for value in (check.expected, check.found):
                if value is not None and value not in shown:
                    names.add(value)
    return names


def _frame(
    verdict: Verdict,
    claims: _Claims | None,
    components: Sequence[_Component],
    facts: Sequence[_Facts],
    names: Collection[str],
) -> _Frame:
    """The frame of a verdict's text: the gaps are those of `_own`, of the facts, of the checks."""
    checks = [_Check.of(check, names) for check in verdict.checks]
    before, after = _around(verdict, claims, components)
    document = _document(verdict, components, facts, checks)
    return _Frame(
        shared=f"{before}{document}{after}".split(_GAP),
        before=len(before) - before.count(_GAP),
        after=len(after),
        checks=[one if one.expected or one.found else one.check for one in checks],
        held=(verdict.policy, components),
    )


def _around(
    verdict: Verdict, claims: _Claims | None, components: Sequence[_Component]
) -> tuple[str, str]:
    """What a result has before and after the document. Raises EarError."""
    if claims is None:
        return "", ""
    texts: dict[str, str] = {}
    statuses = []
    for one in components:
        submodule = result.submodule(one.verdict, verdict.policy)
        ear.check_submodule(one.verdict.name, submodule)
        name = result.submodule_name(one.verdict.name, texts)
        texts[name] = f"{_quoted(name)}:{_plain(ear.submodule_to_json(submodule))}"
        statuses.append(submodule.status)
    ear.check_whole(_TIERS[verdict.state], result.nonce_of(verdict), statuses)
    expires = f',"exp":{_GAP}' if claims.expires else ""
    nonce = f',"eat_nonce":"{_GAP}"' if claims.nonce else ""
    issuer = "" if claims.issuer is None else f',"iss":{_quoted(claims.issuer)}'
    return (
        f'{{"eat_profile":"{ear.PROFILE}","ear_status":"{_TIER_NAMES[verdict.state]}",'
        f'"iat":{_GAP}{expires},"ear_verifier_id":{_VERIFIER_ID},'
        f'"submods":{{{",".join(texts.values())}}}{nonce},"{result.VERDICT}":',
        f',"{result.STATE}":"{verdict.state}"{issuer}}}',
    )


def _document(
    verdict: Verdict,
    components: Sequence[_Component],
    facts: Sequence[_Facts],
    checks: Sequence[_Check],
) -> str:
    """The frame of the document."""
    host, policy = verdict.host, verdict.policy
    named = "null"
    if host is not None:
        named = f'{{"name":{_GAP},"kind":{_quoted(host.kind)},"key_digest":"{_GAP}"}}'
    nonce = "null" if verdict.nonce is None else f'"{_GAP}"'
    until = "null" if verdict.valid_until is None else f'"{_GAP}"'
    evidence = [f'{{"name":{_quoted(name)},"digest":"{_GAP}"}}' for name, _ in verdict.evidence]
    parts = [f"{one.head}{its.frame}}}" for one, its in zip(components, facts, strict=True)]
    return (
        f'{{"version":{documents.VERSION},"state":"{verdict.state}",'
        f'"reasons":{_texts(verdict.reasons)},"advice":{_texts(verdict.advice)},'
        f'"host":{named},"nonce":{nonce},"at":"{_GAP}","valid_until":{until},'
        f'"correlation_id":{_GAP},'
        f'"policy":{{"name":{_quoted(policy.name)},"version":{_quoted(policy.version)},'
        f'"digest":"{policy.digest.hex()}"}},"references":"{verdict.references.hex()}",'
        f'"evidence":[{",".join(evidence)}],"forms":{_texts(verdict.forms)},'
        f'"components":[{",".join(parts)}],'
        f'"clauses":{_plain([documents.clause(clause) for clause in verdict.clauses])},'
        f'"checks":[{",".join([one.frame for one in checks])}]}}'
    )


def _plain(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _texts(values: Sequence[str]) -> str:
    return f"[{','.join(map(_quoted, values))}]"


def _shown(value: str | None, is_own: bool) -> str:
    if value is None:
        return "null"
    return _GAP if is_own else _quoted(value)
