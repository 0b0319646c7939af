"""The other side of a mailbox's socket."""

from __future__ import annotations

import socket
from pathlib import Path

from casemate.closing import Closing
from casemate.formats import mailbox_messages as messages
from casemate.formats.dpe import Profile
from casemate.formats.mailbox import (
    FRAME_HEADER,
    CommandId,
    MailboxFormatError,
    MailboxStatus,
    RequestFrame,
    decode_response_header,
    open_response,
    seal_request,
)
from casemate.rot.dpe.client import Exchange
from casemate.rot.mailbox.errors import MailboxError

#: How DPE commands travel: the mailbox command, and what stands before them.
DPE_COMMANDS = {
    Profile.P384_SHA384: (CommandId.INVOKE_DPE_ECC384, b""),
    # Flags and the place for an answer outside of the mailbox: neither is used.
    Profile.ML_DSA_87: (CommandId.INVOKE_DPE_MLDSA87, bytes(16)),
}


class MailboxClient(Closing):
    """A connection to a mailbox, as one user. Use it as a context."""

    def __init__(self, path: Path, user: int, *, timeout: float = 30.0) -> None:
        self._user = user
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def run(self, command: int, body: bytes = b"") -> bytes:
        """Send a command and return the body of its response.

        Raises MailboxError with the public code where the device refuses, MailboxFormatError where
        it answers nonsense, OSError where it does not answer.
        """
        payload = self._exchange(command, seal_request(command, body))
        _, answer = open_response(payload)
        return answer

    def load_firmware(self, bundle: bytes) -> None:
        """Send a firmware bundle: the first starts the firmware, a later one updates it."""
        self._exchange(CommandId.FIRMWARE_LOAD, bundle)

    def verify_firmware(self, bundle: bytes) -> bool:
        """Ask whether the device would update to a bundle."""
        payload = self._exchange(CommandId.FIRMWARE_VERIFY, bundle)
        _, answer = open_response(payload)
        return messages.VerifyResult.decode(answer).result == messages.VerifyResult.GOOD

    def dpe(self, profile: Profile) -> Exchange:
        """Return an exchange for a DpeClient of one profile."""
        command, head = DPE_COMMANDS[profile]

        def exchange(data: bytes) -> bytes:
            return messages.decode_sized(self.run(command, head + messages.encode_sized(data)))

        return exchange

    def _exchange(self, command: int, payload: bytes) -> bytes:
        self._socket.sendall(RequestFrame(self._user, command, payload).encode())
        status, error, length = decode_response_header(self._read(FRAME_HEADER.size))
        answer = self._read(length)
        if status is MailboxStatus.FAILURE:
            raise MailboxError(error, "the device refused the command")
        return answer

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise MailboxFormatError(
                    f"the device closed the connection: {len(data)} of {size} bytes came"
                )
            data += part
        return bytes(data)
