"""`casemate suspend`, `resume`, `stop`, `zeroize`: the module as a whole."""

from __future__ import annotations

from pathlib import Path

import click

from casemate.cli._module import (
    admin,
    json_option,
    print_json,
    reports_errors,
    runtime_option,
)


def _tell(runtime: Path | None, command: str, done: str, *, as_json: bool) -> None:
    with admin(runtime) as module:
        module.call(command)
    if as_json:
        print_json({"done": command})
    else:
        click.echo(done)


@click.command()
@runtime_option
@json_option
@reports_errors
def suspend(runtime: Path | None, as_json: bool) -> None:
    """Have every partition refuse until the module is resumed or restarted."""
    _tell(runtime, "suspend", "suspended; casemate resume serves again", as_json=as_json)


@click.command()
@runtime_option
@json_option
@reports_errors
def resume(runtime: Path | None, as_json: bool) -> None:
    """Serve again after a suspend."""
    _tell(runtime, "resume", "operational", as_json=as_json)


@click.command()
@runtime_option
@json_option
@reports_errors
def stop(runtime: Path | None, as_json: bool) -> None:
    """End the module: begun changes are settled, keys in memory are wiped."""
    _tell(runtime, "stop", "ending", as_json=as_json)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@runtime_option
@json_option
@reports_errors
def zeroize(yes: bool, runtime: Path | None, as_json: bool) -> None:
    """Destroy every key of the module, in memory and on disk, for good."""
    with admin(runtime) as module:
        partitions = module.call("partition.list")
    if not yes:
        names = ", ".join(partition["name"] for partition in partitions) or "none"
        click.confirm(f"Destroy all keys of all partitions ({names}) for good?", abort=True)
    _tell(
        runtime,
        "zeroize",
        "zeroized: this state folder and its backups are dead; start a new one",
        as_json=as_json,
    )
