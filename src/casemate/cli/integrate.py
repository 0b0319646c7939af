"""`casemate integrate`: configurations for programs that use a key in a partition."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import click

from casemate.cli._module import json_option, print_json, reports_errors
from casemate.cli._partition import KEY, Where, find_key, partition_options
from casemate.cli.pkcs11_path import library
from casemate.hsm.client.integrations import INTEGRATIONS, Integration, Target


@click.command()
@click.argument("program", type=click.Choice(sorted(INTEGRATIONS)))
@click.argument("name", type=KEY)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    default=Path("/etc/ssl/certs/www.pem"),
    show_default=True,
    help="The key's certificate, for programs that serve TLS.",
)
@click.option("--write", type=click.Path(path_type=Path), help="Write the files to this folder.")
@partition_options
@json_option
@reports_errors
def integrate(
    *,
    program: str,
    name: str,
    certificate: Path,
    write: Path | None,
    where: Where,
    as_json: bool,
) -> None:
    """Print what PROGRAM needs to use the key NAME."""
    from casemate.hsm.client import discovery

    with where.connected() as partition:
        key = find_key(partition, name)
        socket = discovery.find_socket(partition.name, os.environ, os.geteuid())
        target = Target(
            library=library(),
            sockets=socket.parent.parent,
            partition=partition.name,
            label=key.label,
            certificate=certificate,
            pin=partition.info().login_required,
        )
    made = INTEGRATIONS[program](target)
    if write is not None:
        write.mkdir(parents=True, exist_ok=True)
        for file, text in made.files.items():
            (write / file).write_text(text)
    if as_json:
        print_json(asdict(made))
    else:
        _print(made, write)


def _print(made: Integration, written: Path | None) -> None:
    click.echo(f"# {made.program}: needs {made.needs}\n")
    for file, text in made.files.items():
        if written is not None:
            click.echo(f"# wrote {written / file}")
        else:
            click.echo(f"# --- {file}\n{text}")
    click.echo("# --- shell")
    for variable, value in made.environment.items():
        click.echo(f"export {variable}={value}")
    for command in made.commands:
        click.echo(command)
    for note in made.notes:
        click.echo(f"# note: {note}")
