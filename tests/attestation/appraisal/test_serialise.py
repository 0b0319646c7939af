"""Texts that are put together are those that are made at once, and frames leave nothing out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.appraisal import document, result
from casemate.attestation.appraisal.serialise import Serialiser, Text, filled
from casemate.attestation.appraisal.verdict import (
    ClaimVerdict,
    ClauseVerdict,
    Comparison,
    ComponentVerdict,
    PolicyId,
    Verdict,
)
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.checks import Check
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.evidence.family import FamilyName, Host
from casemate.attestation.states import State
from casemate.attestation.trust_vector import TrustClaim
from casemate.attestation.verifier import Verifier
from casemate.formats.ear import EarError
from tests.attestation import hosts
from tests.attestation.verifiers import appraise, verifier
from tests.rot.devices import firmware

LIFETIME = timedelta(minutes=5)


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def assert_is(text: Text, verdict: Verdict, claims: dict[str, Any] | None) -> None:
    """The text is what the plain way makes, whole and put together from frame and values."""
    plain = compact(document.document(verdict))
    assert text.document == plain
    assert text.whole == (plain if claims is None else compact(claims))
    assert filled(text.frame, text.own) == text.whole


@cache
def using(state: State) -> Verifier:
    changes: dict[State, dict[str, Any]] = {
        State.WARNING: {"by": "default"},
        State.COULD_NOT_APPRAISE: {"endorsements": Endorsements()},
    }
    return verifier(certificates=VerifiedCertificates(), **changes.get(state, {}))


def verdicts() -> Iterator[Verdict]:
    """Verdicts of several hosts and states, again and again with nonces of their own."""
    code = {State.CONTRAINDICATED: firmware(rt=b"other")}
    booted = {
        (state, number): hosts.boot(number, code=code.get(state))
        for state in State
        for number in (1, 2)
    }
    for place in range(3):
        for (state, number), host in booted.items():
            nonce = bytes((place, number)) * 16
            verdict = appraise(host.token(nonce=nonce), using=using(state), nonce=nonce)
            assert verdict.state is state
            yield verdict


def test_every_text_is_that_of_the_plain_way() -> None:
    texts = Serialiser()
    frames: dict[tuple[State, int], set[bytes]] = {}
    for place, verdict in enumerate(verdicts()):
        assert_is(texts.document(verdict), verdict, None)
        issuer = "https://verifier.example" if place % 2 else None
        for lifetime in (LIFETIME, None):
            given: dict[str, Any] = {"lifetime": lifetime, "issuer": issuer}
            text = texts.claims(verdict, **given)
            assert_is(text, verdict, result.claims(verdict, **given))
        frames.setdefault((verdict.state, place % 2), set()).add(text.frame)
    # Two hosts of a kind, three nonces each: one frame.
    assert [len(found) for (state, _), found in frames.items() if state is State.AFFIRMING] == [
        1,
        1,
    ]


@pytest.mark.parametrize("capacity", [1, 2])
def test_a_small_memory_changes_no_text(capacity: int) -> None:
    texts = Serialiser(capacity)
    for verdict in verdicts():
        assert_is(texts.claims(verdict), verdict, result.claims(verdict))


def test_a_frame_holds_nothing_of_the_host_but_what_its_kind_has() -> None:
    verdict = next(verdicts())
    text = Serialiser().claims(verdict)
    assert verdict.host is not None
    assert verdict.nonce is not None
    for own in (verdict.host.name, verdict.nonce.hex(), verdict.evidence[0][1].hex()):
        assert own.encode() not in text.frame
        assert own.encode() in text.own


def test_what_differs_in_checks_of_a_kind_becomes_each_ones_own() -> None:
    verdict = next(verdicts())
    texts = Serialiser()
    frames = []
    for number in range(4):
        checks = (
            *verdict.checks,
            Check("chip", True, "as expected", f"chip {number}", f"chip {number}"),
            Check("kind", True, "as expected", "a kind", None),
        )
        changed = verdict._replace(checks=checks)
        text = texts.claims(changed)
        assert_is(text, changed, result.claims(changed))
        frames.append(text.frame)
    assert b"chip 0" in frames[0]
    assert b"chip 1" not in frames[1]
    assert frames[1] == frames[2] == frames[3]
    for other in (
        verdict.checks[:-1],
        (*verdict.checks[:-1], verdict.checks[-1]._replace(sentence="another")),
        (*verdict.checks[:-1], verdict.checks[-1]._replace(passed=False)),
        (*verdict.checks[:-1], verdict.checks[-1]._replace(expected="nothing")),
        *(
            (verdict.checks[0]._replace(**change), *verdict.checks[1:])
            for change in ({"found": None}, {"expected": "x"}, {"name": "y"})
        ),
    ):
        changed = verdict._replace(checks=other)
        assert_is(texts.claims(changed), changed, result.claims(changed))


def test_what_contradicts_itself_is_no_result() -> None:
    verdict = next(verdicts())
    texts = Serialiser()
    texts.claims(verdict)
    worse = dataclasses.replace(verdict.components[0], state=State.WARNING)
    for wrong in (
        verdict._replace(components=()),
        verdict._replace(components=(worse, *verdict.components[1:])),
        verdict._replace(
            components=(dataclasses.replace(worse, vector={TrustClaim.HARDWARE: 96}),),
            state=State.WARNING,
        ),
    ):
        with pytest.raises(EarError) as plain:
            result.claims(wrong)
        with pytest.raises(EarError) as caught:
            texts.claims(wrong)
        assert str(caught.value) == str(plain.value)


def test_a_frame_takes_only_as_many_values_as_it_has_gaps() -> None:
    assert filled(b"a\0c\0e", b"b\0d") == b"abcde"
    for own in (b"", b"b", b"b\0d\0f"):
        with pytest.raises(ValueError, match="2 gaps"):
            filled(b"a\0c\0e", own)


WORDS = st.text(max_size=30)
CLAIMS = st.builds(
    ClaimVerdict,
    label=WORDS,
    found=WORDS,
    comparison=st.sampled_from(Comparison),
    claim=st.sampled_from(TrustClaim),
    reference=st.none() | WORDS,
    expected=st.lists(WORDS, max_size=2).map(tuple),
)
CLAUSES = st.builds(ClauseVerdict, name=WORDS, state=st.sampled_from(State), sentence=WORDS)
CHECKS = st.builds(
    Check, WORDS, st.booleans(), WORDS, expected=st.none() | WORDS, found=st.none() | WORDS
)
COMPONENTS = st.builds(
    ComponentVerdict,
    name=WORDS,
    family=st.none() | st.sampled_from(FamilyName),
    state=st.just(State.CONTRAINDICATED),
    claims=st.lists(CLAIMS, max_size=2).map(tuple),
    clauses=st.lists(CLAUSES, max_size=2).map(tuple),
    checks=st.lists(CHECKS, max_size=2).map(tuple),
    facts=st.dictionaries(
        WORDS, st.booleans() | st.integers() | WORDS | st.binary(max_size=40), max_size=4
    ),
    vector=st.dictionaries(st.sampled_from(TrustClaim), st.integers(-128, 127), max_size=3),
)
TIMES = st.datetimes(
    min_value=datetime(1990, 1, 1), max_value=datetime(2100, 1, 1), timezones=st.just(UTC)
)
VERDICTS = st.builds(
    Verdict,
    state=st.just(State.CONTRAINDICATED),
    reasons=st.lists(WORDS, max_size=2).map(tuple),
    components=st.lists(COMPONENTS, min_size=1, max_size=3).map(tuple),
    at=TIMES,
    policy=st.builds(PolicyId, WORDS, WORDS, st.binary(min_size=32, max_size=32)),
    correlation_id=WORDS,
    evidence=st.lists(st.tuples(WORDS, st.binary(min_size=32, max_size=32)), max_size=2).map(tuple),
    references=st.binary(min_size=32, max_size=32),
    host=st.none() | st.builds(Host, st.binary(min_size=32, max_size=32), WORDS),
    nonce=st.none() | st.binary(max_size=80),
    checks=st.lists(CHECKS, max_size=4).map(tuple),
    clauses=st.lists(CLAUSES, max_size=2).map(tuple),
    forms=st.lists(WORDS, max_size=2).map(tuple),
    advice=st.lists(WORDS, max_size=2).map(tuple),
    valid_until=st.none() | TIMES,
)
KEPT = Serialiser()


@settings(max_examples=150)
@given(VERDICTS, st.none() | WORDS)
def test_any_verdict_has_the_text_of_the_plain_way(verdict: Verdict, issuer: str | None) -> None:
    for texts in (KEPT, Serialiser()):
        assert_is(texts.document(verdict), verdict, None)
        claims = result.claims(verdict, lifetime=LIFETIME, issuer=issuer)
        assert_is(texts.claims(verdict, lifetime=LIFETIME, issuer=issuer), verdict, claims)
