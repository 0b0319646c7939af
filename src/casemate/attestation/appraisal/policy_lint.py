"""What is probably wrong with a policy that can be read: remarks for its author."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from casemate.attestation.appraisal.conditions import ConditionError, Values
from casemate.attestation.appraisal.policy import Clause, Policy

_READS = re.compile(r"\b(?<!has\()facts\.([A-Za-z_][A-Za-z0-9_]*)")
_ASKS = re.compile(r"\bhas\(\s*facts\.([A-Za-z_][A-Za-z0-9_]*)\s*\)")
#: One component of which nothing is known: what holds of it holds of nearly everything.
_NOTHING = {
    "component": "",
    "family": "",
    "facts": {},
    "claims": [],
    "host": {"kind": "", "name": "", "key_digest": ""},
    "fresh": True,
    "forms": [],
    "components": [],
    "families": [],
    "at": datetime(2026, 1, 1, tzinfo=UTC),
}


def remarks(policy: Policy) -> Iterator[str]:
    """Sentences, each with the clause that it is about."""
    for clause in policy.clauses:
        yield from _of_clause(clause)
    texts = " ".join(clause.condition.text for clause in policy.clauses if not clause.on_whole)
    if '"differs"' not in texts:
        yield (
            "no clause asks for claims that differ: they are a warning then, "
            'not contraindicated; begin with extends = "default"'
        )
    if '"no-reference"' not in texts:
        yield (
            "no clause asks for claims without reference values: what nobody has a value for is "
            "let through beside what met its own"
        )


def _of_clause(clause: Clause) -> Iterator[str]:
    text = clause.condition.text
    asked = set(_ASKS.findall(text))
    for name in sorted(set(_READS.findall(text)) - asked):
        yield (
            f"{clause.name}: reads facts.{name} without has(facts.{name}): where the fact is "
            "absent, the clause fails and the component is contraindicated"
        )
    try:
        always = clause.condition.holds(Values(_NOTHING))
    except ConditionError:
        always = False
    if always:
        yield f"{clause.name}: holds of a component of which nothing is known: nothing is affirmed"
