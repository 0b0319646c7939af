"""`casemate up`: become the module's process."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from casemate.cli._module import PARTITION, reports_errors
from casemate.cli._parameters import Group
from casemate.hsm.policy import check_name
from casemate.hsm.process import module_command


@click.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Folder of the keys at rest [CASEMATE_STATE; /var/lib/casemate for root].",
)
@click.option(
    "--runtime",
    type=click.Path(path_type=Path),
    help="Folder of the sockets [CASEMATE_RUNTIME; /run/casemate for root].",
)
@click.option(
    "--partition",
    "partitions",
    type=PARTITION,
    multiple=True,
    help="Make this partition if it is not there; may be repeated.",
)
@click.option("--pin-required", is_flag=True, help="Policy of partitions that are made: PINs.")
@click.option(
    "--legacy-test",
    is_flag=True,
    help="Policy of partitions that are made: RSA-1024 and SHA-1, for outside test suites only.",
)
@click.option(
    "--require-locked", is_flag=True, help="Refuse to start where key memory cannot be locked."
)
@click.option(
    "--metrics-group",
    type=Group(),
    help="Members of this group may read the module's figures (casemate top, casemate metrics).",
)
@click.option(
    "--log-level",
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"]),
    default="INFO",
    show_default=True,
)
@reports_errors
def up(
    *,
    state: Path | None,
    runtime: Path | None,
    partitions: tuple[str, ...],
    pin_required: bool,
    legacy_test: bool,
    require_locked: bool,
    metrics_group: int | None,
    log_level: str,
) -> None:
    """Run the module in the foreground; Ctrl-C or SIGTERM ends it.

    Keys live in this process and nowhere else. Programs reach a partition through its socket:
    `casemate pkcs11-path` names the library for them.

    \b
    Exit codes: 0 ended when told to; 1 could not start; 3 a self-test failed.
    """
    for name in partitions:
        check_name(name)
    command = module_command(
        state=state,
        runtime=runtime,
        partitions=partitions,
        pin_required=pin_required,
        legacy_test=legacy_test,
        require_locked=require_locked,
        metrics_group=metrics_group,
        log_level=log_level,
    )
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 (our own interpreter and file, no shell)
