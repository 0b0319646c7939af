"""Asks the root of trust that started this module to certify a partition's identity key.

The stream was inherited from the root of trust. Without one, or where it fails, a partition keeps
its self-signed certificate, and `status` says so: no key is lost, and no evidence says more than is
true.
"""

from __future__ import annotations

import logging
import socket
import threading
from typing import Protocol

from casemate.formats import certification

log = logging.getLogger("casemate.hsm")

#: How long the root of trust may take over one certificate, in seconds.
_LIMIT = 10.0


class Certifier(Protocol):
    """Who certifies partitions."""

    @property
    def description(self) -> str:
        """What it is, for `status`."""

    def chain(self, self_signed: bytes) -> list[bytes]:
        """The certificates (DER) of a partition, its own first; `self_signed` is its request."""


class SelfSigned:
    """Nobody: a verifier that has seen the certificate once knows the partition again."""

    @property
    def description(self) -> str:
        """What it is."""
        return "by themselves: no root of trust vouches for them"

    def chain(self, self_signed: bytes) -> list[bytes]:
        """The certificate alone."""
        return [self_signed]


class RootOfTrust:
    """The root of trust, behind a descriptor of a stream."""

    def __init__(self, descriptor: int) -> None:
        self._stream = socket.socket(fileno=descriptor)
        self._stream.set_inheritable(False)
        self._stream.settimeout(_LIMIT)
        self._turn = threading.Lock()
        self._lost = ""

    @property
    def description(self) -> str:
        """What it is."""
        if self._lost:
            return f"by themselves: the root of trust did not answer ({self._lost})"
        return "by the root of trust, under the RT alias key of this host"

    def chain(self, self_signed: bytes) -> list[bytes]:
        """What the root of trust answers with; the request alone if it does not."""
        with self._turn:
            if not self._lost:
                try:
                    self._stream.sendall(certification.encode_request(self_signed))
                    return list(certification.read_answer(self._read))
                except certification.CertificationRefusedError as error:
                    log.error("the root of trust does not certify a partition: %s", error)
                except (OSError, EOFError, certification.CertificationFormatError) as error:
                    # After a broken message nothing that follows can be told apart.
                    self._lost = str(error) or type(error).__name__
                    self._stream.close()
                    log.error("partitions stay uncertified: %s", self._lost)
        return [self_signed]

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._stream.recv(size - len(data))
            if not part:
                raise EOFError("the root of trust has closed the stream")
            data += part
        return bytes(data)
