"""The small interface to the network, and its one implementation over HTTPS.

A fetcher answers a request with a body and headers, or says which kind of failure it was: what is
not there will not be there in a minute; who asks to be left alone says for how long; the rest may
pass. Nobody here retries: the cache decides.
"""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from casemate.attestation.errors import AttestationError

if TYPE_CHECKING:
    import httpx

LARGEST_BODY = 4 * 1024 * 1024
DEFAULT_TIMEOUT = 10.0


class FetchError(AttestationError):
    """A request failed; the message says which and how. It may go well another time."""


class NotFoundError(FetchError):
    """The source does not have it."""


class LimitedError(FetchError):
    """The source asks not to be asked for `seconds`."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Request:
    """A GET, or a POST where there is a body."""

    url: str
    body: bytes | None = None
    content_type: str | None = None

    @property
    def host(self) -> str:
        """Whom it asks: limits and failures are counted by it."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, slots=True)
class Response:
    """A successful answer; header names are in lower case."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Fetcher(Protocol):
    """Whatever answers requests."""

    def fetch(self, request: Request) -> Response:
        """Answer one request. Raises FetchError and its kinds."""
        ...


class HttpFetcher:
    """Answers over HTTPS; plain HTTP only for hosts that the operator named (a cache on site).

    Bodies are bounded, redirects are not followed: collateral is where the vendor says it is.
    """

    def __init__(
        self,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        plain_hosts: frozenset[str] = frozenset(),
        client: httpx.Client | None = None,
    ) -> None:
        # Whoever fetches nothing need not have it in memory.
        import httpx

        self._failure = httpx.HTTPError
        self._client = client or httpx.Client(timeout=timeout, follow_redirects=False)
        self._plain_hosts = plain_hosts

    def fetch(self, request: Request) -> Response:
        """Answer one request. Raises FetchError and its kinds."""
        scheme = urlsplit(request.url).scheme
        if scheme != "https" and not (scheme == "http" and request.host in self._plain_hosts):
            raise FetchError(f"{request.url}: only HTTPS is used, or HTTP to hosts that are named")
        headers = {} if request.content_type is None else {"content-type": request.content_type}
        method = "GET" if request.body is None else "POST"
        try:
            with self._client.stream(
                method, request.url, content=request.body, headers=headers
            ) as response:
                return _read(request, response)
        except self._failure as error:
            raise FetchError(f"{request.url}: {error or type(error).__name__}") from None


def _read(request: Request, response: httpx.Response) -> Response:
    status = response.status_code
    if status in (404, 410):
        raise NotFoundError(f"{request.url}: not found")
    if status in (429, 503):
        seconds = _retry_after(response.headers.get("retry-after"))
        raise LimitedError(f"{request.url}: asks to be left alone ({status})", seconds)
    if status != 200:
        raise FetchError(f"{request.url}: answered {status}")
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise FetchError(f"{request.url}: answered more than {LARGEST_BODY} bytes")
    return Response(bytes(body), {name.lower(): value for name, value in response.headers.items()})


def _retry_after(text: str | None) -> float:
    """Seconds of a Retry-After header (a number or a date); 10 where there is none to read."""
    if text is None:
        return 10.0
    if text.isdigit():
        return min(float(text), 86_400.0)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return 10.0
    return max(0.0, min((until - datetime.now(UTC)).total_seconds(), 86_400.0))
