"""Why an appraisal ends before its comparison: the evidence's fault, or somebody else's.

The distinction is the room's most important rule. `EvidenceError` is a statement about the
evidence (the verdict is contraindicated); `InfrastructureError` is one about the verifier, its
store or its collateral (the verdict is could-not-appraise, and trust does not change).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casemate.attestation.checks import Check


class AttestationError(Exception):
    """The base of all errors of this room."""


class EvidenceError(AttestationError):
    """Evidence that cannot be parsed, is not authentic or does not hold together.

    `check` is the one that failed, `passed` those before it, `component` where it belongs to one.
    """

    def __init__(
        self, check: Check, *, passed: tuple[Check, ...] = (), component: str | None = None
    ) -> None:
        super().__init__(check.sentence)
        self.check = check
        self.passed = passed
        self.component = component


class InfrastructureError(AttestationError):
    """The infrastructure failed: collateral missing or stale, a store locked, a worker lost.

    The message says what is missing and `advice` what to do about it.
    """

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_advice, (type(self), str(self), self.advice)


def _with_advice(kind: type[InfrastructureError], message: str, advice: str) -> InfrastructureError:
    return kind(message, advice=advice)


class InputError(AttestationError):
    """A reference, policy, endorsement or anchor that the operator gave cannot be used."""
