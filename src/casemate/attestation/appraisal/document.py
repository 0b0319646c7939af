"""A verdict as a JSON document: what `casemate appraise --json`, the service and results carry.

Version 1 of the schema. Bytes are lower-case hexadecimal, times RFC 3339 in UTC, absent values
null; fields may be added, and none changes its meaning, within a version. docs/appraisal.md shows
it field by field.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from casemate.attestation.appraisal.verdict import (
    ClaimVerdict,
    ClauseVerdict,
    ComponentVerdict,
    Verdict,
)
from casemate.attestation.checks import Check
from casemate.attestation.evidence.family import Fact
from casemate.attestation.trust_vector import TrustClaim

VERSION = 1
#: Characters of a time up to its seconds.
_SECONDS = len("2026-01-01T00:00:00")


def document(verdict: Verdict) -> dict[str, Any]:
    """The verdict, complete, as values that JSON has."""
    host = verdict.host
    return {
        "version": VERSION,
        "state": verdict.state.value,
        "reasons": list(verdict.reasons),
        "advice": list(verdict.advice),
        "host": None
        if host is None
        else {"name": host.name, "kind": host.kind, "key_digest": host.key_digest.hex()},
        "nonce": _hex(verdict.nonce),
        "at": time(verdict.at),
        "valid_until": None if verdict.valid_until is None else time(verdict.valid_until),
        "correlation_id": verdict.correlation_id,
        "policy": {
            "name": verdict.policy.name,
            "version": verdict.policy.version,
            "digest": verdict.policy.digest.hex(),
        },
        "references": verdict.references.hex(),
        "evidence": [{"name": name, "digest": digest.hex()} for name, digest in verdict.evidence],
        "forms": list(verdict.forms),
        "components": [component(part) for part in verdict.components],
        "clauses": [clause(one) for one in verdict.clauses],
        "checks": [_check(check) for check in verdict.checks],
    }


def component(part: ComponentVerdict) -> dict[str, Any]:
    """A component; its facts come last."""
    return {
        "name": part.name,
        "family": None if part.family is None else part.family.value,
        "state": part.state.value,
        "trustworthiness_vector": {
            TrustClaim(claim).json_name: value for claim, value in part.vector.items()
        },
        "claims": [_claim(claim) for claim in part.claims],
        "clauses": [clause(one) for one in part.clauses],
        "checks": [_check(check) for check in part.checks],
        "facts": {name: _fact(value) for name, value in part.facts.items()},
    }


def _claim(claim: ClaimVerdict) -> dict[str, Any]:
    return {
        "label": claim.label,
        "comparison": claim.comparison.value,
        "found": claim.found,
        "expected": list(claim.expected),
        "reference": claim.reference,
        "claim": claim.claim.json_name,
    }


def clause(verdict: ClauseVerdict) -> dict[str, Any]:
    """A clause."""
    return {"name": verdict.name, "state": verdict.state.value, "sentence": verdict.sentence}


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "passed": check.passed,
        "sentence": check.sentence,
        "expected": check.expected,
        "found": check.found,
    }


def _fact(value: Fact) -> bool | int | str:
    return value.hex() if isinstance(value, bytes) else value


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def time(value: datetime) -> str:
    """A time as RFC 3339 has it, in UTC."""
    if value.tzinfo is not UTC:
        value = value.astimezone(UTC)
    return value.isoformat()[:_SECONDS] + "Z"
