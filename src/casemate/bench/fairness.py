"""Two tenants of one module: A floods it with long operations, B signs with P-256.

B's fair share is what it reaches alone with half of the CPUs: measured with a module and a client
that have just those.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from casemate.bench.cases import GENERATE_RSA4096, ONE, P256, RSA4096, Objects, Operation, Shape
from casemate.bench.measurer import Measurer, Slice
from casemate.bench.own_module import OTHER, OwnModule, own_module

#: How A floods: threads of its client.
FLOOD = Shape(threads=8)
#: A's lead, so that its queue is full when B begins.
_LEAD_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Contest:
    """B beside one flood: its rate, the share of its fair rate, its latencies in us, A's rate."""

    flood: str
    rate: float
    share: float
    p50_us: float
    p99_us: float
    p999_us: float
    flood_rate: float


@dataclass(frozen=True, slots=True)
class Fairness:
    """B's rate alone with all CPUs and with half of them, and beside each flood."""

    cpus: int
    alone: float
    fair: float
    contests: tuple[Contest, ...]


def fairness(module: OwnModule, milliseconds: int) -> Fairness:
    """Run the scenario; each part takes about `milliseconds`, twice where latencies are taken.

    Without at least two CPUs half of them is one CPU too.
    """
    cpus = sorted(os.sched_getaffinity(0))
    with Measurer(module.subject(OTHER)) as tenant:
        tenant.prepare(P256, Objects.TOKEN, ONE)
        alone = tenant.run(P256, Objects.TOKEN, ONE, milliseconds=milliseconds).rate
        fair = _fair_rate(frozenset(cpus[: max(len(cpus) // 2, 1)]), milliseconds)
        contests = tuple(
            _contest(module, tenant, flood, objects, fair=fair, milliseconds=milliseconds)
            for flood, objects in (
                (RSA4096, Objects.TOKEN),
                (GENERATE_RSA4096, Objects.SESSION),
            )
        )
    return Fairness(cpus=len(cpus), alone=alone, fair=fair, contests=contests)


def _fair_rate(cpus: frozenset[int], milliseconds: int) -> float:
    """B's rate alone with these CPUs."""
    with own_module(cpus) as module, Measurer(module.subject(OTHER)) as tenant:
        tenant.prepare(P256, Objects.TOKEN, ONE)
        return tenant.run(P256, Objects.TOKEN, ONE, milliseconds=milliseconds).rate


def _contest(
    module: OwnModule,
    tenant: Measurer,
    flood: Operation,
    objects: Objects,
    *,
    fair: float,
    milliseconds: int,
) -> Contest:
    with Measurer(module.subject()) as flooder:
        flooder.prepare(flood, objects, FLOOD)
        # B's slice lasts twice its time (rate, then latencies): A goes on for a while after it.
        flooder.begin(
            flood,
            objects,
            FLOOD,
            milliseconds=2 * milliseconds + round(2000 * _LEAD_SECONDS),
            warm_up=0,
        )
        time.sleep(_LEAD_SECONDS)
        part: Slice = tenant.run(P256, Objects.TOKEN, ONE, milliseconds=milliseconds, latency=True)
        flooded = flooder.end()
    return Contest(
        flood=f"{flood.text}, {FLOOD.threads} threads",
        rate=part.rate,
        share=part.rate / fair if fair else 0.0,
        p50_us=part.percentile_us(0.5),
        p99_us=part.percentile_us(0.99),
        p999_us=part.percentile_us(0.999),
        flood_rate=flooded.rate,
    )
