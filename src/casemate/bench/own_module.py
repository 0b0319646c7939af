"""A module of our own for the benchmark, in a temporary folder."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import casemate
from casemate.bench.measurer import pinning
from casemate.bench.subjects import Subject, own
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders
from casemate.hsm.process import module_command, serves

#: The partition of the operations; the other tenant of the fairness scenario.
PARTITION = "bench"
OTHER = "other"
_START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class OwnModule:
    """A running module with the partitions `PARTITION` and `OTHER`, of the same weight."""

    folders: Folders
    process: int
    cpus: frozenset[int] | None

    def subject(self, partition: str = PARTITION) -> Subject:
        """Return our library at one of its partitions, pinned as the module is."""
        library = Path(casemate.__file__).with_name("libcasemate_pkcs11.so")
        return own(library, self.folders.runtime / partition, partition, self.process, self.cpus)

    def socket(self, partition: str = PARTITION) -> Path:
        """Return the socket of a partition."""
        return self.folders.partition_socket(partition)


@contextmanager
def own_module(cpus: frozenset[int] | None = None) -> Iterator[OwnModule]:
    """Run a module, on these CPUs only where they are given; its keys go with it."""
    with tempfile.TemporaryDirectory(prefix="cm-") as base:
        folders = Folders(state=Path(base) / "state", runtime=Path(base) / "run")
        command = module_command(
            state=folders.state,
            runtime=folders.runtime,
            partitions=(PARTITION, OTHER),
            log_level="WARNING",
        )
        log = Path(base) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=pinning(cpus),  # noqa: PLW1509 (no thread of ours runs here)
            )
        try:
            _wait(process, folders, log)
            yield OwnModule(folders=folders, process=process.pid, cpus=cpus)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _wait(process: subprocess.Popen[bytes], folders: Folders, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        if serves(folders, (PARTITION, OTHER)):
            return
        time.sleep(0.02)
    raise ModuleError(
        Code.NOT_RUNNING,
        "the benchmark's module did not become operational",
        where=log.read_text(errors="replace")[-400:],
        advice="casemate doctor",
    )
