"""The module's process, for whoever starts it: its command line, and whether it serves."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from casemate.hsm.admin_client import AdminClient
from casemate.hsm.errors import ModuleError
from casemate.hsm.folders import Folders


def module_command(
    *,
    state: Path | None,
    runtime: Path | None,
    partitions: tuple[str, ...],
    pin_required: bool = False,
    legacy_test: bool = False,
    require_locked: bool = False,
    metrics_group: int | None = None,
    log_level: str = "INFO",
) -> list[str]:
    """Return the command line of the module's process: isolated, without site-packages."""
    start = Path(__file__).with_name("__main__.py")
    command = [sys.executable, "-I", "-S", str(start), "--log-level", log_level]
    if state is not None:
        command += ["--state", str(state)]
    if runtime is not None:
        command += ["--runtime", str(runtime)]
    for name in partitions:
        command += ["--partition", name]
    if metrics_group is not None:
        command += ["--metrics-group", str(metrics_group)]
    flags = {
        "--pin-required": pin_required,
        "--legacy-test": legacy_test,
        "--require-locked": require_locked,
    }
    return command + [flag for flag, given in flags.items() if given]


def serves(folders: Folders, partitions: Iterable[str]) -> bool:
    """Return whether the module of these folders is operational and has these partitions."""
    try:
        with AdminClient(folders.admin_socket) as admin:
            status = admin.call("status")
    except ModuleError:
        return False
    names = {partition["name"] for partition in status["partitions"]}
    return status["state"] == "operational" and names >= set(partitions)
