"""A real software TPM (swtpm) for tests: started, commanded over its socket, ended.

Only the commands that a quote needs are encoded here (TCG TPM 2.0 Library, part 3).
"""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_STARTUP, _CREATE_PRIMARY, _QUOTE, _PCR_EXTEND, _PCR_READ = 0x144, 0x131, 0x158, 0x182, 0x17E
_OWNER = 0x40000001
#: TPM_RC_RETRY: the same command is to be sent again.
_RETRY = 0x922
#: An empty password session: handle, no nonce, no attributes, no password.
_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_NULL, _SHA256 = 0x0010, 0x000B
_RSA_AK = struct.pack(">HHIHHHHHIH", 1, _SHA256, 0x00050072, 0, _NULL, 0x0014, _SHA256, 2048, 0, 0)
_ECC_AK = struct.pack(
    ">HHIHHHHHHHH", 0x23, _SHA256, 0x00050072, 0, _NULL, 0x0018, _SHA256, 3, _NULL, 0, 0
)


class SoftwareTpm:
    """A connection to a running TPM."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._command(_NO_SESSIONS, _STARTUP, struct.pack(">H", 0))

    def _command(self, tag: int, code: int, body: bytes) -> bytes:
        for _ in range(5):
            self._connection.sendall(struct.pack(">HII", tag, 10 + len(body), code) + body)
            _, size, result = struct.unpack(">HII", self._read(10))
            rest = self._read(size - 10)
            if result != _RETRY:
                break
        if result != 0:
            raise AssertionError(f"TPM command {code:#x} failed with {result:#x}")
        return rest

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._connection.recv(size - len(data))
            if not part:
                raise AssertionError("the TPM ended the connection")
            data += part
        return data

    def make_attestation_key(self, *, elliptic: bool) -> tuple[int, bytes]:
        """A restricted signing key under the owner: its handle and TPM2B_PUBLIC."""
        template = _ECC_AK if elliptic else _RSA_AK
        body = (
            struct.pack(">I", _OWNER)
            + _PASSWORD
            + struct.pack(">HHH", 4, 0, 0)
            + struct.pack(">H", len(template))
            + template
            + struct.pack(">HI", 0, 0)
        )
        answer = self._command(_SESSIONS, _CREATE_PRIMARY, body)
        handle = int.from_bytes(answer[:4], "big")
        size = int.from_bytes(answer[8:10], "big")
        return handle, answer[8 : 10 + size]

    def extend(self, pcr: int, digest: bytes) -> None:
        body = struct.pack(">I", pcr) + _PASSWORD + struct.pack(">IH", 1, _SHA256) + digest
        self._command(_SESSIONS, _PCR_EXTEND, body)

    def quote(self, handle: int, nonce: bytes, pcrs: tuple[int, ...]) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE."""
        body = (
            struct.pack(">I", handle)
            + _PASSWORD
            + struct.pack(">H", len(nonce))
            + nonce
            + struct.pack(">H", _NULL)
            + _selection(pcrs)
        )
        answer = self._command(_SESSIONS, _QUOTE, body)
        size = int.from_bytes(answer[:4], "big")
        parameters = answer[4 : 4 + size]
        attested = int.from_bytes(parameters[:2], "big")
        return parameters[2 : 2 + attested], parameters[2 + attested :]

    def read_pcr(self, pcr: int) -> bytes:
        answer = self._command(_NO_SESSIONS, _PCR_READ, _selection((pcr,)))
        return answer[-32:]


def _selection(pcrs: tuple[int, ...]) -> bytes:
    bits = sum(1 << pcr for pcr in pcrs)
    return struct.pack(">IHB", 1, _SHA256, 3) + bits.to_bytes(3, "little")


@contextmanager
def software_tpm(folder: Path) -> Iterator[SoftwareTpm]:
    """Start swtpm with its state in a folder; skips where it is not installed."""
    program = shutil.which("swtpm")
    if program is None:
        pytest.skip("swtpm is not installed")
    data, control = folder / "tpm", folder / "control"
    process = subprocess.Popen(
        [
            program,
            "socket",
            "--tpm2",
            *("--tpmstate", f"dir={folder}"),
            *("--server", f"type=unixio,path={data}"),
            *("--ctrl", f"type=unixio,path={control}"),
            *("--flags", "not-need-init"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            _connect(connection, data, process)
            yield SoftwareTpm(connection)
    finally:
        process.terminate()
        process.wait(10)


def _connect(connection: socket.socket, path: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            connection.connect(str(path))
        except OSError:
            assert process.poll() is None, "swtpm ended at once"
            time.sleep(0.05)
        else:
            return
    raise AssertionError("swtpm does not answer")
