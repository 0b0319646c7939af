"""Files copied into sealed memory: their bytes can no longer change, and they have no path."""

from __future__ import annotations

import fcntl
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from casemate.rot.errors import RotError

#: F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE: nothing can be changed any more.
_ALL_SEALS = 0x0001 | 0x0002 | 0x0004 | 0x0008
#: The largest file that is taken (bytes).
_LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One file in sealed memory: its name, a descriptor that a child may inherit, its SHA-384."""

    name: str
    descriptor: int
    digest: bytes

    @property
    def path(self) -> str:
        """How a process that has the descriptor opens it."""
        return f"/proc/self/fd/{self.descriptor}"

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.descriptor)


def seal(name: str, content: bytes) -> SealedFile:
    """Copy bytes into sealed memory. Raises RotError if the system refuses."""
    try:
        descriptor = os.memfd_create(f"casemate-{name}"[:200], os.MFD_ALLOW_SEALING)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _ALL_SEALS)
        except OSError:
            os.close(descriptor)
            raise
    except OSError as error:
        raise RotError(f"{name}: cannot be copied into sealed memory: {error.strerror}") from None
    return SealedFile(name, descriptor, hashlib.sha384(content).digest())


def seal_file(path: Path, name: str | None = None) -> SealedFile:
    """Open a file once and seal what was read. Raises RotError."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise RotError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise RotError(f"{path}: larger than {_LARGEST} bytes")
    return seal(name or path.name, content)
