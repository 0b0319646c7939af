"""`casemate cdi`: give a partition to containers (Container Device Interface)."""

from __future__ import annotations

import json
from pathlib import Path

import click

from casemate.cli._module import PARTITION, admin, reports_errors, runtime_option
from casemate.cli._partition import output_option, write_output
from casemate.formats.cdi import specification


@click.command()
@click.argument("name", type=PARTITION)
@click.option(
    "--inside",
    default="/run/casemate",
    show_default=True,
    help="The registry's folder inside the container.",
)
@output_option
@runtime_option
@reports_errors
def cdi(*, name: str, inside: str, out: str, runtime: Path | None) -> None:
    """Write a CDI specification for the partition NAME.

    \b
    casemate cdi web -o /etc/cdi/casemate-web.json
    podman run --device casemate/partition=web ...
    """
    with admin(runtime) as module:
        found = module.call("partition.show", name=name)
    spec = specification(name, folder=Path(found["socket"]).parent, inside=inside)
    write_output(out, (json.dumps(spec, indent=2) + "\n").encode())
