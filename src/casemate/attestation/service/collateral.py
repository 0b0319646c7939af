"""The service's collateral: looked up for each appraisal, fetched by threads that hold up no other.

What stands by itself in the store goes to the workers with the verifier, and anew when it changes;
what evidence names goes with the evidence (`collateral.supply`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

from casemate.attestation.collateral.supply import STANDING, Supply
from casemate.attestation.collateral.wanted import for_evidence
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.service.errors import StoreError

logger = logging.getLogger("casemate.verifier")

#: Appraisals that fetch at a time, and that may wait for it.
FETCHING, WAITING = 16, 1024
#: Nanoseconds after which a write to a folder has another time than one before.
_TICK = 2_000_000_000


class Collateral:
    """Where appraisals take collateral from.

    `stale_for` is the policy for what has ended: None refuses it, a span takes it for so long.
    """

    def __init__(self, supply: Supply | None = None, *, stale_for: timedelta | None = None) -> None:
        """Without a supply there is only what documents and evidence bring."""
        self.supply = supply
        self.waiting = 0
        self._stale_for = stale_for
        self._fetching = ThreadPoolExecutor(FETCHING, thread_name_prefix="collateral")
        self._stamp: object = None
        self._settled: tuple[int, ...] | None = None

    def has_changed(self) -> bool:
        """Whether `standing` would say something new. Raises InfrastructureError.

        Every appraisal asks: the folders are looked into only while a write may hide behind another
        one of the same tick.
        """
        if self.supply is None:
            return False
        modified = self.supply.store.modified(STANDING)
        if modified == self._settled:
            return False
        if self.supply.stamp() != self._stamp:
            return True
        self._settled = modified if time.time_ns() - max(modified) > _TICK else None
        return False

    def standing(self) -> Endorsements:
        """What is there for every appraisal. Raises InfrastructureError."""
        if self.supply is None:
            return Endorsements()
        stamp = self.supply.stamp()
        standing = self.supply.standing()
        for sentence in standing.absent:
            logger.warning("%s", sentence)
        self._stamp, self._settled = stamp, None
        return replace(standing, absent=())

    async def along(self, pieces: Sequence[Piece], at: datetime) -> Endorsements | None:
        """What goes with an appraisal of these pieces, None: nothing.

        Raises `StoreError` where too many wait for sources already.
        """
        along = await self._named(pieces)
        if self._stale_for is not None:
            along = replace(along, stale_until=at - self._stale_for)
        return None if along.is_empty else along

    async def _named(self, pieces: Sequence[Piece]) -> Endorsements:
        supply = self.supply
        needed = () if supply is None else for_evidence(pieces)
        if supply is None or not needed:
            return Endorsements()
        try:
            must_wait = await asyncio.to_thread(supply.needs_fetching, needed)
        except InfrastructureError as error:
            return Endorsements(absent=(str(error),))
        if not must_wait:
            return await asyncio.to_thread(supply.supply, needed)
        if self.waiting >= WAITING:
            raise StoreError(
                f"{WAITING} appraisals wait for collateral already",
                advice="see whether its sources answer, or import a bundle; then try again",
            )
        self.waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._fetching, supply.supply, needed)
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Begin no further fetch; those that run end by themselves."""
        self._fetching.shutdown(wait=False, cancel_futures=True)
