"""The operator's socket: JSON lines over a Unix socket that only root and the module's user reach.

A request is one line, at most `LINE_MAX` bytes: {"command": "partition.show", "arguments": {"name":
"web"}}. The answer is one line: {"ok": true, "result": ...} or {"ok": false, "error": {"code",
"what", "where", "advice"}}. A connection carries any number of them, one after the other.

The socket has mode 0600, and every peer is asked for its credentials (SO_PEERCRED) all the same.
Another service that speaks the protocol (`hsm.metrics.service`) may be given to a group too: its
socket has mode 0660, and the mode alone decides.

An answer may carry a descriptor (`Attached`), as ancillary data of its first byte.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import check_socket_path
from casemate.hsm.partitions import remove_stale_socket

LINE_MAX = 64 * 1024
CONNECTIONS_MAX = 16
#: Seconds that a connection may say nothing.
IDLE_MAX = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one request, checked as they are taken."""

    values: Mapping[str, Any]

    def only(self, *names: str) -> None:
        """Raise `ModuleError` where there is an argument with another name."""
        if unknown := sorted(set(self.values) - set(names)):
            raise ModuleError(Code.BAD_REQUEST, f"unknown arguments: {', '.join(unknown)}")

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.values.get(name)
        if not isinstance(value, str):
            raise ModuleError(Code.BAD_REQUEST, f"argument {name} must be a text")
        return value

    def object(self, name: str) -> dict[str, Any]:
        """Return an object; {} where there is none."""
        value = self.values.get(name, {})
        if not isinstance(value, dict):
            raise ModuleError(Code.BAD_REQUEST, f"argument {name} must be an object")
        return value


@dataclass(frozen=True, slots=True)
class Attached:
    """A result with a descriptor, which is sent along and closed here."""

    result: Any
    descriptor: int


_NOT_PERMITTED = ModuleError(
    Code.NOT_PERMITTED,
    "only root and the module's user may administer it",
    advice="use the module's user, or root",
)
Command = Callable[[Arguments], Any]


class AdminServer:
    """Serves `commands` on a socket, each connection in a thread of its own."""

    def __init__(
        self,
        path: Path,
        commands: Mapping[str, Command],
        *,
        group: int | None = None,
        name: str = "admin",
    ) -> None:
        """Serve at `path` to root and the module's user, or to the members of a group too."""
        self._path = path
        self._group = group
        self._commands = commands
        self._stopping = threading.Event()
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._pool = ThreadPoolExecutor(CONNECTIONS_MAX, thread_name_prefix=name)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._thread = threading.Thread(target=self._accept, name=name, daemon=True)

    def start(self) -> None:
        """Make the socket and begin to serve."""
        check_socket_path(self._path)
        remove_stale_socket(self._path)
        before = os.umask(0o177)
        try:
            self._listener.bind(os.fspath(self._path))
        finally:
            os.umask(before)
        if self._group is not None:
            try:
                os.chown(self._path, -1, self._group)
                self._path.chmod(0o660)
            except OSError as error:
                raise ModuleError(
                    Code.BAD_FOLDER,
                    f"the socket cannot be given to group {self._group}: {error.strerror}",
                    where=str(self._path),
                    advice="make the module's user a member of that group",
                ) from error
        self._listener.listen(CONNECTIONS_MAX)
        self._listener.settimeout(0.2)
        self._thread.start()

    def stop(self) -> None:
        """Stop accepting, end the connections that say nothing, remove the socket."""
        if not self._thread.is_alive():
            return
        self._stopping.set()
        self._thread.join(timeout=5)
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            if not self._free.acquire(blocking=False):
                connection.close()
                continue
            self._pool.submit(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(IDLE_MAX)
                permitted = self._group is not None or _may_administer(connection)
                with connection.makefile("rb") as lines:
                    while line := lines.readline(LINE_MAX + 1):
                        if not permitted:
                            connection.sendall(_answer(_NOT_PERMITTED))
                            return
                        _send(connection, self._respond(line))
                        if len(line) > LINE_MAX or self._stopping.is_set():
                            return
        finally:
            self._free.release()

    def _respond(self, line: bytes) -> bytes | Attached:
        try:
            name, arguments = parse(line)
            command = self._commands.get(name)
            if command is None:
                raise ModuleError(
                    Code.BAD_REQUEST,
                    f"unknown command {name[:60]!r}",
                    advice=f"there are: {', '.join(sorted(self._commands))}",
                )
            result = command(arguments)
            if isinstance(result, Attached):
                return Attached(_answer(result.result), result.descriptor)
            return _answer(result)
        except ModuleError as error:
            return _answer(error)
        except Exception as error:
            # One command must not end the module: the cause goes to the log, not to the peer.
            log.exception("an operator's command failed")
            return _answer(
                ModuleError(
                    Code.INTERNAL,
                    f"the command failed inside the module ({type(error).__name__})",
                    advice="read the module's log",
                )
            )


def parse(line: bytes) -> tuple[str, Arguments]:
    """Return command and arguments of one request line; raises `ModuleError`."""
    if len(line) > LINE_MAX:
        raise ModuleError(Code.BAD_REQUEST, f"the request has more than {LINE_MAX} bytes")
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ModuleError(Code.BAD_REQUEST, f"the request is not JSON: {error}") from error
    if not isinstance(request, dict) or not set(request) <= {"command", "arguments"}:
        raise ModuleError(Code.BAD_REQUEST, "the request must be {command, arguments}")
    name, arguments = request.get("command"), request.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ModuleError(Code.BAD_REQUEST, "command must be a text and arguments an object")
    return name, Arguments(arguments)


def _answer(result: Any) -> bytes:
    if isinstance(result, ModuleError):
        answer: dict[str, Any] = {"ok": False, "error": result.as_json()}
    else:
        answer = {"ok": True, "result": result}
    return json.dumps(answer).encode() + b"\n"


def _send(connection: socket.socket, answer: bytes | Attached) -> None:
    if not isinstance(answer, Attached):
        connection.sendall(answer)
        return
    try:
        sent = socket.send_fds(connection, [answer.result], [answer.descriptor])
        connection.sendall(answer.result[sent:])
    finally:
        os.close(answer.descriptor)


def _may_administer(connection: socket.socket) -> bool:
    """Whether the peer is root or the module's user."""
    form = "3i"
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form)
    )
    _, uid, _ = struct.unpack(form, credentials)
    return uid in (0, os.geteuid())
