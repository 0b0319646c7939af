"""Why a key was not released."""

from __future__ import annotations


class ReleaseRefusedError(Exception):
    """The gate said no: `check` is which of its checks failed, the message why.

    `reasons` are the verdict's, where the verdict is what failed.
    """

    def __init__(self, check: str, message: str, *, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.check = check
        self.reasons = reasons
