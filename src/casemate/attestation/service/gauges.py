"""What is counted elsewhere, shown as metrics when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from casemate.attestation.service.administration import Administration
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.database import (
    evidence,
    hosts,
)
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.metrics import Metrics, Sample
from casemate.attestation.service.service import Service
from casemate.audit.spool import Spool


def watch(
    metrics: Metrics,
    service: Service,
    spool: Spool,
    administration: Administration,
    collateral: Collateral,
) -> None:
    """Show what the parts of a service count."""

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
