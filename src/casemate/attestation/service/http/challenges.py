"""POST /v1/challenges: a nonce for evidence to answer."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from casemate.attestation.service import identifiers
from casemate.attestation.service.http import models
from casemate.attestation.service.http.context import ServiceOf, answers, having
from casemate.attestation.service.principals import Principal, Role
from casemate.formats import base64url

router = APIRouter(tags=["attestation"])


@router.post(
    "/v1/challenges",
    status_code=201,
    response_model=models.Challenge,
    responses=dict(answers()),
    summary="Ask for a nonce",
)
async def challenge(
    service: ServiceOf,
    principal: Annotated[Principal, Depends(having(Role.ATTESTER, Role.RELYING_PARTY))],
) -> models.Challenge:
    """Issue a nonce that is bound to the caller, can be answered once, and expires.

    An attester answers it with its own evidence. A relying party that checks a host in the
    background passes it on to the host, and hands the evidence in itself.
    """
    issued = await service.challenge(principal)
    return models.Challenge(
        id=identifiers.name(service.writer.database_id, issued.number),
        nonce=base64url.encode(issued.value),
        issued=issued.issued,
        expires=issued.expires,
    )
