"""`casemate rot serve`: the device behind its mailbox, on a Unix socket."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from casemate.cli._module import print_json
from casemate.cli._rot import json_option, reports_rot_errors
from casemate.rot.anchor import PublicAnchor
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.device_status import RomVersion
from casemate.rot.errors import RotError
from casemate.rot.fuse_file import read_fuses


@click.command()
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Where to listen; made with mode 0600, removed at the end.",
)
@click.option(
    "--device",
    type=click.Path(path_type=Path, file_okay=False),
    help="A manufactured device's folder; its secrets stay in silicon.",
)
@click.option(
    "--fuses",
    default="default",
    show_default=True,
    help="Fuses of the model: `default` (the public test values) or a fuse file.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Firmware to boot first; without it the device awaits FIRMWARE_LOAD in its mailbox.",
)
@click.option(
    "--rom",
    type=click.Choice([version.value for version in RomVersion]),
    default="main",
    show_default=True,
    help="ROM to follow: 2.1.2 and before, or main.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log refused commands and lost connections.")
@json_option
@reports_rot_errors
def serve(
    *,
    path: Path,
    device: Path | None,
    fuses: str,
    bundle: Path | None,
    rom: str,
    verbose: bool,
    as_json: bool,
) -> None:
    """Serve a device's mailbox until SIGTERM or Ctrl-C.

    Each command is one frame: see docs/mailbox.md. `casemate rot invoke --mailbox` is a client.
    """
    from casemate.formats.mailbox import CommandId, MailboxStatus, RequestFrame
    from casemate.rot.mailbox import Mailbox, MailboxDevice, MailboxError
    from casemate.rot.mailbox.server import MailboxServer

    if device is not None and fuses != "default":
        raise click.UsageError("a --device has its own fuses")
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    if device is None:
        anchor, burnt = PublicAnchor().open(), read_fuses(fuses)
    else:
        folder = DeviceFolder(device)
        anchor, burnt = folder.anchor.open(), folder.fuse_file.read()
    mailbox = Mailbox(MailboxDevice.power_on(anchor, burnt, rom=RomVersion(rom)))
    if bundle is not None:
        try:
            firmware = bundle.read_bytes()
        except OSError as error:
            raise RotError(f"{bundle}: cannot be read: {error.strerror}") from None
        answer = mailbox.execute(RequestFrame(0, CommandId.FIRMWARE_LOAD, firmware))
        if answer.status is MailboxStatus.FAILURE:
            raise MailboxError(
                answer.error,
                f"{bundle}: the device does not boot it; `casemate bundle verify` says why",
            )
    try:
        with MailboxServer(mailbox, path) as server:
            server.stop_on_signals()
            state = mailbox.device.root.state.value
            if as_json:
                print_json({"mailbox": str(path), "state": state})
            else:
                click.echo(f"mailbox on {path}, device in state {state}")
            server.serve_forever()
    except OSError as error:
        raise RotError(f"{path}: cannot serve: {error}") from None
