"""A whole run: what was measured, on what, when."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from casemate.bench.fairness import Fairness
from casemate.bench.idle import Idle
from casemate.bench.interleaved import Pace
from casemate.bench.network import Network
from casemate.bench.pinned import Pinned
from casemate.bench.results import Results


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    processor: str
    cpus: int
    kernel: str
    load: float

    @classmethod
    def here(cls) -> Machine:
        """Return this machine, with the load of the last minute: others spoil figures."""
        return cls(
            processor=_processor(),
            cpus=len(os.sched_getaffinity(0)),
            kernel=f"{platform.system()} {platform.release()}",
            load=os.getloadavg()[0],
        )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


@dataclass(slots=True)
class Report:
    """Everything that a run gave; parts that were not asked for are None or empty.

    `subjects` are the names in the order of the columns, with what each library calls itself.
    """

    date: datetime
    machine: Machine
    pace: Pace
    subjects: dict[str, str]
    results: Results = field(default_factory=Results)
    pinned: Pinned | None = None
    idle: Idle | None = None
    fairness: Fairness | None = None
    network: tuple[Network, ...] = ()
