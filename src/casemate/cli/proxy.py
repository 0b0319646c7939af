"""`casemate proxy`: give a partition to virtual machines."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from casemate.cli._module import PARTITION, reports_errors
from casemate.hsm.client.discovery import find_socket


@click.command()
@click.argument("name", type=PARTITION)
@click.option(
    "--vsock", "port", type=click.IntRange(1, 2**32 - 2), help="Listen on this vsock port."
)
@click.option(
    "--cid",
    "machines",
    type=click.IntRange(3, 2**32 - 2),
    multiple=True,
    help="Context number of a machine that may use the vsock port; may be repeated.",
)
@click.option(
    "--unix",
    "path",
    type=click.Path(path_type=Path),
    help="Listen on this Unix socket, which the hypervisor maps into the guest.",
)
@reports_errors
def proxy(*, name: str, port: int | None, machines: tuple[int, ...], path: Path | None) -> None:
    """Carry the messages of partition NAME to a virtual machine, until it is stopped.

    \b
    on the host:   casemate proxy web --vsock 5000 --cid 3
    in the guest:  CASEMATE_SOCKETS=/dev/vsock/2/5000 pkcs11-tool --module ... -L
    """
    from casemate.hsm.proxy import Proxy, VsockAddress, listen

    if (port is None) == (path is None):
        raise click.UsageError("give one of --vsock PORT and --unix PATH")
    if port is not None and not machines:
        raise click.UsageError(
            "--vsock needs --cid: every machine of this host can reach the port, "
            "so name those that may use the partition"
        )
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    partition = find_socket(name, os.environ, os.geteuid())
    try:
        listener = listen(
            VsockAddress(port, frozenset(machines)) if port is not None else path or Path()
        )
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {f'vsock port {port}' if port else path}: {error}"
        ) from error
    click.echo(f"partition {name} for guests on {f'vsock port {port}' if port else path}", err=True)
    try:
        Proxy(listener, partition, machines=frozenset(machines)).run()
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
