"""The partitions of a module: their life from creation to destruction.

A partition is `active`, `suspended` (kept, but it refuses) or `damaged` (its records could not be
opened; the others are served). What is said here to have happened has been stored before.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import threading
import time
import uuid
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from casemate import _silicon
from casemate.hsm.certifier import Certifier
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders, check_socket_path
from casemate.hsm.identity import fingerprint, self_signed
from casemate.hsm.policy import Policy, check_name
from casemate.hsm.store import PartitionRow, RecordRow, Store

#: Most partitions of one module: the virtual functions of the chip it is designed after.
PARTITIONS_MAX = 64

log = logging.getLogger(__name__)


class PartitionState(StrEnum):
    """Where a partition stands."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DAMAGED = "damaged"
    DESTROYING = "destroying"


@dataclass(slots=True)
class Entry:
    """One partition as the firmware knows it; `handle` is None while it is damaged."""

    id: bytes
    name: str
    policy: Policy
    state: PartitionState
    created: int
    handle: _silicon.Partition | None = None
    reason: str = ""


class Partitions:
    """Every partition of the module. Methods may be called from any thread."""

    def __init__(
        self, engine: _silicon.Engine, store: Store, folders: Folders, certifier: Certifier
    ) -> None:
        self._engine = engine
        self._store = store
        self._folders = folders
        self._certifier = certifier
        self._entries: dict[bytes, Entry] = {}
        #: Held while partitions change, and by `control` from its decision to the disk.
        self.lock = threading.RLock()

    # --- start and stop ----------------------------------------------------------------------

    def open_all(self) -> None:
        """Load every stored partition and serve it; a damaged one is kept, named and not served."""
        for row in self._store.partitions():
            entry = Entry(row.id, row.name, Policy(), PartitionState.ACTIVE, row.created)
            try:
                entry.state = PartitionState(row.state)
                entry.policy = Policy.from_json(json.loads(row.policy))
                entry.handle = self._load(row, entry.policy)
                self._listen(entry)
                if entry.state is PartitionState.SUSPENDED:
                    entry.handle.suspend()
            except (ModuleError, ValueError, OSError) as error:
                entry.state = PartitionState.DAMAGED
                entry.reason = str(error)
                log.error("partition %s is not served: %s", row.name, error)
            self._entries[row.id] = entry

    def _load(self, row: PartitionRow, policy: Policy) -> _silicon.Partition:
        records = self._store.records(row.id)
        if not any(kind == RECORD_ROOT for kind, *_ in records):
            raise ModuleError(
                Code.PARTITION_DAMAGED,
                f"partition {row.name} has no root record",
                advice="restore the state folder from its backup",
            )
        return self._engine.load_partition(row.id, row.name, policy.silicon(), row.secret, records)

    def close(self) -> None:
        """Remove the sockets; silicon ends the connections when the engine stops."""
        with self.lock:
            for entry in self._entries.values():
                self._remove_socket(entry.name)

    # --- life --------------------------------------------------------------------------------

    def create(self, name: str, policy: Policy) -> Entry:
        """Make a partition, store it and serve it."""
        check_name(name)
        with self.lock:
            if any(entry.name == name for entry in self._entries.values()):
                raise ModuleError(
                    Code.PARTITION_EXISTS,
                    f"there is a partition {name} already",
                    advice="choose another name, or destroy that one first",
                )
            if len(self._entries) >= PARTITIONS_MAX:
                raise ModuleError(
                    Code.TOO_MANY_PARTITIONS,
                    f"the module has {PARTITIONS_MAX} partitions, the most it can have",
                    advice="destroy one, or run a second module with its own folders",
                )
            check_socket_path(self._folders.partition_socket(name))
            identity = uuid.uuid4().bytes
            secret = self._engine.new_partition_secret(identity)
            handle = self._engine.load_partition(identity, name, policy.silicon(), secret, [])
            entry = Entry(identity, name, policy, PartitionState.ACTIVE, int(time.time()), handle)
            try:
                self._store.add_partition(
                    PartitionRow(
                        identity,
                        name,
                        json.dumps(policy.as_json()),
                        secret,
                        entry.state,
                        entry.created,
                    ),
                    [stored(identity, self._engine.seal_root(identity, []))],
                )
            except BaseException:
                handle.destroy()
                raise
            try:
                self._listen(entry)
            except BaseException:
                # What nobody can reach must not stay behind half made.
                self._store.remove_partition(identity)
                handle.destroy()
                raise
            self._entries[identity] = entry
        log.info("partition %s created", name)
        return entry

    def suspend(self, name: str) -> Entry:
        """Have a partition refuse every operation until it is resumed."""
        with self.lock:
            entry, handle = self.served(name)
            self._store.update_partition(entry.id, state=PartitionState.SUSPENDED)
            handle.suspend()
            entry.state = PartitionState.SUSPENDED
        log.info("partition %s suspended", name)
        return entry

    def resume(self, name: str) -> Entry:
        """Have a suspended partition serve again."""
        with self.lock:
            entry, handle = self.served(name)
            self._store.update_partition(entry.id, state=PartitionState.ACTIVE)
            handle.resume()
            entry.state = PartitionState.ACTIVE
        log.info("partition %s resumed", name)
        return entry

    def set_policy(self, name: str, changes: dict[str, Any]) -> Entry:
        """Change limits and permissions; what is in use beyond a new limit stays, nothing more."""
        with self.lock:
            entry, handle = self.served(name)
            policy = entry.policy.changed(changes)
            self._open_folder(name, policy)
            try:
                self._store.update_partition(entry.id, policy=json.dumps(policy.as_json()))
            except BaseException:
                self._open_folder(name, entry.policy)
                raise
            handle.set_policy(policy.silicon())
            entry.policy = policy
        log.info("partition %s has a new policy", name)
        return entry

    def destroy(self, name: str) -> None:
        """Delete a partition from disk, then from memory: its keys are gone for good."""
        with self.lock:
            entry = self.find(name)
            before, entry.state = entry.state, PartitionState.DESTROYING
            try:
                self._store.remove_partition(entry.id)
            except BaseException:
                entry.state = before
                raise
            del self._entries[entry.id]
            self._remove_socket(name)
            with contextlib.suppress(OSError):
                self._folders.partition_socket(name).parent.rmdir()
        # Outside the lock: silicon waits for its workers, and a worker may wait for `control`.
        if entry.handle is not None:
            entry.handle.destroy()
        log.info("partition %s destroyed", name)

    def forget_all(self) -> None:
        """Drop every partition after zeroization."""
        with self.lock:
            self.close()
            self._entries.clear()

    def suspend_all(self) -> None:
        """Have silicon refuse everywhere; nothing is stored, a restart serves again."""
        with self.lock:
            for entry in self._entries.values():
                if entry.handle is not None and entry.state is PartitionState.ACTIVE:
                    entry.handle.suspend()

    def resume_all(self) -> None:
        """Undo `suspend_all`; partitions that were suspended one by one stay so."""
        with self.lock:
            for entry in self._entries.values():
                if entry.handle is not None and entry.state is PartitionState.ACTIVE:
                    entry.handle.resume()

    # --- questions ---------------------------------------------------------------------------

    def all(self) -> list[Entry]:
        """Return every partition, by name."""
        with self.lock:
            return sorted(self._entries.values(), key=lambda entry: entry.name)

    def find(self, name: str) -> Entry:
        """Return the partition of this name; raises `ModuleError`."""
        with self.lock:
            for entry in self._entries.values():
                if entry.name == name:
                    return entry
            names = ", ".join(sorted(entry.name for entry in self._entries.values())) or "none"
        raise ModuleError(
            Code.UNKNOWN_PARTITION,
            f"there is no partition {name!r}",
            where=f"this module has: {names}",
            advice=f"casemate partition create {name}",
        )

    def served(self, name: str) -> tuple[Entry, _silicon.Partition]:
        """Return a partition that is not damaged."""
        entry = self.find(name)
        if entry.handle is None:
            raise ModuleError(
                Code.PARTITION_DAMAGED,
                f"partition {name} is damaged: {entry.reason}",
                advice="restore the state folder from its backup, or destroy the partition",
            )
        return entry, entry.handle

    def accepts_changes(self, partition: bytes) -> bool:
        """Whether control operations of this partition may go ahead."""
        with self.lock:
            entry = self._entries.get(partition)
            return entry is not None and entry.state is PartitionState.ACTIVE

    def describe(self, entry: Entry) -> dict[str, Any]:
        """Return what an operator may see of a partition."""
        described: dict[str, Any] = {
            "name": entry.name,
            "id": str(uuid.UUID(bytes=entry.id)),
            "state": entry.state.value,
            "created": entry.created,
            "socket": str(self._folders.partition_socket(entry.name)),
            "policy": entry.policy.as_json(),
        }
        if entry.reason:
            described["reason"] = entry.reason
        if entry.handle is not None:
            described["identity"] = fingerprint(entry.handle)
            counts = entry.handle.status()
            described["in_use"] = {name: getattr(counts, name) for name in _COUNTS}
        return described

    def figures(self) -> list[dict[str, Any]]:
        """Return the counts of every partition, as `metrics.reader.PartitionFigures` names them."""
        return [_figures_of(entry) for entry in self.all()]

    def metrics_descriptor(self, name: str) -> int:
        """Return a new descriptor of a partition's metrics page; raises `ModuleError`."""
        entry = self.find(name)
        if entry.handle is None:
            raise ModuleError(Code.WRONG_STATE, f"partition {name} was not opened", where=name)
        return entry.handle.metrics_descriptor()

    # --- sockets -----------------------------------------------------------------------------

    def _listen(self, entry: Entry) -> None:
        if entry.handle is None:
            return
        path = self._folders.partition_socket(entry.name)
        check_socket_path(path)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        remove_stale_socket(path)
        request = self_signed(entry.handle, created=entry.created)
        entry.handle.set_chain(self._certifier.chain(request))
        entry.handle.listen(path)
        self._open_folder(entry.name, entry.policy)

    def _open_folder(self, name: str, policy: Policy) -> None:
        """Give the partition's folder the group and mode of its policy."""
        folder = self._folders.partition_socket(name).parent
        try:
            if policy.group is not None:
                os.chown(folder, -1, policy.group)
            folder.chmod(policy.access.mode)
        except OSError as error:
            raise ModuleError(
                Code.BAD_FOLDER,
                f"the partition's folder cannot be given to group {policy.group}: {error.strerror}",
                where=str(folder),
                advice="make the module's user a member of that group, or run the module as root",
            ) from error

    def _remove_socket(self, name: str) -> None:
        """Remove the socket; the folder stays, since containers may have it mounted."""
        with contextlib.suppress(OSError):
            self._folders.partition_socket(name).unlink(missing_ok=True)


#: Record kinds, as `_silicon.Record` numbers them.
RECORD_ROOT = 3


def _figures_of(entry: Entry) -> dict[str, Any]:
    counts = entry.handle.status() if entry.handle is not None else None
    return {
        "name": entry.name,
        "id": str(uuid.UUID(bytes=entry.id)),
        "state": entry.state.value,
        "objects": counts.objects if counts else 0,
        "token_objects": counts.token_objects if counts else 0,
        "objects_most": entry.policy.keys,
        "sessions": counts.sessions if counts else 0,
        "sessions_most": entry.policy.sessions,
        "connections": counts.connections if counts else 0,
        "waiting": counts.waiting if counts else 0,
        "in_hand": counts.in_hand if counts else 0,
        "cpu_seconds": counts.cpu_nanoseconds / 1e9 if counts else 0.0,
    }


_COUNTS = (
    "objects",
    "token_objects",
    "sessions",
    "connections",
    "mapped_bytes",
    "operations",
    "errors",
    "waiting",
    "in_hand",
    "pin_initialised",
)


def stored(partition: bytes, record: _silicon.Record) -> RecordRow:
    """Return silicon's record as the store writes it."""
    return RecordRow(partition, record.kind, record.id, record.generation, record.blob)


def remove_stale_socket(path: Path) -> None:
    """Remove the socket that a killed module left; raises `ModuleError` where somebody listens."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise ModuleError(
            Code.BAD_FOLDER,
            "something that is no socket stands where a socket must be",
            where=str(path),
            advice="remove it, or choose another --runtime folder",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass
    raise ModuleError(
        Code.IN_USE,
        "another module serves this socket",
        where=str(path),
        advice="stop that module, or choose another --runtime folder",
    )
