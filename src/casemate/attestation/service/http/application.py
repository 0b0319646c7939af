"""Puts the routes together into one application (ASGI), with its OpenAPI document."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp

import casemate
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.service.administration import Administration
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.http import (
    appraisals,
    challenges,
    documentation,
    documents,
    hosts,
    material,
    operations,
    principals,
    problems,
)
from casemate.attestation.service.http.authentication import Authenticator
from casemate.attestation.service.http.envelope import OPEN_PATHS, Envelope, Limits
from casemate.attestation.service.metrics import Metrics
from casemate.attestation.service.service import Service

logger = logging.getLogger("casemate.verifier")

_DESCRIPTION = """\
The verifier of RFC 9334 (remote attestation procedures): it issues challenges, appraises the \
evidence that answers them, keeps every verdict, and says which hosts are trusted now.

Passport: a host asks for a challenge, answers it with evidence, and takes the signed result (EAR) \
to whoever wants to see it; they check it with /.well-known/jwks.json.

Background check: a relying party asks for a challenge, gives the nonce to the host, and hands the \
host's evidence in itself. The verdict is its answer; the host's trust here does not change.

A principal authenticates with a bearer token or a TLS client certificate. Errors are problem \
documents (RFC 9457). Every answer carries X-Correlation-ID; one that is sent is taken over.\
"""
#: FastAPI's own shapes of validation errors, which are never sent.
_NOT_SENT = ("HTTPValidationError", "ValidationError")


def application(
    service: Service,
    administration: Administration,
    *,
    authenticator: Authenticator,
    metrics: Metrics,
    limits: Limits,
    open_metrics: bool = False,
) -> ASGIApp:
    """Return the application of a service."""
    app = FastAPI(
        title="Casemate verifier",
        version=casemate.__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.administration = administration
    app.state.metrics = metrics
    for module in (challenges, appraisals, material, hosts, documents, principals, operations):
        app.include_router(module.router)
    document = _openapi(app)
    html = documentation.page(document)

    @app.get("/openapi.json", include_in_schema=False)
    async def openapi() -> dict[str, Any]:
        return document

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(InfrastructureError, _failed)
    app.add_exception_handler(Exception, _defect)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _other)
    return Envelope(
        app,
        authenticator=authenticator,
        limits=limits,
        metrics=metrics,
        open_metrics=open_metrics,
    )


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, RefusedError):
        raise error
    metrics: Metrics = request.app.state.metrics
    metrics.refused(error.reason)
    return problems.refused(error, request.state.correlation_id)


def _failed(request: Request, error: Exception) -> Response:
    if not isinstance(error, InfrastructureError):
        raise error
    logger.warning("%s: could not appraise: %s", request.state.correlation_id, error)
    return problems.failed(error, request.state.correlation_id)


def _defect(request: Request, error: Exception) -> Response:
    """Answer; the error goes on to the envelope, which logs it."""
    return problems.defect(request.state.correlation_id)


def _invalid(request: Request, error: Exception) -> Response:
    """Answer a request whose parameters or body are not of their shape."""
    first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
    place = ".".join(str(part) for part in first.get("loc", ("request",)))
    found = first.get("input")
    return problems.refused(
        RefusedError(
            Reason.UNUSABLE,
            str(first.get("msg", "the request is not of its shape")),
            where=place,
            expected="the shape in /openapi.json",
            found="" if found is None else f"{found!r:.60}",
            advice="see /docs",
        ),
        request.state.correlation_id,
    )


def _other(request: Request, error: Exception) -> Response:
    """Answer where no route was found, or none for the method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    problem = problems.Problem(
        type=problems.TYPES + ("no-route" if status == 404 else "method-not-allowed"),
        title="There is no such route" if status == 404 else "The route has no such method",
        status=status,
        detail=f"{request.method} {request.url.path[:200]}",
        correlation_id=request.state.correlation_id,
        advice="see /docs",
    )
    headers = error.headers if isinstance(error, HTTPException) else None
    return problems.response(problem, headers)


def _openapi(app: FastAPI) -> dict[str, Any]:
    document = app.openapi()
    components = document["components"]
    components["schemas"] = {
        name: schema
        for name, schema in sorted(components["schemas"].items())
        if name not in _NOT_SENT
    }
    components["schemas"]["Problem"] = problems.Problem.model_json_schema()
    components["securitySchemes"]["certificate"] = {
        "type": "mutualTLS",
        "description": "A client certificate whose key is registered, or of the clients' CA.",
    }
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                _point_at_problem(status, answer)
            if path not in OPEN_PATHS:
                operation["security"] = [{"bearer": []}, {"certificate": []}]
    return document


def _point_at_problem(status: str, answer: dict[str, Any]) -> None:
    """Have every refusal of an operation refer to the one shape of problems."""
    content = answer.get("content", {})
    if status == "422" and problems.MEDIA_TYPE not in content:
        answer["description"] = "What was given cannot be used."
        answer["content"] = content = {problems.MEDIA_TYPE: {}}
    if problems.MEDIA_TYPE in content:
        content.pop("application/json", None)
        content[problems.MEDIA_TYPE]["schema"] = {"$ref": "#/components/schemas/Problem"}
