"""The spool: events as JSON lines on disk, in files that rotate, each event with its number.

    folder/
      events-0000000000000001.jsonl    a file is named after the first event that it may hold
      events-0000000000004213.jsonl    the last one is written to
      events-0000000000004213.torn     what a crash left of a half-written line, kept

- The number (`metadata.sequence`) begins at 1 and grows by one with every event, across files and
  restarts: a reader sees a gap.
- A line is written whole or not at all: a torn tail is moved aside when the spool is opened, and
  its number is given again.
- `Durability` says what an append has waited for when it returns.
- One writer: the folder's lock is held while the spool is open. Readers need none.
"""

from __future__ import annotations

import enum
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casemate.closing import Closing

_NAME = re.compile(r"events-(\d{16})\.jsonl")
#: Bytes read from the end of the last file to find its last line.
_TAIL = 1 << 20


class Durability(enum.StrEnum):
    """What an append waits for.

    `sync`: the disk. `buffered`: the kernel; a crash loses nothing, a power cut may.
    """

    SYNC = "sync"
    BUFFERED = "buffered"


class SpoolError(Exception):
    """The spool cannot be opened or written; the message says where and why."""


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """When a file is full (bytes), and how many full files are kept (None: all)."""

    file_bytes: int = 64 << 20
    files: int | None = None


class Spool(Closing):
    """The writer of one folder."""

    def __init__(
        self,
        folder: Path,
        *,
        durability: Durability = Durability.SYNC,
        limits: SpoolLimits | None = None,
    ) -> None:
        """Open or make the folder; raises `SpoolError`, also where another writer holds it."""
        self.folder = folder
        self.durability = durability
        self.limits = limits or SpoolLimits()
        self.torn_bytes = 0
        self._lock = -1
        self._file = -1
        self._path = folder
        self._next = 1
        self._size = 0
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover()
        except BlockingIOError:
            self.close()
            raise SpoolError(f"{folder}: another process writes to this spool") from None
        except OSError as error:
            self.close()
            raise SpoolError(f"{folder}: {error.strerror or error}") from None
        except SpoolError:
            self.close()
            raise

    @property
    def last(self) -> int:
        """The number of the last event; 0 where there is none."""
        return self._next - 1

    def backwards(self) -> Iterator[dict[str, Any]]:
        """Yield the events of the last two files, the newest first."""
        for path in reversed(_files(self.folder)[-2:]):
            yield from filter(None, map(_event, _lines_backwards(path)))

    def append(self, events: Sequence[dict[str, Any]]) -> int:
        """Number the events (in place) and write them in one go; returns the last number.

        Raises `SpoolError`; then none of them is in the spool.
        """
        if not events:
            return self.last
        lines = bytearray()
        for offset, event in enumerate(events):
            event["metadata"]["sequence"] = self._next + offset
            lines += json.dumps(event, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        try:
            if self._size and self._size + len(lines) > self.limits.file_bytes:
                self._rotate()
            self._write(bytes(lines))
        except OSError as error:
            raise SpoolError(f"{self._path}: {error.strerror or error}") from None
        self._next += len(events)
        self._size += len(lines)
        return self.last

    def close(self) -> None:
        """Close the files and release the folder."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _recover(self) -> None:
        """Find the last whole event; move what follows it aside."""
        paths = _files(self.folder)
        if not paths:
            self._open_file(1)
            return
        self._next = _first_number(paths[-1])
        keep, last = _whole_lines(paths[-1])
        if last is not None:
            self._next = int(last["metadata"]["sequence"]) + 1
        self._path = paths[-1]
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = os.fstat(self._file).st_size
        if keep < self._size:
            self._set_aside(keep)

    def _set_aside(self, keep: int) -> None:
        with self._path.open("rb") as source:
            source.seek(keep)
            torn = source.read()
        with self._path.with_suffix(".torn").open("ab") as target:
            target.write(torn + b"\n")
            target.flush()
            os.fsync(target.fileno())
        os.ftruncate(self._file, keep)
        os.fsync(self._file)
        self.torn_bytes = len(torn)
        self._size = keep

    def _open_file(self, first: int) -> None:
        path = self.folder / f"events-{first:016d}.jsonl"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._path, self._size = descriptor, path, 0

    def _rotate(self) -> None:
        os.fsync(self._file)
        self._open_file(self._next)
        if self.limits.files is not None:
            for path in _files(self.folder)[: -self.limits.files - 1]:
                path.unlink()

    def _write(self, data: bytes) -> None:
        """Write all or nothing: what a full disk took is cut off again."""
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if self.durability is Durability.SYNC:
                os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._size)
            raise


def read(folder: Path, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the events with numbers above `after`, oldest first; a torn tail ends the reading."""
    paths = _files(folder)
    for index, path in enumerate(paths):
        if index + 1 < len(paths) and _first_number(paths[index + 1]) <= after + 1:
            continue
        with path.open("rb") as source:
            for line in source:
                event = _event(line)
                if event is None:
                    return
                if event["metadata"]["sequence"] > after:
                    yield event


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _first_number(path: Path) -> int:
    return int(path.stem.removeprefix("events-"))


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield a file's lines from its end, reading no more of it than is asked for."""
    with path.open("rb") as source:
        place, rest = source.seek(0, os.SEEK_END), b""
        while place > 0:
            size = min(_TAIL, place)
            place -= size
            source.seek(place)
            rest, *lines = (source.read(size) + rest).split(b"\n")
            yield from (line + b"\n" for line in reversed(lines) if line)
        if rest:
            yield rest + b"\n"


def _event(line: bytes) -> dict[str, Any] | None:
    """Return the event of a whole line, None for a torn one."""
    if not line.endswith(b"\n"):
        return None
    try:
        event = json.loads(line)
        if isinstance(event["metadata"]["sequence"], int):
            return dict(event)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _whole_lines(path: Path) -> tuple[int, dict[str, Any] | None]:
    """Return how many bytes of a file are whole lines, and the last event (None: it has none).

    Only the tail is read: everything before it was synchronised before.
    """
    size = path.stat().st_size
    with path.open("rb") as source:
        source.seek(max(0, size - _TAIL))
        tail = source.read()
    start = 0 if len(tail) == size else tail.find(b"\n") + 1
    if start == 0 and len(tail) < size:
        raise SpoolError(f"{path}: no line ends in its last {_TAIL} bytes; move the file away")
    end, last = start, None
    for line in tail[start:].splitlines(keepends=True):
        event = _event(line)
        if event is None:
            break
        end, last = end + len(line), event
    return size - len(tail) + end, last
