"""The anchor: where a device's own secrets come from, and what the evidence calls it.

`file` is the only one now: a file of mode 0600 that silicon makes and reads. It is for development
and honest about it: who can read it and the fuses has the device's identity. A TPM, or real
Caliptra silicon, is the same interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from casemate import _silicon
from casemate.rot.crypto import ModelCrypto, RotCrypto, SiliconCrypto
from casemate.rot.errors import RotError


class Anchor(Protocol):
    """Gives the vault over a device's secrets."""

    @property
    def name(self) -> str:
        """What evidence calls it."""
        ...

    def open(self) -> RotCrypto:
        """A new vault. Raises KeyVaultError if the secrets cannot be had."""
        ...


class FileAnchor:
    """Device secrets in a file; see `Anchor`."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self) -> None:
        """Make fresh secrets. Raises RotError if the file exists or cannot be written."""
        try:
            _silicon.RootOfTrustVault.create_anchor(self.path)
        except OSError as error:
            raise RotError(f"{self.path}: cannot be made: {error}") from None

    def open(self) -> RotCrypto:
        """See `Anchor`."""
        return SiliconCrypto(self.path)


class PublicAnchor:
    """The public test device's secrets: for the model; see `Anchor`."""

    name = "public test values"

    def open(self) -> RotCrypto:
        """See `Anchor`."""
        return ModelCrypto()
