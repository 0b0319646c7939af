"""What happened between two snapshots: rates and quantiles, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass

from casemate.formats.metrics_page import Histogram, Kind
from casemate.formats.pkcs11 import Mechanism
from casemate.hsm.client.operations import Operation
from casemate.hsm.metrics.reader import PartitionFigures, Snapshot


def operation_name(kind: Kind) -> str:
    """The operation's name, such as `sign` or `generate_key_pair`; `other` for the rest."""
    try:
        return Operation(-1 if kind.operation is None else kind.operation).name.lower()
    except ValueError:
        return "other"


def mechanism_name(kind: Kind) -> str:
    """The mechanism's name in PKCS#11 without CKM_, or nothing."""
    if kind.mechanism is None:
        return ""
    try:
        return Mechanism(kind.mechanism).name
    except ValueError:
        return f"0x{kind.mechanism:x}"


@dataclass(frozen=True, slots=True)
class Rate:
    """One kind of operation in one partition, over an interval."""

    operation: str
    mechanism: str
    #: Requests a second, and failed ones.
    per_second: float
    errors_per_second: float
    #: Nanoseconds in the module, from taking the request to its answer; None without requests.
    p50: float | None
    p99: float | None
    #: Since the counts began.
    total: int
    errors: int


@dataclass(frozen=True, slots=True)
class PartitionRates:
    """A partition over an interval; `now` is its end."""

    now: PartitionFigures
    per_second: float
    errors_per_second: float
    p50: float | None
    p99: float | None
    #: CPUs that its workers used: 1.0 is one CPU all the time.
    cpus: float
    kinds: tuple[Rate, ...]


def between(earlier: Snapshot, now: Snapshot) -> list[PartitionRates]:
    """Return what each partition did, the busiest kinds first.

    A partition that is new, or whose module was restarted, is counted from its beginning.
    """
    same = earlier.instance == now.instance
    before = {partition.id: partition for partition in earlier.partitions} if same else {}
    seconds = max(now.moment - earlier.moment, 1e-9)
    return [_partition(before.get(one.id), one, seconds) for one in now.partitions]


def _partition(
    earlier: PartitionFigures | None, now: PartitionFigures, seconds: float
) -> PartitionRates:
    kinds, whole = [], Histogram()
    for kind, histogram in now.kinds.items():
        before = earlier.kinds.get(kind) if earlier is not None else None
        part = histogram - (before or Histogram())
        whole += part
        kinds.append(
            Rate(
                operation=operation_name(kind),
                mechanism=mechanism_name(kind),
                per_second=part.count / seconds,
                errors_per_second=part.errors / seconds,
                p50=part.quantile(0.5),
                p99=part.quantile(0.99),
                total=histogram.count,
                errors=histogram.errors,
            )
        )
    kinds.sort(key=lambda rate: (-rate.per_second, -rate.total, rate.operation, rate.mechanism))
    cpu = now.cpu_seconds - (earlier.cpu_seconds if earlier is not None else 0.0)
    return PartitionRates(
        now=now,
        per_second=whole.count / seconds,
        errors_per_second=whole.errors / seconds,
        p50=whole.quantile(0.5),
        p99=whole.quantile(0.99),
        cpus=max(0.0, cpu) / seconds,
        kinds=tuple(kinds),
    )
