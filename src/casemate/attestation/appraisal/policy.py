"""A policy: named clauses over what was verified and compared, each with the state that it gives.

A policy file is TOML:

    name = "production"
    version = "3"
    extends = "default"            # a built-in policy, whose clauses come first
    drop = ["software-anchor"]     # clauses of it that do not apply here

    [[clause]]
    name = "module-svn"
    component = ["module"]         # patterns of names; absent: every component
    family = ["ocp-eat"]           # absent: every family
    when = "has(facts.svn) && facts.svn < 3"
    state = "contraindicated"      # or "warning"
    claim = "executables"          # the AR4SI claim that this lowers; may be absent
    sentence = "the module's SVN is {svn}, at least 3 is asked for"

A clause whose condition is true gives its state; a component without one is affirming. A clause
with `on = "whole"` is asked once, of all evidence together. Conditions are CEL, checked for names
and types when the policy is read; docs/policy.md lists the variables. Evaluation is bounded (depth,
steps; regular expressions are RE2). A condition that fails, for example because it reads a fact
that is not there, counts as contraindicated: `has(facts.x)` asks first.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from casemate.attestation.appraisal import conditions
from casemate.attestation.appraisal.conditions import Condition, ConditionError
from casemate.attestation.appraisal.verdict import PolicyId
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import FamilyName
from casemate.attestation.states import State
from casemate.attestation.trust_vector import TrustClaim

BUILT_IN = ("default", "development")
#: In a condition: facts by name, facts in any other way, and what is not the component's own. A
#: word within a text counts too, which costs time and nothing else.
_FACT = re.compile(r"\bfacts\.([A-Za-z_][A-Za-z0-9_]*)")
_OTHER_FACTS = re.compile(r"\bfacts\b(?!\.[A-Za-z_])")
_READS_MORE = re.compile(r"\b(?:host|fresh|forms|components|families|at)\b")
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)\}")
LARGEST = 256 * 1024
MOST_CLAUSES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One clause; see the module for its fields. Empty `families` or `components` mean all."""

    name: str
    condition: Condition
    state: State
    sentence: str
    claim: TrustClaim | None = None
    families: frozenset[FamilyName] = frozenset()
    components: tuple[str, ...] = ()
    on_whole: bool = False

    def applies(self, component: str, family: FamilyName | None) -> bool:
        """Whether it is asked of this component."""
        return (not self.families or family in self.families) and (
            not self.components
            or any(fnmatch.fnmatchcase(component, pattern) for pattern in self.components)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read: its identity and its clauses in order.

    `_selected` keeps which clauses a component meets, with the quick question whether any holds.
    """

    id: PolicyId
    clauses: tuple[Clause, ...]
    _facts_read: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    _selected: dict[tuple[str, FamilyName | None, bool], tuple[tuple[Clause, ...], Condition]] = (
        field(default_factory=dict, compare=False, repr=False)
    )

    @property
    def facts_read(self) -> tuple[str, ...] | None:
        """The facts that decide on a component, where nothing but its facts and claims does.

        None where a clause reads the host, the time or the like, or facts other than by name.
        """
        return self._facts_read

    def asked_of(
        self, component: str, family: FamilyName | None, *, whole: bool = False
    ) -> tuple[tuple[Clause, ...], Condition]:
        """The clauses that a component meets, and the condition "one of them, or an error"."""
        key = (component, family, whole)
        if key not in self._selected:
            clauses = tuple(
                clause
                for clause in self.clauses
                if clause.on_whole is whole and (whole or clause.applies(component, family))
            )
            if len(self._selected) > 4 * MOST_CLAUSES:
                self._selected.clear()
            self._selected[key] = (
                clauses,
                conditions.any_of(clause.condition for clause in clauses),
            )
        return self._selected[key]


@cache
def built_in(name: str) -> Policy:
    """A policy that comes with Casemate. Raises InputError for an unknown name."""
    if name not in BUILT_IN:
        raise InputError(f"policy {name}: expected a file, or one of {', '.join(BUILT_IN)}")
    return read(built_in_text(name), name)


def built_in_text(name: str) -> bytes:
    """The file of a built-in policy."""
    folder = resources.files("casemate.attestation.appraisal") / "policies"
    return (folder / f"{name}.toml").read_bytes()


def read(data: bytes, source: str) -> Policy:
    """The policy of a file's bytes; `source` names it in errors. Raises InputError."""
    if len(data) > LARGEST:
        raise InputError(f"{source}: {len(data)} bytes; a policy has at most {LARGEST}")
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{source}: no TOML: {error}") from None
    return _Reader(source).policy(table, hashlib.sha256(data).digest())


def _facts_read(clauses: Sequence[Clause]) -> tuple[str, ...] | None:
    names: set[str] = set()
    for clause in clauses:
        text = clause.condition.text
        if not clause.on_whole and (_READS_MORE.search(text) or _OTHER_FACTS.search(text)):
            return None
        names.update(_FACT.findall(text), _PLACEHOLDER.findall(clause.sentence))
    return tuple(sorted(names))


class _Reader:
    """Turns the file's table into a policy; every error names file, clause and field."""

    def __init__(self, source: str) -> None:
        self.source = source

    def policy(self, table: Mapping[str, Any], digest: bytes) -> Policy:
        self.known(table, ("name", "version", "extends", "drop", "clause"), "the policy")
        name, version = (self.text(table, key, "the policy") for key in ("name", "version"))
        inherited: tuple[Clause, ...] = ()
        dropped = self.texts(table, "drop", "the policy")
        if "extends" in table:
            base = built_in(self.text(table, "extends", "the policy"))
            inherited = tuple(clause for clause in base.clauses if clause.name not in dropped)
            self.must_stand(dropped, base)
            # What decides is the base too: a new built-in policy is another policy.
            digest = hashlib.sha256(digest + base.id.digest).digest()
        elif dropped:
            raise InputError(f"{self.source}: drop: there is nothing to drop without extends")
        tables = table.get("clause", [])
        if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
            raise InputError(f"{self.source}: clause: expected tables [[clause]]")
        clauses = (*inherited, *(self.clause(one, at) for at, one in enumerate(tables, 1)))
        if len(clauses) > MOST_CLAUSES:
            raise InputError(f"{self.source}: {len(clauses)} clauses; at most {MOST_CLAUSES}")
        names = [clause.name for clause in clauses]
        for twice in (one for one in names if names.count(one) > 1):
            raise InputError(f"{self.source}: two clauses have the name {twice}")
        return Policy(PolicyId(name, version, digest), clauses, _facts_read(clauses))

    def must_stand(self, dropped: Sequence[str], base: Policy) -> None:
        names = {clause.name for clause in base.clauses}
        for missing in (one for one in dropped if one not in names):
            raise InputError(
                f"{self.source}: drop: {base.id.name} has no clause {missing}, it has "
                + ", ".join(sorted(names))
            )

    def clause(self, table: Mapping[str, Any], number: int) -> Clause:
        where = f"clause {number}"
        name = self.text(table, "name", where)
        where = f"clause {name}"
        self.known(
            table,
            ("name", "on", "component", "family", "when", "state", "claim", "sentence"),
            where,
        )
        whole = self.one_of(table, "on", ("component", "whole"), where, "component") == "whole"
        families = self.texts(table, "family", where)
        components = self.texts(table, "component", where)
        if whole and (families or components):
            raise self.error(where, "on", 'the whole has neither "family" nor "component"')
        for unknown in (one for one in families if one not in set(FamilyName)):
            raise self.error(where, "family", f"{unknown} is none of {', '.join(FamilyName)}")
        claims = {claim.json_name: claim for claim in TrustClaim}
        state = self.one_of(table, "state", (State.WARNING, State.CONTRAINDICATED), where, None)
        claim = self.one_of(table, "claim", tuple(claims), where, "")
        try:
            condition = conditions.compile_condition(self.text(table, "when", where))
        except ConditionError as error:
            raise self.error(where, "when", str(error)) from None
        return Clause(
            name=name,
            condition=condition,
            state=State(state),
            sentence=self.text(table, "sentence", where),
            claim=claims.get(claim),
            families=frozenset(map(FamilyName, families)),
            components=tuple(components),
            on_whole=whole,
        )

    def error(self, where: str, key: str, message: str) -> InputError:
        return InputError(f"{self.source}: {where}: {key}: {message}")

    def known(self, table: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
        for key in table:
            if key not in keys:
                raise self.error(where, key, f"unknown; expected one of {', '.join(keys)}")

    def text(self, table: Mapping[str, Any], key: str, where: str) -> str:
        value = table.get(key)
        if not isinstance(value, str) or not value.strip():
            raise self.error(where, key, "expected a text")
        return value.strip()

    def texts(self, table: Mapping[str, Any], key: str, where: str) -> list[str]:
        value = table.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.error(where, key, "expected a list of texts")
        return value

    def one_of(
        self,
        table: Mapping[str, Any],
        key: str,
        choices: Sequence[str],
        where: str,
        default: str | None,
    ) -> str:
        value = table.get(key, default)
        if (value != default and value not in choices) or value is None:
            raise self.error(where, key, f"expected one of {', '.join(choices)}")
        return str(value)
