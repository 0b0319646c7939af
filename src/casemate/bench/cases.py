"""What is measured: operations with their payloads, threads and operations in flight."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Objects(StrEnum):
    """Where the keys stand: on the token (on disk) or in the session (in memory)."""

    TOKEN = "token"  # noqa: S105 (no password)
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of one size.

    `name` is the measuring process's, `bytes` the payload (0: none), `text` is for people.
    `persistent` says whether the operation makes objects that must be written to disk when they are
    token objects: then AWS-LC in memory is no measure for it. `slices` is how many times as long
    its slices are: those of slow operations, and of ML-DSA, whose number of attempts is random,
    would hold too few.
    """

    name: str
    bytes: int
    text: str
    round_trip: bool = False
    persistent: bool = False
    slices: int = 1


def _encrypt(size: int) -> Operation:
    return Operation("encrypt-aes256gcm", size, f"AES-256-GCM encrypt {_size(size)}")


def _size(size: int) -> str:
    for unit, name in ((1 << 20, "MiB"), (1 << 10, "KiB")):
        if size % unit == 0 and size:
            return f"{size // unit} {name}"
    return f"{size} B"


P256 = Operation("sign-p256", 0, "ECDSA P-256 sign")
P384 = Operation("sign-p384", 0, "ECDSA P-384 sign")
RSA2048 = Operation("sign-rsa2048", 0, "RSA-2048 sign", slices=5)
RSA4096 = Operation("sign-rsa4096", 0, "RSA-4096 sign", slices=3)
MLDSA65 = Operation("sign-mldsa65", 0, "ML-DSA-65 sign", slices=10)
GCM = _encrypt(4096)
HMAC = Operation("mac-hmacsha256", 64, "HMAC-SHA-256 64 B")
ROUND_TRIP = Operation("round-trip", 0, "no-op round trip (C_GetSessionInfo)", round_trip=True)
GENERATE_RSA4096 = Operation("generate-rsa4096", 0, "RSA-4096 generate", persistent=True)

#: Those with a line under "Must hold", first.
OPERATIONS: tuple[Operation, ...] = (
    P256,
    P384,
    RSA2048,
    MLDSA65,
    GCM,
    HMAC,
    ROUND_TRIP,
    Operation("sign-rsa3072", 0, "RSA-3072 sign", slices=3),
    RSA4096,
    *(_encrypt(size) for size in (64, 1024, 16384, 65536, 1 << 20)),
    Operation("digest-sha256", 64, "SHA-256 64 B"),
    Operation("digest-sha256", 4096, "SHA-256 4 KiB"),
    Operation("random", 32, "random 32 B"),
    Operation("generate-p256", 0, "P-256 generate", persistent=True),
    Operation("generate-rsa2048", 0, "RSA-2048 generate", persistent=True),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many threads, and how many operations each has in flight."""

    threads: int = 1
    in_flight: int = 1

    @property
    def text(self) -> str:
        """For people."""
        if self.in_flight > 1:
            return f"{self.in_flight} in flight"
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


ONE = Shape()
TWO = Shape(threads=2)
SIXTEEN = Shape(in_flight=16)


@dataclass(frozen=True, slots=True)
class Group:
    """One operation in its shapes; the slices of a group are taken in turns."""

    operation: Operation
    objects: Objects
    shapes: tuple[Shape, ...]


def plan(
    *,
    names: Iterable[str] = (),
    objects: Iterable[Objects] = (Objects.TOKEN,),
    threads: Iterable[int] = (),
) -> tuple[Group, ...]:
    """Return the groups to measure.

    `names` chooses operations (`sign-p256`, `encrypt-aes256gcm:4096`); without it all are chosen.
    `threads` are client threads; without it 1, 2 and as many as there are CPUs. Raises `ValueError`
    for a name that no operation has.
    """
    shapes = [Shape(threads=count) for count in sorted({*threads} or {1, 2, os.cpu_count() or 1})]
    chosen = [_named(name) for name in names] or [OPERATIONS]
    return tuple(
        Group(operation, kind, tuple(_shapes(operation, shapes)))
        for kind in objects
        for operation in dict.fromkeys(operation for some in chosen for operation in some)
    )


def names() -> list[str]:
    """Return what `plan` accepts as names."""
    sized = [f"{one.name}:{one.bytes}" for one in OPERATIONS if one.bytes]
    return sorted({one.name for one in OPERATIONS} | set(sized))


def _named(name: str) -> tuple[Operation, ...]:
    bare, _, size = name.partition(":")
    found = tuple(
        one for one in OPERATIONS if one.name == bare and (not size or size == str(one.bytes))
    )
    if not found and bare == "encrypt-aes256gcm" and size.isdecimal():
        return (_encrypt(int(size)),)
    if not found:
        raise ValueError(f"no operation is called {name}; there are {', '.join(names())}")
    return found


def _shapes(operation: Operation, shapes: list[Shape]) -> list[Shape]:
    if operation.persistent:
        return shapes[:1]
    if operation.round_trip:
        return shapes
    return [*shapes, SIXTEEN]
