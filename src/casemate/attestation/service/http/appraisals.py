"""POST and GET /v1/appraisals: evidence in, verdicts out.

The answer's form is the caller's choice (Accept): the whole appraisal (application/json), or the
signed result alone (application/eat+jwt or application/eat+cwt).
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request
from starlette.responses import Response

from casemate.attestation.service import events, identifiers, results
from casemate.attestation.service.database import appraisals
from casemate.attestation.service.database.appraisals import AppraisalRow
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.http import evidence, models
from casemate.attestation.service.http.context import (
    PAGE,
    CorrelationId,
    Cursor,
    Limit,
    MetricsOf,
    ServiceOf,
    answers,
    caller,
    having,
)
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.record import Recorded
from casemate.attestation.service.service import Service
from casemate.attestation.states import State
from casemate.formats.ear import MEDIA_TYPE_CWT, MEDIA_TYPE_JWT

router = APIRouter(tags=["attestation"])
_JSON = "application/json"
_TOKEN_FORMS: dict[str, Any] = {
    MEDIA_TYPE_JWT: {"schema": {"type": "string"}},
    MEDIA_TYPE_CWT: {"schema": {"type": "string", "format": "binary"}},
}
_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            _JSON: {"schema": models.AppraisalRequest.model_json_schema()},
            evidence.CMW_JSON: {"schema": {"description": "A conceptual message wrapper."}},
            evidence.CMW_CBOR: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
Accept = Annotated[str, Header(description=f"{_JSON}, {MEDIA_TYPE_JWT} or {MEDIA_TYPE_CWT}.")]


@router.post(
    "/v1/appraisals",
    status_code=201,
    response_model=models.Appraisal,
    responses={
        201: {"content": _TOKEN_FORMS, "description": "The verdict, whatever its state."},
        **answers(404, 406, 409, 410, 415, 422),
    },
    openapi_extra=_BODIES,
    summary="Hand evidence in",
)
async def appraise(
    *,
    request: Request,
    service: ServiceOf,
    metrics: MetricsOf,
    correlation_id: CorrelationId,
    principal: Annotated[Principal, Depends(having(Role.ATTESTER, Role.RELYING_PARTY))],
    accept: Accept = _JSON,
    challenge: Annotated[
        str | None, Query(max_length=40, description="The challenge's id, beside a wrapper.")
    ] = None,
) -> Response:
    """Appraise one attester's evidence, keep the verdict, and answer with it.

    The state is in the verdict: 201 says that there is one. 503 says that there is none.
    """
    begun = time.perf_counter()
    form = _form(accept, service)
    named, pieces = evidence.read(
        await request.body(), request.headers.get("content-type", ""), challenge
    )
    database = service.writer.database_id
    recorded = await service.appraise(
        pieces,
        principal=principal,
        challenge=None if named is None else identifiers.number(database, named, where="challenge"),
        correlation_id=correlation_id,
    )
    metrics.appraised(
        recorded.appraised.outcome.state, recorded.effect, time.perf_counter() - begun
    )
    return await _answer(recorded, form, service)


@router.get(
    "/v1/appraisals/{appraisal}",
    response_model=models.Appraisal,
    responses={
        200: {
            "content": _TOKEN_FORMS,
            "description": "The appraisal.",
        },
        **answers(404, 406),
    },
    summary="Read a verdict",
)
async def read(
    appraisal: str,
    service: ServiceOf,
    principal: Annotated[Principal, Depends(caller)],
    accept: Accept = _JSON,
) -> Response:
    """Read an appraisal with its verdict; the signed result is the very one that was given."""
    form = _form(accept, service)
    number = identifiers.number(service.writer.database_id, appraisal, where="appraisal")

    def ask(db: Any) -> tuple[AppraisalRow | None, tuple[bytes, bytes | None] | None]:
        return appraisals.find(db, number), appraisals.contents(db, number)

    row, contents = await service.reader.ask(ask)
    if row is None or contents is None or not _may_read(principal, row):
        raise RefusedError(
            Reason.NOT_FOUND,
            f"there is no appraisal {appraisal[:40]!r} that you may read",
            where="appraisal",
            advice="it may have been pruned; list them: GET /v1/appraisals",
        )
    token = results.token_of(*contents)
    if form != _JSON and token is None:
        raise _unsigned()
    if form == MEDIA_TYPE_JWT:
        return Response(token, media_type=MEDIA_TYPE_JWT)
    if form == MEDIA_TYPE_CWT:
        return Response(await _cwt(contents[0], service), media_type=MEDIA_TYPE_CWT)
    document = json.dumps(events.document_of(json.loads(contents[0]))).encode()
    whole = _whole(_summary(row, service), row.effect.sentence, document, token)
    return Response(whole, media_type=_JSON)


@router.get(
    "/v1/appraisals",
    response_model=models.AppraisalPage,
    responses=dict(answers(422)),
    summary="List verdicts",
)
async def page(
    *,
    service: ServiceOf,
    principal: Annotated[Principal, Depends(caller)],
    host: Annotated[str | None, Query(max_length=128)] = None,
    state: State | None = None,
    correlation_id: Annotated[str | None, Query(max_length=64)] = None,
    since: Annotated[datetime | None, Query(description="Not before this time.")] = None,
    until: Annotated[datetime | None, Query(description="Before this time.")] = None,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> models.AppraisalPage:
    """List appraisals, the newest first. An attester sees those that it handed in."""
    before = identifiers.number_place(cursor)
    mine = None if principal.may(Role.RELYING_PARTY, Role.ADMINISTRATOR) else principal.name
    rows = await service.reader.ask(
        lambda db: appraisals.page(
            db,
            host=host,
            principal=mine,
            state=state,
            correlation=correlation_id,
            since=_aware(since),
            until=_aware(until),
            before=before,
            most=limit + 1,
        )
    )
    return models.AppraisalPage(
        appraisals=[_summary(row, service) for row in rows[:limit]],
        next_cursor=identifiers.cursor(rows[limit - 1].number) if len(rows) > limit else None,
    )


def _aware(time: datetime | None) -> datetime | None:
    if time is not None and time.tzinfo is None:
        raise RefusedError(
            Reason.UNUSABLE,
            "the time has no zone",
            where="since, until",
            expected="such as 2026-11-25T12:00:00Z",
            found=time.isoformat(),
        )
    return time


def _may_read(principal: Principal, row: AppraisalRow) -> bool:
    return row.principal == principal.name or principal.may(Role.RELYING_PARTY, Role.ADMINISTRATOR)


def _form(accept: str, service: Service) -> str:
    """Return the form that the caller wants and that can be made; raises `RefusedError`."""
    forms = (_JSON, MEDIA_TYPE_JWT, MEDIA_TYPE_CWT)
    for part in accept.split(","):
        wanted = part.split(";")[0].strip().lower()
        if wanted in ("", "*/*", "application/*"):
            return _JSON
        if wanted in forms:
            if wanted != _JSON and service.results.signer is None:
                raise _unsigned()
            return wanted
    raise RefusedError(
        Reason.NOT_ACCEPTABLE,
        "the answer cannot be given in this form",
        where="accept",
        expected=", ".join(forms),
        found=accept[:100],
    )


def _unsigned() -> RefusedError:
    return RefusedError(
        Reason.NOT_ACCEPTABLE,
        "results are not signed here",
        where="accept",
        expected=_JSON,
        advice="start the service with a signing key",
    )


async def _answer(recorded: Recorded, form: str, service: Service) -> Response:
    database = service.writer.database_id
    name = identifiers.name(database, recorded.number)
    headers = {"Location": f"/v1/appraisals/{name}"}
    appraised, outcome = recorded.appraised, recorded.appraised.outcome
    token = results.token_of(appraised.claims, appraised.envelope)
    if form == MEDIA_TYPE_JWT:
        return Response(token, 201, headers, MEDIA_TYPE_JWT)
    if form == MEDIA_TYPE_CWT:
        whole = await _cwt(appraised.claims, service)
        return Response(whole, 201, headers, MEDIA_TYPE_CWT)
    summary = models.AppraisalSummary(
        id=name,
        state=outcome.state,
        host=outcome.host,
        at=outcome.at,
        principal=recorded.principal,
        effect=recorded.effect,
        challenge=None
        if recorded.challenge is None
        else identifiers.name(database, recorded.challenge),
        correlation_id=appraised.correlation_id,
        policy_digest=appraised.policy.hex(),
        references_digest=appraised.references.hex(),
    )
    whole = _whole(summary, recorded.effect.sentence, appraised.document, token)
    return Response(whole, 201, headers, _JSON)


async def _cwt(claims: bytes, service: Service) -> bytes | None:
    """Sign the claims as a CWT, in a thread: the key may be far away."""
    return await asyncio.to_thread(service.results.cwt, claims)


def _summary(row: AppraisalRow, service: Service) -> models.AppraisalSummary:
    database = service.writer.database_id
    return models.AppraisalSummary(
        id=identifiers.name(database, row.number),
        state=row.state,
        host=row.host,
        at=row.at,
        principal=row.principal,
        effect=row.effect,
        challenge=None if row.challenge is None else identifiers.name(database, row.challenge),
        correlation_id=row.correlation,
        policy_digest=row.policy.hex(),
        references_digest=row.reference.hex(),
    )


def _whole(
    summary: models.AppraisalSummary, meaning: str, document: bytes, token: str | None
) -> bytes:
    """Return `models.Appraisal` as JSON; the document is JSON already."""
    head = json.dumps({**summary.model_dump(mode="json"), "effect_meaning": meaning})
    tail = json.dumps(token)
    return b'%b, "verdict": %b, "result": %b}' % (head[:-1].encode(), document, tail.encode())
