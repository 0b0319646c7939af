"""The appraisals of the service, by a pool of worker processes.

A worker also sorts what came and makes the result: it signs and compresses, so that the service's
own process only looks collateral up and passes bytes on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.pool import Pool, Request
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.service import Workers
from casemate.attestation.verifier import Verifier

logger = logging.getLogger("casemate.verifier")

#: Appraisals that may wait for a worker.
WAITING = 1024


class PoolAppraiser:
    """An `Appraiser` over a pool."""

    def __init__(
        self, verifier: Verifier, results: ResultMaker, *, workers: int, collateral: Collateral
    ) -> None:
        """Start `workers`. Raises `InfrastructureError`: the collateral cannot be read."""
        self._count = workers
        self._collateral = collateral
        self._verifier = verifier
        self._standing = collateral.standing()
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
    ) -> Appraised:
        """Appraise one attester's evidence.

        Raises `StoreError` where too much waits already, or the result cannot be signed.
        """
        await self._look_for_news()
        along = await self._collateral.along(pieces, at)
        request = Request(tuple(pieces), at, nonce, correlation_id, along, unsorted=True)
        try:
            future = self._pool.submit(request, timeout=0)
            return await asyncio.wrap_future(future)
        except InfrastructureError as error:
            # The pool is full, or nobody can sign.
            raise StoreError(str(error), advice=error.advice) from error

    def replace(self, verifier: Verifier) -> None:
        """Appraise by another verifier from now on."""
        self._verifier = verifier
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
        self._standing = standing
        self._pool.replace(self._whole())

    def _whole(self) -> Verifier:
        """The verifier, with the standing collateral."""
        endorsements = self._verifier.endorsements.with_(self._standing)
        return replace(self._verifier, endorsements=endorsements)
