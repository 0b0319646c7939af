"""`casemate top`: what the module does at this moment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from casemate.cli._module import reports_errors, runtime_option
from casemate.hsm import folders
from casemate.hsm.errors import ModuleError
from casemate.hsm.metrics.rates import PartitionRates, Rate, between
from casemate.hsm.metrics.reader import MetricsReader, Snapshot


@click.command()
@runtime_option
@click.option("--partition", "only", help="Show this partition alone.")
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Measure one interval, print it, end.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, one an interval."
)
@reports_errors
def top(runtime: Path | None, only: str | None, interval: float, once: bool, as_json: bool) -> None:
    """Show operations a second, times, errors, queues and CPU, by partition and mechanism.

    Times are those in the module, from taking a request to its answer. Ctrl-C ends it.

    \b
    Reading needs no right to administer the module: casemate up --metrics-group.
    Exit codes: 0 ended; 1 no module answers.
    """
    chosen = folders.choose(runtime=runtime, environment=os.environ, uid=os.geteuid())
    with MetricsReader(chosen.metrics_socket) as reader:
        intervals = _intervals(reader, interval, only)
        try:
            if as_json:
                for now, rates in intervals:
                    click.echo(json.dumps(as_object(now, rates)))
                    if once:
                        return
            elif once or not Console().is_terminal:
                now, rates = next(intervals)
                Console(width=None if Console().is_terminal else 160).print(render(now, rates))
            else:
                _live(intervals)
        except KeyboardInterrupt:
            return


def _live(intervals: Iterator[tuple[Snapshot, list[PartitionRates]]]) -> None:
    with Live(Text("measuring..."), screen=True, auto_refresh=False) as live:
        while True:
            try:
                now, rates = next(intervals)
            except ModuleError as error:
                live.update(Text(f"{error.what}\n{error.advice}"), refresh=True)
                time.sleep(1)
            else:
                live.update(render(now, rates), refresh=True)


class _intervals:  # noqa: N801 (used as a function)
    """Endless pairs of a snapshot and what happened since the one before."""

    def __init__(self, reader: MetricsReader, interval: float, only: str | None) -> None:
        self._reader, self._interval, self._only = reader, interval, only
        self._before: Snapshot | None = None

    def __iter__(self) -> Iterator[tuple[Snapshot, list[PartitionRates]]]:
        return self

    def __next__(self) -> tuple[Snapshot, list[PartitionRates]]:
        before = self._before or self._reader.snapshot()
        # Where the next look fails, the one after it begins anew.
        self._before = None
        time.sleep(self._interval)
        now = self._before = self._reader.snapshot()
        rates = between(before, now)
        return now, [one for one in rates if self._only in (None, one.now.name)]


def as_object(now: Snapshot, rates: list[PartitionRates]) -> dict[str, Any]:
    """Return what JSON carries: rates a second, times in seconds."""
    return {
        "state": now.state,
        "version": now.version,
        "partitions": [
            {
                "partition": one.now.name,
                "state": one.now.state,
                "operations_per_second": one.per_second,
                "errors_per_second": one.errors_per_second,
                "p50_seconds": _seconds(one.p50),
                "p99_seconds": _seconds(one.p99),
                "queue_depth": one.now.depth,
                "cpus": one.cpus,
                "sessions": one.now.sessions,
                "objects": one.now.objects,
                "connections": one.now.connections,
                "kinds": [_kind(kind) for kind in one.kinds],
            }
            for one in rates
        ],
    }


def _kind(rate: Rate) -> dict[str, Any]:
    return {
        "operation": rate.operation,
        "mechanism": rate.mechanism,
        "operations_per_second": rate.per_second,
        "errors_per_second": rate.errors_per_second,
        "p50_seconds": _seconds(rate.p50),
        "p99_seconds": _seconds(rate.p99),
        "operations": rate.total,
        "errors": rate.errors,
    }


def _seconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def render(now: Snapshot, rates: list[PartitionRates]) -> RenderableType:
    """Return partitions, then what each of them does, as tables."""
    partitions = _table(
        ["partition", "state"],
        ["op/s", "p50", "p99", "errors/s", "queue", "CPU", "sessions", "objects"],
    )
    kinds = _table(["partition", "operation"], ["op/s", "p50", "p99", "errors/s", "total"])
    for one in rates:
        partitions.add_row(
            one.now.name,
            Text(one.now.state, style="" if one.now.state == "active" else "bold red"),
            _count(one.per_second),
            _time(one.p50),
            _time(one.p99),
            _errors(one.errors_per_second),
            str(one.now.depth),
            f"{100 * one.cpus:.0f}%",
            f"{one.now.sessions:,}",
            f"{one.now.objects:,}",
        )
        for rate in one.kinds:
            kinds.add_row(
                one.now.name,
                f"{rate.operation} {rate.mechanism}",
                _count(rate.per_second),
                _time(rate.p50),
                _time(rate.p99),
                _errors(rate.errors_per_second),
                f"{rate.total:,}",
                style="" if rate.per_second else "dim",
            )
    title = Text.assemble(("casemate ", "bold"), f"{now.version}  ", (now.state, "bold"))
    return Group(title, partitions, Text(), kinds)


def _table(left: list[str], right: list[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    # In a narrow terminal names are folded; a number that is cut would be another number.
    for column in left:
        table.add_column(column, overflow="fold")
    for column in right:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _count(per_second: float) -> str:
    return f"{per_second:,.0f}" if per_second >= 10 or not per_second else f"{per_second:.1f}"


def _errors(per_second: float) -> Text:
    return Text(_count(per_second), style="bold red" if per_second else "")


def _time(nanoseconds: float | None) -> str:
    if nanoseconds is None:
        return "-"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"
