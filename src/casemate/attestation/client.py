"""Talks to a verifier: challenges, evidence, trust, administration; by the standard library.

    with VerifierClient("https://verifier.example", token=token, ca=Path("ca.pem")) as verifier:
        challenge = verifier.challenge()
        appraisal = verifier.submit([evidence_for(challenge.nonce)], challenge)
        passport = appraisal.result

One connection, used again for each request; one client is for one thread.
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import re
import ssl
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from casemate.attestation.errors import AttestationError, InputError
from casemate.attestation.states import State
from casemate.closing import Closing
from casemate.formats import base64url

TIMEOUT = 90.0
#: An answer is at most this long, in bytes.
LARGEST = 64 << 20
#: Names of files that a verdict was made of: none leads out of a folder.
_MATERIAL = re.compile(r"[a-z]+(/[1-9][0-9]*|\.json)")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class VerifierError(AttestationError):
    """The verifier refused, failed, or could not be reached.

    `status` is the HTTP status, 0 where there was no answer; `kind` the last part of the problem's
    type; `state` is could-not-appraise where the verifier is at fault, None where the request is.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        kind: str = "unreachable",
        where: str = "",
        expected: str = "",
        found: str = "",
        advice: str = "",
        correlation_id: str = "",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.where = where
        self.expected = expected
        self.found = found
        self.advice = advice
        self.correlation_id = correlation_id

    @property
    def state(self) -> State | None:
        """Could-not-appraise, where no verdict can be had for no fault of the request."""
        return State.COULD_NOT_APPRAISE if self.status in (0, 500, 503) else None


@dataclass(frozen=True, slots=True)
class Challenge:
    """A nonce (32 bytes) to put into evidence; `id` names it when that is handed in."""

    id: str
    nonce: bytes
    expires: datetime


@dataclass(frozen=True, slots=True)
class Appraisal:
    """A verdict: `document` is all of it (docs/appraisal.md), `result` the signed EAR (JWT)."""

    id: str
    state: State
    host: str | None
    effect: str
    effect_meaning: str
    document: Mapping[str, Any]
    result: str | None
    correlation_id: str


class VerifierClient(Closing):
    """A connection to a verifier."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        ca: Path | None = None,
        certificate: Path | None = None,
        key: Path | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        """`ca` verifies the server (without it, the system's CAs do), `certificate` and `key` (PEM
        files) are the client's. Raises `InputError` for what cannot be used.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url}: expected a URL such as https://verifier.example:8460")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK and token is not None:
            raise InputError(f"{url}: a token does not travel in the clear: use https")
        self._token = token
        self._base = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=_tls(ca, certificate, key)
            )
        else:
            self._connection = http.client.HTTPConnection(
                parts.hostname, parts.port, timeout=timeout
            )
        self._url = url

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def challenge(self, *, correlation_id: str | None = None) -> Challenge:
        """Ask for a nonce. Raises `VerifierError`, as do all methods."""
        answer = self.call("POST", "/v1/challenges", correlation_id=correlation_id)
        return Challenge(
            answer["id"],
            base64url.decode(answer["nonce"]),
            datetime.fromisoformat(answer["expires"]),
        )

    def submit(
        self,
        evidence: Sequence[bytes],
        challenge: Challenge | None,
        *,
        names: Sequence[str] = (),
        correlation_id: str | None = None,
    ) -> Appraisal:
        """Hand evidence in, for a challenge or (None) of unknown age. `names` are for people."""
        named = [*names, *("" for _ in evidence)]
        body = {
            "challenge": None if challenge is None else challenge.id,
            "evidence": [
                {"data": base64url.encode(data), "name": name}
                for data, name in zip(evidence, named, strict=False)
            ],
        }
        return _appraisal(
            self.call("POST", "/v1/appraisals", body=body, correlation_id=correlation_id)
        )

    def appraisal(self, name: str) -> Appraisal:
        """Read a verdict."""
        return _appraisal(self.call("GET", f"/v1/appraisals/{_quoted(name)}"))

    def material(self, name: str) -> dict[str, bytes]:
        """Read what a verdict was made of, by file name; see docs/verifier-service.md."""
        answer = self._object("GET", f"/v1/appraisals/{_quoted(name)}/material")
        try:
            files = {
                file: base64.b64decode(data, validate=True)
                for file, data in answer["files"].items()
            }
        except (KeyError, AttributeError, TypeError, binascii.Error) as error:
            raise VerifierError(f"{self._url}: no material in the answer: {error}") from None
        if odd := next((file for file in files if not _MATERIAL.fullmatch(file)), None):
            raise VerifierError(f"{self._url}: {odd!r:.60} is no name of a file of material")
        return files

    def trust(self, host: str) -> dict[str, Any]:
        """Ask for a host's trust now: `HostTrust` in /openapi.json."""
        return self._object("GET", f"/v1/hosts/{_quoted(host)}/trust")

    def hosts(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield all hosts, page by page; `state` and `owner` filter."""
        yield from self._pages("/v1/hosts", "hosts", filters)

    def appraisals(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield all appraisals, the newest first; host, state, since and until filter."""
        yield from self._pages("/v1/appraisals", "appraisals", filters)

    def documents(self, collection: str, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield the versions in `references`, `policies`, `anchors` or `endorsements`."""
        yield from self._pages(f"/v1/{collection}", "documents", filters)

    def add_document(self, collection: str, name: str, data: bytes) -> dict[str, Any]:
        """Import a version, not yet in force."""
        return self._object("POST", f"/v1/{collection}?name={_quoted(name)}", body=data)

    def set_active(
        self, collection: str, name: str, version: int, *, active: bool = True
    ) -> dict[str, Any]:
        """Put a version in force or out of it."""
        action = "activate" if active else "deactivate"
        return self._object("POST", f"/v1/{collection}/{_quoted(name)}/{version}/{action}")

    def principals(self) -> Iterator[dict[str, Any]]:
        """Yield all principals."""
        yield from self._pages("/v1/principals", "principals", {})

    def make_principal(self, name: str, roles: Sequence[str], **more: Any) -> dict[str, Any]:
        """Make a principal; its token is in the answer."""
        return self._object("POST", "/v1/principals", body={"name": name, "roles": roles, **more})

    def remove_principal(self, name: str) -> None:
        """Forget a principal."""
        self.call("DELETE", f"/v1/principals/{_quoted(name)}")

    def forget_host(self, host: str) -> None:
        """Forget a host and its trust."""
        self.call("DELETE", f"/v1/hosts/{_quoted(host)}")

    def set_owner(self, host: str, principal: str) -> None:
        """Say who speaks for a host."""
        self.call("PUT", f"/v1/hosts/{_quoted(host)}", body={"principal": principal})

    def health(self) -> dict[str, Any]:
        """Whether it can appraise; an answer also where it cannot."""
        return self._object("GET", "/health/ready", good=(200, 503))

    def keys(self) -> dict[str, Any]:
        """The JWK set that results are signed with."""
        return self._object("GET", "/.well-known/jwks.json")

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Mapping[str, Any] | None = None,
        correlation_id: str | None = None,
        good: Sequence[int] = (200, 201, 204),
    ) -> Any:
        """Make one request; returns the answer's JSON, None where it has none."""
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if correlation_id is not None:
            headers["X-Correlation-ID"] = correlation_id
        content: bytes | None
        if isinstance(body, Mapping):
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        else:
            content = body
            headers["Content-Type"] = "application/octet-stream"
        status, data = self._exchange(method, self._base + path, content, headers)
        if status in good:
            try:
                return json.loads(data) if data else None
            except ValueError as error:
                raise VerifierError(
                    f"{self._url}: the answer to {method} {path} is no JSON: {error}",
                    advice="see whether a verifier answers there, or something before it",
                ) from None
        raise _problem(status, data)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        # A connection that the server ended while it was idle is opened again, once.
        for attempt in (1, 2):
            fresh = self._connection.sock is None
            try:
                self._connection.request(method, path, body, headers)
                answer = self._connection.getresponse()
                data = answer.read(LARGEST + 1)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                self._connection.close()
                if fresh or attempt == 2:
                    raise self._unreachable(error) from error
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                raise self._unreachable(error) from error
            else:
                if answer.length and len(data) <= LARGEST:
                    self._connection.close()
                    raise self._unreachable(http.client.IncompleteRead(data, answer.length))
                if len(data) > LARGEST:
                    self._connection.close()
                    raise VerifierError(f"the answer is longer than {LARGEST} bytes")
                return answer.status, data
        raise AssertionError("unreachable")

    def _unreachable(self, error: Exception) -> VerifierError:
        return VerifierError(
            f"{self._url}: {str(error) or type(error).__name__}",
            advice="see whether the verifier runs there, and which CA signed its certificate",
        )

    def _object(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        return dict(self.call(method, path, **more))

    def _pages(self, path: str, field: str, filters: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        query = {"limit": "1000", **filters}
        while True:
            page = self._object("GET", f"{path}?{urllib.parse.urlencode(query)}")
            yield from page[field]
            if page["next_cursor"] is None:
                return
            query["cursor"] = page["next_cursor"]


def _tls(ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"TLS: {ca or certificate}: {error}") from None
    return context


def _appraisal(answer: Mapping[str, Any]) -> Appraisal:
    return Appraisal(
        answer["id"],
        State(answer["state"]),
        answer["host"],
        answer["effect"],
        answer["effect_meaning"],
        answer["verdict"],
        answer["result"],
        answer["correlation_id"],
    )


def _problem(status: int, data: bytes) -> VerifierError:
    try:
        problem = json.loads(data)
        return VerifierError(
            str(problem["detail"]),
            status=status,
            kind=str(problem["type"]).rsplit(":", 1)[-1],
            where=str(problem.get("where", "")),
            expected=str(problem.get("expected", "")),
            found=str(problem.get("found", "")),
            advice=str(problem.get("advice", "")),
            correlation_id=str(problem.get("correlation_id", "")),
        )
    except (ValueError, KeyError, TypeError):
        return VerifierError(
            f"the answer has status {status} and no problem document", status=status
        )


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
