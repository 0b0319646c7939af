"""The appraisals of the service, by a pool of worker processes.

A worker also sorts what came and makes the result: it signs and compresses, so that the service's
own process only looks collateral up and passes bytes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.pool import Pool, Request
from casemate.attestation.service import keeping
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.database.evidence import KeptEvidence
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.inputs import InForce
from casemate.attestation.service.keeping import Standing, Terms
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.service import Workers
from casemate.attestation.verifier import Verifier

logger = logging.getLogger("casemate.verifier")

#: Appraisals that may wait for a worker.
WAITING = 1024
#: Evidence of so many bytes is compressed in less time than it takes to hand it to a thread.
_SMALL = 32_768


@dataclass(frozen=True, slots=True)
class Keeps:
    """That evidence is kept, and the policies that are kept with it."""

    require_revocation: bool = False
    require_signed_references: bool = False


class PoolAppraiser:
    """An `Appraiser` over a pool."""

    def __init__(
        self,
        in_force: InForce,
        results: ResultMaker,
        *,
        workers: int,
        collateral: Collateral,
        keeps: Keeps | None = None,
    ) -> None:
        """Start `workers`; `keeps` None: evidence is not kept.

        Raises `InfrastructureError`: the collateral cannot be read.
        """
        self._count = workers
        self._collateral = collateral
        self._keeps = keeps
        self._in_force = in_force
        self._take(collateral.standing())
        self._trouble: str | None = None
        self._pool: Pool[Appraised] = Pool(
            self._whole(), workers=workers, finish=results, waiting=WAITING
        )

    @property
    def workers(self) -> Workers:
        """Its workers."""
        return Workers(self._count, self._pool.restarts, self._pool.waiting)

    @property
    def trouble(self) -> str | None:
        """Why the collateral cannot be read, None: it can."""
        return self._trouble

    async def appraise(
        self,
        pieces: Sequence[Piece],
        *,
        at: datetime,
        nonce: bytes | None,
        correlation_id: str,
    ) -> tuple[Appraised, KeptEvidence | None]:
        """Appraise one attester's evidence; returns too what is kept of it.

        Raises `StoreError` where too much waits already, or the result cannot be signed.
        """
        await self._look_for_news()
        along = await self._collateral.along(pieces, at)
        standing, epoch = self._packed, self._in_force.epoch
        request = Request(tuple(pieces), at, nonce, correlation_id, along, unsorted=True)
        try:
            future = self._pool.submit(request, timeout=0)
            appraised = await asyncio.wrap_future(future)
        except InfrastructureError as error:
            # The pool is full, or nobody can sign.
            raise StoreError(str(error), advice=error.advice) from error
        if self._keeps is None:
            return appraised, None
        terms = Terms(
            epochs=tuple(dict.fromkeys((epoch, self._in_force.epoch))),
            nonce=nonce,
            require_revocation=self._keeps.require_revocation,
            require_signed_references=self._keeps.require_signed_references,
        )
        if sum(len(piece.data) for piece in pieces) <= _SMALL:
            return appraised, keeping.make(pieces, along, standing, terms)
        return appraised, await asyncio.to_thread(keeping.make, pieces, along, standing, terms)

    def replace(self, in_force: InForce) -> None:
        """Appraise by another verifier from now on."""
        self._in_force = in_force
        self._pool.replace(self._whole())

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    async def _look_for_news(self) -> None:
        """Take up standing collateral that has changed; where it cannot be read, keep what was."""
        try:
            if not self._collateral.has_changed():
                self._trouble = None
                return
            standing = await asyncio.to_thread(self._collateral.standing)
        except InfrastructureError as error:
            if self._trouble is None:
                logger.warning("%s; what was read before still holds", error)
            self._trouble = str(error)
            return
        self._trouble = None
        self._take(standing)
        self._pool.replace(self._whole())

    def _take(self, standing: Endorsements) -> None:
        self._standing = standing
        self._packed = None if self._keeps is None else Standing.of(standing)

    def _whole(self) -> Verifier:
        """The verifier, with the standing collateral."""
        verifier = self._in_force.verifier
        return replace(verifier, endorsements=verifier.endorsements.with_(self._standing))
