"""Starts and ends the modules of the demonstration."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders
from casemate.hsm.process import module_command, serves


def folders_below(base: Path) -> Folders:
    """The folders of a module below one of its own."""
    return Folders(state=base / "state", runtime=base / "run")


def arguments(folders: Folders, partition: str) -> list[str]:
    """The command line of a module with one partition, but for the program."""
    return [
        *("--state", str(folders.state), "--runtime", str(folders.runtime)),
        *("--partition", partition, "--log-level", "WARNING"),
    ]


def unmeasured(folders: Folders, partition: str) -> subprocess.Popen[bytes]:
    """Start a module without a root of trust, as `casemate up` does."""
    command = module_command(
        state=folders.state,
        runtime=folders.runtime,
        partitions=(partition,),
        log_level="WARNING",
    )
    return wait(subprocess.Popen(command, stdin=subprocess.DEVNULL), folders, partition)


def wait(
    process: subprocess.Popen[bytes], folders: Folders, partition: str
) -> subprocess.Popen[bytes]:
    """Wait until a started module serves its partition; raises ModuleError if it does not."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if serves(folders, [partition]):
            return process
        time.sleep(0.02)
    process.kill()
    raise ModuleError(Code.NOT_RUNNING, "the module did not become operational", str(folders.state))


def stop(process: subprocess.Popen[bytes]) -> int:
    """End a module in order; returns its exit code."""
    process.terminate()
    return process.wait(timeout=20)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """End the module with the block, however that ends."""
    try:
        yield process
    finally:
        if process.poll() is None:
            stop(process)
