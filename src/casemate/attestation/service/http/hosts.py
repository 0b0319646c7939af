"""GET /v1/hosts: who is trusted now; PUT and DELETE: who speaks for a host."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from casemate.attestation.service import identifiers
from casemate.attestation.service.administration import no_host
from casemate.attestation.service.database import hosts
from casemate.attestation.service.database.hosts import HostRow
from casemate.attestation.service.http import models
from casemate.attestation.service.http.context import (
    PAGE,
    AdministrationOf,
    Cursor,
    Limit,
    ServiceOf,
    answers,
    caller,
    having,
)
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.service import Service
from casemate.attestation.service.trust import Trust, TrustState, trust_at

router = APIRouter(tags=["trust"])
_SEES_ALL = (Role.RELYING_PARTY, Role.ADMINISTRATOR)


@router.get(
    "/v1/hosts/{host}/trust",
    response_model=models.HostTrust,
    responses=dict(answers(404)),
    summary="Ask whether a host is trusted now",
)
async def trust(
    host: str, service: ServiceOf, principal: Annotated[Principal, Depends(caller)]
) -> models.HostTrust:
    """Compute the host's trust now, from its last verdict that counted and its age.

    Answered also while the verifier cannot appraise: trust then decays by age alone.
    """
    row = await service.reader.ask(lambda db: hosts.find(db, host))
    if row is None or not (principal.may(*_SEES_ALL) or row.standing.principal == principal.name):
        raise no_host(host)
    # The clock is read after the row: a verdict that was kept in between is not from the future.
    return _trust(row, trust_at(row.standing, service.clock()), service)


@router.get(
    "/v1/hosts",
    response_model=models.HostPage,
    responses=dict(answers(422)),
    summary="List hosts by their trust now",
)
async def page(
    *,
    service: ServiceOf,
    principal: Annotated[Principal, Depends(caller)],
    state: Annotated[TrustState | None, Query(description="Only hosts of this trust.")] = None,
    owner: Annotated[str | None, Query(max_length=128, description="Only its hosts.")] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> models.HostPage:
    """List hosts. An attester sees its own."""
    after = identifiers.number_place(cursor) or 0
    whose = owner if principal.may(*_SEES_ALL) else principal.name
    now = service.clock()
    rows = await service.reader.ask(
        lambda db: hosts.page(
            db, now=now, state=state, principal=whose, after=after, most=limit + 1
        )
    )
    return models.HostPage(
        hosts=[_trust(row, trust_at(row.standing, now), service) for row in rows[:limit]],
        next_cursor=identifiers.cursor(rows[limit - 1].number) if len(rows) > limit else None,
    )


@router.put(
    "/v1/hosts/{host}",
    status_code=204,
    responses=dict(answers(422)),
    summary="Say who speaks for a host",
)
async def own(
    host: str,
    owner: models.HostOwner,
    administration: AdministrationOf,
    _: Annotated[Principal, Depends(having(Role.ADMINISTRATOR))],
) -> Response:
    """Enrol a host before its first evidence, or move it to another principal."""
    await administration.set_owner(host, owner.principal)
    return Response(status_code=204)


@router.delete(
    "/v1/hosts/{host}", status_code=204, responses=dict(answers(404)), summary="Forget a host"
)
async def forget(
    host: str,
    administration: AdministrationOf,
    _: Annotated[Principal, Depends(having(Role.ADMINISTRATOR))],
) -> Response:
    """Forget a host and its trust; its appraisals stay until they are pruned."""
    await administration.remove_host(host)
    return Response(status_code=204)


def _trust(row: HostRow, found: Trust, service: Service) -> models.HostTrust:
    return models.HostTrust(
        host=row.standing.host,
        trust=found.state,
        asked=found.asked,
        since=found.since,
        until=found.until,
        last_good=row.standing.good_at,
        principal=row.standing.principal,
        appraisal=None
        if row.appraisal is None
        else identifiers.name(service.writer.database_id, row.appraisal),
    )
