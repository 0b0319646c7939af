"""Starts the service: opens what it keeps, starts its workers, serves HTTP until it is told to end.

One process has one service, and a folder has one process: it holds the folder's lock.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from casemate.attestation.appraisal.result import PemSigner, Signer
from casemate.attestation.collateral.cache import CollateralCache, Terms
from casemate.attestation.collateral.fetching import FetchError, HttpFetcher
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.errors import InputError
from casemate.attestation.service.administration import Administration
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.configuration import CollateralSettings, Configuration, Tls
from casemate.attestation.service.database import (
    appraisals,
    challenges,
    connection,
    evidence,
    hosts,
)
from casemate.attestation.service.database.reader import Reader
from casemate.attestation.service.database.writer import Writer
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.events import SpoolPublisher
from casemate.attestation.service.http.application import application
from casemate.attestation.service.http.authentication import Authenticator
from casemate.attestation.service.inputs import InForce, Inputs
from casemate.attestation.service.metrics import Metrics, Sample
from casemate.attestation.service.published_keys import PublishedKeys
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.service import Service, Settings
from casemate.attestation.service.trust import TrustRules
from casemate.attestation.service.workers import Keeps, PoolAppraiser
from casemate.audit.spool import Spool, SpoolError

logger = logging.getLogger("casemate.verifier")

#: How often what is old is pruned, how much in one transaction, and how long a challenge is kept
#: after it ended, so that its use is still told apart from its absence.
_PRUNE_EVERY, _PRUNE_ROWS = 60.0, 500
_CHALLENGE_KEPT = timedelta(hours=1)
#: Seconds that a client has for the head of its first request.
_HEAD_SECONDS = 15


def now() -> datetime:
    """The clock of a service that runs."""
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Open:
    """A service that is open: everything that serving needs."""

    configuration: Configuration
    service: Service
    administration: Administration
    app: ASGIApp


@contextmanager
def opened(
    configuration: Configuration,
    clock: Callable[[], datetime] = now,
    *,
    signer: Signer | None = None,
) -> Iterator[Open]:
    """Open a service; close it in the end. Without a signer, the configuration's PEM file signs.

    Raises `InputError` and `StoreError` for what stands in the way.
    """
    with ExitStack() as stack:
        _lock(configuration.folder, stack)
        database_id = connection.create(configuration.database)
        reader = Reader(configuration.database)
        stack.callback(reader.close)
        inputs = Inputs(
            require_signed_references=configuration.require_signed_references,
            require_revocation=configuration.require_revocation,
        )
        in_force = reader.query(lambda db: inputs.load(db, clock()))
        try:
            spool = Spool(
                configuration.spool,
                durability=configuration.durability,
                limits=configuration.spool_limits,
            )
        except SpoolError as error:
            raise StoreError(str(error)) from error
        stack.callback(spool.close)
        if spool.torn_bytes:
            logger.warning("the spool had a torn tail: %d bytes moved aside", spool.torn_bytes)
        publisher = SpoolPublisher(spool, database_id)
        writer = Writer(configuration.database, publisher)
        stack.callback(writer.close)
        if signer is None:
            signer = PemSigner(_key(configuration.key_file), str(configuration.key_file))
        published = PublishedKeys(configuration.published_keys)
        published.sign_with(signer.spki, clock())
        results = ResultMaker(
            signer,
            lifetime=configuration.result_lifetime,
            issuer=configuration.issuer,
        )
        collateral = Collateral(
            _supply(configuration.collateral, clock, stack), stale_for=configuration.stale_for
        )
        stack.callback(collateral.close)
        appraiser = PoolAppraiser(
            in_force,
            results,
            workers=configuration.workers,
            collateral=collateral,
            keeps=None
            if configuration.evidence_age is None
            else Keeps(
                require_revocation=configuration.require_revocation,
                require_signed_references=configuration.require_signed_references,
            ),
        )
        stack.callback(appraiser.close)
        service = Service(
            reader=reader,
            writer=writer,
            publisher=publisher,
            appraiser=appraiser,
            results=results,
            published=published,
            settings=Settings(
                rules=TrustRules(
                    maximum_age=configuration.maximum_age,
                    enrol_on_first_use=configuration.enrol_on_first_use,
                ),
                challenge_lifetime=configuration.challenge_lifetime,
                retention=configuration.retention,
                evidence_age=configuration.evidence_age,
                evidence_limit=configuration.evidence_limit,
            ),
            clock=clock,
        )

        async def renew(changed: InForce) -> None:
            appraiser.replace(changed)

        administration = Administration(
            service=service, inputs=inputs, in_force=in_force, renew=renew
        )
        metrics = Metrics()
        _watch(metrics, service, spool, administration, collateral)
        app = application(
            service,
            administration,
            authenticator=Authenticator(reader, clock, configuration.certificate_role),
            metrics=metrics,
            limits=configuration.limits,
            open_metrics=configuration.open_metrics,
        )
        yield Open(
            configuration=configuration, service=service, administration=administration, app=app
        )


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
        pruning = asyncio.create_task(_prune_for_ever(self._open.service))
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


def _lock(folder: Path, stack: ExitStack) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            f"{folder}: another verifier runs in this folder; end it, or give --folder"
        ) from None
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror or error}") from None


def _supply(
    settings: CollateralSettings | None, clock: Callable[[], datetime], stack: ExitStack
) -> Supply | None:
    """Return where collateral comes from; whoever waits for a source is woken when this closes."""
    if settings is None:
        return None
    store = CollateralStore(settings.folder)
    if not settings.fetch:
        return Supply(store)
    closing = threading.Event()

    def sleep(seconds: float) -> None:
        if closing.wait(seconds):
            raise FetchError("the verifier is shutting down")

    stack.callback(closing.set)
    cache = CollateralCache(
        store,
        HttpFetcher(plain_hosts=settings.plain_hosts),
        sources=settings.sources,
        terms=Terms(patience=settings.patience),
        now=clock,
        sleep=sleep,
    )
    return Supply(store, cache)


def _key(path: Path) -> bytes:
    """Return the PEM of the results' key; make one where there is none."""
    try:
        if not path.exists():
            pem = ec.generate_private_key(ec.SECP384R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            )
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        status = path.stat()
        if status.st_mode & 0o077:
            raise InputError(f"{path}: others may read the results' key: chmod 600 {path}")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


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


async def _prune_for_ever(service: Service) -> None:
    while True:
        try:
            await prune(service)
        except StoreError as error:
            logger.warning("pruning: %s", error)
        await asyncio.sleep(_PRUNE_EVERY)


async def prune(service: Service) -> tuple[int, int, int]:
    """Delete what is old or too much, in small transactions.

    Returns the numbers of challenges, of appraisals, and of those whose evidence went.
    """
    time = service.clock()
    counts = [0, 0, 0]
    while gone := await service.change(
        lambda db: challenges.prune(db, time - _CHALLENGE_KEPT, _PRUNE_ROWS)
    ):
        counts[0] += gone
    retention = service.settings.retention
    if retention is not None:
        while gone := await service.change(
            lambda db: appraisals.prune(db, time - retention, _PRUNE_ROWS)
        ):
            counts[1] += gone
        await service.change(appraisals.prune_frames)
        while gone := await service.change(
            lambda db: evidence.prune(db, time - retention, _PRUNE_ROWS, without_verdict=True)
        ):
            counts[2] += gone
    age = service.settings.evidence_age
    if age is not None:
        while gone := await service.change(lambda db: evidence.prune(db, time - age, _PRUNE_ROWS)):
            counts[2] += gone
    limit = service.settings.evidence_limit
    while gone := await service.change(lambda db: evidence.shrink(db, limit, _PRUNE_ROWS)):
        counts[2] += gone
    await service.change(lambda db: db.execute("PRAGMA incremental_vacuum(1000)").fetchall())
    return counts[0], counts[1], counts[2]


def _watch(
    metrics: Metrics,
    service: Service,
    spool: Spool,
    administration: Administration,
    collateral: Collateral,
) -> None:
    def one(read: Callable[[], float]) -> Callable[[], list[Sample]]:
        return lambda: [({}, read())]

    def trust() -> list[Sample]:
        try:
            found = service.reader.query(lambda db: hosts.count(db, service.clock()))
        except StoreError:
            return []
        return [({"trust": state.value}, count) for state, count in found.items()]

    def kept(column: int) -> Callable[[], list[Sample]]:
        def read() -> list[Sample]:
            try:
                return [({}, service.reader.query(evidence.size)[column])]
            except StoreError:
                return []

        return read

    counters = service.writer.counters
    name = "casemate_verifier_"
    metrics.watch(f"{name}hosts", "Hosts by their trust now", trust)
    metrics.watch(f"{name}commits", "Commits", one(lambda: counters.commits), counter=True)
    metrics.watch(f"{name}changes", "Changes", one(lambda: counters.changes), counter=True)
    metrics.watch(
        f"{name}failed_commits",
        "Commits that failed",
        one(lambda: counters.failures),
        counter=True,
    )
    metrics.watch(
        f"{name}waiting_changes", "Changes that wait", one(lambda: service.writer.waiting)
    )
    metrics.watch(
        f"{name}waiting_appraisals",
        "Appraisals that wait for a worker",
        one(lambda: service.appraiser.workers.waiting),
    )
    metrics.watch(
        f"{name}lost_workers",
        "Workers that were lost and replaced",
        one(lambda: service.appraiser.workers.lost),
        counter=True,
    )
    cache = None if collateral.supply is None else collateral.supply.cache
    if cache is not None:
        metrics.watch(
            f"{name}collateral",
            "Collateral that was asked for, by what the cache did",
            lambda: [({"what": what}, count) for what, count in asdict(cache.counters).items()],
            counter=True,
        )
        metrics.watch(
            f"{name}waiting_for_collateral",
            "Appraisals that wait for collateral",
            one(lambda: collateral.waiting),
        )
    metrics.watch(f"{name}evidence_kept", "Appraisals whose evidence is kept", kept(0))
    metrics.watch(f"{name}evidence_bytes", "Bytes of the evidence that is kept", kept(1))
    metrics.watch(f"{name}events", "Number of the last event in the spool", one(lambda: spool.last))
    metrics.watch(f"{name}epoch", "Present epoch", one(lambda: administration.in_force.epoch))
