"""The appraisals of the service, by a pool of worker processes.

A worker also makes the result: it signs and compresses, so that the service's own process only
passes bytes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from casemate.attestation import input as operator_input
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence import registry
from casemate.attestation.evidence.family import Piece
from casemate.attestation.pool import BusyError, Pool, Request
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.results import ResultMaker
from casemate.attestation.service.service import Workers
from casemate.attestation.verifier import Verifier

#: Appraisals that may wait for a worker.
WAITING = 1024


class PoolAppraiser:
    """An `Appraiser` over a pool."""

    def __init__(self, verifier: Verifier, results: ResultMaker, *, workers: int) -> None:
        self._count = workers
        self._pool: Pool[Appraised] = Pool(
            verifier, workers=workers, finish=results, waiting=WAITING
        )

    @property
    def workers(self) -> Workers:
        """Its workers."""
        return Workers(self._count, self._pool.restarts, self._pool.waiting)

    async def appraise(
        self,
        pieces: Sequence[Piece],
        *,
        at: datetime,
        nonce: bytes | None,
        correlation_id: str,
    ) -> Appraised:
        """Appraise one attester's evidence. Raises `StoreError` where too much waits already."""
        try:
            future = self._pool.submit(Request(tuple(pieces), at, nonce, correlation_id), timeout=0)
        except BusyError as error:
            raise StoreError(str(error), advice=error.advice) from error
        return await asyncio.wrap_future(future)

    def replace(self, verifier: Verifier) -> None:
        """Appraise by another verifier from now on."""
        self._pool.replace(verifier)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()


def _request(
    pieces: Sequence[Piece], at: datetime, nonce: bytes | None, correlation_id: str
) -> Request:
    """Sort what came: evidence, and what may come along with it (certificates, collateral)."""
    found = operator_input.sort(
        evidence=[NamedBytes(piece.data, piece.name) for piece in pieces],
        families=registry.families(),
    )
    return Request(
        found.pieces or tuple(pieces), at, nonce, correlation_id, along=found.endorsements
    )
