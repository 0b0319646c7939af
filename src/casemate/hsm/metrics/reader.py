"""Takes snapshots of a module's figures, without the right to administer it.

Pages are mapped once and read in place; a snapshot costs the module one small answer.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casemate.closing import Closing
from casemate.formats.metrics_page import (
    HEAD_BYTES,
    PAGE_BYTES,
    Histogram,
    Kind,
    MetricsPageError,
    decode,
)
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.partitions import PartitionState

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


@dataclass(frozen=True, slots=True)
class PartitionFigures:
    """A partition at one moment."""

    name: str
    id: str
    state: str
    objects: int
    token_objects: int
    objects_most: int
    sessions: int
    sessions_most: int
    connections: int
    #: Requests that no worker has taken, and those that one has and has not answered.
    waiting: int
    in_hand: int
    #: CPU that its workers have used, since its counts began.
    cpu_seconds: float
    kinds: dict[Kind, Histogram]

    @property
    def depth(self) -> int:
        """Requests that are under way."""
        return self.waiting + self.in_hand


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A module at one moment, in seconds of a clock that only goes forward."""

    moment: float
    state: str
    version: str
    started: float
    #: Changes with every start of the module.
    instance: str | None
    partitions: tuple[PartitionFigures, ...]


class MetricsReader(Closing):
    """A module's figures, read again and again; it outlives the module's restarts."""

    def __init__(self, socket: Path) -> None:
        """Read from the module whose `metrics.sock` this is; it is connected to when asked."""
        self._socket = socket
        self._client: AdminClient | None = None
        #: By instance and id: a partition that was made again has a page of its own.
        self._pages: dict[tuple[str, str], mmap.mmap] = {}

    def snapshot(self) -> Snapshot:
        """Return what is there now; raises `ModuleError` where no module answers."""
        fresh = self._client is None
        try:
            return self._take()
        except ModuleError as error:
            # The module ends connections that say nothing for long, and may have restarted.
            if fresh or error.code is not Code.NOT_RUNNING:
                raise
            self.close()
            return self._take()

    def _take(self) -> Snapshot:
        if self._client is None:
            self._client = AdminClient(self._socket, timeout=10)
        figures = self._client.call("figures")
        instance = figures["instance"]
        partitions = tuple(
            PartitionFigures(**one, kinds=self._kinds(self._client, str(instance), one))
            for one in figures["partitions"]
        )
        there = {(str(instance), partition.id) for partition in partitions}
        for gone in self._pages.keys() - there:
            self._pages.pop(gone).close()
        return Snapshot(
            moment=time.monotonic(),
            state=figures["state"],
            version=figures["version"],
            started=figures["started"],
            instance=instance,
            partitions=partitions,
        )

    def _kinds(
        self, client: AdminClient, instance: str, partition: dict[str, Any]
    ) -> dict[Kind, Histogram]:
        if partition["state"] == PartitionState.DAMAGED:
            return {}
        page = self._pages.get((instance, partition["id"]))
        if page is None:
            try:
                _, descriptor = client.call_for_descriptor("page", name=partition["name"])
            except ModuleError as error:
                # It was destroyed since its figures were taken.
                if error.code is Code.NOT_RUNNING:
                    raise
                return {}
            page = self._pages[(instance, partition["id"])] = map_page(descriptor)
        with memoryview(page) as view:
            try:
                return decode(view).kinds
            except MetricsPageError as error:
                raise ModuleError(
                    Code.INTERNAL,
                    str(error),
                    where=str(self._socket),
                    advice="use the version of casemate that the module runs",
                ) from error

    def close(self) -> None:
        """End the connection and unmap the pages."""
        if self._client is not None:
            self._client.close()
            self._client = None
        while self._pages:
            self._pages.popitem()[1].close()


def map_page(descriptor: int) -> mmap.mmap:
    """Map a page for reading and close its descriptor; raises `ModuleError`.

    Only memory that nobody can shrink is mapped: reading behind its end would end this process.
    """
    try:
        size = os.fstat(descriptor).st_size
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
        if not HEAD_BYTES <= size <= PAGE_BYTES or seals & _SEALS != _SEALS:
            raise ModuleError(
                Code.INTERNAL, f"a metrics page of {size} bytes with the seals {seals:#x}"
            )
        return mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    except OSError as error:
        raise ModuleError(
            Code.INTERNAL, f"the metrics page cannot be mapped: {error.strerror}"
        ) from error
    finally:
        os.close(descriptor)
