"""What the slices say: medians, percentiles, CPU time per operation, ratios."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from casemate.bench.cases import ONE, Group, Objects, Operation, Shape
from casemate.bench.measurer import Slice, percentile
from casemate.bench.subjects import RAW


@dataclass(slots=True)
class Series:
    """The slices of one subject in one group and shape, in the order of the rounds.

    `how` says how the shape was made; `unsupported` why there are no slices.
    """

    subject: str
    shape: Shape
    how: str
    unsupported: str = ""
    rates: list[float] = field(default_factory=list)
    latencies: Counter[int] = field(default_factory=Counter)
    client_cpu: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)

    def add(self, part: Slice) -> None:
        """Add the slice of a further round."""
        self.rates.append(part.rate)
        self.latencies.update(part.latencies)
        self.client_cpu.append(part.client_cpu)
        self.server_cpu.append(part.server_cpu)

    def refuse(self, why: str) -> None:
        """Note that the library cannot do it after all: what was measured is no result."""
        self.unsupported = why
        self.rates.clear()

    @property
    def rate(self) -> float:
        """Operations a second, the median of the rounds; 0 where there are none."""
        return statistics.median(self.rates) if self.rates else 0.0

    @property
    def client_cpu_us(self) -> float:
        """CPU time of the client per operation, in microseconds."""
        return statistics.median(self.client_cpu) / 1000 if self.client_cpu else 0.0

    @property
    def server_cpu_us(self) -> float:
        """CPU time of the serving processes per operation, in microseconds."""
        return statistics.median(self.server_cpu) / 1000 if self.server_cpu else 0.0

    def percentile_us(self, share: float) -> float | None:
        """Return the latency below which this share of operations was, in us (p50: 0.5)."""
        if not self.latencies:
            return None
        return percentile(self.latencies, share) / 1000


def ratio(one: Series | None, other: Series | None) -> float | None:
    """Return the median of the rounds' ratios, each of two slices taken one after the other.

    None where either was not measured.
    """
    if one is None or other is None or not one.rates or not other.rates:
        return None
    return statistics.median(a / b for a, b in zip(one.rates, other.rates, strict=True))


@dataclass(slots=True)
class GroupResult:
    """The series of one group."""

    group: Group
    series: list[Series] = field(default_factory=list)

    def find(self, subject: str, shape: Shape) -> Series | None:
        """Return a series, if it was measured."""
        for one in self.series:
            if one.subject == subject and one.shape == shape and one.rates:
                return one
        return None

    def best(self, subject: str) -> Series | None:
        """Return the subject's fastest way to keep many operations in flight."""
        found = [one for one in self.series if one.subject == subject and one.rates]
        return max(found, key=lambda one: one.rate, default=None)

    def to_raw(self, series: Series) -> float | None:
        """Return the ratio to AWS-LC with one thread; None where it is no measure."""
        operation = self.group.operation
        if operation.persistent and self.group.objects is Objects.TOKEN:
            return None
        return ratio(series, self.find(RAW, ONE))


@dataclass(slots=True)
class Results:
    """All groups of a run."""

    groups: list[GroupResult] = field(default_factory=list)

    def find(self, operation: Operation, objects: Objects = Objects.TOKEN) -> GroupResult | None:
        """Return the group of an operation."""
        for one in self.groups:
            if one.group.operation == operation and one.group.objects is objects:
                return one
        return None

    def __iter__(self) -> Iterator[GroupResult]:
        return iter(self.groups)
