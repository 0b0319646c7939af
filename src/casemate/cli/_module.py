"""What every command about a module shares: its options, its errors, its output."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from casemate.hsm import folders
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.errors import ModuleError

P = ParamSpec("P")
R = TypeVar("R")

runtime_option = click.option(
    "--runtime",
    type=click.Path(path_type=Path),
    help="Folder of the module's sockets [CASEMATE_RUNTIME; /run/casemate for root].",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")


def admin(runtime: Path | None) -> AdminClient:
    """Connect to the module whose sockets stand in `runtime`, or in the default folder."""
    chosen = folders.choose(runtime=runtime, environment=os.environ, uid=os.geteuid())
    return AdminClient(chosen.admin_socket)


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print what a person can act on, and exit with 1, where the room raises its own errors.

    With --json the error is an object on standard output, {"error": {...}}.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        from casemate.hsm.client.errors import ClientError

        try:
            return command(*args, **kwargs)
        except ModuleError as error:
            fail(error.as_json(), as_json=bool(kwargs.get("as_json")))
        except ClientError as error:
            fail(error.as_json(), as_json=bool(kwargs.get("as_json")))
        except BrokenPipeError:
            # The reader has enough (`| head`); Python must not try to flush at exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

    return wrapped


def fail(error: dict[str, str], *, as_json: bool) -> None:
    """Print an error (fields what, where, advice) and exit with 1."""
    if as_json:
        click.echo(json.dumps({"error": error}))
        sys.exit(1)
    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), error["what"]))
    for label, key in (("where", "where"), ("to do", "advice")):
        if error.get(key):
            console.print(Text(f"  {label}: {error[key]}"))
    sys.exit(1)


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


_RIGHT = frozenset(
    {"keys", "sessions", "connections", "operations", "errors", "queue", "bits", "us", "ms"}
)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; columns of numbers stand to the right."""
    right = {number for number, column in enumerate(columns) if column in _RIGHT}
    print_columns(columns, rows, right=right)


def print_columns(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Set[int]
) -> None:
    """Print a table whose columns of these numbers stand to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        side: Literal["right", "left"] = "right" if number in right else "left"
        table.add_column(column, justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    _show(table)


def print_fields(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(str(value)))
    _show(table)


def _show(table: Table) -> None:
    """Print on a terminal in its width; on a pipe in full, without padding at the line's end."""
    console = Console()
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(width=400)
    with wide.capture() as captured:
        wide.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal that something is going on; on a pipe nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


class PartitionName(click.ParamType[str]):
    """A partition's name, completed from the running module."""

    name = "partition"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the partitions whose names begin so; nothing where no module answers."""
        from casemate.hsm.client import discovery

        found = discovery.find_sockets(os.environ, os.geteuid())
        return [
            click.shell_completion.CompletionItem(name)
            for name in sorted(found)
            if name.startswith(incomplete)
        ]


PARTITION = PartitionName()
