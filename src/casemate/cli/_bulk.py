"""Appraising many hosts: a progress bar while it runs, a summary when it is done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from casemate.attestation import bulk
from casemate.attestation.bulk import Summary
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.errors import InputError
from casemate.attestation.pool import Pool
from casemate.attestation.states import State, worst
from casemate.attestation.verifier import Verifier
from casemate.cli._verdict import COLOURS, shortened


def run(
    paths: Sequence[Path],
    verifier: Verifier,
    *,
    at: datetime,
    nonce: bytes | None,
    workers: int,
    out: Path | None,
    collateral: Supply | None = None,
) -> tuple[Summary, float]:
    """Appraise every host; `out` gets a line of JSON for each. The summary, and the seconds."""
    summary = Summary()
    requests = bulk.requests(
        paths, families=verifier.families, at=at, nonce=nonce, collateral=collateral
    )
    started = time.monotonic()
    with (
        _opened(out) as lines,
        _progress(bulk.count(paths)) as progress,
        Pool(verifier, workers=workers, finish=bulk.keep) as pool,
    ):
        for request, answer in pool.map(requests):
            summary.add(request.correlation_id, answer)
            if lines is not None:
                lines.write(answer.line + "\n")
            progress.advance(progress.task_ids[0])
    return summary, time.monotonic() - started


def state_of(summary: Summary) -> State:
    """The worst state of all hosts."""
    return worst(summary.states)


def as_json(summary: Summary, seconds: float) -> dict[str, Any]:
    """The summary for programs."""
    return {
        "hosts": summary.hosts,
        "states": {state.value: summary.states[state] for state in State},
        "reasons": [
            {"state": state.value, "reason": reason, "hosts": hosts}
            for (state, reason), hosts in summary.reasons.most_common()
        ],
        "names": {state.value: names for state, names in summary.names.items()},
        "seconds": round(seconds, 3),
    }


def show(summary: Summary, seconds: float) -> None:
    """Print the summary: how many of each state, then why, the most frequent first."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=100, highlight=False)
    rate = summary.hosts / seconds if seconds else 0
    console.print(f"{summary.hosts} hosts appraised in {seconds:.1f} s ({rate:.0f}/s)\n")
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("state", no_wrap=True)
    table.add_column("hosts", justify="right")
    table.add_column("such as", overflow="fold")
    for state in (
        State.CONTRAINDICATED,
        State.COULD_NOT_APPRAISE,
        State.WARNING,
        State.AFFIRMING,
    ):
        table.add_row(
            Text(state.value, style=f"bold {COLOURS[state]}"),
            str(summary.states[state]),
            Text(", ".join(summary.names.get(state, []))),
        )
    console.print(table)
    if not summary.reasons:
        return
    console.print()
    reasons = Table(box=None, header_style="bold", pad_edge=False)
    reasons.add_column("hosts", justify="right")
    reasons.add_column("because", overflow="fold")
    for (state, reason), hosts in summary.reasons.most_common(20):
        reasons.add_row(str(hosts), Text(shortened(reason), style=COLOURS[state]))
    console.print(reasons)


@contextlib.contextmanager
def _opened(out: Path | None) -> Iterator[IO[str] | None]:
    if out is None:
        yield None
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _progress(total: int) -> Iterator[Progress]:
    console = Console(stderr=True)
    with Progress(
        TextColumn("appraising"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        progress.add_task("appraising", total=total)
        yield progress
