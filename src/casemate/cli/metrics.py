"""`casemate metrics`: the module's figures for monitoring."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import click

from casemate.cli._module import reports_errors, runtime_option
from casemate.hsm import folders
from casemate.hsm.errors import Code, ModuleError


@click.group()
def metrics() -> None:
    """Give the module's figures to monitoring."""


@metrics.command()
@runtime_option
@click.option(
    "--listen",
    default="127.0.0.1:9464",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where Prometheus scrapes; [::1]:9464 for IPv6.",
)
@click.option(
    "--certificate",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM file of the server's certificates: HTTPS.",
)
@click.option("--key", type=click.Path(exists=True, dir_okay=False), help="Its key, PEM.")
@click.option(
    "--client-ca",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM file: clients must show a certificate under it.",
)
@reports_errors
def serve(
    runtime: Path | None,
    listen: str,
    certificate: str | None,
    key: str | None,
    client_ca: str | None,
) -> None:
    """Serve the figures to Prometheus at /metrics, in this process, until Ctrl-C or SIGTERM.

    It reads pages that the module writes for its own use, and asks it for a few counts at each
    scrape; it may start before the module and outlives its restarts (hsm_up says which). What it
    shows names partitions, operations and mechanisms: keep it from tenants.

    \b
    Exit codes: 0 ended when told to; 1 the address could not be listened on.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    from casemate.hsm.metrics.exporter import ModuleCollector

    if bool(certificate) != bool(key) or (client_ca and not certificate):
        raise click.UsageError("--certificate and --key go together, --client-ca needs both")
    address, _, port = listen.rpartition(":")
    if not address or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not ADDRESS:PORT", param_hint="--listen")
    chosen = folders.choose(runtime=runtime, environment=os.environ, uid=os.geteuid())
    registry = CollectorRegistry()
    registry.register(ModuleCollector(chosen.metrics_socket))
    # Before the first thread, so that only `sigwait` below takes them.
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    try:
        server, thread = start_http_server(
            int(port),
            addr=address.strip("[]"),
            registry=registry,
            certfile=certificate,
            keyfile=key,
            client_cafile=client_ca,
            client_auth_required=client_ca is not None,
        )
    except OSError as error:
        raise ModuleError(
            Code.IN_USE,
            f"cannot listen: {error.strerror or error}",
            where=listen,
            advice="choose another --listen",
        ) from error
    scheme = "https" if certificate else "http"
    click.echo(f"serving {scheme}://{address}:{server.server_port}/metrics")
    signal.sigwait(endings)
    server.shutdown()
    thread.join()
