"""GET /v1/appraisals/{id}/material: the bytes that a verdict was made of, for whoever doubts it."""

from __future__ import annotations

import base64
import sqlite3
from typing import Annotated

from fastapi import APIRouter, Depends

from casemate.attestation.errors import InputError
from casemate.attestation.service import identifiers, reproof
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.http import models
from casemate.attestation.service.http.context import ServiceOf, answers, having
from casemate.attestation.service.principals import Principal, Role

router = APIRouter(tags=["attestation"])
_Reader = Annotated[Principal, Depends(having(Role.ADMINISTRATOR, Role.RELYING_PARTY))]


@router.get(
    "/v1/appraisals/{appraisal}/material",
    response_model=models.Material,
    responses=dict(answers(404)),
    summary="Read what a verdict was made of",
)
async def material(appraisal: str, service: ServiceOf, _: _Reader) -> models.Material:
    """Read evidence, collateral, and the anchors, references and policy of then.

    They are arguments of `casemate appraise`: whoever has them need not believe this service.
    """
    number = identifiers.number(service.writer.database_id, appraisal, where="appraisal")

    def ask(db: sqlite3.Connection) -> dict[str, bytes]:
        return reproof.files_of(db, number)

    try:
        files = await service.reader.ask(ask)
    except InputError as error:
        raise RefusedError(
            Reason.NOT_FOUND,
            str(error),
            where="appraisal",
            advice="evidence is kept within bounds: --keep-evidence, --evidence-limit",
        ) from None
    return models.Material(
        files={name: base64.b64encode(data).decode() for name, data in files.items()}
    )
