"""The store: what must survive, in one SQLite database, on disk before anybody hears of it.

Tables: `module` (facts about this store), `partitions` (identity, policy, masked secret), `records`
(what silicon gave out: masked blobs, each with its generation, and one root record a partition that
authenticates the set). Nothing here is a key in clear, and nothing here is believed: silicon checks
every blob when a partition is loaded.

One writer, one file: write-ahead log, synchronous FULL, and exclusive locking, so that SQLite maps
no shared memory (a full disk then is an error and never a signal) and no second program can write.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from casemate.hsm.errors import Code, ModuleError

SCHEMA_VERSION = 1
#: "CSMT": marks the file as a Casemate store (PRAGMA application_id).
APPLICATION_ID = 0x43534D54

_SCHEMA = """
CREATE TABLE module (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE partitions (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    name TEXT NOT NULL UNIQUE,
    policy TEXT NOT NULL,
    secret BLOB NOT NULL,
    state TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE records (
    partition BLOB NOT NULL REFERENCES partitions (id) ON DELETE CASCADE,
    kind INTEGER NOT NULL,
    id INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    blob BLOB NOT NULL,
    PRIMARY KEY (partition, kind, id)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class PartitionRow:
    """A partition as it is stored; `policy` is JSON, `created` seconds since 1970."""

    id: bytes
    name: str
    policy: str
    secret: bytes
    state: str
    created: int


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One record of a partition; `blob` None deletes it. `id` and `generation` are unsigned."""

    partition: bytes
    kind: int
    id: int
    generation: int
    blob: bytes | None


class Store:
    """The database of one module. Every method that changes something returns after the sync."""

    def __init__(self, path: Path) -> None:
        """Open or make the database; raises `ModuleError` where it is damaged or not ours."""
        self._path = path
        self._lock = threading.RLock()
        with self._errors():
            self._check_file()
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _check_file(self) -> None:
        """Make the file with mode 0600 before SQLite would make it with another."""
        descriptor = os.open(
            self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ModuleError(
                Code.STORE_PERMISSION,
                f"the store belongs to user {status.st_uid} with mode {status.st_mode & 0o7777:04o}"
                f"; it must belong to user {os.geteuid()} with mode 0600",
                where=str(self._path),
                advice=f"look who could have changed it, then: chmod 600 {self._path}",
            )

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ModuleError(
                Code.STORE_FAILED,
                f"the file system gives the store journal mode {mode}, not wal",
                where=str(self._path),
                advice="put the state folder on a local file system",
            )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        if version == 0 and application == 0 and not self._tables():
            with self._transaction():
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        if application != APPLICATION_ID or version != SCHEMA_VERSION:
            raise ModuleError(
                Code.STORE_DAMAGED,
                f"not a Casemate store of version {SCHEMA_VERSION}: "
                f"application id {application:#x}, version {version}",
                where=str(self._path),
                advice="use the version of Casemate that made it, or another state folder",
            )
        findings = [row[0] for row in db.execute("PRAGMA integrity_check(3)")]
        if findings != ["ok"]:
            raise self._damaged("; ".join(map(str, findings)))

    def _tables(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT name FROM sqlite_schema")]

    # --- module ------------------------------------------------------------------------------

    def fact(self, name: str) -> str | None:
        """Return a fact about this store, or None."""
        with self._errors():
            row = self._db.execute("SELECT value FROM module WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Store a fact about this store."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO module VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
                (name, value),
            )

    # --- partitions --------------------------------------------------------------------------

    def partitions(self) -> list[PartitionRow]:
        """Return every partition, by name."""
        with self._errors():
            rows = self._db.execute(
                "SELECT id, name, policy, secret, state, created FROM partitions ORDER BY name"
            ).fetchall()
        return [PartitionRow(*row) for row in rows]

    def add_partition(self, row: PartitionRow, records: Iterable[RecordRow]) -> None:
        """Store a new partition with its first records, all or nothing."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO partitions VALUES (?, ?, ?, ?, ?, ?)",
                (row.id, row.name, row.policy, row.secret, row.state, row.created),
            )
            self._put(records)

    def update_partition(
        self, partition: bytes, *, policy: str | None = None, state: str | None = None
    ) -> None:
        """Store a partition's new policy or state."""
        with self._transaction():
            self._db.execute(
                "UPDATE partitions SET policy = coalesce(?, policy), state = coalesce(?, state)"
                " WHERE id = ?",
                (policy, state, partition),
            )

    def remove_partition(self, partition: bytes) -> None:
        """Delete a partition and its records, and overwrite what they stood in."""
        with self._transaction():
            self._db.execute("DELETE FROM partitions WHERE id = ?", (partition,))
        self._checkpoint()

    def erase(self) -> None:
        """Delete every partition and record: zeroization."""
        with self._transaction():
            self._db.execute("DELETE FROM partitions")
        self._checkpoint()

    # --- records -----------------------------------------------------------------------------

    def records(self, partition: bytes) -> list[tuple[int, int, int, bytes]]:
        """Return a partition's records as silicon loads them: kind, id, generation, blob."""
        with self._errors():
            rows = self._db.execute(
                "SELECT kind, id, generation, blob FROM records WHERE partition = ?"
                " ORDER BY kind, id",
                (partition,),
            ).fetchall()
        return [(row[0], _unsigned(row[1]), _unsigned(row[2]), row[3]) for row in rows]

    def apply(self, records: Iterable[RecordRow]) -> None:
        """Store and delete records in one transaction, durable on return."""
        with self._transaction():
            self._put(records)

    def _put(self, records: Iterable[RecordRow]) -> None:
        for record in records:
            key = (record.partition, record.kind, _signed(record.id))
            if record.blob is None:
                self._db.execute(
                    "DELETE FROM records WHERE partition = ? AND kind = ? AND id = ?", key
                )
            else:
                self._db.execute(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " generation = excluded.generation, blob = excluded.blob",
                    (*key, _signed(record.generation), record.blob),
                )

    # --- housekeeping ------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """Move the log into the database, so that deleted records stand nowhere any more."""
        with self._errors():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the database; a log that is left is taken up at the next start."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Hold the lock, and say what failed in words that an operator can act on."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise self._explained(error) from error
            except UnicodeDecodeError as error:
                # The driver's own: a text in the schema or in a column is none any more.
                raise self._damaged(f"a text cannot be read: {error.reason}") from error
            except OSError as error:
                raise ModuleError(
                    Code.STORE_PERMISSION,
                    f"the store cannot be opened: {error.strerror}",
                    where=str(self._path),
                    advice="give the module's user the right to read and write it",
                ) from error

    def _damaged(self, finding: str) -> ModuleError:
        return ModuleError(
            Code.STORE_DAMAGED,
            f"the store is damaged: {finding}",
            where=str(self._path),
            advice="keep the file for examination and restore the state folder from its backup",
        )

    def _explained(self, error: sqlite3.Error) -> ModuleError:
        extended = getattr(error, "sqlite_errorcode", 0)
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        primary = extended & 0xFF
        if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return self._damaged(f"{error} ({name})")
        if primary == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_WRITE:
            return ModuleError(
                Code.STORE_FULL,
                f"the store cannot grow: {error} ({name})",
                where=str(self._path),
                advice="free space on that file system; nothing that was acknowledged is lost",
            )
        if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN):
            return ModuleError(
                Code.STORE_PERMISSION,
                f"the store cannot be written: {error} ({name})",
                where=str(self._path),
                advice="give the module's user the right to read and write the state folder",
            )
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return ModuleError(
                Code.IN_USE,
                f"another program holds the store open ({name})",
                where=str(self._path),
                advice="close it (lsof shows which)",
            )
        return ModuleError(
            Code.STORE_FAILED,
            f"the store failed: {error} ({name})",
            where=str(self._path),
            advice="look at the system's log for errors of the disk",
        )


def _signed(value: int) -> int:
    """Return an unsigned 64-bit number as SQLite stores integers."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _unsigned(value: int) -> int:
    return value & ((1 << 64) - 1)
