"""Where a module keeps its state and its sockets; the same rules for the module and its users."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from casemate.hsm.errors import Code, ModuleError

#: Longest path of a Unix socket in bytes (sun_path without its final zero).
SOCKET_PATH_MAX = 107
ADMIN_SOCKET = "admin.sock"
METRICS_SOCKET = "metrics.sock"
PARTITION_SOCKET = "hsm.sock"


@dataclass(frozen=True, slots=True)
class Folders:
    """The state folder (what survives) and the runtime folder (sockets)."""

    state: Path
    runtime: Path

    @property
    def database(self) -> Path:
        """The store."""
        return self.state / "module.db"

    @property
    def sealing_secret(self) -> Path:
        """The sealing secret where its source is a file."""
        return self.state / "sealing.secret"

    @property
    def admin_socket(self) -> Path:
        """The operator's socket."""
        return self.runtime / ADMIN_SOCKET

    @property
    def metrics_socket(self) -> Path:
        """The socket of figures."""
        return self.runtime / METRICS_SOCKET

    def partition_socket(self, name: str) -> Path:
        """The socket of the partition of this name."""
        return self.runtime / name / PARTITION_SOCKET


def choose(
    *,
    state: Path | None = None,
    runtime: Path | None = None,
    environment: Mapping[str, str],
    uid: int,
) -> Folders:
    """Return the folders: arguments, else CASEMATE_STATE and CASEMATE_RUNTIME, else the defaults.

    root: /var/lib/casemate and /run/casemate. A user: the XDG folders.
    """
    return Folders(
        state=Path(state or environment.get("CASEMATE_STATE") or _default_state(environment, uid))
        .expanduser()
        .absolute(),
        runtime=Path(
            runtime or environment.get("CASEMATE_RUNTIME") or user_runtime(environment, uid)
        )
        .expanduser()
        .absolute(),
    )


def _default_state(environment: Mapping[str, str], uid: int) -> Path:
    if uid == 0:
        return Path("/var/lib/casemate")
    if base := environment.get("XDG_STATE_HOME"):
        return Path(base) / "casemate"
    return Path(environment.get("HOME") or "~").expanduser() / ".local" / "state" / "casemate"


def user_runtime(environment: Mapping[str, str], uid: int) -> Path:
    """Return the runtime folder of this user: /run/casemate for root."""
    if uid == 0:
        return Path("/run/casemate")
    if base := environment.get("XDG_RUNTIME_DIR"):
        return Path(base) / "casemate"
    if (base_path := Path(f"/run/user/{uid}")).is_dir():
        return base_path / "casemate"
    return Path(f"/tmp/casemate-{uid}")  # noqa: S108 (its owner and mode are checked)


def prepare(path: Path, *, mode: int, what: str) -> None:
    """Make a folder with this mode, or check that the one there is ours and no more open.

    An empty folder of ours with a wider mode is narrowed; one with something in it is refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir(mode=mode)
        except FileExistsError:
            pass
        else:
            # The process's umask must not narrow what the rules ask for.
            path.chmod(mode)
        status = path.lstat()
    except OSError as error:
        raise ModuleError(
            Code.BAD_FOLDER,
            f"the {what} cannot be made: {error.strerror}",
            where=str(path),
            advice="choose another folder, or give this user the right to write there",
        ) from error
    if not stat.S_ISDIR(status.st_mode):
        raise ModuleError(Code.BAD_FOLDER, f"the {what} is not a folder", where=str(path))
    if status.st_uid != os.geteuid():
        raise ModuleError(
            Code.BAD_FOLDER,
            f"the {what} belongs to user {status.st_uid}, the module runs as {os.geteuid()}",
            where=str(path),
            advice="run the module as that user, or chown the folder",
        )
    found = stat.S_IMODE(status.st_mode)
    if found & 0o777 & ~mode:
        if any(path.iterdir()):
            raise ModuleError(
                Code.BAD_FOLDER,
                f"the {what} has mode {found:04o}, which lets others in",
                where=str(path),
                advice="choose a folder of the module's own; if it is that already, look who could "
                f"have changed it, then: chmod {mode:o} {path}",
            )
        path.chmod(mode)


def lock(folder: Path, *, what: str) -> int:
    """Take the folder's lock for this process and return its descriptor; the kernel frees it."""
    path = folder / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise ModuleError(
            Code.IN_USE,
            f"another module (process {holder}) uses this {what}",
            where=str(folder),
            advice="stop that module, or give this one another folder",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
    return descriptor


def check_socket_path(path: Path) -> None:
    """Raise `ModuleError` where a path is too long for a Unix socket."""
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise ModuleError(
            Code.BAD_FOLDER,
            f"the path of a socket has {len(os.fsencode(path))} bytes; "
            f"the system allows {SOCKET_PATH_MAX}",
            where=str(path),
            advice="choose a shorter --runtime folder",
        )
