"""One run of the benchmark: everything that was asked for, with progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from casemate.bench.cases import Group
from casemate.bench.fairness import fairness
from casemate.bench.idle import idle
from casemate.bench.interleaved import Pace, measure
from casemate.bench.measurer import Measurer
from casemate.bench.network import network
from casemate.bench.own_module import OwnModule, own_module
from casemate.bench.pinned import pinned
from casemate.bench.report import Busy, Machine, Report
from casemate.bench.subjects import Subject, raw
from casemate.hsm.errors import Code, ModuleError

#: Told what is being done, and how much of all it will have been when it is done (0 to 1).
Progress = Callable[[str, float], None]


class Part(StrEnum):
    """What a run consists of."""

    OPERATIONS = "operations"
    ONE_CPU = "one-cpu"
    IDLE = "idle"
    FAIRNESS = "fairness"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run: `peers` beside AWS-LC and our library, which `without_own` leaves out."""

    groups: Sequence[Group]
    peers: Sequence[Subject]
    parts: frozenset[Part]
    pace: Pace
    quick: bool
    without_own: bool = False


def run(wanted: Wanted, progress: Progress) -> Report:
    """Measure. Raises `ModuleError` where a library cannot be used or something breaks."""
    names = [peer.name for peer in wanted.peers]
    if len({*names, "aws-lc", "casemate"}) != len(names) + 2:
        raise ModuleError(
            Code.BAD_REQUEST,
            f"two libraries have the same name: {', '.join(names)}",
            advice="--module path=PATH,name=NAME",
        )
    report = Report(date=datetime.now(UTC), machine=Machine.here(), pace=wanted.pace, subjects={})
    begin = Busy.now()
    parts = wanted.parts if not wanted.without_own else wanted.parts & {Part.OPERATIONS}
    with ExitStack() as stack:
        module = None if wanted.without_own else stack.enter_context(own_module())
        if Part.OPERATIONS in parts:
            _operations(wanted, module, report, progress)
        if module is not None:
            _scenarios(wanted, parts, module, report, progress)
    report.others = Busy.now().others_since(begin)
    return report


def _operations(
    wanted: Wanted, module: OwnModule | None, report: Report, progress: Progress
) -> None:
    with ExitStack() as stack:
        own = [module.subject()] if module else []
        measurers = [
            stack.enter_context(Measurer(subject)) for subject in (raw(), *own, *wanted.peers)
        ]
        report.subjects.update((one.subject.name, one.description) for one in measurers)
        total = len(wanted.groups) * wanted.pace.rounds
        done = 0
        for group in wanted.groups:
            text = f"{group.operation.text}, {group.objects} objects"
            progress(text, done / total)

            def advance(text: str = text) -> None:
                nonlocal done
                done += 1
                crossing = measurers[0].crossing()
                report.crossings += [] if crossing is None else [crossing]
                progress(text, done / total)

            report.results.groups.append(measure(group, measurers, wanted.pace, advance))


def _scenarios(
    wanted: Wanted,
    parts: frozenset[Part],
    module: OwnModule,
    report: Report,
    progress: Progress,
) -> None:
    if Part.ONE_CPU in parts:
        progress("round trip on one CPU", 0.0)
        report.pinned = pinned(100 if wanted.quick else 1000)
    if Part.IDLE in parts:
        progress("idle", 0.0)
        report.idle = idle(module, 0.5 if wanted.quick else 5)
    if Part.FAIRNESS in parts:
        progress("fairness: RSA-4096 beside P-256", 0.0)
        report.fairness = fairness(module, 200 if wanted.quick else 3000)
    if Part.NETWORK in parts:
        progress("network baseline: mutual TLS on loopback", 0.0)
        report.network = network(module, 0.2 if wanted.quick else 2)
