"""A real module process in folders of its own, for tests: start it, kill it, start it again."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from casemate.hsm.admin_client import AdminClient
from casemate.hsm.client import Partition, connect
from casemate.hsm.errors import ModuleError
from casemate.hsm.folders import Folders
from casemate.hsm.process import module_command


@dataclass
class RunningModule:
    """One module; `base` must be short, since sockets stand below it."""

    base: Path
    partitions: tuple[str, ...] = ("web",)
    pin_required: bool = False
    legacy_test: bool = False
    process: subprocess.Popen[bytes] | None = None
    extra: list[str] = field(default_factory=list)

    @property
    def folders(self) -> Folders:
        return Folders(state=self.base / "state", runtime=self.base / "run")

    @property
    def log(self) -> str:
        return (self.base / "log").read_text(errors="replace")

    def start(self) -> RunningModule:
        """Start the process and wait until it serves."""
        process = self._spawn()
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            if self._serves():
                return self
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the module did not start:\n{self.log}")

    def start_in_vain(self, wrapper: Sequence[str] = ()) -> int:
        """Start a process (below `wrapper`) that must end by itself; returns its exit code."""
        code = self._spawn(wrapper).wait(timeout=30)
        self.process = None
        return code

    def command(self) -> list[str]:
        """The command line of the module's process."""
        return module_command(
            state=self.folders.state,
            runtime=self.folders.runtime,
            partitions=self.partitions,
            pin_required=self.pin_required,
            legacy_test=self.legacy_test,
        )

    def _spawn(self, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        with (self.base / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *self.command(), *self.extra],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def _serves(self) -> bool:
        try:
            with AdminClient(self.folders.admin_socket) as admin:
                status = admin.call("status")
        except ModuleError:
            return False
        names = {partition["name"] for partition in status["partitions"]}
        ended = status["state"] in ("error", "zeroized")
        return ended or (status["state"] == "operational" and names >= set(self.partitions))

    def admin(self) -> AdminClient:
        return AdminClient(self.folders.admin_socket)

    def socket(self, name: str = "web") -> Path:
        return self.folders.partition_socket(name)

    def connect(self, name: str = "web", *, pin: str | None = None) -> Partition:
        return connect(str(self.socket(name)), pin=pin)

    def environment(self) -> dict[str, str]:
        """The environment with which other programs find this module."""
        return {
            **os.environ,
            "CASEMATE_SOCKETS": str(self.folders.runtime),
            "CASEMATE_RUNTIME": str(self.folders.runtime),
        }

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """End it as an operator would; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(how)
        code = self.process.wait(timeout=20)
        self.process = None
        return code
