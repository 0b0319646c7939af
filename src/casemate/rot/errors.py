"""What can go wrong in the root of trust, one class per thing that a person must act on."""

from __future__ import annotations


class RotError(Exception):
    """The root of trust refused; the message says what, where and what to do."""


class FuseError(RotError):
    """A fuse value does not fit its field, or a change would clear a fuse that is set."""


class FuseFileError(RotError):
    """The fuse file is missing, damaged, from another version, or rolled back."""


class BootError(RotError):
    """The boot flow stopped: where, and the public error code if it has one."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class KeyVaultError(RotError):
    """A slot is empty or holds another kind of secret than the operation needs."""


class PcrError(RotError):
    """A PCR index, a log or a measurement that the PCR bank does not take."""


class QuoteError(RotError):
    """A quote that does not parse or does not verify."""
