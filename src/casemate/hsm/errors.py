"""Errors of the module, for the person who must act: what, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """What went wrong, for programs; the command line's `--json` and the admin socket carry it."""

    BAD_REQUEST = "bad-request"
    NOT_RUNNING = "not-running"
    NOT_PERMITTED = "not-permitted"
    WRONG_STATE = "wrong-state"
    UNKNOWN_PARTITION = "unknown-partition"
    PARTITION_EXISTS = "partition-exists"
    TOO_MANY_PARTITIONS = "too-many-partitions"
    PARTITION_DAMAGED = "partition-damaged"
    IN_USE = "in-use"
    BAD_FOLDER = "bad-folder"
    STORE_FULL = "store-full"
    STORE_DAMAGED = "store-damaged"
    STORE_PERMISSION = "store-permission"
    STORE_FAILED = "store-failed"
    SEALING = "sealing"
    SELF_TEST = "self-test"
    INTERNAL = "internal"


@dataclass(eq=False)
class ModuleError(Exception):
    """One failure: what happened, where, what to do about it. It never carries a secret."""

    code: Code
    what: str
    where: str = ""
    advice: str = ""

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.advice:
            parts.append(f"to do: {self.advice}")
        return "; ".join(parts)

    def as_json(self) -> dict[str, str]:
        """Return the error as the admin socket and `--json` carry it."""
        return {
            "code": self.code.value,
            "what": self.what,
            "where": self.where,
            "advice": self.advice,
        }

    @classmethod
    def from_json(cls, fields: dict[str, object]) -> ModuleError:
        """Return the error that `as_json` wrote; unknown codes become `INTERNAL`."""
        try:
            code = Code(str(fields.get("code", "")))
        except ValueError:
            code = Code.INTERNAL
        texts = (str(fields.get(key, "")) for key in ("what", "where", "advice"))
        return cls(code, *texts)
