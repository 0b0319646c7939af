"""One connection with one session: requests out, answers or errors back.

A connection that the module's restart has cut is made again, where nothing but the answer was lost:
for requests that change nothing, and where no PIN has to be shown again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casemate import _silicon
from casemate.formats.pkcs11 import ReturnValue, User
from casemate.hsm.client.errors import (
    ArgumentError,
    ConnectionLostError,
    NotReachableError,
    QuotaError,
    for_result,
)
from casemate.hsm.client.operations import REPEATABLE, Operation, Usage

#: Bytes of one message; more goes in parts.
MESSAGE_MAX = 16 << 20
_PART = 1 << 20
#: Seconds that a request waits for a module that restarts.
RECONNECT_SECONDS = 10.0
#: Bytes of a slot's payload, and what its sections are aligned to (docs/transport.md, section 3):
#: what fits needs no region of its own.
_SLOT, _ALIGNED = 17_408, 64
_OUTPUT = 16_384
#: Requests under way at once in `Connection.many`, and of those too large for a slot, which need a
#: region of shared memory each.
_WINDOW, _WINDOW_LARGE = 32, 4
_SMALL = 16_000
#: Requests of one native call at most, and about how many bytes of theirs: what stays in a cache.
_BATCH, _BATCH_BYTES = 1024, 128 << 10
#: What an operation adds to its data at most: IV, tag, padding.
_GROWTH = 128


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the output, and the two numbers that some operations answer with."""

    output: bytes
    value0: int
    value1: int


class Connection:
    """A session in a partition. Threads may share it: one-part requests run side by side."""

    def __init__(
        self, path: Path, *, name: str, reconnect_seconds: float = RECONNECT_SECONDS
    ) -> None:
        self.name = name
        self.reconnect_seconds = reconnect_seconds
        self._path = path
        self._logged_in = False
        self._lock = threading.RLock()
        self._client, self._session = self._open()

    def _open(self) -> tuple[_silicon.Client, int]:
        try:
            client = _silicon.Client(self._path)
            code, _, session, _ = client.call(Operation.OPEN_SESSION, aux=1)
        except OSError as error:
            raise NotReachableError(
                f"partition {self.name!r} does not answer: {error}",
                where=str(self._path),
                advice="look whether the module runs: casemate status",
            ) from error
        if code:
            raise for_result(code, doing="open a session", where=self._where())
        return client, session

    def _where(self) -> str:
        return f"partition {self.name} at {self._path}"

    # --- requests ----------------------------------------------------------------------------

    def call(
        self,
        operation: Operation,
        *,
        doing: str,
        object: int = 0,
        mechanism: int = 0,
        aux: int = 0,
        parameters: bytes = b"",
        first: bytes = b"",
        second: bytes = b"",
        data: bytes = b"",
        capacity: int = 0,
    ) -> Answer:
        """Send one request and return its answer; raises a `ClientError`."""
        fields: dict[str, Any] = {
            "object": object,
            "mechanism": mechanism,
            "aux": aux,
            "parameters": parameters,
            "first": first,
            "second": second,
            "data": data,
            "capacity": max(
                min(_OUTPUT, _room(parameters, first, second)), len(data) + _GROWTH, capacity
            ),
        }
        client, session = self._client, self._session
        with self._explained(doing):
            try:
                answer = client.call(operation, session=session, **fields)
                restarted = answer[0] == ReturnValue.DEVICE_REMOVED
            except _silicon.LostError:
                answer, restarted = (int(ReturnValue.DEVICE_REMOVED), b"", 0, 0), True
            if restarted and operation in REPEATABLE and not self._logged_in:
                client, session = self._reconnect(client)
                answer = client.call(operation, session=session, **fields)
            elif restarted:
                self._reconnect_later(client)
                raise self._lost(doing)
        return self._answer(answer, doing)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn what the binding raises into a `ClientError`."""
        try:
            yield
        except _silicon.LostError as error:
            raise self._lost(doing) from error
        except ValueError as error:
            raise ArgumentError(f"{doing}: {error}", where=self._where()) from error
        except OSError as error:
            raise QuotaError(f"{doing}: {error}", where=self._where()) from error

    def _lost(self, doing: str) -> ConnectionLostError:
        return ConnectionLostError(
            f"{doing}: the module ended before it answered", where=self._where()
        )

    def _answer(self, answer: tuple[int, bytes, int, int], doing: str) -> Answer:
        code, output, value0, value1 = answer
        if code:
            raise for_result(code, doing=doing, where=self._where())
        return Answer(output, value0, value1)

    def _reconnect(self, old: _silicon.Client) -> tuple[_silicon.Client, int]:
        """Return a new client and session; waits a little for a module that restarts."""
        with self._lock:
            if self._client is not old:
                return self._client, self._session
            end = time.monotonic() + self.reconnect_seconds
            while True:
                try:
                    self._client, self._session = self._open()
                except (NotReachableError, ConnectionLostError):
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
                else:
                    return self._client, self._session

    def _reconnect_later(self, old: _silicon.Client) -> None:
        """Have the next request find a connection, if the module is back by then."""
        with self._lock:
            self._logged_in = False
            if self._client is old:
                try:
                    self._client, self._session = self._open()
                except (NotReachableError, ConnectionLostError):
                    return

    def many(
        self,
        operation: Operation,
        *,
        doing: str,
        object: int,
        mechanism: int,
        parameters: Sequence[bytes] = (b"",),
        first: Sequence[bytes] = (b"",),
        data: Sequence[bytes],
        tolerated: Container[int] = (),
        tail_first: int = 0,
    ) -> list[tuple[int, bytes]]:
        """Send a request for each piece of data, many under way at once (they must be repeatable).

        Returns CK_RV and output of each, in order; a result that is not `tolerated` is raised, with
        the number of its piece. The last `tail_first` bytes of each output come first.
        """
        longest = max(map(len, data), default=0)
        batch = max(_WINDOW, min(_BATCH, _BATCH_BYTES // (longest + 1)))
        answers: list[tuple[int, bytes]] = []
        while len(answers) < len(data):
            # A native call cannot be interrupted, so none of them takes long.
            span = slice(len(answers), len(answers) + batch)
            fields: dict[str, Any] = {
                "object": object,
                "mechanism": mechanism,
                "parameters": parameters if len(parameters) == 1 else parameters[span],
                "first": first if len(first) == 1 else first[span],
                "data": data[span],
                "window": _WINDOW if longest < _SMALL else _WINDOW_LARGE,
                "stop_at_failure": not tolerated,
                "tail_first": tail_first,
            }
            client, session = self._client, self._session
            with self._explained(doing):
                try:
                    part = client.call_many(operation, session=session, **fields)
                    restarted = any(code == ReturnValue.DEVICE_REMOVED for code, _ in part)
                except _silicon.LostError:
                    part, restarted = [], True
                if restarted and not self._logged_in:
                    client, session = self._reconnect(client)
                    part = client.call_many(operation, session=session, **fields)
                elif restarted:
                    self._reconnect_later(client)
                    raise self._lost(doing)
            for number, (code, _) in enumerate(part, start=len(answers)):
                if code and code not in tolerated:
                    raise for_result(code, doing=f"{doing}, message {number}", where=self._where())
            answers += part
        return answers

    def stream(
        self,
        usage: Usage,
        *,
        doing: str,
        object: int = 0,
        mechanism: int,
        parameters: bytes = b"",
        signature: bytes = b"",
        data: bytes,
    ) -> bytes:
        """Do a large operation in parts, and return all its output."""
        with self._lock:
            common: dict[str, Any] = {"doing": doing, "aux": usage}
            begun = self.call(
                Operation.STREAM_BEGIN,
                object=object,
                mechanism=mechanism,
                parameters=parameters,
                **common,
            )
            output = bytearray()
            view = memoryview(data)
            for start in range(0, len(data), _PART):
                part = bytes(view[start : start + _PART])
                output += self.call(Operation.STREAM_UPDATE, data=part, **common).output
            # An AEAD gives its whole plaintext at the end.
            output += self.call(
                Operation.STREAM_FINAL,
                first=signature,
                capacity=min(len(data), MESSAGE_MAX) if usage is Usage.DECRYPT else 0,
                **common,
            ).output
            # An IV that the module made comes last, as in an encryption of one part.
            return bytes(output) + begun.output

    # --- sessions ----------------------------------------------------------------------------

    def login(self, pin: bytes, *, user: User = User.USER) -> None:
        """Show a PIN; the bytes go to silicon and are not kept."""
        self.call(Operation.LOGIN, doing="log in", object=user, data=pin)
        self._logged_in = True

    def logout(self) -> None:
        """End the login."""
        self.call(Operation.LOGOUT, doing="log out")
        self._logged_in = False

    def close(self) -> None:
        """End the connection, its session and its session objects."""
        self._client.close()


def _room(*sections: bytes) -> int:
    """Return the bytes that a slot has left for data and output beside these sections."""
    return max(0, _SLOT - sum(-(-len(section) // _ALIGNED) * _ALIGNED for section in sections))
