"""What must hold, on two CPUs with token objects, compared with what a run measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from casemate.bench import cases
from casemate.bench.cases import ONE, SIXTEEN, TWO, Operation, Shape
from casemate.bench.report import Report
from casemate.bench.results import GroupResult, Series, ratio
from casemate.bench.subjects import OWN


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line: what was measured against what must hold; `unit` is x (a ratio), us, ms or %."""

    what: str
    measured: float
    limit: float
    at_most: bool
    unit: str
    note: str = ""

    @property
    def holds(self) -> bool:
        """Whether the limit is kept."""
        return self.measured <= self.limit if self.at_most else self.measured >= self.limit


#: Operation, shape, at least so much of raw AWS-LC, at least so many times SoftHSM.
_ROWS: tuple[tuple[Operation, Shape, float, float | None], ...] = (
    (cases.P256, ONE, 0.88, 2),
    (cases.P384, ONE, 0.95, 7),
    (cases.RSA2048, ONE, 0.95, 1.8),
    (cases.MLDSA65, ONE, 0.95, None),
    (cases.GCM, ONE, 0.16, 4),
    (cases.GCM, SIXTEEN, 0.5, 10),
    (cases.HMAC, ONE, 0.2, 6),
)


def verdicts(report: Report) -> tuple[Verdict, ...]:
    """Return a line for everything that must hold and was measured."""
    return tuple(one for part in _PARTS for one in part(report))


def _speed(report: Report) -> Iterator[Verdict]:
    softhsm = _peer(report, "softhsm")
    for operation, shape, least_raw, least_softhsm in _ROWS:
        group = report.results.find(operation)
        mine = group.find(OWN, shape) if group else None
        if group is None or mine is None:
            continue
        text = operation.text if shape == ONE else f"{operation.text}, {shape.text}"
        note = mine.how if shape == SIXTEEN else ""
        if (to_raw := group.to_raw(mine)) is not None:
            yield Verdict(f"{text} / AWS-LC", to_raw, least_raw, False, "x", note)
        theirs = _rival(group, softhsm, shape)
        if least_softhsm is not None and (times := ratio(mine, theirs)) is not None:
            against = theirs.how if theirs and shape == SIXTEEN else ""
            yield Verdict(f"{text} / {softhsm}", times, least_softhsm, False, "x", against)


def _rival(group: GroupResult, peer: str, shape: Shape) -> Series | None:
    """The peer's series to compare with: where many are in flight, its fastest of all."""
    return group.find(peer, shape) if shape == ONE else group.best(peer)


def _kryoptic(report: Report) -> Iterator[Verdict]:
    peer = _peer(report, "kryoptic")
    for group in _rows(report):
        times = ratio(group.find(OWN, ONE), group.find(peer, ONE))
        if times is not None:
            yield Verdict(f"{group.group.operation.text} / {peer}", times, 1, False, "x")


def _round_trip(report: Report) -> Iterator[Verdict]:
    group = report.results.find(cases.ROUND_TRIP)
    mine = group.find(OWN, ONE) if group else None
    trip = mine.percentile_us(0.5) if mine else None
    if group is not None and trip is not None:
        yield Verdict("no-op round trip, p50", trip, 0.7, True, "us")
        peer = _peer(report, "p11-kit")
        theirs = group.find(peer, ONE)
        slower = theirs.percentile_us(0.5) if theirs else None
        if slower is not None:
            yield Verdict(f"no-op round trip, p50 of {peer} / ours", slower / trip, 80, False, "x")
    if report.pinned is not None:
        yield Verdict("no-op round trip on one CPU, p50", report.pinned.p50_us, 6, True, "us")


def _threads(report: Report) -> Iterator[Verdict]:
    for group in _rows(report):
        times = ratio(group.find(OWN, TWO), group.find(OWN, ONE))
        if times is not None:
            least = 1.3 if group.group.operation == cases.P256 else 1.0
            text = f"{group.group.operation.text}, two threads / one"
            yield Verdict(text, times, least, False, "x")


def _idle(report: Report) -> Iterator[Verdict]:
    if report.idle is not None:
        yield Verdict(
            "idle module and client, of one CPU", 100 * report.idle.together, 0.5, True, "%"
        )


def _fairness(report: Report) -> Iterator[Verdict]:
    for contest in report.fairness.contests if report.fairness else ():
        flood = f"P-256 beside {contest.flood}"
        yield Verdict(f"{flood}, of the fair share", 100 * contest.share, 80, False, "%")
        yield Verdict(f"{flood}, p99", contest.p99_us / 1000, 5, True, "ms")


def _rows(report: Report) -> Iterator[GroupResult]:
    """The groups of the operations in the table above, with token objects, each once."""
    for operation in dict.fromkeys(row[0] for row in _ROWS):
        group = report.results.find(operation)
        if group is not None:
            yield group


def _peer(report: Report, name: str) -> str:
    """The peer of this kind, as the user has called it."""
    return next((one for one in report.subjects if name in one.lower()), name)


_PARTS: tuple[Callable[[Report], Iterator[Verdict]], ...] = (
    _speed,
    _kryoptic,
    _round_trip,
    _threads,
    _idle,
    _fairness,
)
