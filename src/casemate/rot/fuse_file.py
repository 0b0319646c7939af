"""The fuse file: JSON with a digest, and a counter beside it that tells a rolled-back copy.

The file `F` holds `format`, `version`, `counter`, `fuses` and `sha384`, the digest of the rest in
canonical form (keys sorted, no spaces). The counter file `F.counter` holds the number of the last
state written. To write: the file with counter + 1 first, synced and renamed over the old one, then
the counter. So after a power cut the file is at the counter or one ahead, never behind; a file
behind its counter has been rolled back and is refused.

An attacker who can restore both files is not held by this: a counter in a TPM is the same
interface (`MonotonicCounter`) with another keeper.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from casemate.rot.errors import FuseError, FuseFileError
from casemate.rot.fuses import DEFAULT_FUSES, Fuses, from_fields, to_fields

_FORMAT = "casemate-fuses"
_VERSION = 1
#: A fuse file is about 2 KiB; anything much larger is something else.
_LARGEST = 64 * 1024


class MonotonicCounter(Protocol):
    """A number that only rises and survives a restart."""

    def read(self) -> int:
        """The last number. Raises FuseFileError if there is none or it cannot be read."""
        ...

    def advance(self, value: int) -> None:
        """Store a larger number. Raises FuseFileError if it is smaller than the last."""
        ...


class FileCounter:
    """A monotonic counter in a file of its own: for development, it can be copied back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The last number; see MonotonicCounter."""
        try:
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            raise FuseFileError(
                f"{self._path}: missing, so a rolled-back fuse file could not be told; "
                "restore it, or manufacture the device anew"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise FuseFileError(f"{self._path}: cannot be read: {error}") from None
        if not text.strip().isascii() or not text.strip().isdigit() or len(text) > 24:
            raise FuseFileError(f"{self._path}: expected a decimal number")
        return int(text)

    def advance(self, value: int) -> None:
        """Store a larger number; see MonotonicCounter."""
        if self._path.exists() and value < (last := self.read()):
            raise FuseFileError(f"{self._path}: the counter is at {last}, cannot go to {value}")
        _replace(self._path, f"{value}\n".encode("ascii"))


def encode(fuses: Fuses, counter: int) -> bytes:
    """The content of a fuse file."""
    body: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "counter": counter,
        "fuses": to_fields(fuses),
    }
    body["sha384"] = _digest(body)
    return json.dumps(body, indent=2).encode("utf-8") + b"\n"


def decode(content: bytes, name: str) -> tuple[Fuses, int]:
    """The fuses and the counter of a fuse file's content; `name` is used in errors.

    Raises FuseFileError: not JSON, another format or version, digest wrong, a field wrong.
    """
    if len(content) > _LARGEST:
        raise FuseFileError(f"{name}: {len(content)} bytes; a fuse file has at most {_LARGEST}")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FuseFileError(f"{name}: damaged: not JSON ({error})") from None
    if not isinstance(body, dict) or body.get("format") != _FORMAT:
        raise FuseFileError(f'{name}: no fuse file: expected "format": "{_FORMAT}"')
    if body.get("version") != _VERSION:
        raise FuseFileError(
            f"{name}: version {body.get('version')!r}; this program reads version {_VERSION}"
        )
    stated = body.pop("sha384", None)
    try:
        found = _digest(body)
    except (ValueError, RecursionError):
        raise FuseFileError(f"{name}: damaged: its content has no canonical form") from None
    if stated != found:
        raise FuseFileError(
            f"{name}: damaged or edited: its digest is {found[:16]}..., it states "
            f"{str(stated)[:16]}...; restore the last good copy"
        )
    counter, fields = body.get("counter"), body.get("fuses")
    if isinstance(counter, bool) or not isinstance(counter, int) or counter < 0:
        raise FuseFileError(f"{name}: counter: expected a number, found {counter!r}")
    if not isinstance(fields, dict):
        raise FuseFileError(f"{name}: fuses: expected an object")
    try:
        return from_fields(fields), counter
    except FuseError as error:
        raise FuseFileError(f"{name}: fuses: {error}") from None


def _digest(body: dict[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha384(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def read_fuses(name: str) -> Fuses:
    """The fuses of a file, or the public test values for the name `default`.

    For looking only: a copy without its counter is taken. A device boots from a `FuseFile`.

    Raises FuseFileError.
    """
    if name == "default":
        return DEFAULT_FUSES
    return decode(_read(Path(name)), name)[0]


class FuseFile:
    """A device's fuse file with its counter: read, and program under a lock."""

    def __init__(self, path: Path, counter: MonotonicCounter | None = None) -> None:
        self.path = path
        self._counter = counter or FileCounter(path.with_name(path.name + ".counter"))

    def create(self, fuses: Fuses) -> None:
        """Write the first state of a new device. Raises FuseFileError if there is a file."""
        with self._lock():
            if self.path.exists():
                raise FuseFileError(f"{self.path}: exists already; a device is made once")
            _replace(self.path, encode(fuses, 1))
            self._counter.advance(1)

    def read(self) -> Fuses:
        """The fuses. Raises FuseFileError: missing, damaged or rolled back."""
        with self._lock():
            return self._read()[0]

    def program(self, change: Callable[[Fuses], Fuses]) -> Fuses:
        """Apply `change` (built from `fuses.burn`) and store the result; return it.

        If `change` raises, nothing is written. Raises FuseFileError as `read`.
        """
        with self._lock():
            fuses, counter = self._read()
            changed = change(fuses)
            if changed != fuses:
                _replace(self.path, encode(changed, counter + 1))
                self._counter.advance(counter + 1)
            return changed

    def _read(self) -> tuple[Fuses, int]:
        fuses, counter = decode(_read(self.path), str(self.path))
        last = self._counter.read()
        if counter < last:
            raise FuseFileError(
                f"{self.path}: rolled back: it is state {counter}, the counter says {last}; "
                "restore the newest copy"
            )
        if counter > last + 1:
            raise FuseFileError(
                f"{self.path}: state {counter} does not belong to its counter, which says {last}"
            )
        if counter == last + 1:  # the power went between the two writes
            self._counter.advance(counter)
        return fuses, counter

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        lock = self.path.with_name(self.path.name + ".lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise FuseFileError(f"{self.path}: cannot be locked: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        raise FuseFileError(f"{path}: cannot be read: {error.strerror}") from None


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that after a power cut the old or the new content stands, whole."""
    temporary = path.with_name(f"{path.name}.new.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise FuseFileError(f"{path}: cannot be written: {error.strerror}") from None
