"""The one writer: it commits in groups, and answers after the commit.

A change is a function of the connection. The writer's thread takes all changes that wait (at most
`GROUP`), runs each inside a savepoint of one transaction, commits with a full synchronisation, and
only then answers. So a thousand requests wait for one synchronisation of the disk together, and one
that fails undoes itself alone.

- A database that is locked, full or damaged fails the changes that met it (`StoreError`), none of
  which are kept; the next group tries again.
- A file that was removed or replaced while it was open takes no change: SQLite would go on writing
  into a file that has no name. The writer opens what has its path again, if it is the same one.
- Events go out after the commit, in its order, before the answers: `publish` gets those of a group.
  If it fails, the group is answered (its changes are on disk, and so are its events' contents), and
  the following are refused until `publish` has caught up.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from casemate.attestation.service.database import connection as opening
from casemate.attestation.service.database import schema
from casemate.attestation.service.errors import StoreError

T = TypeVar("T")

#: Changes in one transaction at most, and those that may wait.
GROUP, WAITING = 512, 16_384

Event = dict[str, Any]


@dataclass(slots=True)
class _Change(Generic[T]):
    apply: Callable[[sqlite3.Connection], T]
    future: Future[T]
    event: Callable[[T], Event] | None
    result: T | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class WriterCounters:
    """For metrics: transactions, changes, and groups that failed as a whole."""

    commits: int = 0
    changes: int = 0
    failures: int = 0


class Publisher:
    """Where events go. The default keeps none."""

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """Publish what an earlier failure left out; raises `StoreError` where it cannot."""

    def publish(self, events: Sequence[Event]) -> None:
        """Publish the events of one commit; raises `StoreError` where it cannot."""


class Writer:
    """A thread with the writing connection."""

    def __init__(self, path: Path, publisher: Publisher | None = None) -> None:
        """Open an existing database; raises `StoreError`."""
        self.path = path
        self.counters = WriterCounters()
        self._publisher = publisher or Publisher()
        self._behind = True
        self._queue: queue.Queue[_Change[Any] | None] = queue.Queue(WAITING)
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self.last_error: StoreError | None = None
        with opening.store_errors(path):
            self._open()
            self.database_id = schema.database_id(self._opened())
        self._thread = threading.Thread(target=self._run, name="database-writer", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Changes that wait."""
        return self._queue.qsize()

    def submit(
        self,
        apply: Callable[[sqlite3.Connection], T],
        event: Callable[[T], Event] | None = None,
    ) -> Future[T]:
        """Queue a change; the future ends after its commit. `event` makes its event afterwards.

        The future raises what `apply` raised, or `StoreError`.
        """
        future: Future[T] = Future()
        try:
            self._queue.put_nowait(_Change(apply, future, event))
        except queue.Full:
            future.set_exception(
                StoreError(
                    f"{WAITING} changes wait for the database",
                    advice="the disk is too slow for this rate: look at the commit times",
                )
            )
        return future

    def close(self) -> None:
        """Commit what waits and end the thread."""
        self._queue.put(None)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self) -> None:
        ended = False
        while not ended:
            group: list[_Change[Any]] = []
            item = self._queue.get()
            while item is not None:
                # A caller that has gone before its turn changes nothing; from here on it cannot go.
                if item.future.set_running_or_notify_cancel():
                    group.append(item)
                if len(group) == GROUP:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            ended = item is None
            if group:
                self._commit(group)

    def _commit(self, group: list[_Change[Any]]) -> None:
        try:
            with opening.store_errors(self.path):
                self._transact(group)
        except Exception as error:  # whatever it is, every caller must hear of it
            self.counters.failures += 1
            self.last_error = _as_store_error(error)
            for change in group:
                change.error = self.last_error
        else:
            self.counters.commits += 1
            self.counters.changes += len(group)
            self.last_error = None
            self._publish(group)
        for change in group:
            if change.error is not None:
                change.future.set_exception(change.error)
            else:
                change.future.set_result(change.result)

    def _transact(self, group: list[_Change[Any]]) -> None:
        connection = self._present()
        if self._behind:
            self._publisher.catch_up(connection)
            self._behind = False
        connection.execute("BEGIN IMMEDIATE")
        try:
            for change in group:
                _apply(connection, change)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        if not self._is_present():
            raise _absent(self.path)

    def _publish(self, group: list[_Change[Any]]) -> None:
        try:
            events = [
                change.event(change.result)
                for change in group
                if change.event is not None and change.error is None
            ]
            if events:
                self._publisher.publish(events)
        except Exception as error:
            self._behind = True
            self.last_error = _as_store_error(error)

    def _present(self) -> sqlite3.Connection:
        """Return the connection to the database that has the path now."""
        if self._connection is None or not self._is_present():
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            if not self.path.exists():
                raise _absent(self.path)
            self._open()
            found = schema.database_id(self._opened())
            if found != self.database_id:
                self._opened().close()
                self._connection = None
                raise StoreError(
                    f"another database stands at {self.path}: expected {self.database_id}, "
                    f"found {found}",
                    advice="put the right one back, or restart the service to use this one",
                )
        return self._opened()

    def _open(self) -> None:
        self._connection = opening.open_writer(self.path)
        self._identity = opening.identity(self.path)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise _absent(self.path)
        return self._connection

    def _is_present(self) -> bool:
        try:
            return opening.identity(self.path) == self._identity
        except OSError:
            return False


def _apply(connection: sqlite3.Connection, change: _Change[Any]) -> None:
    """Run one change; what it raises undoes it alone, except where the database itself failed."""
    connection.execute("SAVEPOINT change")
    try:
        change.result = change.apply(connection)
    except Exception as error:
        if isinstance(error, sqlite3.Error) and not isinstance(error, sqlite3.IntegrityError):
            raise
        change.error = error
        connection.execute("ROLLBACK TO change")
    connection.execute("RELEASE change")


def _as_store_error(error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"the database's writer failed: {type(error).__name__}: {error}")


def _absent(path: Path) -> StoreError:
    return StoreError(
        f"the database is gone: {path}",
        advice="restore it from a backup, or restart the service to begin an empty one",
    )
