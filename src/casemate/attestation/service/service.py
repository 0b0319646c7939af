"""What the service does, without HTTP: challenge, appraise, answer; the administration beside it.

An appraisal's way: the challenge is looked up and reserved (of two requests with one nonce the
second is refused at once), the evidence is appraised by a worker, the verdict is made into a result
and recorded in one commit, its event goes to the spool, and then it is answered.

Whatever fails on the way that is not the evidence's fault is could-not-appraise: where the database
takes no verdict, the caller hears so, the event is still told, and trust is as it was.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from casemate.attestation.evidence.family import Piece
from casemate.attestation.service.database import challenges, evidence
from casemate.attestation.service.database.evidence import KeptEvidence
from casemate.attestation.service.database.reader import Reader
from casemate.attestation.service.database.writer import Event, Writer
from casemate.attestation.service.errors import Reason, RefusedError, StoreError
from casemate.attestation.service.events import SpoolPublisher, not_kept
from casemate.attestation.service.principals import Principal
from casemate.attestation.service.published_keys import PublishedKeys
from casemate.attestation.service.record import Appraised, Recorded, record
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.trust import Challenge, TrustRules

T = TypeVar("T")
NONCE_BYTES = 32


@dataclass(frozen=True, slots=True)
class Workers:
    """How many workers there are, how many were lost so far, how many appraisals wait."""

    count: int
    lost: int = 0
    waiting: int = 0


class Appraiser(Protocol):
    """Who appraises: worker processes. Where one is lost, the verdict is could-not-appraise."""

    @property
    def workers(self) -> Workers:
        """Its workers."""
        ...

    @property
    def trouble(self) -> str | None:
        """What it cannot read, None: nothing."""
        ...

    def appraise(
        self,
        pieces: Sequence[Piece],
        *,
        at: datetime,
        nonce: bytes | None,
        correlation_id: str,
    ) -> Awaitable[tuple[Appraised, KeptEvidence | None]]:
        """Appraise one attester's evidence; returns too what is kept of it, None: nothing.

        Raises `StoreError` where too much waits already, or the result cannot be signed.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service behaves. Times of life; `retention` None keeps appraisals for ever.

    Evidence is kept for `evidence_age` (None: none is kept), but at most `evidence_limit` bytes.
    """

    rules: TrustRules
    challenge_lifetime: timedelta = timedelta(minutes=5)
    retention: timedelta | None = None
    evidence_age: timedelta | None = None
    evidence_limit: int = 10 << 30


@dataclass(slots=True, kw_only=True)
class Service:
    """The service of one database. `clock` is the only time that it knows."""

    reader: Reader
    writer: Writer
    publisher: SpoolPublisher
    appraiser: Appraiser
    results: ResultMaker
    published: PublishedKeys
    settings: Settings
    clock: Callable[[], datetime]
    randomness: Callable[[int], bytes] = os.urandom
    _reserved: set[int] = field(default_factory=set)

    async def change(
        self,
        apply: Callable[[sqlite3.Connection], T],
        event: Callable[[T], Event] | None = None,
    ) -> T:
        """Change the database; returns after the commit. Raises `StoreError`."""
        return await asyncio.wrap_future(self.writer.submit(apply, event))

    async def challenge(self, principal: Principal) -> Challenge:
        """Issue a nonce to a principal."""
        now = self.clock()
        value = self.randomness(NONCE_BYTES)
        return await self.change(
            lambda db: challenges.issue(
                db,
                value=value,
                principal=principal.name,
                issued=now,
                expires=now + self.settings.challenge_lifetime,
            )
        )

    async def appraise(
        self,
        pieces: Sequence[Piece],
        *,
        principal: Principal,
        challenge: int | None,
        correlation_id: str,
    ) -> Recorded:
        """Appraise evidence for a challenge of the principal's, None: of unknown age.

        Raises `RefusedError` for the challenge, `StoreError` where the verdict could not be kept.
        """
        if challenge in self._reserved:
            raise _used(challenge)
        try:
            if challenge is None:
                return await self._appraise(pieces, principal, None, correlation_id)
            self._reserved.add(challenge)
            try:
                issued = self._usable(challenge, principal)
                return await self._appraise(pieces, principal, issued, correlation_id)
            finally:
                self._reserved.discard(challenge)
        except StoreError as error:
            await self._tell_not_kept(error, principal, correlation_id)
            raise

    async def _appraise(
        self,
        pieces: Sequence[Piece],
        principal: Principal,
        challenge: Challenge | None,
        correlation_id: str,
    ) -> Recorded:
        now = self.clock()
        appraised, kept = await self.appraiser.appraise(
            pieces,
            at=now,
            nonce=None if challenge is None else challenge.value,
            correlation_id=correlation_id,
        )

        def apply(db: sqlite3.Connection) -> Recorded:
            recorded = record(
                db,
                appraised,
                principal=principal,
                challenge=None if challenge is None else challenge.number,
                rules=self.settings.rules,
            )
            if kept is not None:
                evidence.keep(
                    db,
                    kept,
                    appraisal=recorded.number,
                    at=now,
                    counted=recorded.effect.changes_trust,
                )
            return recorded

        return await self.change(apply, self.publisher.of)

    def _usable(self, number: int, principal: Principal) -> Challenge:
        """Return a challenge that may be answered now; raises `RefusedError` for any other."""
        found = self.reader.query(lambda db: challenges.find(db, number))
        if found is None or found.principal != principal.name:
            raise RefusedError(
                Reason.NOT_FOUND,
                f"there is no challenge {number} of yours",
                where="challenge",
                expected="a challenge that was issued to this principal",
                advice="ask for a new one: POST /v1/challenges",
            )
        if found.used:
            raise _used(number)
        now = self.clock()
        if not found.issued <= now < found.expires:
            raise RefusedError(
                Reason.NONCE_EXPIRED,
                "the challenge has expired",
                where="challenge",
                expected=f"an answer before {found.expires.isoformat()}",
                found=now.isoformat(),
                advice="ask for a new one: POST /v1/challenges",
            )
        return found

    async def _tell_not_kept(
        self, error: StoreError, principal: Principal, correlation_id: str
    ) -> None:
        event = not_kept(
            message=str(error),
            advice=error.advice,
            at=self.clock(),
            correlation=correlation_id,
            principal=principal.name,
        )
        try:
            await asyncio.to_thread(self.publisher.publish, [event])
        except StoreError:
            # The caller hears of the first failure; the metrics show both.
            return


def _used(number: int) -> RefusedError:
    return RefusedError(
        Reason.NONCE_USED,
        "the challenge has been answered already: evidence is taken once",
        where="challenge",
        found=str(number),
        advice="ask for a new one: POST /v1/challenges",
    )
