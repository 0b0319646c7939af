"""References, policies, anchors and endorsements: import, list, activate; and the epochs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from casemate.attestation.service import identifiers
from casemate.attestation.service.administration import no_document
from casemate.attestation.service.database import documents
from casemate.attestation.service.database.documents import Document, Kind
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
from casemate.attestation.service.principals import Principal, Role

router = APIRouter()
_Reader = Annotated[Principal, Depends(having(Role.ADMINISTRATOR, Role.RELYING_PARTY))]
_Administrator = Annotated[Principal, Depends(having(Role.ADMINISTRATOR))]
_RAW = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
#: The paths' words for the kinds.
_COLLECTIONS = {
    Kind.REFERENCE: "references",
    Kind.POLICY: "policies",
    Kind.ANCHOR: "anchors",
    Kind.ENDORSEMENT: "endorsements",
}


def _add_kind(kind: Kind, collection: str) -> None:
    """Add the routes of one kind."""
    tags = [collection]
    article = "an" if kind.value[0] in "aeiou" else "a"

    async def add(
        request: Request,
        administration: AdministrationOf,
        principal: _Administrator,
        name: Annotated[str, Query(min_length=1, max_length=128)],
    ) -> models.Document:
        """Import the bytes of the body as the name's next version; it is not in force yet.

        Bytes that are a version already are that version.
        """
        body = await request.body()
        if not body:
            raise RefusedError(Reason.UNUSABLE, "the body is empty", where="body")
        return _model(await administration.add_document(kind, name, body, principal))

    async def page(
        service: ServiceOf,
        _: _Reader,
        name: Annotated[str | None, Query(max_length=128)] = None,
        active: Annotated[bool | None, Query(description="Only those in force, or not.")] = None,
        limit: Limit = PAGE,
        cursor: Cursor = None,
    ) -> models.DocumentPage:
        """List versions in the order of their import."""
        after = identifiers.number_place(cursor) or 0
        rows = await service.reader.ask(
            lambda db: documents.page(
                db, kind, name=name, active=active, after=after, most=limit + 1
            )
        )
        return models.DocumentPage(
            documents=[_model(row) for row in rows[:limit]],
            next_cursor=identifiers.cursor(rows[limit - 1].number) if len(rows) > limit else None,
        )

    async def read(name: str, version: int, service: ServiceOf, _: _Reader) -> Response:
        """Read a version's bytes."""
        if not 0 < version < 1 << 63:
            raise no_document(kind, name, version)
        found = await service.reader.ask(lambda db: documents.find(db, kind, name, version))
        if found is None:
            raise no_document(kind, name, version)
        return Response(found[1], media_type="application/octet-stream")

    async def activate(
        name: str, version: int, administration: AdministrationOf, principal: _Administrator
    ) -> models.Activation:
        """Put a version in force, in place of the name's other one (of a policy, of any other).

        What cannot be used is refused, and what was in force stays so.
        """
        return await _set(administration, name, version, principal, active=True)

    async def deactivate(
        name: str, version: int, administration: AdministrationOf, principal: _Administrator
    ) -> models.Activation:
        """Put a version out of force."""
        return await _set(administration, name, version, principal, active=False)

    async def _set(
        administration: AdministrationOf,
        name: str,
        version: int,
        principal: Principal,
        *,
        active: bool,
    ) -> models.Activation:
        if not 0 < version < 1 << 63:
            raise no_document(kind, name, version)
        document, epoch = await administration.set_active(
            kind, name, version, active=active, principal=principal
        )
        return models.Activation(document=_model(document), epoch=epoch)

    one = f"/v1/{collection}/{{name}}/{{version}}"
    router.add_api_route(
        f"/v1/{collection}",
        add,
        methods=["POST"],
        status_code=201,
        response_model=models.Document,
        responses=dict(answers(422)),
        tags=list(tags),
        openapi_extra=_RAW,
        summary=f"Import {article} {kind}",
        operation_id=f"add_{kind}",
    )
    router.add_api_route(
        f"/v1/{collection}",
        page,
        methods=["GET"],
        response_model=models.DocumentPage,
        responses=dict(answers(422)),
        tags=list(tags),
        summary=f"List {collection}",
        operation_id=f"list_{collection}",
    )
    router.add_api_route(
        one,
        read,
        methods=["GET"],
        responses={
            200: {
                "content": {
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
                },
                "description": "The bytes.",
            },
            **answers(404, 422),
        },
        response_class=Response,
        tags=list(tags),
        summary=f"Read {article} {kind}",
        operation_id=f"read_{kind}",
    )
    for action, route in (("activate", activate), ("deactivate", deactivate)):
        router.add_api_route(
            f"{one}/{action}",
            route,
            methods=["POST"],
            response_model=models.Activation,
            responses=dict(answers(404, 422)),
            tags=list(tags),
            summary=f"{action.capitalize()} {article} {kind}",
            operation_id=f"{action}_{kind}",
        )


for _kind, _collection in _COLLECTIONS.items():
    _add_kind(_kind, _collection)


@router.get(
    "/v1/epochs",
    response_model=models.EpochPage,
    responses=dict(answers(422)),
    tags=["references"],
    summary="What is in force, since when",
)
async def epochs(
    service: ServiceOf,
    administration: AdministrationOf,
    _: _Reader,
    limit: Limit = PAGE,
    cursor: Cursor = None,
) -> models.EpochPage:
    """List the changes of what is in force, the newest first."""
    before = identifiers.number_place(cursor)
    rows = await service.reader.ask(lambda db: documents.epochs(db, before=before, most=limit + 1))
    verifier = administration.in_force.verifier
    return models.EpochPage(
        epoch=administration.in_force.epoch,
        policy_digest=verifier.policy.id.digest.hex(),
        references_digest=verifier.references.digest.hex(),
        epochs=[
            models.Epoch(
                epoch=row.epoch,
                at=row.at,
                principal=row.principal,
                action="activate" if row.action == "activate" else "deactivate",
                kind=row.kind,
                name=row.name,
                version=row.version,
            )
            for row in rows[:limit]
        ],
        next_cursor=identifiers.cursor(rows[limit - 1].epoch) if len(rows) > limit else None,
    )


def _model(document: Document) -> models.Document:
    return models.Document(
        name=document.name,
        version=document.version,
        digest=document.digest.hex(),
        size=document.size,
        imported=document.imported,
        imported_by=document.imported_by,
        active=document.active,
    )
