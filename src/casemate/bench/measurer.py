"""The native process that measures one subject (silicon/bench): commands and answers."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from casemate.bench.cases import Objects, Operation, Shape
from casemate.bench.subjects import Subject, environment
from casemate.closing import Closing
from casemate.formats.pkcs11 import ReturnValue
from casemate.hsm.errors import Code, ModuleError

_END_SECONDS = 20
#: How long the operations of a slice go on before they are counted: a sleeping worker wakes.
_WARM_UP_MS = 3


class UnsupportedError(Exception):
    """The library cannot do this; the text says what it answered."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice gave: operations a second, CPU times per operation and latencies, in ns.

    `latencies` counts operations by the lowest nanosecond of their bucket (at most 1.6% wide).
    """

    rate: float
    client_cpu: float
    server_cpu: float
    latencies: dict[int, int] = field(default_factory=dict)

    def percentile_us(self, share: float) -> float:
        """Return the latency below which this share of operations was, in us; 0 without any."""
        return percentile(self.latencies, share) / 1000


def percentile(latencies: Mapping[int, int], share: float) -> int:
    """Return the bucket below which this share of the operations was (p50: 0.5); 0 without any."""
    total = sum(latencies.values())
    seen = 0
    for lowest in sorted(latencies):
        seen += latencies[lowest]
        if seen >= share * total:
            return lowest
    return 0


def executable() -> Path:
    """Return where the native process stands. Raises `ModuleError` if it is not built."""
    path = Path(__file__).with_name("casemate-bench")
    if not path.is_file():
        raise ModuleError(
            Code.INTERNAL,
            "the measuring process is not built",
            where=str(path),
            advice="make build, or install the wheel",
        )
    return path


class Measurer(Closing):
    """One measuring process with its library open."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._process = subprocess.Popen(
            [executable()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(subject),
            preexec_fn=pinning(subject.cpus),  # noqa: PLW1509 (no thread of ours runs here)
            text=True,
        )
        opening: dict[str, object] = {}
        if subject.library is not None:
            opening = {
                "module": str(subject.library),
                "token": subject.token,
                "pin": subject.pin,
            }
        try:
            self.description: str = self._ask({"open": opening})["opened"]
        except UnsupportedError as error:
            self.close()
            raise ModuleError(
                Code.INTERNAL, f"{subject.name}: {error}", where=str(subject.library)
            ) from error
        except ModuleError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def prepare(self, operation: Operation, objects: Objects, shape: Shape) -> None:
        """Make keys and sessions, so that the first slice does not. Raises `UnsupportedError`."""
        self._ask({"prepare": self._case(operation, objects, shape)})

    def begin(
        self,
        operation: Operation,
        objects: Objects,
        shape: Shape,
        *,
        milliseconds: int,
        latency: bool = False,
        warm_up: int = _WARM_UP_MS,
    ) -> None:
        """Start a slice; `end` waits for it."""
        case = self._case(operation, objects, shape)
        case |= {
            "milliseconds": milliseconds,
            "latency": latency,
            "warm_up": warm_up,
            "servers": list(self.subject.processes),
        }
        self._send({"run": case})

    def end(self) -> Slice:
        """Return what the slice that was begun gave."""
        answer = self._receive()
        operations = answer["rate"] * answer["seconds"]
        return Slice(
            rate=answer["rate"],
            client_cpu=answer["client_cpu"] / operations,
            server_cpu=answer["server_cpu"] / operations,
            latencies={int(lowest): count for lowest, count in answer["latencies"].items()},
        )

    def run(
        self,
        operation: Operation,
        objects: Objects,
        shape: Shape,
        *,
        milliseconds: int,
        latency: bool = False,
    ) -> Slice:
        """Measure for so long; with `latency` as long again, timing each operation."""
        self.begin(operation, objects, shape, milliseconds=milliseconds, latency=latency)
        return self.end()

    def crossing(self) -> float | None:
        """Return the ns that a cache line takes from one CPU to another now; None with one CPU."""
        nanoseconds: float | None = self._ask({"crossing": {}})["crossing"]
        return nanoseconds

    def close(self) -> None:
        """End the process; it destroys the keys that it has made."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @staticmethod
    def _case(operation: Operation, objects: Objects, shape: Shape) -> dict[str, object]:
        return {
            "operation": operation.name,
            "bytes": operation.bytes,
            "token_objects": objects is Objects.TOKEN,
            "threads": shape.threads,
            "in_flight": shape.in_flight,
        }

    def _ask(self, command: dict[str, object]) -> dict[str, Any]:
        self._send(command)
        return self._receive()

    def _send(self, command: dict[str, object]) -> None:
        try:
            assert self._process.stdin is not None  # noqa: S101 (opened as a pipe)
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._died() from error

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # noqa: S101 (opened as a pipe)
        line = self._process.stdout.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "unsupported" in answer:
            raise UnsupportedError(_named(answer["unsupported"], answer["code"]))
        if "error" in answer:
            raise ModuleError(
                Code.INTERNAL,
                f"{self.subject.name}: {_named(answer['error'], answer['code'])}",
                where=str(self.subject.library or "AWS-LC"),
            )
        return answer

    def _died(self) -> ModuleError:
        code = self._process.wait()
        return ModuleError(
            Code.INTERNAL,
            f"the process that measures {self.subject.name} ended (code {code})",
            where=str(self.subject.library or "AWS-LC"),
            advice="a crash in the library, perhaps: run it alone, and look at its standard error",
        )


def _named(what: str, code: int | None) -> str:
    """Add the name of a function's answer."""
    if code is None:
        return what
    try:
        return f"{what} CKR_{ReturnValue(code).name}"
    except ValueError:
        return f"{what} {code:#x}"


def pinning(cpus: frozenset[int] | None) -> Callable[[], None] | None:
    """Return what a new process calls first, so that it runs on these CPUs only."""
    if cpus is None:
        return None
    return lambda: os.sched_setaffinity(0, cpus)


def cpu_seconds(process: int) -> float:
    """Return the CPU time of a process and all its threads, user and system, to the nanosecond."""
    # What clock_getcpuclockid(3) computes; Python has only the thread's variant.
    return time.clock_gettime((~process << 3) | 2)
