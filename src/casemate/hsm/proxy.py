"""Gives a partition to a virtual machine: a proxy that carries its messages over a stream.

The guest's library connects to the proxy by vsock, or by any stream socket that reaches it; each
guest connection becomes one connection to the module, with the proxy's user as its peer. The proxy
holds no keys and decides nothing: what the partition allows stands in its policy. docs/transport.md
has the frames.
"""

from __future__ import annotations

import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from casemate import _silicon

LOG = logging.getLogger("casemate.proxy")

#: Guests at once; more wait in the socket's queue.
CONNECTIONS_MAX = 256


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A port of the host, and the machines that may use it, by their context numbers.

    Every machine of the host can reach every port of it: only those that are named are served.
    """

    port: int
    machines: frozenset[int]


def listen(address: Path | VsockAddress) -> socket.socket:
    """Return a listening socket; a Unix socket's stale file is replaced, a live one is refused.

    Raises OSError, with the address, where the system refuses it.
    """
    if isinstance(address, VsockAddress):
        listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        listener.bind((socket.VMADDR_CID_ANY, address.port))
    else:
        _remove_stale(address)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(address))
        address.chmod(0o600)
    listener.listen(64)
    return listener


def _remove_stale(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(f"{path}: another process serves this socket")


def admits(family: int, address: object, machines: frozenset[int]) -> bool:
    """Whether a peer may use the partition: on a vsock the named machines.

    The kernel tells a vsock peer's address, (context number, port). Whom a Unix socket admits, its
    mode and its folder say.
    """
    if family != socket.AF_VSOCK:
        return True
    return isinstance(address, tuple) and address[0] in machines


class Proxy:
    """Accepts guests on a listening socket until `stop`, each in a thread of its own."""

    def __init__(
        self, listener: socket.socket, partition: Path, *, machines: frozenset[int] = frozenset()
    ) -> None:
        """Serve `partition`; on a vsock only to `machines`."""
        self._listener = listener
        self._machines = machines
        self._partition = partition
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._stopped = threading.Event()

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopped.is_set():
            self._room.acquire()
            try:
                guest, address = self._listener.accept()
            except OSError:
                self._room.release()
                if not self._stopped.is_set():
                    raise
                return
            if not admits(guest.family, address, self._machines):
                LOG.warning("guest %s refused: --cid does not name it", address)
                guest.close()
                self._room.release()
                continue
            LOG.info("guest %s connected", address or "on the socket")
            threading.Thread(target=self._serve, args=(guest, address), daemon=True).start()

    def _serve(self, guest: socket.socket, address: object) -> None:
        try:
            _silicon.serve_proxy_peer(guest.detach(), self._partition)
        except OSError as error:
            LOG.warning("guest %s: %s", address or "on the socket", error)
        finally:
            self._room.release()

    def stop(self) -> None:
        """End; guests that are connected stay until they go or the process ends."""
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
