"""/v1/principals: who may ask for what."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from starlette.responses import Response

from casemate.attestation.service import identifiers
from casemate.attestation.service.database import principals
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.http import models
from casemate.attestation.service.http.context import (
    PAGE,
    AdministrationOf,
    Cursor,
    Limit,
    ServiceOf,
    answers,
    having,
)
from casemate.attestation.service.principals import Principal, PrincipalRecord, Role

router = APIRouter(tags=["principals"])
_Administrator = Annotated[Principal, Depends(having(Role.ADMINISTRATOR))]


@router.post(
    "/v1/principals",
    status_code=201,
    response_model=models.NewPrincipal,
    responses=dict(answers(409, 422)),
    summary="Make a principal",
)
async def make(
    request: models.PrincipalRequest, administration: AdministrationOf, _: _Administrator
) -> models.NewPrincipal:
    """Make a principal, or make it anew. Its token is in this answer and nowhere else."""
    if request.expires is not None and request.expires.tzinfo is None:
        raise RefusedError(
            Reason.UNUSABLE,
            "the time has no zone",
            where="expires",
            expected="such as 2027-01-01T00:00:00Z",
            found=request.expires.isoformat(),
        )
    record, token = await administration.make_principal(
        request.name,
        frozenset(request.roles),
        token=request.token,
        key=None if request.key is None else bytes.fromhex(request.key),
        expires=request.expires,
    )
    return models.NewPrincipal(**_fields(record), token=token)


@router.get(
    "/v1/principals",
    response_model=models.PrincipalPage,
    responses=dict(answers(422)),
    summary="List principals",
)
async def page(
    service: ServiceOf, _: _Administrator, limit: Limit = PAGE, cursor: Cursor = None
) -> models.PrincipalPage:
    """List principals by name; tokens are not kept and cannot be shown."""
    after = identifiers.place(cursor) or ""
    rows = await service.reader.ask(lambda db: principals.page(db, after=after, most=limit + 1))
    return models.PrincipalPage(
        principals=[models.PrincipalSummary(**_fields(row)) for row in rows[:limit]],
        next_cursor=identifiers.cursor(rows[limit - 1].name) if len(rows) > limit else None,
    )


@router.delete(
    "/v1/principals/{name}",
    status_code=204,
    responses=dict(answers(404)),
    summary="Forget a principal",
)
async def forget(name: str, administration: AdministrationOf, _: _Administrator) -> Response:
    """Forget a principal: its token and its key mean nothing from now on."""
    await administration.remove_principal(name)
    return Response(status_code=204)


def _fields(record: PrincipalRecord) -> dict[str, Any]:
    return {
        "name": record.name,
        "roles": sorted(record.roles),
        "has_token": record.token is not None,
        "key": None if record.key is None else record.key.hex(),
        "created": record.created,
        "expires": record.expires,
    }
