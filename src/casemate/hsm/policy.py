"""What a partition may do, as the operator sets it and silicon enforces it."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any

from casemate import _silicon
from casemate.hsm.errors import Code, ModuleError

#: A name is a folder's name and a token label (32 bytes in PKCS#11).
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


class Access(StrEnum):
    """Who on this host can reach the partition's folder; PINs come on top.

    SHARED (0755): everybody who reaches the runtime folder. UNLISTED (0711): who knows the path.
    GROUP (0750): the members of one group. OWNER (0700): the module's user, and what it is
    mounted into.
    """

    SHARED = "shared"
    UNLISTED = "unlisted"
    GROUP = "group"
    OWNER = "owner"

    @property
    def mode(self) -> int:
        """The folder's permission bits."""
        return {"shared": 0o755, "unlisted": 0o711, "group": 0o750, "owner": 0o700}[self.value]


@dataclass(frozen=True, slots=True)
class Policy:
    """Limits and permissions of one partition.

    Attributes:
        pin_required: private objects need the user's PIN; otherwise the socket is the capability.
        legacy_test: RSA-1024 and SHA-1 signatures, for outside test suites only.
        mechanisms: CK_MECHANISM_TYPE values that are allowed; None allows all.
        keys: objects, session and token objects together.
        sessions: open PKCS#11 sessions.
        connections: connected clients.
        mapped_bytes: shared memory of all connections together.
        workers: threads that serve it; 0 lets silicon choose.
        weight: its share of a busy host, in relation to the other partitions.
        spin: microseconds that its first worker looks for a next request before it sleeps, at most.
        access: who can reach its folder.
        group: numeric group for `Access.GROUP`.
    """

    pin_required: bool = False
    legacy_test: bool = False
    mechanisms: tuple[int, ...] | None = None
    keys: int = 4096
    sessions: int = 1024
    connections: int = 256
    mapped_bytes: int = 1 << 30
    workers: int = 0
    weight: int = 100
    spin: int = 200
    access: Access = Access.SHARED
    group: int | None = None

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _LIMITS.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                raise _bad(f"policy field {name} is {value}; it may be {lowest} to {highest}")
        if (self.access is Access.GROUP) != (self.group is not None):
            raise _bad("policy field group goes with access=group, and only with it")

    def silicon(self) -> _silicon.PartitionPolicy:
        """Return the part that silicon enforces."""
        return _silicon.PartitionPolicy(
            pin_required=self.pin_required,
            legacy_test=self.legacy_test,
            mechanisms=None if self.mechanisms is None else list(self.mechanisms),
            keys=self.keys,
            sessions=self.sessions,
            connections=self.connections,
            mapped_bytes=self.mapped_bytes,
            workers=self.workers,
            weight=self.weight,
            spin=self.spin,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the policy as the store and the admin socket carry it."""
        return asdict(self)

    def changed(self, changes: dict[str, Any]) -> Policy:
        """Return the policy with these fields changed; each is checked by name and type."""
        values: dict[str, Any] = {}
        for name, value in changes.items():
            values[name] = _checked(name, value)
        if values.get("access", self.access) is not Access.GROUP and "group" not in values:
            values["group"] = None
        return replace(self, **values)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Policy:
        """Return the policy in `values`; fields that are not there have their default."""
        return cls().changed(values)


_LIMITS = {
    "keys": (1, 1 << 20),
    "sessions": (1, 1 << 20),
    "connections": (1, 1 << 16),
    "mapped_bytes": (4 << 20, 1 << 40),
    "workers": (0, 256),
    "weight": (1, 10_000),
    "spin": (0, 10_000),
}


def _checked(name: str, value: object) -> object:
    if name not in {field.name for field in fields(Policy)}:
        raise _bad(f"there is no policy field {name!r}")
    if name in ("pin_required", "legacy_test"):
        good = isinstance(value, bool)
    elif name == "mechanisms":
        good = value is None or (isinstance(value, list) and all(type(m) is int for m in value))
        value = None if value is None else tuple(value) if isinstance(value, list) else value
    elif name == "access":
        good = isinstance(value, str) and value in set(Access)
        value = Access(value) if isinstance(value, str) and good else value
    elif name == "group":
        good = value is None or (type(value) is int and 0 <= value < 1 << 32)
    else:
        good = type(value) is int
    if not good:
        raise _bad(f"policy field {name} cannot be {value!r}")
    return value


def check_name(name: str) -> str:
    """Return `name` if a partition may have it; raises `ModuleError`."""
    if not _NAME.fullmatch(name) or name.endswith(".sock"):
        raise ModuleError(
            Code.BAD_REQUEST,
            f"{name!r} cannot be a partition's name",
            advice="use 1 to 32 letters, digits, '.', '_' and '-', a letter or digit first, "
            "not ending in .sock",
        )
    return name


def _bad(what: str) -> ModuleError:
    return ModuleError(Code.BAD_REQUEST, what, advice="casemate partition create --help lists them")
