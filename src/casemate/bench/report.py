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


@dataclass(frozen=True, slots=True)
class Busy:
    """A moment's CPU times in seconds since the start: of the machine, of this run."""

    at: float
    machine: float
    ours: float

    @classmethod
    def now(cls) -> Busy:
        """Read them. Ours are this process and its children that have ended."""
        times = os.times()
        return cls(
            at=times.elapsed,
            machine=_busy_seconds(),
            ours=times.user + times.system + times.children_user + times.children_system,
        )

    def others_since(self, begin: Busy) -> float:
        """Return how many CPUs, on average, other programs used since `begin`."""
        took = max(self.at - begin.at, 1e-9)
        return max((self.machine - begin.machine - (self.ours - begin.ours)) / took, 0.0)


def _busy_seconds() -> float:
    """All CPUs, without idle and waiting time; 0 where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _wait, *interrupts = map(int, fields[:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


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

    `subjects` are the names in the order of the columns, with what each library calls itself;
    `others` is how many CPUs other programs used meanwhile, which spoils figures; `crossings` are
    the ns that a cache line took from one CPU to another after each round: where a virtual
    machine's CPUs are far from each other for a while, short operations take longer.
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
    others: float = 0.0
    crossings: list[float] = field(default_factory=list)
