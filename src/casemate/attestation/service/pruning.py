"""Deletes what is old or too much, a little at a time, while the service runs."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from casemate.attestation.service.database import (
    appraisals,
    challenges,
    evidence,
)
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.service import Service

logger = logging.getLogger("casemate.verifier")

#: How often what is old is pruned, how much in one transaction, and how long a challenge is kept
#: after it ended, so that its use is still told apart from its absence.
_PRUNE_EVERY, _PRUNE_ROWS = 60.0, 500
_CHALLENGE_KEPT = timedelta(hours=1)


async def prune_for_ever(service: Service) -> None:
    """Prune until it is cancelled."""
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
