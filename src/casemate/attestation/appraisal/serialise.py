"""A verdict and its result as JSON text, put together from parts that hosts of a kind share.

    text = Serialiser().claims(verdict, lifetime=timedelta(minutes=5))
    text.whole  # what `result.sign` signs
    text.document  # the verdict in it

The text is byte for byte what `json.dumps` makes of the same values, without spaces: of the claims
of a result, or of `document.document`. Tests hold it to that. What a host has for itself (nonce,
names, digests, times) is marked on the way, so that what is left, the frame, is one text for all
hosts of a kind: a store keeps it once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
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
#: Facts of so many characters are names of one host.
_LONG = 24
#: Around what is a host's own: JSON text has no control characters.
_MARK = "\0"

_K = TypeVar("_K")
_V = TypeVar("_V")
_quoted = json.encoder.encode_basestring_ascii


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
    """What is kept of a component's judgement: its text up to the facts, and that of its own."""

    verdict: ComponentVerdict
    head: str
    whole: str

    @classmethod
    def of(cls, verdict: ComponentVerdict) -> _Component:
        values = documents.component(verdict)
        del values["facts"]
        head = f'{_plain(values)[:-1]},"facts":'
        return cls(verdict, head, f"{head}{_facts(verdict)}}}")

    def text(self, verdict: ComponentVerdict) -> str:
        """The text of a component with this judgement."""
        return self.whole if verdict is self.verdict else f"{self.head}{_facts(verdict)}}}"


@dataclass(frozen=True, slots=True)
class _Submodule:
    """What is kept of a component as a submodule of a result: its text and its status."""

    component: _Component
    policy: PolicyId
    text: str
    status: ear.Tier


class Serialiser:
    """Makes texts, and keeps those of components (by identity) and of checks. Bounded."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._components = ByJudgement(_Component.of, capacity)
        self._submodules: dict[int, _Submodule] = {}
        self._checks: dict[Check, str] = {}

    def document(self, verdict: Verdict) -> Text:
        """The verdict's document alone."""
        parts = [self._components.of(part) for part in verdict.components]
        return _text([], self._document(verdict, parts), "")

    def claims(
        self,
        verdict: Verdict,
        *,
        issued_at: datetime | None = None,
        lifetime: timedelta | None = None,
        issuer: str | None = None,
    ) -> Text:
        """The claims of the verdict's result, as `result.claims` has them. Raises EarError."""
        parts = [self._components.of(part) for part in verdict.components]
        submodules = [self._submodule(part, verdict.policy) for part in parts]
        status, nonce = _TIERS[verdict.state], result.nonce_of(verdict)
        ear.check_whole(status, nonce, [one.status for one in submodules])
        issued, expires = result.times_of(verdict, issued_at, lifetime)
        head = [
            f'{{"eat_profile":"{ear.PROFILE}","ear_status":"{_TIER_NAMES[verdict.state]}",'
            f'"iat":{_MARK}{issued}{_MARK}'
        ]
        if expires is not None:
            head.append(f',"exp":{_MARK}{expires}{_MARK}')
        head.append(f',"ear_verifier_id":{_VERIFIER_ID},"submods":{{')
        names: set[str] = set()
        for one in submodules:
            name = result.submodule_name(one.component.verdict.name, names)
            head.append(f"{',' if names else ''}{_quoted(name)}:{one.text}")
            names.add(name)
        head.append("}")
        if nonce is not None:
            head.append(f',"eat_nonce":"{_MARK}{base64url.encode(nonce)}{_MARK}"')
        head.append(f',"{result.VERDICT}":')
        tail = f',"{result.STATE}":"{verdict.state}"'
        if issuer is not None:
            tail += f',"iss":{_quoted(issuer)}'
        return _text(head, self._document(verdict, parts), tail + "}")

    def _document(self, verdict: Verdict, parts: Sequence[_Component]) -> list[str]:
        host, policy = verdict.host, verdict.policy
        own = _own(verdict)
        named = "null"
        if host is not None:
            named = (
                f'{{"name":{_MARK}{_quoted(host.name)}{_MARK},"kind":{_quoted(host.kind)},'
                f'"key_digest":"{_MARK}{host.key_digest.hex()}{_MARK}"}}'
            )
        components = [
            part.text(component) for component, part in zip(verdict.components, parts, strict=True)
        ]
        evidence = [
            f'{{"name":{_quoted(name)},"digest":"{_MARK}{digest.hex()}{_MARK}"}}'
            for name, digest in verdict.evidence
        ]
        clauses = "[]"
        if verdict.clauses:
            clauses = _plain([documents.clause(clause) for clause in verdict.clauses])
        known = self._checks
        checks = [known.get(check) or self._check(check, own) for check in verdict.checks]
        return [
            f'{{"version":{documents.VERSION},"state":"{verdict.state}",'
            f'"reasons":{_texts(verdict.reasons)},"advice":{_texts(verdict.advice)},'
            f'"host":{named},"nonce":{_hexadecimal(verdict.nonce)},"at":{_time(verdict.at)},'
            f'"valid_until":{_time(verdict.valid_until)},'
            f'"correlation_id":{_MARK}{_quoted(verdict.correlation_id)}{_MARK},'
            f'"policy":{{"name":{_quoted(policy.name)},"version":{_quoted(policy.version)},'
            f'"digest":"{policy.digest.hex()}"}},"references":"{verdict.references.hex()}",'
            f'"evidence":[{",".join(evidence)}],"forms":{_texts(verdict.forms)},'
            '"components":[',
            ",".join(components),
            f'],"clauses":{clauses},"checks":[',
            ",".join(checks),
            "]}",
        ]

    def _submodule(self, component: _Component, policy: PolicyId) -> _Submodule:
        kept = self._submodules.get(id(component))
        if kept is not None and kept.policy is policy:
            return kept
        submodule = result.submodule(component.verdict, policy)
        ear.check_submodule(component.verdict.name, submodule)
        text = _plain(ear.submodule_to_json(submodule))
        made = _Submodule(component, policy, text, submodule.status)
        self._keep(self._submodules, id(component), made)
        return made

    def _keep(self, kept: dict[_K, _V], key: _K, value: _V) -> None:
        if len(kept) >= self._capacity:
            kept.clear()
        kept[key] = value

    def _check(self, check: Check, own: frozenset[str]) -> str:
        text = (
            f'{{"name":{_quoted(check.name)},"passed":{"true" if check.passed else "false"},'
            f'"sentence":{_quoted(check.sentence)},"expected":{_shown(check.expected, own)},'
            f'"found":{_shown(check.found, own)}}}'
        )
        if _MARK not in text:
            self._keep(self._checks, check, text)
        return text


def _text(head: list[str], document: list[str], after: str) -> Text:
    before = "".join(head)
    parts = "".join([before, *document, after]).split(_MARK)
    whole = "".join(parts).encode()
    start = len(before) - before.count(_MARK)
    return Text(
        whole,
        slice(start, len(whole) - len(after) + after.count(_MARK)),
        parts[::2],
        parts[1::2],
    )


def _plain(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _texts(values: Sequence[str]) -> str:
    return f"[{','.join(map(_quoted, values))}]"


def _own(verdict: Verdict) -> frozenset[str]:
    """What checks may repeat of what is the host's own."""
    found = {
        value
        for component in verdict.components
        for value in component.facts.values()
        if isinstance(value, str) and len(value) >= _LONG
    }
    if verdict.nonce is not None:
        found.add(verdict.nonce.hex())
    return frozenset(found)


def _shown(value: str | None, own: frozenset[str]) -> str:
    if value is None:
        return "null"
    return f"{_MARK}{_quoted(value)}{_MARK}" if value in own else _quoted(value)


def _facts(component: ComponentVerdict) -> str:
    return f"{{{','.join([f'{_quoted(k)}:{_fact(v)}' for k, v in component.facts.items()])}}}"


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
