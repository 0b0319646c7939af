"""Serves an open service over HTTP until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from casemate.attestation.appraisal.result import Signer
from casemate.attestation.errors import InputError
from casemate.attestation.service.configuration import Configuration, Tls
from casemate.attestation.service.opening import Open, opened
from casemate.attestation.service.pruning import prune_for_ever

#: Seconds that a client has for the head of its first request.
_HEAD_SECONDS = 15


class Server:
    """Serves one open service over HTTP."""

    def __init__(self, open_service: Open) -> None:
        """Listen; raises `InputError` where the address cannot be had or the TLS files be read."""
        self._open = open_service
        configuration = open_service.configuration
        self._socket = _listen(configuration.host, configuration.port)
        settings: dict[str, Any] = {}
        if configuration.tls is not None:
            settings = _tls(configuration.tls)
        config = uvicorn.Config(
            open_service.app,
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=10,
            limit_concurrency=configuration.connections,
            **settings,
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"the TLS certificate or key cannot be used: {error}") from error
        if config.ssl is not None:
            config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
        self._server = _HttpServer(config)

    @property
    def url(self) -> str:
        """Where it listens."""
        scheme = "http" if self._open.configuration.tls is None else "https"
        host, port = self._socket.getsockname()[:2]
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def stop(self) -> None:
        """Have it end; for other threads."""
        self._server.should_exit = True

    async def serve(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`; `ready` is called when it does."""
        pruning = asyncio.create_task(prune_for_ever(self._open.service))
        # The socket listens already; connections wait until the loop runs.
        asyncio.get_running_loop().call_soon(ready)
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            pruning.cancel()


def run(
    configuration: Configuration,
    *,
    started: Callable[[str], None],
    notify: Callable[[str], None] = lambda _: None,
    signer: Signer | None = None,
) -> None:
    """Serve in the foreground until a signal; `started` gets the URL, `signer` is for `opened`."""
    with opened(configuration, signer=signer) as service:
        server = Server(service)

        def ready() -> None:
            started(server.url)
            notify("READY=1")

        asyncio.run(_until_a_signal(server, ready))
        notify("STOPPING=1")


async def _until_a_signal(server: Server, ready: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    await server.serve(ready)


class _HttpServer(uvicorn.Server):
    """The server without signal handlers of its own: they would end the process before it closed
    what it keeps.
    """

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class _Protocol(H11Protocol):
    """HTTP/1.1; each request's scope carries the client's certificate, a slow head is cut off."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self.app_state = {**self.app_state, "peer_certificate": certificate}
        self._head = self.loop.call_later(_HEAD_SECONDS, self._no_head, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        super().connection_lost(exc)

    def _no_head(self, transport: asyncio.Transport) -> None:
        if self.scope is None:
            transport.abort()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
        return listening
    except OSError as error:
        raise InputError(f"cannot listen on {host}, port {port}: {error.strerror}") from None


def _tls(tls: Tls) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "ssl_certfile": str(tls.certificate),
        "ssl_keyfile": str(tls.key),
    }
    if tls.client_ca is not None:
        settings["ssl_ca_certs"] = str(tls.client_ca)
        settings["ssl_cert_reqs"] = ssl.CERT_REQUIRED if tls.required else ssl.CERT_OPTIONAL
    elif tls.required:
        raise InputError("client certificates are required, but no CA for them is given")
    return settings
