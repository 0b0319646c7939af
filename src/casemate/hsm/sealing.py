"""Where the module's sealing secret comes from.

The sealing secret opens every partition's masking key. A source puts it into silicon; it never
passes through Python. The file is the first source: good for development, and as safe as the
file's permissions. The root of trust passes a descriptor instead: its ladder's secret, which only
firmware that its SoC manifest authorises is given (DESIGN.md, section 4).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from casemate import _silicon
from casemate.hsm.errors import Code, ModuleError


class SealingSource(Protocol):
    """One place that a sealing secret can come from."""

    @property
    def kind(self) -> str:
        """One word for the store: what was sealed by one source cannot be opened by another."""

    @property
    def description(self) -> str:
        """What it is, for `status`: an operator must see how much it is worth."""

    def unseal(self, engine: _silicon.Engine, *, create: bool) -> None:
        """Put the secret into silicon, made first if `create`; raises `ModuleError`."""

    def destroy(self) -> None:
        """Destroy the secret for good, as far as the source can."""


class FileSource:
    """48 random bytes in a file of mode 0600, read by silicon."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def kind(self) -> str:
        """The word for the store."""
        return "file"

    @property
    def description(self) -> str:
        """What it is."""
        return f"file {self._path} (as safe as the file's permissions; no hardware holds it)"

    def unseal(self, engine: _silicon.Engine, *, create: bool) -> None:
        """Have silicon read the file. It is made only for a new store: see `Firmware.open`."""
        if not create and not self._path.exists():
            raise ModuleError(
                Code.SEALING,
                "the sealing secret is gone, but there are partitions sealed under it",
                where=str(self._path),
                advice="restore the file from the backup of this state folder; "
                "without it the keys cannot be opened",
            )
        try:
            engine.unseal_from_file(self._path, create=create)
        except (OSError, ValueError) as error:
            raise ModuleError(
                Code.SEALING,
                f"the sealing secret cannot be used: {error}",
                where=str(self._path),
                advice="it must be a file of 48 bytes, mode 0600, owned by the module's user",
            ) from error

    def destroy(self) -> None:
        """Overwrite and remove the file; a copying file system may still keep old blocks."""
        if not self._path.exists():
            return
        with self._path.open("r+b", buffering=0) as file:
            file.write(bytes(self._path.stat().st_size))
            os.fsync(file.fileno())
        self._path.unlink()


class DescriptorSource:
    """Sealed memory from the root of trust, read by silicon once and closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def kind(self) -> str:
        """The word for the store."""
        return "root-of-trust"

    @property
    def description(self) -> str:
        """What it is."""
        return "the root of trust's ladder (as good as the anchor that its evidence names)"

    def unseal(self, engine: _silicon.Engine, *, create: bool) -> None:
        """Have silicon read the descriptor."""
        try:
            engine.unseal_from_descriptor(self._descriptor)
        except (OSError, ValueError) as error:
            raise ModuleError(
                Code.SEALING,
                f"the sealing secret cannot be used: {error}",
                where=f"descriptor {self._descriptor}",
                advice="start the module through its root of trust: casemate rot launch",
            ) from error

    def destroy(self) -> None:
        """The secret is the device's; what it seals dies with the partitions' masked secrets."""
