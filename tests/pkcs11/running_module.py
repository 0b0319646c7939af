"""A module in a folder of its own, as a process that tests may kill and start again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import casemate

SOURCES = Path(casemate.__file__).parents[1]
LIBRARY = Path(casemate.__file__).with_name("libcasemate_pkcs11.so")
EXTENSION = Path(casemate.__file__).with_name("_silicon.abi3.so")


class RunningModule:
    """`casemate up` with its state, sockets and log under one folder."""

    def __init__(self, folder: Path, partitions: Sequence[str], *flags: str) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self.partitions = tuple(partitions)
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until every partition's socket answers."""
        command = [sys.executable, "-m", "casemate.cli.main", "up"]
        command += ["--state", str(self.folder / "state"), "--runtime", str(self.runtime)]
        for partition in self.partitions:
            command += ["--partition", partition]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(SOURCES)},
            )
        deadline = time.monotonic() + 20
        for partition in self.partitions:
            while not answers(self.socket(partition)):
                ended = self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text())
                time.sleep(0.01)

    def socket(self, partition: str) -> Path:
        """The socket of a partition."""
        return self.runtime / partition / "hsm.sock"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait for that."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=20)
            self._process = None

    def environment(self) -> dict[str, str]:
        """What a client process needs to find this module and no other."""
        return {
            **os.environ,
            "CASEMATE_SOCKETS": str(self.runtime),
            "XDG_RUNTIME_DIR": str(self.folder),
            "CASEMATE_PKCS11_LOG": "1",
        }


def answers(path: Path) -> bool:
    """Whether somebody listens there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
