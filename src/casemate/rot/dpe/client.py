"""The other side of a DPE: asks, and reads the answers.

How bytes travel is a function given to the client, so that the same client works in process, with
a simulator's socket and through a mailbox.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from casemate.formats.dpe import (
    CERTIFICATE_CHUNK_SIZE,
    CertificateChunk,
    Command,
    DpeCommandError,
    DpeFormatError,
    GetCertificateChain,
    GetProfile,
    Profile,
    ProfileInfo,
    Response,
    Status,
    decode_response,
    encode_command,
)

#: Sends the bytes of a command, returns those of the answer.
Exchange = Callable[[bytes], bytes]

#: No certificate chain is longer; a DPE that sends more is broken.
LARGEST_CHAIN = 256 * 1024


@dataclass(frozen=True, slots=True)
class DpeClient:
    """Talks to one profile of a DPE."""

    profile: Profile
    exchange: Exchange

    def run(self, command: Command) -> Response:
        """Send one command and return the answer.

        Raises DpeCommandError where the DPE refuses, DpeFormatError where it answers nonsense.
        """
        answer = self.exchange(encode_command(self.profile, command))
        return decode_response(self.profile, command, answer)

    def certificate_chain(self) -> bytes:
        """Return the whole chain, chunk after chunk: DER certificates, the topmost first."""
        chain = b""
        while len(chain) <= LARGEST_CHAIN:
            command = GetCertificateChain(offset=len(chain), size=CERTIFICATE_CHUNK_SIZE)
            try:
                answer = self.run(command)
            except DpeCommandError as error:
                # A chain that ends with a full chunk shows its end by an error.
                if chain and error.status == Status.CERTIFICATE_CHAIN_ERROR:
                    return chain
                raise
            if not isinstance(answer, CertificateChunk):
                raise DpeFormatError(f"expected a certificate chunk, got {type(answer).__name__}")
            chain += answer.chunk
            if len(answer.chunk) < CERTIFICATE_CHUNK_SIZE:
                return chain
        raise DpeFormatError(f"the certificate chain has more than {LARGEST_CHAIN} bytes")


def profile_of(exchange: Exchange) -> ProfileInfo:
    """Ask a DPE which profile it speaks; raises as `DpeClient.run` does."""
    answer = DpeClient(Profile.P384_SHA384, exchange).run(GetProfile())
    if not isinstance(answer, ProfileInfo):
        raise DpeFormatError(f"expected a profile, got {type(answer).__name__}")
    return answer


def socket_exchange(path: Path, locality: int, timeout: float = 10.0) -> Exchange:
    """Return an exchange with a simulator: one connection per command, locality in front."""

    def exchange(command: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(struct.pack("<I", locality) + command)
            answer = bytearray()
            while part := connection.recv(65536):
                answer += part
            return bytes(answer)

    return exchange
