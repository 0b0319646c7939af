"""A verifier service that runs in a thread of the test, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from casemate.attestation.appraisal import policy, result
from casemate.attestation.client import Appraisal, VerifierClient
from casemate.attestation.service import administration, configuration, opening, server
from casemate.attestation.service.database import principals
from casemate.attestation.service.principals import Role
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.verifiers import good_corim, host


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = hosts.AT) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def move(self, by: timedelta) -> None:
        self.at += by


@dataclass
class Running:
    """A service, its clock, and a token for each role."""

    open: opening.Open
    server: server.Server
    clock: Clock
    tokens: dict[str, str]

    @property
    def url(self) -> str:
        return self.server.url

    def client(self, name: str) -> VerifierClient:
        """A client with the token of `attester`, `other`, `reader` or `admin`."""
        return VerifierClient(self.url, token=self.tokens[name], timeout=30)


NAMES = {
    "attester": Role.ATTESTER,
    "other": Role.ATTESTER,
    "reader": Role.RELYING_PARTY,
    "admin": Role.ADMINISTRATOR,
}


def token(opened: opening.Open, name: str, role: Role) -> str:
    """Make a principal as `casemate verifier token` does; returns its token."""
    record, text = administration.new_principal(
        name,
        frozenset({role}),
        randomness=name.encode().ljust(32, b"."),
        key=None,
        created=opened.service.clock(),
        expires=None,
    )
    opened.service.writer.submit(lambda db: principals.put(db, record)).result()
    assert text is not None
    return text


@contextmanager
def running(
    folder: Path, *, signer: result.Signer | None = None, **changes: object
) -> Iterator[Running]:
    """Run a service in `folder` on a port of its own."""
    clock = Clock()
    settings = configuration.Configuration(folder=folder, port=0, **changes)  # type: ignore[arg-type]
    with opening.opened(settings, clock, signer=signer) as opened:
        tokens = {name: token(opened, name, role) for name, role in NAMES.items()}
        serving = server.Server(opened)
        ready = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(serving.serve(ready.set)))
        thread.start()
        try:
            assert ready.wait(30)
            yield Running(opened, serving, clock, tokens)
        finally:
            serving.stop()
            thread.join()


def prepare(service: Running, ca: Path | None = None) -> None:
    """Put the synthetic hosts' manufacturer, reference values and policy in force."""
    with VerifierClient(service.url, token=service.tokens["admin"], ca=ca) as admin:
        for collection, name, data in (
            *(
                ("anchors", algorithm.label, hosts.manufacturer_certificate(algorithm))
                for algorithm in Algorithm
            ),
            ("references", "good", good_corim()),
            ("policies", "development", policy.built_in_text("development")),
        ):
            document = admin.add_document(collection, name, data)
            admin.set_active(collection, name, document["version"])


def attest(
    client: VerifierClient, number: int = 1, *, spoil: Callable[[bytes], bytes] = lambda data: data
) -> Appraisal:
    """Have a synthetic host answer a challenge of the client's."""
    challenge = client.challenge()
    return client.submit([spoil(host(number).token(nonce=challenge.nonce))], challenge)
