"""Health, metrics, the results' keys."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

import casemate
from casemate.attestation.appraisal import result
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.http import models
from casemate.attestation.service.http.authentication import require
from casemate.attestation.service.http.context import (
    AdministrationOf,
    MetricsOf,
    ServiceOf,
    answers,
)
from casemate.attestation.service.metrics import MEDIA_TYPE
from casemate.attestation.service.principals import Role
from casemate.attestation.service.service import Service

router = APIRouter(tags=["operation"])
_GOOD = "ok"


@router.get("/health/live", summary="Whether the process answers")
async def live() -> dict[str, str]:
    """Answer: the process runs."""
    return {"status": "alive"}


@router.get(
    "/health/ready",
    response_model=models.Health,
    responses={503: {"model": models.Health, "description": "It cannot appraise."}},
    summary="Whether verdicts can be made and kept",
)
async def ready(service: ServiceOf, administration: AdministrationOf) -> Response:
    """Try the database and the results' key: 200 where evidence would be appraised now."""
    database = spool = _GOOD
    try:
        await service.change(lambda db: None)
    except StoreError as error:
        database = str(error)
    last = service.writer.last_error
    if last is not None and database == _GOOD:
        spool = str(last)
    workers = service.appraiser.workers
    collateral = service.appraiser.trouble or _GOOD
    signing = await asyncio.to_thread(_try_signing, service)
    health = models.Health(
        ready=database == spool == collateral == signing == _GOOD,
        database=database,
        spool=spool,
        workers=f"{workers.count}, {workers.lost} lost so far",
        collateral=collateral,
        signing=signing,
        epoch=administration.in_force.epoch,
        version=casemate.__version__,
    )
    return JSONResponse(health.model_dump(), 200 if health.ready else 503)


def _try_signing(service: Service) -> str:
    """Sign what is no result; returns what stands in the way."""
    signer = service.results.signer
    try:
        if signer is not None:
            signer.sign(b"health")
    except InfrastructureError as error:
        return str(error)
    return _GOOD


@router.get(
    "/metrics",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **answers()},
    response_class=Response,
    summary="Metrics for Prometheus",
)
async def measure(request: Request, metrics: MetricsOf) -> Response:
    """All metrics; for relying parties and administrators, unless they are open to all."""
    principal = getattr(request.state, "principal", None)
    if principal is not None:
        require(principal, Role.RELYING_PARTY, Role.ADMINISTRATOR)
    return Response(await asyncio.to_thread(metrics.text), media_type=MEDIA_TYPE)


@router.get(
    "/.well-known/jwks.json",
    response_model=models.KeySet,
    summary="The keys that results are signed with",
)
async def keys(service: ServiceOf) -> dict[str, Any]:
    """The JWK set (RFC 7517); a relying party checks passports with it.

    The key that signs comes first, then those that signed before it.
    """
    try:
        return {"keys": [result.jwk(key.spki) for key in service.published.shown()]}
    except InputError as error:
        raise StoreError(str(error)) from None
