"""Tests of a policy in a file: facts and comparisons in, the state that must come out.

    policy = "production.toml"     # beside this file; or the name of a built-in policy

    [[test]]
    name = "an unlocked device is refused"
    component = "device"           # and family = "caliptra"
    facts = { debug_locked = false, ueid = { hex = "00ff" } }
    claims = [{ label = "FMC", comparison = "met", claim = "executables" }]
    at = 2026-06-01T00:00:00Z      # and fresh = true, forms = []
    state = "contraindicated"
    clauses = ["debug-unlocked"]   # exactly those that must hold; absent: any

A test with `on = "whole"` asks the clauses of the whole. Nothing is verified here: a test is about
the policy alone, with the two rules that stand above every policy (`judge`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from casemate.attestation.appraisal.judge import judge
from casemate.attestation.appraisal.policy import Policy
from casemate.attestation.appraisal.verdict import ClaimVerdict, Comparison
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import Component, Fact, FamilyName, Host, Verified
from casemate.attestation.reference.matching import Matched
from casemate.attestation.states import State, worst
from casemate.attestation.trust_vector import TrustClaim

_FIELDS = (
    *("name", "on", "component", "family", "facts", "claims", "at", "fresh", "forms"),
    *("state", "clauses"),
)
_CLAIM_FIELDS = ("label", "comparison", "claim", "found", "expected", "reference")
_LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
_HOST = Host(bytes(32), "idevid")


@dataclass(frozen=True, slots=True)
class Outcome:
    """A test's name, what was asked for, what came out, and the clauses that held."""

    name: str
    expected: State
    found: State
    expected_clauses: tuple[str, ...] | None
    clauses: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether state and, if named, clauses are as expected."""
        return self.expected is self.found and (
            self.expected_clauses is None or sorted(self.expected_clauses) == sorted(self.clauses)
        )


@dataclass(frozen=True, slots=True)
class PolicyTests:
    """A file of tests: the policy that it names (None: none), and its tests as they stand."""

    policy: str | None
    tests: tuple[Mapping[str, Any], ...]
    source: str

    def run(self, policy: Policy) -> tuple[Outcome, ...]:
        """Run all. Raises InputError for a test that cannot be read."""
        return tuple(_Test(table, self.source).run(policy) for table in self.tests)


def read(data: bytes, source: str) -> PolicyTests:
    """The tests of a file's bytes. Raises InputError."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{source}: no TOML: {error}") from None
    tests = table.get("test")
    policy = table.get("policy")
    if not isinstance(tests, list) or not tests or not all(isinstance(t, dict) for t in tests):
        raise InputError(f"{source}: expected at least one [[test]]")
    if policy is not None and not isinstance(policy, str):
        raise InputError(f"{source}: policy: expected a file or a name")
    return PolicyTests(policy, tuple(tests), source)


class _Test:
    def __init__(self, table: Mapping[str, Any], source: str) -> None:
        self.table = table
        name = table.get("name")
        self.where = f"{source}: test {name}"
        if not isinstance(name, str) or not name:
            raise InputError(f"{source}: a test has no name")
        self.name = name
        for key in table:
            if key not in _FIELDS:
                raise self.error(key, f"unknown; expected one of {', '.join(_FIELDS)}")

    def run(self, policy: Policy) -> Outcome:
        component = self.get("component", str, "component")
        family = self.choice("family", self.table.get("family", "caliptra"), FamilyName)
        whole = self.choice("on", self.table.get("on", "component"), ("component", "whole"))
        at = self.get("at", datetime, _LONG_AGO)
        verified = Verified(
            family=FamilyName(family),
            pieces=(),
            host=_HOST,
            components=(Component(name=component, facts=self.facts()),),
            checks=(),
            forms=tuple(self.texts("forms")),
        )
        judged = judge(
            [verified],
            Matched({component: self.claims()}),
            policy,
            at=at if at.tzinfo else at.replace(tzinfo=UTC),
            fresh=self.get("fresh", bool, True),
        )
        clauses = judged.clauses if whole == "whole" else judged.components[0].clauses
        state = (
            worst([State.AFFIRMING, *(clause.state for clause in clauses)])
            if whole == "whole"
            else judged.components[0].state
        )
        named = self.texts("clauses") if "clauses" in self.table else None
        return Outcome(
            self.name,
            State(self.choice("state", self.table.get("state"), State)),
            state,
            None if named is None else tuple(named),
            tuple(clause.name for clause in clauses),
        )

    def error(self, key: str, message: str) -> InputError:
        return InputError(f"{self.where}: {key}: {message}")

    def get(self, key: str, kind: type[Any], default: Any) -> Any:
        value = self.table.get(key, default)
        if not isinstance(value, kind):
            raise self.error(key, f"expected {kind.__name__}, found {value!r:.40}")
        return value

    def texts(self, key: str) -> list[str]:
        value: list[str] = self.get(key, list, [])
        if not all(isinstance(one, str) for one in value):
            raise self.error(key, "expected texts")
        return value

    def choice(self, key: str, value: Any, choices: Sequence[str] | type[Any]) -> str:
        known = [str(choice) for choice in choices]
        if value not in known:
            raise self.error(key, f"expected one of {', '.join(known)}, found {value!r:.40}")
        return str(value)

    def facts(self) -> dict[str, Fact]:
        return {name: self.fact(name, value) for name, value in self.get("facts", dict, {}).items()}

    def fact(self, name: str, value: Any) -> Fact:
        if isinstance(value, dict) and value.keys() == {"hex"}:
            try:
                return bytes.fromhex(value["hex"])
            except (TypeError, ValueError):
                raise self.error(f"facts.{name}", "hex: expected hexadecimal digits") from None
        if not isinstance(value, (bool, int, str)):
            raise self.error(f"facts.{name}", "expected a truth value, integer, text or {hex=...}")
        return value

    def claims(self) -> tuple[ClaimVerdict, ...]:
        return tuple(self.claim(one) for one in self.get("claims", list, []))

    def claim(self, table: Any) -> ClaimVerdict:
        if not isinstance(table, dict) or not table.keys() <= set(_CLAIM_FIELDS):
            raise self.error("claims", f"expected tables with {', '.join(_CLAIM_FIELDS)}")
        names = {claim.json_name: claim for claim in TrustClaim}
        comparison = self.choice("claims", table.get("comparison"), Comparison)
        return ClaimVerdict(
            label=str(table.get("label", "claim")),
            found=str(table.get("found", "")),
            comparison=Comparison(comparison),
            claim=names[self.choice("claims", table.get("claim", "executables"), list(names))],
            reference=table.get("reference"),
            expected=tuple(map(str, table.get("expected", ()))),
        )
