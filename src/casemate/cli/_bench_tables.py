"""How `casemate bench` shows a report: tables on a terminal, plain lines on a pipe."""

from __future__ import annotations

from collections.abc import Iterator

import click
from rich.text import Text

from casemate.bench.cases import ONE
from casemate.bench.report import Report
from casemate.bench.results import GroupResult, Series, ratio
from casemate.bench.subjects import OWN, RAW
from casemate.bench.targets import Verdict, verdicts
from casemate.cli._module import print_columns


def print_report(report: Report) -> None:
    """Print every part that was measured."""
    machine = report.machine
    click.echo(
        f"{report.date:%Y-%m-%d %H:%M} UTC, {machine.processor}, {machine.cpus} CPUs, "
        f"{machine.kernel}; {report.pace.rounds} rounds of {report.pace.milliseconds} ms; "
        f"other programs used {report.others:.2f} CPUs meanwhile"
    )
    if crossings := sorted(report.crossings):
        click.echo(
            f"a cache line took {crossings[len(crossings) // 2]:.0f} ns from one CPU to another "
            f"({crossings[0]:.0f} to {crossings[-1]:.0f} in {len(crossings)} looks)"
        )
    for name, description in report.subjects.items():
        click.echo(f"  {name}: {description}")
    if report.results.groups:
        _operations(report)
    _scenarios(report)
    found = verdicts(report)
    if found:
        _heading("Must hold (two CPUs, token objects)")
        print_columns(
            ["", "measured", "limit", "", ""],
            [_verdict(one) for one in found],
            right={1, 2},
        )


def _operations(report: Report) -> None:
    peers = [name for name in report.subjects if name not in (RAW, OWN)]
    _heading(
        "Operations: medians of the rounds; ratios are medians of ratios within a round. "
        f"{RAW}: one thread."
    )
    rows = [_row(group, series, peers) for group in report.results for series in group.series]
    columns = ["operation", "objects", "shape", "library", "1/s", "p50 us", "p99 us", "p999 us"]
    columns += ["CPU us client", "server", f"/ {RAW}", "/ 1 thread"]
    columns += [f"{OWN} / it"] if peers and OWN in report.subjects else []
    print_columns(columns, rows, right=set(range(4, len(columns))))
    stands_in = {
        f"{series.shape.text}: {series.subject} {series.how}"
        for group in report.results
        for series in group.series
        if series.shape.in_flight > 1 and not series.unsupported
    }
    for line in [*sorted(stands_in), *_refused(report)]:
        click.echo(f"  {line}")


def _refused(report: Report) -> Iterator[str]:
    """What stands behind each dash, the shapes of one reason together."""
    shapes: dict[tuple[str, str, str], list[str]] = {}
    for group in report.results:
        text = f"{group.group.operation.text}, {group.group.objects} objects"
        for series in group.series:
            if series.unsupported:
                key = (series.subject, text, series.unsupported)
                shapes.setdefault(key, []).append(series.shape.text)
    for (subject, text, why), some in shapes.items():
        yield f"-: {subject}, {text}, {', '.join(some)}: {why}"


def _row(group: GroupResult, series: Series, peers: list[str]) -> list[str]:
    operation = group.group.operation
    head = [operation.text, group.group.objects.value, series.shape.text, series.subject]
    if series.unsupported:
        return [*head, "-"]
    cells = [
        *head,
        f"{series.rate:,.0f}",
        *(_number(series.percentile_us(share)) for share in (0.5, 0.99, 0.999)),
        _number(series.client_cpu_us),
        _number(series.server_cpu_us) if series.server_cpu_us else "",
        _number(group.to_raw(series)),
        _number(ratio(series, group.find(series.subject, ONE))) if series.shape != ONE else "",
    ]
    if peers:
        own = group.find(OWN, series.shape)
        cells.append(_number(ratio(own, series)) if series.subject in peers else "")
    return cells


def _scenarios(report: Report) -> None:
    if report.pinned is not None:
        one = report.pinned
        _heading(f"Client and module on one CPU (number {one.cpu})")
        click.echo(
            f"  no-op round trip p50 {one.p50_us:.2f} us, p99 {one.p99_us:.2f} us; "
            f"P-256 sign {one.sign_rate:,.0f}/s"
        )
    if report.idle is not None:
        idle = report.idle
        _heading(f"Idle for {idle.seconds:.1f} s after use, of one CPU")
        click.echo(f"  module {100 * idle.module:.3f}%, client {100 * idle.client:.3f}%")
    if report.fairness is not None:
        fair = report.fairness
        _heading("Fairness: one tenant signs with P-256 in one thread, another floods")
        click.echo(
            f"  alone {fair.alone:,.0f}/s; alone with half of {fair.cpus} CPUs, its fair share, "
            f"{fair.fair:,.0f}/s"
        )
        for contest in fair.contests:
            click.echo(
                f"  beside {contest.flood} ({contest.flood_rate:,.1f}/s): {contest.rate:,.0f}/s, "
                f"{100 * contest.share:.0f}% of its share, p50 {contest.p50_us:.0f} us, "
                f"p99 {contest.p99_us:.0f} us, p999 {contest.p999_us:.0f} us"
            )
    if report.network:
        _heading("Network baseline: P-256 sign through mutual TLS 1.3 on loopback, one in flight")
        for network in report.network:
            click.echo(
                f"  {network.added_ms:g} ms added: {network.rate:,.0f}/s, "
                f"p50 {network.p50_us:,.0f} us, p99 {network.p99_us:,.0f} us"
            )


def _verdict(one: Verdict) -> list[str | Text]:
    sign = "<=" if one.at_most else ">="
    unit = "" if one.unit == "x" else f" {one.unit}"
    holds = Text("holds", "green") if one.holds else Text("does not hold", "bold red")
    return [
        one.what,
        f"{_number(one.measured)}{unit}",
        f"{sign} {one.limit:g}{unit}",
        holds,
        one.note,
    ]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    return f"{value:,.{digits}f}"


def _heading(text: str) -> None:
    click.echo(f"\n{text}")
