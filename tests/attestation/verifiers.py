"""Verifiers for tests, and the reference values of the synthetic hosts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.evidence import registry
from casemate.attestation.evidence.family import Piece, Verified
from casemate.attestation.reference.store import ReferenceSet
from casemate.attestation.verifier import Verifier
from tests.attestation import hosts
from tests.attestation.references import corim_of, references_of


def verified(*data: bytes, **context: Any) -> Verified:
    """What the only family that takes these pieces makes of them."""
    pieces = [Piece(one, f"piece {number}") for number, one in enumerate(data)]
    (selection,) = registry.select(pieces, registry.families())
    return selection.family.verify(selection.pieces, hosts.context(**context))


@lru_cache
def host(number: int = 1) -> hosts.Host:
    """A host that booted good firmware; made once."""
    return hosts.boot(number)


@lru_cache
def good_corim() -> bytes:
    """The reference values of every good host."""
    return corim_of(verified(host().token()).components)


def verifier(
    *, references: ReferenceSet | None = None, by: str = "development", **changes: Any
) -> Verifier:
    """A verifier of the synthetic hosts, with their reference values unless others are given."""
    values: dict[str, Any] = {
        "endorsements": hosts.endorsements(),
        "references": references_of(good_corim()) if references is None else references,
        "policy": policy.built_in(by),
    }
    return Verifier(**(values | changes))


def appraise(
    *data: bytes, using: Verifier | None = None, nonce: bytes | None = hosts.NONCE, **changes: Any
) -> Verdict:
    """One appraisal at the time of the hosts' tests."""
    pieces = [Piece(one, f"piece {number}") for number, one in enumerate(data)]
    values: dict[str, Any] = {"at": hosts.AT, "nonce": nonce, "correlation_id": "test"}
    return (using or verifier()).appraise(pieces, **(values | changes))
