"""The report as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import casemate
from casemate.bench.cases import ONE
from casemate.bench.report import Report
from casemate.bench.results import GroupResult, Series, ratio
from casemate.bench.subjects import OWN, RAW
from casemate.bench.targets import verdicts

#: Raised when a field changes its meaning or goes.
FORMAT = 1


def document(report: Report) -> dict[str, Any]:
    """Return the report; docs/bench.md explains the fields. Times are in microseconds."""
    return {
        "format": FORMAT,
        "casemate": casemate.__version__,
        "date": report.date.isoformat(timespec="seconds"),
        "machine": asdict(report.machine),
        "other_programs_cpus": report.others,
        "crossings_ns": report.crossings,
        "rounds": report.pace.rounds,
        "slice_ms": report.pace.milliseconds,
        "subjects": report.subjects,
        "operations": [
            _series(group, series) for group in report.results for series in group.series
        ],
        "round_trip_one_cpu": asdict(report.pinned) if report.pinned else None,
        "idle": asdict(report.idle) | {"together": report.idle.together} if report.idle else None,
        "fairness": asdict(report.fairness) if report.fairness else None,
        "network": [asdict(one) for one in report.network],
        "must_hold": [asdict(one) | {"holds": one.holds} for one in verdicts(report)],
    }


def _series(group: GroupResult, series: Series) -> dict[str, Any]:
    operation = group.group.operation
    return {
        "operation": operation.name,
        "bytes": operation.bytes,
        "text": operation.text,
        "objects": group.group.objects.value,
        "threads": series.shape.threads,
        "in_flight": series.shape.in_flight,
        "how": series.how,
        "subject": series.subject,
        "unsupported": series.unsupported or None,
        "rate": series.rate if series.rates else None,
        "rates": series.rates,
        "p50_us": series.percentile_us(0.5),
        "p99_us": series.percentile_us(0.99),
        "p999_us": series.percentile_us(0.999),
        "client_cpu_us": series.client_cpu_us if series.rates else None,
        "server_cpu_us": series.server_cpu_us if series.rates else None,
        "ratio_to_raw": group.to_raw(series),
        "ratio_of_own": (
            ratio(group.find(OWN, series.shape), series)
            if series.subject not in (OWN, RAW)
            else None
        ),
        "ratio_to_one_thread": ratio(series, group.find(series.subject, ONE)),
    }
