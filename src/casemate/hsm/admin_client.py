"""Speaks to a running module's admin socket: what the command line uses."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from casemate.closing import Closing
from casemate.hsm.errors import Code, ModuleError

#: Bytes of an answer at most: 64 partitions and their counts need a fraction of it.
ANSWER_MAX = 4 << 20


def _request(command: str, arguments: dict[str, Any]) -> bytes:
    return json.dumps({"command": command, "arguments": arguments}).encode() + b"\n"


class AdminClient(Closing):
    """A connection to a module as its operator."""

    def __init__(self, path: Path, *, timeout: float = 60) -> None:
        """Connect to the socket at `path`; raises `ModuleError` where no module answers."""
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(os.fspath(path))
        except PermissionError as error:
            self._socket.close()
            raise ModuleError(
                Code.NOT_PERMITTED,
                "this user may not administer the module",
                where=str(path),
                advice="use the module's user, or root",
            ) from error
        except OSError as error:
            self._socket.close()
            raise ModuleError(
                Code.NOT_RUNNING,
                f"no module answers: {error.strerror or error}",
                where=str(path),
                advice="start one with: casemate up (or name its folder with --runtime)",
            ) from error
        self._lines = self._socket.makefile("rb")

    def call(self, command: str, **arguments: Any) -> Any:
        """Send one command and return its result; raises the module's own `ModuleError`."""
        try:
            self._socket.sendall(_request(command, arguments))
            line = self._lines.readline(ANSWER_MAX)
        except OSError as error:
            raise self._gone(str(error.strerror or error)) from error
        return self._result(line)

    def call_for_descriptor(self, command: str, **arguments: Any) -> tuple[Any, int]:
        """Send one command whose answer carries a descriptor; return result and descriptor."""
        try:
            self._socket.sendall(_request(command, arguments))
            line, descriptors, _, _ = socket.recv_fds(self._socket, ANSWER_MAX, 1)
            if line and not line.endswith(b"\n"):
                line += self._lines.readline(ANSWER_MAX)
        except OSError as error:
            raise self._gone(str(error.strerror or error)) from error
        try:
            result = self._result(line)
            if len(descriptors) != 1:
                raise self._gone(f"{len(descriptors)} descriptors came instead of one")
        except BaseException:
            for descriptor in descriptors:
                os.close(descriptor)
            raise
        os.set_inheritable(descriptors[0], False)
        return result, descriptors[0]

    def _result(self, line: bytes) -> Any:
        if not line.endswith(b"\n"):
            raise self._gone("the connection ended")
        answer = json.loads(line)
        if not answer["ok"]:
            raise ModuleError.from_json(answer["error"])
        return answer["result"]

    def _gone(self, what: str) -> ModuleError:
        return ModuleError(
            Code.NOT_RUNNING,
            f"the module did not answer: {what}",
            where=str(self._path),
            advice="look whether it still runs: casemate status",
        )

    def close(self) -> None:
        """End the connection."""
        self._lines.close()
        self._socket.close()
