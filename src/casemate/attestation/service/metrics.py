"""The service's metrics, for Prometheus. Labels have few values: never a host's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from casemate.attestation.service.errors import Reason
from casemate.attestation.service.trust import Effect
from casemate.attestation.states import State

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: A value that is asked for when metrics are: name, help, labels and value of each sample.
Sample = tuple[dict[str, str], float]


class Metrics:
    """The metrics of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "casemate_verifier_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "casemate_verifier_request_seconds",
            "Time from a request's head to the end of its answer",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "casemate_verifier_refusals",
            "Requests that were refused, by reason",
            ["reason"],
            registry=self.registry,
        )
        self._appraisals = Counter(
            "casemate_verifier_appraisals",
            "Verdicts, by state and by what they did to trust",
            ["state", "effect"],
            registry=self.registry,
        )
        self._appraisal_seconds = Histogram(
            "casemate_verifier_appraisal_seconds",
            "Time from evidence to the verdict's commit",
            buckets=_SECONDS,
            registry=self.registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is the pattern, never the path."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def refused(self, reason: Reason) -> None:
        """Count a refusal."""
        self._refusals.labels(reason.slug).inc()

    def appraised(self, state: State, effect: Effect, seconds: float) -> None:
        """Count a verdict."""
        self._appraisals.labels(state.value, effect.value).inc()
        self._appraisal_seconds.observe(seconds)

    def watch(
        self,
        name: str,
        description: str,
        read: Callable[[], Iterable[Sample]],
        *,
        counter: bool = False,
    ) -> None:
        """Show values that are read when they are asked for."""
        self.registry.register(_Watched(name, description, read, counter))

    def text(self) -> bytes:
        """All metrics in Prometheus' text form."""
        return generate_latest(self.registry)


class _Watched(Collector):
    def __init__(
        self, name: str, description: str, read: Callable[[], Iterable[Sample]], counter: bool
    ) -> None:
        self._name, self._description, self._read = name, description, read
        self._family = CounterMetricFamily if counter else GaugeMetricFamily

    def collect(self) -> Iterable[Metric]:
        samples = list(self._read())
        labels = list(samples[0][0]) if samples else []
        family = self._family(self._name, self._description, labels=labels)
        for given, value in samples:
            family.add_metric(list(given.values()), value)
        yield family
