"""Errors as problem documents (RFC 9457): what, where, expected, found, what to do."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, Field
from starlette.responses import Response

from casemate.attestation.errors import InfrastructureError
from casemate.attestation.service.errors import RefusedError
from casemate.attestation.states import State

MEDIA_TYPE = "application/problem+json"
#: What a problem's type begins with; the fragment names it in docs/verifier-service.md.
TYPES = "urn:casemate:verifier:problem:"
#: After how many seconds a caller may try again where the verifier failed.
RETRY_AFTER = 5


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    type: str = Field(description="Which problem, the same for all of its kind.")
    title: str = Field(description="The kind in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened here.")
    correlation_id: str = Field(description="Names the request in the log, events and answer.")
    where: str | None = Field(default=None, description="The field or thing that is at fault.")
    expected: str | None = None
    found: str | None = None
    advice: str | None = Field(default=None, description="What to do.")
    state: str | None = Field(
        default=None, description="could-not-appraise, where the verifier is at fault."
    )


def response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer that carries a problem."""
    return Response(
        problem.model_dump_json(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


def refused(error: RefusedError, correlation_id: str) -> Response:
    """Return the answer of a refusal."""
    headers = {"WWW-Authenticate": "Bearer"} if error.reason.status == 401 else {}
    return response(
        Problem(
            type=TYPES + error.reason.slug,
            title=error.reason.title,
            status=error.reason.status,
            detail=str(error),
            correlation_id=correlation_id,
            where=error.where or None,
            expected=error.expected or None,
            found=error.found or None,
            advice=error.advice or None,
        ),
        headers,
    )


def failed(error: InfrastructureError, correlation_id: str) -> Response:
    """Return the answer where the verifier is at fault: could-not-appraise."""
    return response(
        Problem(
            type=TYPES + State.COULD_NOT_APPRAISE,
            title="The verifier could not appraise",
            status=503,
            detail=str(error),
            correlation_id=correlation_id,
            advice=error.advice or "try again",
            state=State.COULD_NOT_APPRAISE,
        ),
        {"Retry-After": str(RETRY_AFTER)},
    )


def defect(correlation_id: str) -> Response:
    """Return the answer to what should not happen; the log has the rest."""
    return response(
        Problem(
            type=TYPES + "internal",
            title="The service failed",
            status=500,
            detail="the service met a defect of its own",
            correlation_id=correlation_id,
            advice="report it with the log's lines of this correlation id",
            state=State.COULD_NOT_APPRAISE,
        )
    )
