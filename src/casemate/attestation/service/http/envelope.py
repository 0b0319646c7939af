"""What is around every request: correlation id, principal, a bounded body, metrics, problems.

The order: the correlation id is taken or made; the principal is found before a byte of the body is
read; the body is read whole, within its limits of size and time; then the route runs. Whatever goes
wrong ends in a problem document, with the correlation id.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from casemate.attestation.service.errors import Reason, RefusedError, StoreError
from casemate.attestation.service.http import problems
from casemate.attestation.service.http.authentication import Authenticator
from casemate.attestation.service.metrics import Metrics

logger = logging.getLogger("casemate.verifier")

CORRELATION_HEADER = "X-Correlation-ID"
_CORRELATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
#: Paths that anybody may ask, without a body: what they answer is no secret.
OPEN_PATHS = frozenset(
    {"/", "/docs", "/openapi.json", "/health/live", "/health/ready", "/.well-known/jwks.json"}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes of a body, seconds until it is there whole, and seconds for the answer."""

    body_bytes: int = 8 << 20
    body_seconds: float = 30.0
    answer_seconds: float = 60.0


class Envelope:
    """The middleware (ASGI)."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticator: Authenticator,
        limits: Limits,
        metrics: Metrics,
        open_metrics: bool,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits
        self._metrics = metrics
        self._open = OPEN_PATHS | ({"/metrics"} if open_metrics else set())
        self._make_id = make_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(CORRELATION_HEADER, "")
        correlation = given if _CORRELATION.fullmatch(given) else self._make_id()
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["correlation_id"] = correlation
        begun = time.perf_counter()
        status = 500
        started = False
        response: Response | None = None

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                out = MutableHeaders(scope=message)
                out[CORRELATION_HEADER] = correlation
                out["Cache-Control"] = "no-store"
                out["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            async with asyncio.timeout(self._limits.answer_seconds):
                await self._handle(scope, headers, receive, answer)
        except TimeoutError:
            response = problems.failed(
                StoreError(
                    f"no answer within {self._limits.answer_seconds:g} seconds",
                    advice="try again; if it stays so, look at the metrics",
                ),
                correlation,
            )
        except RefusedError as error:
            self._metrics.refused(error.reason)
            response = problems.refused(error, correlation)
        except StoreError as error:
            logger.warning("%s: could not appraise: %s", correlation, error)
            response = problems.failed(error, correlation)
        except Exception:
            logger.exception("%s: a defect in %s %s", correlation, scope["method"], scope["path"])
            response = problems.defect(correlation)
        if response is not None and not started:
            await response(scope, receive, answer)
        route = scope.get("route")
        self._metrics.answered(
            scope["method"], getattr(route, "path", "none"), status, time.perf_counter() - begun
        )

    async def _handle(self, scope: Scope, headers: Headers, receive: Receive, answer: Send) -> None:
        state = scope["state"]
        if scope["path"] in self._open:
            await self._app(scope, _replay(b""), answer)
            return
        state["principal"] = self._authenticator.principal(
            headers.get("authorization"), state.get("peer_certificate")
        )
        body = await self._body(headers, receive)
        await self._app(scope, _replay(body), answer)

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        most = self._limits.body_bytes
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > most:
            raise _too_large(most, f"{announced} bytes")
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(Reason.BAD_REQUEST, "the caller went away")
                    body += message.get("body", b"")
                    if len(body) > most:
                        raise _too_large(most, "more")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RefusedError(
                Reason.TOO_SLOW,
                "the body did not arrive in time",
                where="body",
                expected=f"all of it within {self._limits.body_seconds:g} seconds",
                found=f"{len(body)} bytes",
            ) from None


def _too_large(most: int, found: str) -> RefusedError:
    return RefusedError(
        Reason.TOO_LARGE,
        "the body is too large",
        where="body",
        expected=f"at most {most} bytes",
        found=found,
        advice="send less, or have the service started with a larger --body-limit",
    )


def _replay(body: bytes) -> Receive:
    sent = False

    async def receive() -> Message:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}
        # The answer is under way; nothing more comes, and a disconnect is the server's to notice.
        await asyncio.Event().wait()
        raise RuntimeError("unreachable")

    return receive
