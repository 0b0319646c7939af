"""The one error of a DPE: a status code, and a sentence for the person who reads the log."""

from __future__ import annotations

from casemate.formats.dpe import Status, status_name
from casemate.rot.errors import RotError


class DpeError(RotError):
    """A command was refused; `status` is what the caller gets, nothing has changed."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(f"{status_name(status)}: {reason}")
        self.status = status
