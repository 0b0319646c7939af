"""What every route has at hand: the service, and who asks under which correlation id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from fastapi import Depends, Query, Request, Security
from fastapi.security import HTTPBearer

from casemate.attestation.service.administration import Administration
from casemate.attestation.service.http.authentication import require
from casemate.attestation.service.http.problems import MEDIA_TYPE
from casemate.attestation.service.metrics import Metrics
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.service import Service

#: Rows of a page, unless the caller says otherwise, and at most.
PAGE, LARGEST_PAGE = 100, 1000

# Dependencies are coroutines: others would each cost a hop to a thread and back.
_bearer = HTTPBearer(
    auto_error=False, scheme_name="bearer", description="A token that an administrator made."
)


async def service(request: Request) -> Service:
    """Return the service."""
    found: Service = request.app.state.service
    return found


async def administration(request: Request) -> Administration:
    """Return the administration."""
    found: Administration = request.app.state.administration
    return found


async def metrics(request: Request) -> Metrics:
    """Return the metrics."""
    found: Metrics = request.app.state.metrics
    return found


async def correlation_id(request: Request) -> str:
    """Return the request's correlation id."""
    found: str = request.state.correlation_id
    return found


async def caller(request: Request, _: Annotated[object, Security(_bearer)] = None) -> Principal:
    """Return who asks; the envelope has found it."""
    found: Principal = request.state.principal
    return found


def having(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency: who asks, with one of the roles."""

    async def check(principal: Annotated[Principal, Depends(caller)]) -> Principal:
        return require(principal, *roles)

    return check


def answers(*statuses: int) -> Mapping[int | str, dict[str, Any]]:
    """Return the problems that a route may answer, for the OpenAPI document."""
    described = {
        400: "The request cannot be read.",
        401: "Nobody was authenticated.",
        403: "The principal has the wrong role.",
        404: "There is no such thing.",
        406: "No such form of the result can be made.",
        408: "The body did not arrive in time.",
        409: "The challenge was used, or what stands contradicts.",
        410: "The challenge has expired.",
        413: "The body is too large.",
        415: "The body is of an unknown type.",
        422: "What was given cannot be used.",
        503: "Could not appraise: the verifier is at fault.",
    }
    return {
        status: {
            "description": described[status],
            "content": {MEDIA_TYPE: {}},
        }
        for status in sorted({400, 401, 403, 408, 413, 503, *statuses})
    }


ServiceOf = Annotated[Service, Depends(service)]
AdministrationOf = Annotated[Administration, Depends(administration)]
MetricsOf = Annotated[Metrics, Depends(metrics)]
CorrelationId = Annotated[str, Depends(correlation_id)]
Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="Rows of the page at most.")]
Cursor = Annotated[str | None, Query(max_length=200, description="next_cursor of the page before.")]
