"""A verdict and its result as JSON text, put together from parts that hosts of a kind share.

    text = Serialiser().claims(verdict, lifetime=timedelta(minutes=5))
    text.whole  # what `result.sign` signs
    text.document  # the verdict in it

The text is byte for byte what `json.dumps` makes of the same values, without spaces: of the claims
of a result, or of `document.document`. Tests hold it to that. What a host has for itself (nonce,
names, digests, times) is kept apart on the way, so that what is left, the frame, is one text for
all hosts of a kind: a store keeps it once.

Text comes in pieces, in turn shared and a host's own: a shared one (maybe empty) first and last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import casemate
from casemate.attestation.appraisal import document as documents
from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.verdict import ComponentVerdict, PolicyId, Verdict
from casemate.attestation.checks import Check
from casemate.attestation.evidence.family import Fact
from casemate.attestation.states import State
from casemate.formats import base64url, ear

_VERIFIER_ID = json.dumps(
    {"developer": result.DEVELOPER, "build": casemate.__version__}, separators=(",", ":")
)
_TIERS = {state: ear.Tier(state.tier) for state in State}
_TIER_NAMES = {state: tier.name.lower() for state, tier in _TIERS.items()}
#: Texts of components and of checks that are kept.
CAPACITY = 4_096
#: Texts of facts that are kept, some 3 KiB each: those of a host that comes again, too.
FACTS_CAPACITY = 1_024
#: Facts of so many characters are names of one host.
_LONG = 24
#: Around what is a host's own, before it is cut into pieces: JSON text has no control characters.
_MARK = "\0"

_K = TypeVar("_K")
_V = TypeVar("_V")
_quoted = json.encoder.encode_basestring_ascii
_COMMA, _END = (",",), ("]}",)


@dataclass(frozen=True, slots=True)
class Text:
    """JSON text. `whole` has the verdict's document in the range `place`.

    `shared` are the parts that hosts of a kind share, `between` what stands between them, one
    less. `frame` and `own` are each of them joined by NUL; `filled` makes the whole of them again.
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
        return _MARK.join(self.shared).encode()

    @property
    def own(self) -> bytes:
        """What is a host's own."""
        return _MARK.join(self.between).encode()


def filled(frame: bytes, own: bytes) -> bytes:
    """The whole text of its frame and what stands between. Raises ValueError if they do not fit."""
    mark = _MARK.encode()
    around, between = frame.split(mark), own.split(mark)
    if len(around) != len(between) + 1:
        raise ValueError(f"a frame with {len(around) - 1} gaps, but {len(between)} values")
    parts = [b""] * (2 * len(around) - 1)
    parts[::2], parts[1::2] = around, between
    return b"".join(parts)


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
        if kept is not None and _is_same(kept[0], verdict):
            return kept[1]
        value = self._make(verdict)
        if len(self._kept) >= self._capacity:
            self._kept.clear()
        self._kept[id(verdict.vector)] = verdict, value
        return value


def _is_same(one: ComponentVerdict, other: ComponentVerdict) -> bool:
    return one is other or (
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
    head: tuple[str]

    @classmethod
    def of(cls, verdict: ComponentVerdict) -> _Component:
        values = documents.component(verdict)
        del values["facts"]
        return cls(verdict, (f'{_plain(values)[:-1]},"facts":',))


@dataclass(frozen=True, slots=True)
class _Facts:
    """What is kept of a component's facts: the rest of its text, and what is a host's own."""

    facts: Mapping[str, Fact]
    pieces: list[str]
    own: list[str]

    @classmethod
    def of(cls, facts: Mapping[str, Fact]) -> _Facts:
        own = [value for value in facts.values() if isinstance(value, str) and len(value) >= _LONG]
        text = ",".join([f"{_quoted(name)}:{_fact(value)}" for name, value in facts.items()])
        return cls(facts, _cut(f"{{{text}}}}}"), own)


@dataclass(frozen=True, slots=True)
class _Submodules:
    """What is kept of components as the submodules of a result: their text and their statuses."""

    components: list[_Component]
    policy: PolicyId
    text: str
    statuses: list[ear.Tier]

    @classmethod
    def of(cls, components: list[_Component], policy: PolicyId) -> _Submodules:
        texts: dict[str, str] = {}
        statuses = []
        for one in components:
            submodule = result.submodule(one.verdict, policy)
            ear.check_submodule(one.verdict.name, submodule)
            name = result.submodule_name(one.verdict.name, texts)
            texts[name] = f"{_quoted(name)}:{_plain(ear.submodule_to_json(submodule))}"
            statuses.append(submodule.status)
        return cls(components, policy, ",".join(texts.values()), statuses)


class Serialiser:
    """Makes texts, and keeps those of components (by identity) and of checks. Bounded."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._components = ByJudgement(_Component.of, capacity)
        self._facts: dict[int, _Facts] = {}
        self._submodules: dict[tuple[int, ...], _Submodules] = {}
        self._checks: dict[Check, str] = {}

    def document(self, verdict: Verdict) -> Text:
        """The verdict's document alone."""
        components = [self._components.of(part) for part in verdict.components]
        return _text([], self._document(verdict, components), "")

    def claims(
        self,
        verdict: Verdict,
        *,
        issued_at: datetime | None = None,
        lifetime: timedelta | None = None,
        issuer: str | None = None,
    ) -> Text:
        """The claims of the verdict's result, as `result.claims` has them. Raises EarError."""
        components = [self._components.of(part) for part in verdict.components]
        submodules = self._submodules_of(components, verdict.policy)
        status, nonce = _TIERS[verdict.state], result.nonce_of(verdict)
        ear.check_whole(status, nonce, submodules.statuses)
        issued, expires = result.times_of(verdict, issued_at, lifetime)
        until = "" if expires is None else f',"exp":{_MARK}{expires}{_MARK}'
        answered = ""
        if nonce is not None:
            answered = f',"eat_nonce":"{_MARK}{base64url.encode(nonce)}{_MARK}"'
        before = [
            _cut(
                f'{{"eat_profile":"{ear.PROFILE}","ear_status":"{_TIER_NAMES[verdict.state]}",'
                f'"iat":{_MARK}{issued}{_MARK}{until},"ear_verifier_id":{_VERIFIER_ID},"submods":{{'
            ),
            (submodules.text,),
            _cut(f'}}{answered},"{result.VERDICT}":'),
        ]
        after = f',"{result.STATE}":"{verdict.state}"'
        if issuer is not None:
            after += f',"iss":{_quoted(issuer)}'
        return _text(before, self._document(verdict, components), after + "}")

    def _document(self, verdict: Verdict, components: Sequence[_Component]) -> list[Sequence[str]]:
        host, policy = verdict.host, verdict.policy
        named = "null"
        if host is not None:
            named = (
                f'{{"name":{_MARK}{_quoted(host.name)}{_MARK},"kind":{_quoted(host.kind)},'
                f'"key_digest":"{_MARK}{host.key_digest.hex()}{_MARK}"}}'
            )
        evidence = [
            f'{{"name":{_quoted(name)},"digest":"{_MARK}{digest.hex()}{_MARK}"}}'
            for name, digest in verdict.evidence
        ]
        clauses = "[]"
        if verdict.clauses:
            clauses = _plain([documents.clause(clause) for clause in verdict.clauses])
        parts: list[Sequence[str]] = [
            _cut(
                f'{{"version":{documents.VERSION},"state":"{verdict.state}",'
                f'"reasons":{_texts(verdict.reasons)},"advice":{_texts(verdict.advice)},'
                f'"host":{named},"nonce":{_hexadecimal(verdict.nonce)},"at":{_time(verdict.at)},'
                f'"valid_until":{_time(verdict.valid_until)},'
                f'"correlation_id":{_MARK}{_quoted(verdict.correlation_id)}{_MARK},'
                f'"policy":{{"name":{_quoted(policy.name)},"version":{_quoted(policy.version)},'
                f'"digest":"{policy.digest.hex()}"}},"references":"{verdict.references.hex()}",'
                f'"evidence":[{",".join(evidence)}],"forms":{_texts(verdict.forms)},'
                '"components":['
            )
        ]
        # What checks may repeat of what is the host's own.
        own = set() if verdict.nonce is None else {verdict.nonce.hex()}
        for component, part in zip(components, verdict.components, strict=True):
            facts = self._facts_of(part.facts)
            own.update(facts.own)
            if len(parts) > 1:
                parts.append(_COMMA)
            parts += component.head, facts.pieces
        parts.append((f'],"clauses":{clauses},"checks":[',))
        parts += self._checks_of(verdict.checks, own)
        parts.append(_END)
        return parts

    def _facts_of(self, facts: Mapping[str, Fact]) -> _Facts:
        kept = self._facts.get(id(facts))
        if kept is not None and kept.facts is facts:
            return kept
        made = _Facts.of(facts)
        _keep(self._facts, id(facts), made, min(self._capacity, FACTS_CAPACITY))
        return made

    def _submodules_of(self, components: list[_Component], policy: PolicyId) -> _Submodules:
        # What is kept holds the components, so that nothing else has their identity.
        key = tuple(map(id, components))
        kept = self._submodules.get(key)
        if kept is not None and kept.policy is policy:
            return kept
        made = _Submodules.of(components, policy)
        _keep(self._submodules, key, made, self._capacity)
        return made

    def _checks_of(self, checks: Sequence[Check], own: Collection[str]) -> list[Sequence[str]]:
        """The texts of checks, with commas between: known ones in one piece as far as they go."""
        texts = [self._checks.get(check, "") for check in checks]
        parts: list[Sequence[str]] = []
        done = 0
        for place, text in enumerate(texts):
            if not text:
                made = self._check(checks[place], own)
                comma = "," if place + 1 < len(texts) else ""
                parts += (",".join([*texts[done:place], ""]),), _cut(f"{made}{comma}")
                done = place + 1
        parts.append((",".join(texts[done:]),))
        return parts

    def _check(self, check: Check, own: Collection[str]) -> str:
        text = (
            f'{{"name":{_quoted(check.name)},"passed":{"true" if check.passed else "false"},'
            f'"sentence":{_quoted(check.sentence)},"expected":{_shown(check.expected, own)},'
            f'"found":{_shown(check.found, own)}}}'
        )
        if _MARK not in text:
            _keep(self._checks, check, text, self._capacity)
        return text


def _keep(kept: dict[_K, _V], key: _K, value: _V, capacity: int) -> None:
    if len(kept) >= capacity:
        kept.clear()
    kept[key] = value


def _cut(marked: str) -> list[str]:
    """The pieces of text in which marks stand around what is a host's own."""
    return marked.split(_MARK)


def _joined(parts: Iterable[Sequence[str]]) -> list[str]:
    """The pieces of texts one behind the other."""
    found: list[str] = []
    shared: list[str] = []
    for part in parts:
        shared.append(part[0])
        if len(part) > 1:
            found.append("".join(shared))
            found += part[1:-1]
            shared = [part[-1]]
    found.append("".join(shared))
    return found


def _text(before: list[Sequence[str]], document: list[Sequence[str]], after: str) -> Text:
    start = sum([len(piece) for part in before for piece in part])
    pieces = _joined((*before, *document, (after,)))
    whole = "".join(pieces).encode()
    return Text(whole, slice(start, len(whole) - len(after)), pieces[::2], pieces[1::2])


def _plain(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _texts(values: Sequence[str]) -> str:
    return f"[{','.join(map(_quoted, values))}]"


def _shown(value: str | None, own: Collection[str]) -> str:
    if value is None:
        return "null"
    return f"{_MARK}{_quoted(value)}{_MARK}" if value in own else _quoted(value)


def _fact(value: Fact) -> str:
    if isinstance(value, str):
        quoted = _quoted(value)
        return f"{_MARK}{quoted}{_MARK}" if len(value) >= _LONG else quoted
    if isinstance(value, bytes):
        return _hexadecimal(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _hexadecimal(value: bytes | None) -> str:
    return "null" if value is None else f'"{_MARK}{value.hex()}{_MARK}"'


def _time(value: datetime | None) -> str:
    return "null" if value is None else f'"{_MARK}{documents.time(value)}{_MARK}"'
