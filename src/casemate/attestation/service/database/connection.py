"""Opens the database, and turns SQLite's errors into those of the service."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from casemate.attestation.service.database import schema
from casemate.attestation.service.errors import StoreError

#: How long the writer and a reader wait for a lock that another process holds, in milliseconds.
WRITER_PATIENCE, READER_PATIENCE = 1000, 250
#: Page cache of each connection in KiB: what is kept of the database in memory.
CACHE_KIB = 4096

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """Return a time as it is stored."""
    return (time - _EPOCH) // _MICROSECOND


def time_of(stored: int) -> datetime:
    """Return the time that was stored."""
    return _EPOCH + timedelta(microseconds=stored)


def time_or_none(stored: int | None) -> datetime | None:
    """Return the time that was stored, None for NULL."""
    return None if stored is None else time_of(stored)


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Raise `StoreError` for what SQLite and the file system raise."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        if "locked" in text or "busy" in text:
            raise StoreError(
                f"the database is locked: {path}",
                advice="find the other program that has it open: fuser -v " + str(path),
            ) from error
        if "full" in text:
            raise StoreError(f"the disk is full: {path}", advice="make room") from error
        raise StoreError(f"the database cannot be used: {path}: {text}") from error
    except (sqlite3.DatabaseError, schema.SchemaError) as error:
        raise StoreError(
            f"the database cannot be used: {path}: {error}",
            advice="restore it from a backup, or begin a new one by moving it away",
        ) from error
    except OSError as error:
        raise StoreError(
            f"the database cannot be used: {path}: {error.strerror or error}"
        ) from error


def create(path: Path) -> str:
    """Make the database if it is not there, bring it to the present version; returns its id."""
    with store_errors(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        connection = _connect(path, patience=WRITER_PATIENCE)
        try:
            if connection.execute("PRAGMA page_count").fetchone()[0] == 0:
                connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            _set_journal(connection, path)
            schema.migrate(connection)
            return schema.database_id(connection)
        finally:
            connection.close()


def open_writer(path: Path) -> sqlite3.Connection:
    """Open an existing database for the one writer."""
    connection = _connect(path, patience=WRITER_PATIENCE)
    try:
        _set_journal(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # The log is copied back in small steps, so that no commit waits long.
        connection.execute("PRAGMA wal_autocheckpoint = 2000")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """Open an existing database for reading."""
    connection = _connect(path, patience=READER_PATIENCE)
    try:
        connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def identity(path: Path) -> tuple[int, int]:
    """Return device and inode: a file that was removed or replaced is not the one that is open."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _connect(path: Path, *, patience: int) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None,
        check_same_thread=False, timeout=patience / 1000,
    )  # fmt: skip
    try:
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA mmap_size = 0")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


def _set_journal(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreError(
            f"the file system gives the database journal mode {mode}, not wal: {path}",
            advice="put it on a local file system",
        )
