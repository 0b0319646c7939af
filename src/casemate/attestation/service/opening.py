"""Opens a service: all that it keeps and works with, in the order in which each needs the last.

One process has one service, and a folder has one process: it holds the folder's lock.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.types import ASGIApp

from casemate.attestation.appraisal.result import PemSigner, Signer
from casemate.attestation.collateral.cache import CollateralCache, Terms
from casemate.attestation.collateral.fetching import FetchError, HttpFetcher
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.errors import InputError
from casemate.attestation.service.administration import Administration
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.configuration import CollateralSettings, Configuration
from casemate.attestation.service.database import (
    connection,
)
from casemate.attestation.service.database.reader import Reader
from casemate.attestation.service.database.writer import Writer
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.events import SpoolPublisher
from casemate.attestation.service.gauges import watch
from casemate.attestation.service.http.application import application
from casemate.attestation.service.http.authentication import Authenticator
from casemate.attestation.service.inputs import InForce, Inputs
from casemate.attestation.service.metrics import Metrics
from casemate.attestation.service.published_keys import PublishedKeys
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.service import Service, Settings
from casemate.attestation.service.trust import TrustRules
from casemate.attestation.service.workers import Keeps, PoolAppraiser
from casemate.audit.spool import Spool, SpoolError

logger = logging.getLogger("casemate.verifier")


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
        watch(metrics, service, spool, administration, collateral)
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
