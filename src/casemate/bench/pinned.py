"""The round trip with client and module on one CPU: nobody can spin while the other works."""

from __future__ import annotations

import os
from dataclasses import dataclass

from casemate.bench.cases import ONE, P256, ROUND_TRIP, Objects
from casemate.bench.measurer import Measurer
from casemate.bench.own_module import own_module


@dataclass(frozen=True, slots=True)
class Pinned:
    """Percentiles in microseconds of the no-op round trip, and P-256 signatures a second."""

    cpu: int
    p50_us: float
    p99_us: float
    sign_rate: float


def pinned(milliseconds: int) -> Pinned:
    """Start a module and a client on one CPU and measure."""
    cpu = min(os.sched_getaffinity(0))
    with own_module(frozenset({cpu})) as module, Measurer(module.subject()) as measurer:
        trips = measurer.run(
            ROUND_TRIP, Objects.TOKEN, ONE, milliseconds=milliseconds, latency=True
        )
        signatures = measurer.run(P256, Objects.TOKEN, ONE, milliseconds=milliseconds)
    return Pinned(
        cpu=cpu,
        p50_us=trips.percentile_us(0.5),
        p99_us=trips.percentile_us(0.99),
        sign_rate=signatures.rate,
    )
