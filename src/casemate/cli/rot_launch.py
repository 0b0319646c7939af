"""`casemate rot parts` and `rot launch`: the module that was measured is the module that runs."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import click

from casemate.cli._module import print_json, print_table
from casemate.cli._rot import json_option, reports_rot_errors
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.errors import RotError
from casemate.rot.launch.host import Host, boot
from casemate.rot.launch.image import Installation, Part, collect
from casemate.rot.mailbox.server import MailboxServer


def _rows(parts: tuple[Part, ...]) -> list[dict[str, object]]:
    return [
        {
            "part": part.name.value,
            "fw_id": f"0x{part.name.fw_id:08x}",
            "files": len(part.files),
            "sha384": part.digest.hex(),
        }
        for part in parts
    ]


@click.command()
@json_option
@reports_rot_errors
def parts(*, as_json: bool) -> None:
    """List the parts of this installation's module, as a SoC manifest names them.

    \b
    casemate manifest build ... --image FW_ID=SHA384     signs a manifest of them
    """
    rows = _rows(collect(Installation.here()))
    if as_json:
        print_json(rows)
    else:
        print_table(
            ("part", "image id", "files", "SHA-384"),
            [tuple(map(str, row.values())) for row in rows],
        )


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--device",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="The host's device folder; `casemate rot manufacture` makes one.",
)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The firmware bundle that the device boots.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    required=True,
    help="The SoC manifest that authorises the module's parts.",
)
@click.option(
    "--user",
    type=click.IntRange(0, 0xFFFFFFFF),
    default=0x434D,
    show_default=True,
    help="Who sets the manifest: the PL0 user that the bundle names.",
)
@click.option(
    "--mailbox",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Serve the device's mailbox on this socket (mode 0600) while the module runs: "
    "`casemate rot evidence --mailbox` then shows the running module.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@reports_rot_errors
def launch(
    *,
    device: Path,
    bundle: Path,
    manifest: Path,
    user: int,
    mailbox: Path | None,
    arguments: tuple[str, ...],
) -> None:
    """Boot the device, authorise the module's files, and run the module from sealed memory.

    Arguments behind `--` go to the module: those of `casemate up`.

    \b
    casemate rot launch --device D --bundle B --manifest M -- --partition web
    """
    try:
        host = boot(DeviceFolder(device), bundle.read_bytes(), user=user)
        collected = collect(Installation.here())
        host.authorize(manifest.read_bytes(), collected)
    except OSError as error:
        raise RotError(f"{error.filename}: cannot be read: {error.strerror}") from None
    with _served(host, mailbox):
        process = host.start(collected, arguments, environment=os.environ)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: process.send_signal(received))
        code = process.wait()
    raise SystemExit(code)


@contextlib.contextmanager
def _served(host: Host, path: Path | None) -> Iterator[None]:
    """Serve the mailbox on a thread, where a path is given."""
    if path is None:
        yield
        return
    try:
        with MailboxServer(host.mailbox, path, turn=host.turn) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.stop()
                thread.join()
    except OSError as error:
        raise RotError(f"{path}: cannot serve: {error}") from None
