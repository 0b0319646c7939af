"""A verdict: the state of the whole and of each component, and everything that led to it.

It is complete: a person who has only the verdict can see which claim met which reference value,
which one did not and what was expected, which clause of which policy decided, and by their digests
which bytes were judged.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from casemate.attestation.checks import Check
from casemate.attestation.evidence.family import Fact, FamilyName, Host
from casemate.attestation.states import State
from casemate.attestation.trust_vector import TrustClaim


class Comparison(enum.StrEnum):
    """What became of one claim."""

    MET = "met"
    DIFFERS = "differs"
    NO_REFERENCE = "no-reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimVerdict:
    """One claim: its value as people read it, and the reference value that met it or did not.

    `reference` names the reference set's entry (tag id and triple); `expected` are the values that
    the environment's references would have taken, at most eight.
    """

    label: str
    found: str
    comparison: Comparison
    claim: TrustClaim
    reference: str | None = None
    expected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClauseVerdict:
    """One clause of the policy on one component: what it says, and what came of it."""

    name: str
    state: State
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentVerdict:
    """One component, an EAR submodule. `vector` holds the claims that say something."""

    name: str
    family: FamilyName | None
    state: State
    claims: tuple[ClaimVerdict, ...] = ()
    clauses: tuple[ClauseVerdict, ...] = ()
    checks: tuple[Check, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    vector: Mapping[TrustClaim, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PolicyId:
    """Which policy decided: its name, version, and SHA-256 of its file."""

    name: str
    version: str
    digest: bytes


class Verdict(NamedTuple):
    """The answer. `reasons` are sentences, the one that matters most first.

    `evidence` maps each piece's name to the SHA-256 of its bytes; `references` is SHA-256 over the
    reference set. `host` is None unless all of the evidence is authentic and holds together: a
    forged part says nothing about the host whose name it carries. `nonce` is the one that the
    evidence answered. `clauses` are the policy's on the whole. `valid_until` is the earliest end of
    what it rests on.

    A tuple, as it is made for every appraisal: a frozen dataclass takes three times as long.
    """

    state: State
    reasons: tuple[str, ...]
    components: tuple[ComponentVerdict, ...]
    at: datetime
    policy: PolicyId
    correlation_id: str
    evidence: tuple[tuple[str, bytes], ...]
    references: bytes
    host: Host | None = None
    nonce: bytes | None = None
    checks: tuple[Check, ...] = ()
    clauses: tuple[ClauseVerdict, ...] = ()
    forms: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    valid_until: datetime | None = None
