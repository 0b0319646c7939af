"""Slices in turns: every round measures each subject in each shape once, so that drift hits all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from casemate.bench.cases import ONE, Group, Shape
from casemate.bench.measurer import Measurer, Slice, UnsupportedError
from casemate.bench.results import GroupResult, Series
from casemate.bench.subjects import RAW


@dataclass(frozen=True, slots=True)
class Pace:
    """How many rounds, and how long a slice counts (and then times) in each."""

    rounds: int
    milliseconds: int


FULL = Pace(rounds=7, milliseconds=60)
QUICK = Pace(rounds=3, milliseconds=10)


@dataclass(slots=True)
class _Turn:
    measurer: Measurer
    series: Series
    #: What the measuring process is asked for; it differs from the shape where threads stand in
    #: for operations in flight.
    asked: Shape


def measure(
    group: Group, measurers: Sequence[Measurer], pace: Pace, advance: Callable[[], None]
) -> GroupResult:
    """Measure a group; `advance` is called after each of the `pace.rounds` rounds."""
    result = GroupResult(group)
    turns = []
    for shape in group.shapes:
        for measurer in measurers:
            turn = _prepare(group, measurer, shape)
            if turn is None:
                continue
            result.series.append(turn.series)
            if not turn.series.unsupported:
                turns.append(turn)
    for number in range(pace.rounds):
        # Forwards and backwards in turns: nobody always comes after the same neighbour.
        for turn in turns[:: 1 if number % 2 == 0 else -1]:
            try:
                turn.series.add(_slice(group, turn, pace))
            except UnsupportedError as error:
                # Known only now: not so much at once.
                turn.series.refuse(str(error))
                turns.remove(turn)
        advance()
    return result


def _slice(group: Group, turn: _Turn, pace: Pace) -> Slice:
    return turn.measurer.run(
        group.operation,
        group.objects,
        turn.asked,
        milliseconds=pace.milliseconds * group.operation.slices,
        latency=turn.series.shape == ONE,
    )


def _prepare(group: Group, measurer: Measurer, shape: Shape) -> _Turn | None:
    """Return the turn of a subject in a shape; None where the shape means nothing for it."""
    subject = measurer.subject.name
    if subject == RAW and (shape.in_flight > 1 or group.operation.round_trip):
        return None
    how = shape.text
    asked = shape
    try:
        if shape.in_flight > 1:
            how = f"{shape.in_flight} asynchronous sessions of PKCS#11 3.2 in one thread"
            try:
                measurer.prepare(group.operation, group.objects, shape)
            except UnsupportedError:
                asked = Shape(threads=shape.in_flight)
                how = f"{shape.in_flight} threads with a session each"
        measurer.prepare(group.operation, group.objects, asked)
    except UnsupportedError as error:
        return _Turn(measurer, Series(subject, shape, how, unsupported=str(error)), asked)
    return _Turn(measurer, Series(subject, shape, how), asked)
