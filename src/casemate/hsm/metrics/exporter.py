"""Serves a module's figures to Prometheus, in a process of its own.

Names are in base units; labels are partitions, operations of the wire and mechanisms of silicon,
never keys, users or sessions. Each scrape takes one snapshot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from casemate.formats.metrics_page import BUCKETS, Histogram, bound_of
from casemate.hsm.errors import ModuleError
from casemate.hsm.metrics.rates import mechanism_name, operation_name
from casemate.hsm.metrics.reader import MetricsReader, PartitionFigures, Snapshot
from casemate.hsm.partitions import PartitionState
from casemate.hsm.states import ModuleState

_Family = (
    CounterMetricFamily
    | GaugeMetricFamily
    | HistogramMetricFamily
    | InfoMetricFamily
    | StateSetMetricFamily
)
#: Every other bound from 1.024 us: the powers of two of nanoseconds up to 17 s.
_EXPORTED = range(6, BUCKETS - 1, 2)
_KIND = ("partition", "operation", "mechanism")


class ModuleCollector(Collector):
    """A module's figures as metric families; `hsm_up` is 0 where no module answers."""

    def __init__(self, socket: Path) -> None:
        """Collect from the module whose `metrics.sock` this is."""
        self._reader = MetricsReader(socket)
        self._lock = threading.Lock()

    def describe(self) -> Iterable[_Family]:
        """Nothing: registering must not need a running module."""
        return ()

    def collect(self) -> Iterator[_Family]:
        """Take a snapshot and yield its families."""
        up = GaugeMetricFamily("hsm_up", "Whether the module answers.")
        try:
            with self._lock:
                snapshot = self._reader.snapshot()
        except ModuleError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _module(snapshot)
        yield from _gauges(snapshot)
        yield from _operations(snapshot)


def _module(snapshot: Snapshot) -> Iterator[_Family]:
    yield InfoMetricFamily("hsm_module", "The module.", value={"version": snapshot.version})
    started = GaugeMetricFamily("hsm_start_time_seconds", "Start of the module, since 1970.")
    started.add_metric([], snapshot.started)
    yield started
    state = StateSetMetricFamily("hsm_module_state", "State of the module.")
    state.add_metric([], {one.value: one.value == snapshot.state for one in ModuleState})
    yield state
    states = StateSetMetricFamily(
        "hsm_partition_state", "State of a partition.", labels=["partition"]
    )
    for partition in snapshot.partitions:
        states.add_metric(
            [partition.name], {one.value: one == partition.state for one in PartitionState}
        )
    yield states


def _gauges(snapshot: Snapshot) -> Iterator[_Family]:
    def of(partition: PartitionFigures) -> dict[str, float]:
        return {
            "hsm_queue_depth": partition.depth,
            "hsm_sessions": partition.sessions,
            "hsm_sessions_limit": partition.sessions_most,
            "hsm_objects": partition.objects,
            "hsm_token_objects": partition.token_objects,
            "hsm_objects_limit": partition.objects_most,
            "hsm_connections": partition.connections,
        }

    about = {
        "hsm_queue_depth": "Requests under way: waiting, or in a worker's hand.",
        "hsm_sessions": "Open sessions.",
        "hsm_sessions_limit": "Sessions that the policy allows.",
        "hsm_objects": "Objects, session and token objects together.",
        "hsm_token_objects": "Token objects.",
        "hsm_objects_limit": "Objects that the policy allows.",
        "hsm_connections": "Connected clients.",
    }
    for name, text in about.items():
        family = GaugeMetricFamily(name, text, labels=["partition"])
        for partition in snapshot.partitions:
            family.add_metric([partition.name], of(partition)[name])
        yield family
    cpu = CounterMetricFamily(
        "hsm_worker_cpu_seconds", "CPU time of the partition's workers.", labels=["partition"]
    )
    for partition in snapshot.partitions:
        cpu.add_metric([partition.name], partition.cpu_seconds)
    yield cpu


def _operations(snapshot: Snapshot) -> Iterator[_Family]:
    counts = CounterMetricFamily("hsm_operations", "Requests answered.", labels=_KIND)
    errors = CounterMetricFamily(
        "hsm_operation_errors", "Requests answered with an error.", labels=_KIND
    )
    times = HistogramMetricFamily(
        "hsm_operation_duration_seconds",
        "Time from a worker's taking a request to its answer.",
        labels=_KIND,
    )
    for partition in snapshot.partitions:
        for labels, histogram in _by_label(partition).items():
            counts.add_metric(labels, histogram.count)
            errors.add_metric(labels, histogram.errors)
            times.samples.extend(_samples(times.name, labels, histogram))
    yield counts
    yield errors
    yield times


def _by_label(partition: PartitionFigures) -> dict[tuple[str, str, str], Histogram]:
    """The figures by their labels: two kinds without a name share one."""
    figures: dict[tuple[str, str, str], Histogram] = {}
    for kind, histogram in partition.kinds.items():
        labels = (partition.name, operation_name(kind), mechanism_name(kind))
        figures[labels] = figures.get(labels, Histogram()) + histogram
    return figures


def _samples(name: str, values: tuple[str, str, str], histogram: Histogram) -> Iterator[Sample]:
    labels = dict(zip(_KIND, values, strict=True))
    passed, begin = 0, 0
    for bucket in _EXPORTED:
        passed += sum(histogram.buckets[begin : bucket + 1])
        begin = bucket + 1
        bound = (bound_of(bucket) or 0) / 1e9
        yield Sample(f"{name}_bucket", {**labels, "le": repr(bound)}, passed)
    yield Sample(f"{name}_bucket", {**labels, "le": "+Inf"}, histogram.count)
    yield Sample(f"{name}_count", labels, histogram.count)
    yield Sample(f"{name}_sum", labels, histogram.nanoseconds / 1e9)
