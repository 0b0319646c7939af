"""Finds the partitions that this process can reach, as the PKCS#11 library does.

CASEMATE_SOCKETS comes first (folders, socket paths, /dev/vsock/CID/PORT, separated by colons), then
CASEMATE_RUNTIME, the user's registry, the system's. A socket counts only if root, the own user or
a user named in CASEMATE_TRUSTED_UIDS owns it and its folder, and nobody else can write into that
folder: an impostor must not collect PINs. docs/transport.md, section 1.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from casemate.hsm.client.errors import NotReachableError
from casemate.hsm.folders import PARTITION_SOCKET

SYSTEM_REGISTRY = Path("/run/casemate")
#: Pseudo-paths of partitions behind a vsock: /dev/vsock/CID/PORT.
VSOCK = Path("/dev/vsock")


@dataclass(frozen=True, slots=True)
class Found:
    """A partition's socket, and why it is not used where it is not."""

    name: str
    path: Path
    distrust: str = ""


def places(environment: Mapping[str, str], uid: int) -> list[Path]:
    """Return the folders and sockets that are looked at, in order, each once."""
    named = [Path(part) for part in environment.get("CASEMATE_SOCKETS", "").split(":") if part]
    runtime = environment.get("CASEMATE_RUNTIME")
    own = [Path(runtime)] if runtime else []
    users = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") / "casemate"
    fallback = Path(f"/tmp/casemate-{uid}")  # noqa: S108 (owner and mode are checked)
    return list(dict.fromkeys([*named, *own, users, fallback, SYSTEM_REGISTRY]))


def sockets(environment: Mapping[str, str], uid: int) -> Iterator[Found]:
    """Yield every partition socket that there is, trusted or not."""
    trusted = _trusted(environment, uid)
    for place in places(environment, uid):
        if place.is_relative_to(VSOCK):
            # The host's proxy, seen from a virtual machine: the hypervisor vouches for it.
            yield Found("-".join(("vsock", *place.relative_to(VSOCK).parts)), place)
            continue
        for path in _sockets_in(place):
            yield Found(path.parent.name, path, _distrust(path, trusted))


def find_sockets(environment: Mapping[str, str], uid: int) -> dict[str, Path]:
    """Return the trusted sockets by the partition's name; the first of a name counts."""
    found: dict[str, Path] = {}
    for socket in sockets(environment, uid):
        if not socket.distrust:
            found.setdefault(socket.name, socket.path)
    return found


def find_socket(name: str, environment: Mapping[str, str], uid: int) -> Path:
    """Return the socket of one partition; raises `NotReachableError` with what was looked at."""
    distrusted = ""
    others = []
    for socket in sockets(environment, uid):
        if socket.name == name and not socket.distrust:
            return socket.path
        if socket.name == name:
            distrusted = f"{socket.path}: {socket.distrust}"
        elif not socket.distrust:
            others.append(socket.name)
    if distrusted:
        raise NotReachableError(
            f"partition {name!r} has a socket that is not trusted",
            where=distrusted,
            advice="if that user is right, name it in CASEMATE_TRUSTED_UIDS",
        )
    raise NotReachableError(
        f"no partition {name!r} within reach",
        where="looked in "
        + ", ".join(map(str, places(environment, uid)))
        + (f"; there are: {', '.join(sorted(set(others)))}" if others else ""),
        advice="start the module (casemate up), make the partition "
        f"(casemate partition create {name}), or name its socket in CASEMATE_SOCKETS",
    )


def check_socket(path: Path, environment: Mapping[str, str], uid: int) -> None:
    """Raise `NotReachableError` where a socket that was named by its path is not trusted."""
    if path.is_relative_to(VSOCK) or not _is_socket(path):
        # What cannot be reached says so itself when it is connected to.
        return
    if reason := _distrust(path, _trusted(environment, uid)):
        raise NotReachableError(
            "the socket is not trusted",
            where=f"{path}: {reason}",
            advice="if that user is right, name it in CASEMATE_TRUSTED_UIDS",
        )


def _sockets_in(place: Path) -> list[Path]:
    """Return the partition sockets of a registry, a partition's folder, or the socket itself."""
    try:
        if place.is_socket():
            return [place]
        if (place / PARTITION_SOCKET).is_socket():
            return [place / PARTITION_SOCKET]
        return sorted(
            path for entry in place.iterdir() if _is_socket(path := entry / PARTITION_SOCKET)
        )
    except OSError:
        return []


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:
        return False


def _trusted(environment: Mapping[str, str], uid: int) -> frozenset[int]:
    named = re.split(r"[:,]", environment.get("CASEMATE_TRUSTED_UIDS", ""))
    return frozenset({0, uid, *(int(part) for part in named if part.strip().isdecimal())})


def _distrust(path: Path, trusted: frozenset[int]) -> str:
    """Return why a socket is not trusted; "" where it is."""
    try:
        socket, folder = path.lstat(), path.parent.stat()
    except OSError as error:
        return error.strerror or str(error)
    if socket.st_uid not in trusted:
        return f"user {socket.st_uid} owns the socket"
    if folder.st_uid not in trusted:
        return f"user {folder.st_uid} owns its folder"
    if stat.S_IMODE(folder.st_mode) & 0o022:
        return f"others may write into its folder (mode {stat.S_IMODE(folder.st_mode):04o})"
    return ""
