"""Readers: connections of their own that see the last commit and never wait for the writer.

Where the file has gone, they go on answering from the one that they have open: trust that was
committed stays what it was, and decays by age. Where the file was put back, they open it.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from casemate.attestation.service.database import connection as opening

T = TypeVar("T")
THREADS = 2


class Reader:
    """A few reading connections, each used by one thread at a time."""

    def __init__(self, path: Path, threads: int = THREADS) -> None:
        """Open an existing database; raises `StoreError`."""
        self.path = path
        self._idle: queue.SimpleQueue[tuple[sqlite3.Connection, tuple[int, int]]] = (
            queue.SimpleQueue()
        )
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="database-reader")
        # One more than threads: a short query on the event loop waits for no long one.
        self._connections = threads + 1
        with opening.store_errors(path):
            for _ in range(self._connections):
                self._idle.put((opening.open_reader(path), opening.identity(path)))

    def query(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query in one read transaction; raises what it raises, or `StoreError`."""
        connection, identity = self._idle.get()
        try:
            with opening.store_errors(self.path):
                connection, identity = self._current(connection, identity)
                connection.execute("BEGIN")
                try:
                    return ask(connection)
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
        finally:
            self._idle.put((connection, identity))

    async def ask(self, ask: Callable[[sqlite3.Connection], T]) -> T:
        """`query`, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.query, ask)

    def close(self) -> None:
        """Close the connections; queries that run end first."""
        self._executor.shutdown()
        for _ in range(self._connections):
            self._idle.get()[0].close()

    def _current(
        self, connection: sqlite3.Connection, identity: tuple[int, int]
    ) -> tuple[sqlite3.Connection, tuple[int, int]]:
        try:
            present = opening.identity(self.path)
        except OSError:
            return connection, identity
        if present == identity:
            return connection, identity
        replacement = opening.open_reader(self.path)
        connection.close()
        return replacement, present
