"""Policies: what is refused when read, what decides when asked, and that nothing fails open."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.conditions import compile_condition
from casemate.attestation.appraisal.judge import Judged, fill, judge
from casemate.attestation.appraisal.verdict import ClaimVerdict, Comparison
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import Component, Fact, FamilyName, Host, Verified
from casemate.attestation.reference.matching import Matched
from casemate.attestation.states import State
from casemate.attestation.trust_vector import TrustClaim

AT = datetime(2026, 6, 1, tzinfo=UTC)


def clause(when: str, **changes: str) -> str:
    fields = {"name": "it", "when": when, "state": "contraindicated", "sentence": "no"} | changes
    lines = "".join(f"{key} = {value!r}\n" for key, value in fields.items())
    return f'name = "own"\nversion = "1"\n[[clause]]\n{lines}'


def read(text: str) -> policy.Policy:
    return policy.read(text.encode(), "own.toml")


def claim(comparison: Comparison, label: str = "runtime") -> ClaimVerdict:
    return ClaimVerdict(
        label=label,
        found="1",
        comparison=comparison,
        claim=TrustClaim.EXECUTABLES,
        expected=("2",) if comparison is Comparison.DIFFERS else (),
    )


def judged(
    by: policy.Policy,
    facts: dict[str, Fact] | None = None,
    comparisons: tuple[Comparison, ...] = (Comparison.MET,),
    *,
    name: str = "runtime",
    family: FamilyName = FamilyName.CALIPTRA,
    fresh: bool = True,
) -> Judged:
    verified = Verified(
        family=family,
        pieces=(),
        host=Host(bytes(32), "idevid"),
        components=(Component(name=name, facts=facts or {}),),
        checks=(),
    )
    matched = Matched({name: tuple(claim(one) for one in comparisons)})
    return judge([verified], matched, by, at=AT, fresh=fresh)


def state(*arguments: Any, **named: Any) -> State:
    return judged(*arguments, **named).components[0].state


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = 1", "name: expected a text"),
        ('name = "a"\nversion = "1"\nother = 1', "other: unknown"),
        ('name = "a"\nversion = "1"\nextends = "mine"', "expected a file, or one of default"),
        ('name = "a"\nversion = "1"\nextends = "default"\ndrop = ["x"]', "has no clause x"),
        ('name = "a"\nversion = "1"\ndrop = ["x"]', "nothing to drop"),
        ("\xff = [", "no TOML"),
        (clause("facts.debug =="), "clause it: when:"),
        (clause("unknown > 1"), "undeclared reference to 'unknown'"),
        (clause("1 + 1"), "gives INT, expected a bool"),
        (clause("component > 1"), "no matching overload"),
        (clause("(" * 40 + "true" + ")" * 40), "when:"),
        (clause("true || " * 400 + "true"), "at most 2000"),
        (clause("true", state="affirming"), "expected one of warning, contraindicated"),
        (clause("true", family="caliptra"), "expected a list of texts"),
        (clause("true", claim="luck"), "expected one of instance-identity"),
        (clause("true", on="nothing"), "expected one of component, whole"),
    ],
)
def test_what_cannot_be_taken_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InputError, match=r"own\.toml|policy mine") as refused:
        read(text)
    assert words in str(refused.value)


def test_two_clauses_of_one_name_are_refused() -> None:
    both = clause("true") + clause("true").partition("\n[[")[1] + clause("true").partition("[[")[2]
    with pytest.raises(InputError, match="two clauses have the name it"):
        read(both.replace("\n[[[[", "\n[["))


def test_what_extends_a_policy_is_another_policy_with_its_clauses() -> None:
    own = read('name = "a"\nversion = "1"\nextends = "default"\ndrop = ["software-anchor"]')
    names = [one.name for one in own.clauses]
    assert "software-anchor" not in names
    assert "mismatch" in names
    assert own.id.digest != policy.built_in("default").id.digest


@pytest.mark.parametrize("name", policy.BUILT_IN)
@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, State.AFFIRMING),
        ({"debug_locked": True, "lifecycle": "production"}, State.AFFIRMING),
        ({"debug_locked": False}, State.CONTRAINDICATED),
        ({"debug": True}, State.CONTRAINDICATED),
        ({"lifecycle": "manufacturing"}, State.WARNING),
        ({"svn": 2, "minimum_svn": 3}, State.CONTRAINDICATED),
        ({"svn": 3, "minimum_svn": 3}, State.AFFIRMING),
        ({"tcb_status": "UpToDate"}, State.AFFIRMING),
        ({"tcb_status": "OutOfDate"}, State.WARNING),
        ({"tcb_status": "Revoked"}, State.CONTRAINDICATED),
        ({"anchor": "tpm2"}, State.AFFIRMING),
        ({"debug_status": "enabled"}, State.CONTRAINDICATED),
        ({"trust_anchor": "maker"}, State.WARNING),
        ({"trust_anchor": "maker", "debug_locked": True}, State.AFFIRMING),
        ({"trust_anchor": "maker", "debug_status": "disabled"}, State.AFFIRMING),
        ({"runtime_replaced": True}, State.WARNING),
        ({"journey_explained": False}, State.WARNING),
        ({"replaced": True}, State.WARNING),
        ({"stash_register_explained": False}, State.WARNING),
        ({"certified_by": "anchor"}, State.WARNING),
        ({"certified_by": "root-of-trust"}, State.AFFIRMING),
        ({"debug_locked": "yes"}, State.CONTRAINDICATED),
    ],
)
def test_the_built_in_policies(name: str, facts: dict[str, Fact], expected: State) -> None:
    assert state(policy.built_in(name), facts) is expected


def test_only_the_policy_for_development_takes_an_anchor_in_a_file() -> None:
    assert state(policy.built_in("default"), {"anchor": "file"}) is State.WARNING
    assert state(policy.built_in("development"), {"anchor": "file"}) is State.AFFIRMING


@given(
    st.lists(st.sampled_from(list(Comparison)), max_size=6),
    st.sampled_from(["default", "development", None]),
)
def test_no_policy_affirms_what_differs_or_what_nothing_was_compared_with(
    comparisons: list[Comparison], name: str | None
) -> None:
    by = read('name = "lax"\nversion = "1"') if name is None else policy.built_in(name)
    came_out = judged(by, comparisons=tuple(comparisons))
    whole = max(
        [came_out.components[0].state, came_out.floor],
        key=[State.AFFIRMING, State.WARNING, State.CONTRAINDICATED].index,
    )
    if Comparison.DIFFERS in comparisons:
        assert whole is (State.WARNING if name is None else State.CONTRAINDICATED)
    elif Comparison.MET not in comparisons:
        assert whole is State.WARNING
    elif name is None or Comparison.NO_REFERENCE not in comparisons:
        assert whole is State.AFFIRMING


@pytest.mark.parametrize(
    "when",
    [
        "facts.absent",
        "facts.absent == 1",
        "1 / int(facts.zero) == 1",
        "facts.text > 3",
        "claims[99].label == ''",
        "facts.zero",
        "[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c,"
        " [1,2,3,4,5,6,7,8,9,10].all(d, [1,2,3,4,5,6,7,8,9,10].all(e, a+b+c+d+e > 0)))))",
    ],
)
def test_a_clause_that_fails_is_contraindicated_and_says_why(when: str) -> None:
    by = read(clause(when, state="warning"))
    came_out = judged(by, {"zero": 0, "text": "a"})
    assert came_out.components[0].state is State.CONTRAINDICATED
    assert "the policy's clause it cannot be asked" in came_out.reasons[0][1]


def test_a_clause_that_fails_does_not_hide_one_that_holds() -> None:
    second = clause("true", name="second", state="warning").partition("[[clause]]")
    by = read(clause("facts.absent") + "".join(second[1:]))
    assert [one.name for one in judged(by).components[0].clauses] == ["it", "second"]


def test_comments_in_conditions_stay_in_their_clause() -> None:
    second = clause("false", name="second").partition("[[clause]]")
    by = read(clause("true // || false") + "".join(second[1:]))
    assert [one.name for one in judged(by).components[0].clauses] == ["it"]


def test_clauses_are_asked_of_their_components_and_families_alone() -> None:
    text = clause("true").replace(
        "[[clause]]\n", '[[clause]]\nfamily = ["tpm"]\ncomponent = ["p*"]\n'
    )
    by = read(text)
    assert state(by, name="pcr-0", family=FamilyName.TPM) is State.CONTRAINDICATED
    assert state(by, name="runtime", family=FamilyName.TPM) is State.AFFIRMING
    assert state(by, name="pcr-0") is State.AFFIRMING


def test_clauses_of_the_whole_see_freshness_host_and_time() -> None:
    when = "!fresh || host.kind != 'idevid' || at > timestamp('2027-01-01T00:00:00Z')"
    by = read(clause(when.replace("'", '"'), on="whole"))
    assert judged(by).floor is State.AFFIRMING
    stale = judged(by, fresh=False)
    assert stale.floor is State.CONTRAINDICATED
    assert stale.components[0].state is State.AFFIRMING


def test_a_clause_lowers_its_claim_of_the_trust_vector() -> None:
    by = read(clause("true", state="warning", claim="hardware"))
    assert judged(by).components[0].vector == {
        TrustClaim.INSTANCE_IDENTITY: 2,
        TrustClaim.EXECUTABLES: 2,
        TrustClaim.HARDWARE: 32,
    }


def test_a_policy_travels_to_other_processes() -> None:
    by = policy.built_in("default")
    again = pickle.loads(pickle.dumps(by))  # noqa: S301
    assert again.id == by.id
    assert state(again, {"debug_locked": False}) is State.CONTRAINDICATED


@given(
    st.text(max_size=60),
    st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.integers()),
)
def test_a_sentence_takes_facts_and_nothing_else(sentence: str, facts: dict[str, Fact]) -> None:
    filled = fill(sentence, facts)
    if "{" not in sentence:
        assert filled == sentence


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_no_text_of_a_condition_does_more_than_be_refused(text: str) -> None:
    try:
        compile_condition(text)
    except ValueError as error:
        assert str(error)
