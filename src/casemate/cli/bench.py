"""`casemate bench`: PKCS#11 libraries beside raw AWS-LC, interleaved in one run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from casemate.bench import cases, interleaved, run, subjects
from casemate.bench.cases import Objects
from casemate.bench.run import Part, Wanted
from casemate.cli._bench_tables import print_report
from casemate.cli._module import json_option, reports_errors


@click.command()
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="PATH[,...]",
    help="A PKCS#11 library to measure too; may be repeated. More: "
    "path=PATH,name=NAME,token=LABEL,pin-file=FILE (or pin-env=VARIABLE, or pin-ask=yes),"
    "process=PID (of its server, whose CPU time is counted),cpu=N (to run it on),"
    "env.NAME=VALUE.",
)
@click.option(
    "--operation",
    "operations",
    multiple=True,
    metavar="NAME[:BYTES]",
    help="Only this operation, such as sign-p256 or encrypt-aes256gcm:4096; may be repeated.",
)
@click.option(
    "--objects",
    type=click.Choice(["token", "session", "both"]),
    default="token",
    show_default=True,
    help="The kind of the keys, the same for every library.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 256),
    multiple=True,
    help="Client threads; may be repeated [1, 2 and the number of CPUs].",
)
@click.option(
    "--part",
    "parts",
    type=click.Choice([part.value for part in Part]),
    multiple=True,
    help="Only this part; may be repeated [all].",
)
@click.option("--without-own", is_flag=True, help="Leave our own library out.")
@click.option("--quick", is_flag=True, help="A look in seconds; its figures are rough.")
@click.option("--rounds", type=click.IntRange(1, 1000), help="Slices of each [7].")
@click.option(
    "--slice",
    "milliseconds",
    type=click.IntRange(1, 60_000),
    help="Length of a slice in ms [60].",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rates to this SVG file.",
)
@json_option
@reports_errors
def bench(
    *,
    modules: tuple[str, ...],
    operations: tuple[str, ...],
    objects: str,
    threads: tuple[int, ...],
    parts: tuple[str, ...],
    without_own: bool,
    quick: bool,
    rounds: int | None,
    milliseconds: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure our PKCS#11 library, and others, beside AWS-LC called in process.

    Our library uses a module that is started for it in a temporary folder. Each library runs in a
    measuring process of its own; they take turns in short slices, so that whatever else the machine
    does hits all alike. Keys that are made on your tokens (label casemate-bench) are destroyed at
    the end.

    \b
    casemate bench --quick
    casemate bench --operation sign-p256 --part operations
    casemate bench --module path=/usr/lib/softhsm/libsofthsm2.so,token=test,pin-ask=yes
    """
    pace = interleaved.QUICK if quick else interleaved.FULL
    kinds = (Objects.TOKEN, Objects.SESSION) if objects == "both" else (Objects(objects),)
    try:
        groups = cases.plan(names=operations, objects=kinds, threads=threads)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--operation") from error
    peers = [subjects.parse(text, _ask) for text in modules]
    for peer in peers:
        if peer.shown_pin:
            click.echo(
                f"warning: {peer.name}: a PIN on the command line is seen by whoever lists "
                "processes; give it by pin-file=, pin-env= or pin-ask=yes",
                err=True,
            )
    wanted = Wanted(
        groups=groups,
        peers=peers,
        parts=frozenset(Part(part) for part in parts) or frozenset(Part),
        pace=interleaved.Pace(rounds or pace.rounds, milliseconds or pace.milliseconds),
        quick=quick,
        without_own=without_own,
    )
    with _progress() as tell:
        report = run.run(wanted, tell)
    if plot is not None:
        from casemate.bench.plot import plot as draw

        plot.write_text(draw(report), encoding="utf-8")
    if as_json:
        from casemate.bench.document import document

        click.echo(json.dumps(document(report), indent=2))
    else:
        print_report(report)


def _ask(question: str) -> str:
    answer: str = click.prompt(question, hide_input=True, err=True)
    return answer


@contextmanager
def _progress() -> Iterator[run.Progress]:
    """Show on a terminal what is measured; on a pipe say nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text, _share: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("start", total=1.0)

        def tell(text: str, share: float) -> None:
            progress.update(task, description=f"{text:<48}", completed=share)

        yield tell
