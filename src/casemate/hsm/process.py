"""The module's process: its command line, for whoever starts it."""

from __future__ import annotations

import sys
from pathlib import Path


def module_command(
    *,
    state: Path | None,
    runtime: Path | None,
    partitions: tuple[str, ...],
    pin_required: bool = False,
    legacy_test: bool = False,
    require_locked: bool = False,
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
    flags = {
        "--pin-required": pin_required,
        "--legacy-test": legacy_test,
        "--require-locked": require_locked,
    }
    return command + [flag for flag, given in flags.items() if given]
