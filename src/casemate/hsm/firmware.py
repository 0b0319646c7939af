"""The module's process: it brings silicon up, opens the store, serves, and ends cleanly.

The order of a start, each step with its state (`casemate.hsm.states`):

1. power-off: limits of the process are set, both folders are made or checked and locked, so that
   two modules never share one;
2. self-test: silicon tests its mechanisms; a failure is `error`, and only status is served;
3. uninitialised: the store is opened and checked, the sealing secret is put into silicon;
4. operational: every stored partition is loaded and served; partitions named on the command line
   that are not there are made; systemd is told.

SIGTERM and SIGINT end the module after the control operations that it has begun. A kill at any
moment loses nothing that was acknowledged: the store has it.

The process loads the standard library and Casemate only, starts no other program, and parses no
tenant's bytes. `casemate up` becomes this process by exec; by hand: python -I -S FILE --state DIR,
where FILE is `casemate/hsm/__main__.py`.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import casemate
from casemate import _silicon
from casemate.hsm import folders as folder_rules
from casemate.hsm.admin import AdminServer
from casemate.hsm.certifier import Certifier, RootOfTrust, SelfSigned
from casemate.hsm.commands import commands
from casemate.hsm.control import Control
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders
from casemate.hsm.measurement import Measurement, measure_self
from casemate.hsm.metrics import service as metrics_service
from casemate.hsm.notify import notify
from casemate.hsm.partitions import Partitions
from casemate.hsm.policy import Policy
from casemate.hsm.sealing import DescriptorSource, FileSource, SealingSource
from casemate.hsm.states import ModuleState, StateMachine
from casemate.hsm.store import Store

log = logging.getLogger("casemate.hsm")

#: Fact in the store: the state folder's keys were destroyed on purpose.
_ZEROIZED = "zeroized"
_BY_ROOT = "by the root of trust, before it ran"
_BY_ITSELF = "by itself, after it was loaded: no root of trust vouches for it"
#: Fact in the store: the kind of the sealing source.
_SEALED_BY = "sealed by"


class Firmware:
    """One module, from power-off to its end."""

    def __init__(
        self,
        folders: Folders,
        *,
        require_locked: bool = False,
        sealing: SealingSource | None = None,
        certifier: Certifier | None = None,
        measured: Sequence[Measurement] = (),
        metrics_group: int | None = None,
    ) -> None:
        self.folders = folders
        self.machine = StateMachine()
        self._require_locked = require_locked
        self._started = time.time()
        self._sealing: SealingSource = sealing or FileSource(folders.sealing_secret)
        self._certifier: Certifier = certifier or SelfSigned()
        self._engine: _silicon.Engine | None = None
        self._store: Store | None = None
        self._partitions: Partitions | None = None
        self._control: Control | None = None
        self._admin = AdminServer(folders.admin_socket, commands(self))
        self._figures = AdminServer(
            folders.metrics_socket,
            metrics_service.commands(self),
            group=metrics_group,
            name="metrics",
        )
        self._locks: list[int] = []
        self._measurements: list[Measurement] = list(measured)
        self._measured_by = _BY_ROOT if measured else _BY_ITSELF

    # --- life --------------------------------------------------------------------------------

    def start(self, wanted: Sequence[tuple[str, Policy]] = ()) -> None:
        """Go from power-off to operational; `wanted` partitions are made if they are not there."""
        folder_rules.prepare(self.folders.state, mode=0o700, what="state folder")
        folder_rules.prepare(
            self.folders.runtime,
            mode=0o755 if os.geteuid() == 0 else 0o700,
            what="runtime folder",
        )
        self._locks = [
            folder_rules.lock(self.folders.state, what="state folder"),
            folder_rules.lock(self.folders.runtime, what="runtime folder"),
        ]
        self._admin.start()
        self._figures.start()
        self.machine.enter(ModuleState.SELF_TEST)
        try:
            engine = self._engine = _silicon.Engine(require_locked=self._require_locked)
        except (OSError, RuntimeError, ValueError) as error:
            raise ModuleError(
                Code.INTERNAL,
                f"silicon did not start: {error}",
                advice="where it says that memory cannot be locked, raise RLIMIT_MEMLOCK "
                "(systemd: LimitMEMLOCK=infinity)",
            ) from error
        if not self._measurements:
            try:
                self._measurements = measure_self(Path(_silicon.__file__))
            except OSError as error:
                raise ModuleError(
                    Code.INTERNAL,
                    f"the module's own files cannot be measured: {error.strerror}",
                    where=str(error.filename),
                    advice="end what is changing the installation, then start again",
                ) from error
        engine.set_measurements(self._measurements)
        if failed := self._self_test(engine):
            self.machine.enter(ModuleState.ERROR)
            log.critical("self-tests failed: %s; the module refuses all service", failed)
            return
        self.machine.enter(ModuleState.UNINITIALISED)
        self._open(engine)
        for name, policy in wanted:
            partitions = self.partitions(ModuleState.OPERATIONAL)
            if all(entry.name != name for entry in partitions.all()):
                partitions.create(name, policy)

    def _open(self, engine: _silicon.Engine) -> None:
        """Open the store, take the sealing secret, serve what is stored."""
        store = self._store = Store(self.folders.database)
        if store.fact(_ZEROIZED) is not None:
            self.machine.enter(ModuleState.ZEROIZED)
            log.critical("this state folder was zeroized; use a new one")
            return
        # A secret is made only where nothing is sealed yet: never in the place of a lost one.
        is_new = not store.partitions()
        sealed_by = store.fact(_SEALED_BY)
        if not is_new and sealed_by not in (None, self._sealing.kind):
            raise ModuleError(
                Code.SEALING,
                f"the partitions of this store were sealed by another source: {sealed_by}, "
                f"not {self._sealing.kind}",
                where=str(self.folders.state),
                advice="start the module as before (casemate up: file; casemate rot launch: "
                "root-of-trust), or with another state folder",
            )
        self._sealing.unseal(engine, create=is_new)
        if sealed_by != self._sealing.kind:
            store.set_fact(_SEALED_BY, self._sealing.kind)
        self._partitions = Partitions(engine, store, self.folders, self._certifier)
        self._control = Control(engine, store, self._partitions, self.machine)
        self._partitions.open_all()
        self.machine.enter(ModuleState.OPERATIONAL)
        self._control.start()

    def stop(self) -> None:
        """End in order: no new commands, begun changes settled, sockets away, keys wiped."""
        self._admin.stop()
        self._figures.stop()
        if self._control is not None:
            self._control.stop()
        if self._partitions is not None:
            self._partitions.close()
        if self._engine is not None:
            self._engine.stop()
        if self._store is not None:
            self._store.close()
        for descriptor in self._locks:
            os.close(descriptor)

    @staticmethod
    def request_stop() -> None:
        """Ask the main thread to end the module."""
        os.kill(os.getpid(), signal.SIGTERM)

    # --- services ----------------------------------------------------------------------------

    def partitions(self, *allowed: ModuleState) -> Partitions:
        """Return the partitions in one of these states; raises `ModuleError`."""
        self.machine.require(*allowed)
        return _there(self._partitions)

    def _self_test(self, engine: _silicon.Engine) -> list[str]:
        """Run silicon's self-tests and return the names of those that failed."""
        return [result.name for result in engine.self_test() if not result.passed]

    def self_test_on_demand(self) -> dict[str, Any]:
        """Run the self-tests now; a failure is `error`: every partition is suspended for good."""
        self.machine.require(
            ModuleState.UNINITIALISED, ModuleState.OPERATIONAL, ModuleState.SUSPENDED
        )
        results = _there(self._engine).self_test()
        passed = all(result.passed for result in results)
        if not passed:
            if self._partitions is not None:
                self._partitions.suspend_all()
            self.machine.enter(ModuleState.ERROR)
            log.critical("a self-test failed; the module refuses all service")
        return {
            "passed": passed,
            "tests": [
                {"name": result.name, "passed": result.passed, "micros": result.micros}
                for result in results
            ],
        }

    def suspend(self) -> None:
        """Operational to suspended."""
        partitions = self.partitions(ModuleState.OPERATIONAL)
        self.machine.enter(ModuleState.SUSPENDED)
        partitions.suspend_all()

    def resume(self) -> None:
        """Suspended to operational."""
        partitions = self.partitions(ModuleState.SUSPENDED)
        self.machine.enter(ModuleState.OPERATIONAL)
        partitions.resume_all()

    def zeroize(self) -> None:
        """Destroy every key in memory, then what could open those on disk."""
        partitions = self.partitions(ModuleState.OPERATIONAL, ModuleState.SUSPENDED)
        engine, store = _there(self._engine), _there(self._store)
        # The lock keeps `control` from storing a batch between the wiping and the erasing.
        with partitions.lock:
            self.machine.enter(ModuleState.ZEROIZED)
            log.critical("zeroizing")
            engine.zeroize()
            self._sealing.destroy()
            store.erase()
            store.set_fact(_ZEROIZED, str(int(time.time())))
            partitions.forget_all()

    def status(self) -> dict[str, Any]:
        """What an operator sees first."""
        partitions = self._partitions
        error = self._control.last_error if self._control is not None else None
        return {
            "version": casemate.__version__,
            "state": self.machine.state.value,
            "pid": os.getpid(),
            "user": os.geteuid(),
            "started": self._started,
            "instance": f"{self._engine.instance:016x}" if self._engine is not None else None,
            "state_folder": str(self.folders.state),
            "runtime_folder": str(self.folders.runtime),
            "sealing": self._sealing.description,
            "measured": self._measured_by,
            "partitions_certified": self._certifier.description,
            "rollback": "a swapped or partly restored state is detected; the rollback of the "
            "whole state folder is not: no anchor holds its counter",
            "store": "ok" if error is None else str(error),
            "partitions": []
            if partitions is None
            else [partitions.describe(entry) for entry in partitions.all()],
        }

    def figures(self) -> dict[str, Any]:
        """What a collector of figures may know; the pages have the rest."""
        return {
            "version": casemate.__version__,
            "state": self.machine.state.value,
            "started": self._started,
            "instance": f"{self._engine.instance:016x}" if self._engine is not None else None,
            "partitions": [] if self._partitions is None else self._partitions.figures(),
        }

    def doctor(self) -> dict[str, Any]:
        """What is in force on this host."""
        soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        return {
            "memory": self._engine.memory_report() if self._engine is not None else {},
            "python": f"{platform.python_version()} ({sys.executable})",
            "isolated": bool(sys.flags.isolated),
            "modules": sorted({name.partition(".")[0] for name in sys.modules}),
            "kernel": platform.release(),
            "measurements": {name: digest.hex() for name, digest in self._measurements},
            "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "locked_memory_limit": [soft, hard],
            "sealing": self._sealing.description,
        }


_Part = TypeVar("_Part")


def _there(part: _Part | None) -> _Part:
    """Return a part of the module that is made during the start; raises `ModuleError` before."""
    if part is None:
        raise ModuleError(Code.WRONG_STATE, "the module has not opened its store yet")
    return part


def harden() -> None:
    """Limit this process before it holds anything: no core file, no files for others."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for kind in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_NOFILE):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))


def parser() -> argparse.ArgumentParser:
    """Return the command line of the module's own process; `casemate up` writes it."""
    arguments = argparse.ArgumentParser(prog="casemate-module", description=__doc__.splitlines()[0])
    arguments.add_argument("--state", type=Path)
    arguments.add_argument("--runtime", type=Path)
    arguments.add_argument("--partition", action="append", default=[], metavar="NAME")
    arguments.add_argument("--pin-required", action="store_true")
    arguments.add_argument("--legacy-test", action="store_true")
    arguments.add_argument("--require-locked", action="store_true")
    arguments.add_argument(
        "--metrics-group", type=int, help="number of the group that may read the figures"
    )
    arguments.add_argument("--log-level", default="INFO")
    arguments.add_argument(
        "--sealing-descriptor", type=int, help="the root of trust's secret; else a file"
    )
    arguments.add_argument(
        "--certifier-descriptor",
        type=int,
        help="a stream to the root of trust that certifies partitions; else they sign themselves",
    )
    arguments.add_argument(
        "--measured",
        action="append",
        default=[],
        metavar="NAME=SHA384",
        help="what the root of trust measured; else the module measures its own files",
    )
    return arguments


def _measured(text: str) -> Measurement:
    name, _, digest = text.partition("=")
    return name, bytes.fromhex(digest)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a module until it is told to end. Exit codes: 0 ended, 1 did not start, 3 error state."""
    options = parser().parse_args(argv)
    logging.basicConfig(
        level=options.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    harden()
    endings = {signal.SIGTERM, signal.SIGINT}
    # Every thread inherits the mask, so that only `sigwait` below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    folders = folder_rules.choose(
        state=options.state, runtime=options.runtime, environment=os.environ, uid=os.geteuid()
    )
    policy = Policy(pin_required=options.pin_required, legacy_test=options.legacy_test)
    sealing = None
    if options.sealing_descriptor is not None:
        sealing = DescriptorSource(options.sealing_descriptor)
    certifier = None
    if options.certifier_descriptor is not None:
        certifier = RootOfTrust(options.certifier_descriptor)
    firmware = Firmware(
        folders,
        require_locked=options.require_locked,
        sealing=sealing,
        certifier=certifier,
        measured=[_measured(text) for text in options.measured],
        metrics_group=options.metrics_group,
    )
    try:
        firmware.start([(name, policy) for name in options.partition])
    except ModuleError as error:
        log.critical("%s", error)
        notify(f"STATUS={error.what}")
        firmware.stop()
        return 1
    state = firmware.machine.state
    log.info("%s; state %s, sockets in %s", state.value, folders.state, folders.runtime)
    notify(f"READY=1\nSTATUS={state.value}")
    received = signal.sigwait(endings)
    log.info("ending on %s", signal.Signals(received).name)
    notify("STOPPING=1")
    in_error = firmware.machine.state is ModuleState.ERROR
    firmware.stop()
    return 3 if in_error else 0


if __name__ == "__main__":
    sys.exit(main())
