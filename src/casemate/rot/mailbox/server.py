"""The mailbox on a Unix socket: one command at a time, as the chip has it.

A client may send any number of commands on its connection; commands of all clients are executed
one after the other. A frame that is cut short, not a frame at all or not finished within the
timeout gets one answer (mailbox failure, RUNTIME_MAILBOX_INVALID_PARAMS), then its connection
closes; the device has not seen any of it.

Whoever may open the socket may claim any user number, as software on a SoC's privileged bus may:
the socket's permissions are the boundary. It is made with mode 0600.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import threading
import time
from pathlib import Path

from casemate.formats.mailbox import (
    FRAME_HEADER,
    MailboxFormatError,
    MailboxStatus,
    RequestFrame,
    ResponseFrame,
    command_letters,
    decode_request_header,
)
from casemate.rot.mailbox.errors import Code, code_name
from casemate.rot.mailbox.mailbox import Mailbox

#: How long a client has for one whole frame, in seconds.
FRAME_TIMEOUT = 5.0
#: How many clients can be connected at once.
MOST_CLIENTS = 64

_log = logging.getLogger(__name__)


class MailboxServer:
    """Serves one mailbox. Use it as a context: it makes the socket and removes it."""

    def __init__(
        self,
        mailbox: Mailbox,
        path: Path,
        *,
        timeout: float = FRAME_TIMEOUT,
        turn: threading.Lock | None = None,
    ) -> None:
        """`turn` is the lock of whoever else runs commands of this mailbox."""
        self._mailbox = mailbox
        self._path = path
        self._timeout = timeout
        self._turn = turn or threading.Lock()
        self._stop_reader, self._stop_writer = os.pipe()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._clients: set[socket.socket] = set()

    def __enter__(self) -> MailboxServer:
        """Make the socket; raises OSError, FileExistsError if another process answers on it."""
        _remove_stale(self._path)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(MOST_CLIENTS)
        return self

    def __exit__(self, *_error: object) -> None:
        """Close every connection and remove the socket."""
        self._listener.close()
        for client in list(self._clients):
            client.close()
        self._path.unlink(missing_ok=True)
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    def stop(self) -> None:
        """Make `serve_forever` return; may be called from a signal handler or another thread."""
        os.write(self._stop_writer, b"\0")

    def stop_on_signals(self) -> None:
        """Stop at SIGTERM and SIGINT. Only in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def serve_forever(self) -> None:
        """Answer clients until `stop`."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._stop_reader in ready:
                    return
                client, _ = self._listener.accept()
                if len(self._clients) >= MOST_CLIENTS:
                    _log.warning("a client was turned away: %d are connected", MOST_CLIENTS)
                    client.close()
                    continue
                self._clients.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                while (request := self._receive(client)) is not None:
                    self._answer(client, request)
        except MailboxFormatError as error:
            _log.warning("connection closed: %s", error)
        except OSError as error:
            _log.info("connection lost: %s", error)
        finally:
            self._clients.discard(client)

    def _answer(self, client: socket.socket, request: RequestFrame) -> None:
        with self._turn:
            response = self._mailbox.execute(request)
        if response.status is MailboxStatus.FAILURE:
            _log.info(
                "%s of user 0x%x: %s",
                command_letters(request.command),
                request.user,
                code_name(response.error),
            )
        client.settimeout(self._timeout)
        client.sendall(response.encode())

    def _receive(self, client: socket.socket) -> RequestFrame | None:
        """Return the next frame, or None at the end of the connection.

        Raises MailboxFormatError after the one answer to bytes that are no frame.
        """
        client.settimeout(None)
        first = client.recv(1)
        if not first:
            return None
        deadline = time.monotonic() + self._timeout
        try:
            header = first + _read(client, FRAME_HEADER.size - 1, deadline)
            user, command, length = decode_request_header(header)
            return RequestFrame(user, command, _read(client, length, deadline))
        except MailboxFormatError:
            failure = ResponseFrame(MailboxStatus.FAILURE, Code.RUNTIME_MAILBOX_INVALID_PARAMS, b"")
            client.settimeout(self._timeout)
            client.sendall(failure.encode())
            client.shutdown(socket.SHUT_WR)
            _drain(client, deadline + self._timeout)
            raise


def _drain(client: socket.socket, deadline: float) -> None:
    """Read what still comes until the client is done, so that it sees the answer and no reset."""
    while (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            if not client.recv(65536):
                return
        except OSError:
            return


def _read(client: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise MailboxFormatError(f"a frame was not finished: {len(data)} of {size} bytes came")
        client.settimeout(left)
        try:
            part = client.recv(size - len(data))
        except TimeoutError:
            continue
        if not part:
            raise MailboxFormatError(f"a frame was cut short: {len(data)} of {size} bytes came")
        data += part
    return bytes(data)


def _remove_stale(path: Path) -> None:
    """Remove a socket that no process answers on any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        alive = probe.connect_ex(str(path)) == 0
    if alive:
        raise FileExistsError(f"{path}: another process answers on this socket; stop it first")
    path.unlink(missing_ok=True)
