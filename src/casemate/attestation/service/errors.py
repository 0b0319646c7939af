"""Why the service refuses or fails: each error is one answer with a status of its own.

`RefusedError` is about the request; `StoreError` is about the verifier: could-not-appraise.
"""

from __future__ import annotations

import enum

from casemate.attestation.errors import AttestationError, InfrastructureError


class StoreError(InfrastructureError):
    """The database or the spool is locked, absent, full, damaged or overloaded."""


class Reason(enum.Enum):
    """Kinds of refusals: the last part of the problem's type, the HTTP status, and its title."""

    BAD_REQUEST = ("bad-request", 400, "The request cannot be read")
    UNAUTHENTICATED = ("unauthenticated", 401, "No principal was authenticated")
    FORBIDDEN = ("forbidden", 403, "The principal may not do this")
    NOT_FOUND = ("not-found", 404, "There is no such thing")
    NOT_ACCEPTABLE = ("not-acceptable", 406, "No such form of the result can be made")
    NONCE_USED = ("nonce-used", 409, "The nonce has been used")
    CONFLICT = ("conflict", 409, "The request contradicts what stands")
    NONCE_EXPIRED = ("nonce-expired", 410, "The nonce has expired")
    TOO_LARGE = ("too-large", 413, "The request is too large")
    UNSUPPORTED = ("unsupported-media-type", 415, "The body is of a type that is not read here")
    UNUSABLE = ("unusable-input", 422, "What was given cannot be used")
    TOO_SLOW = ("too-slow", 408, "The request did not arrive in time")

    @property
    def slug(self) -> str:
        """The last part of the problem's type."""
        return self.value[0]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[1]

    @property
    def title(self) -> str:
        """The problem's title, the same for every problem of the type."""
        return self.value[2]


class RefusedError(AttestationError):
    """The service refuses: the message says what, the rest where, why and what to do."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        where: str = "",
        expected: str = "",
        found: str = "",
        advice: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.where = where
        self.expected = expected
        self.found = found
        self.advice = advice
