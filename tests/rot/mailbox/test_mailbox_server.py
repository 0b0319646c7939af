"""The mailbox's socket: clients that behave, clients that break off, and the end."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertifiedKey,
    CertifyKey,
    DestroyContext,
    DpeCommandError,
    Profile,
)
from casemate.formats.mailbox import (
    FRAME_HEADER,
    CommandId,
    MailboxStatus,
    RequestFrame,
    decode_response_header,
    seal_request,
)
from casemate.rot.dpe.client import DpeClient, profile_of
from casemate.rot.mailbox import Code, MailboxError
from casemate.rot.mailbox.client import MailboxClient
from casemate.rot.mailbox.server import MailboxServer
from tests.rot.mailbox.devices import PL0, PL1, Bench, bundle, powered, stash_body


@pytest.fixture
def bench() -> Bench:
    return powered()


@pytest.fixture
def path(bench: Bench, tmp_path: Path) -> Iterator[Path]:
    """The socket of a running server with a short patience."""
    where = tmp_path / "mailbox.socket"
    with MailboxServer(bench.mailbox, where, timeout=0.3) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield where
        server.stop()
        thread.join(10)
        assert not thread.is_alive()
    assert not where.exists()


def test_a_device_is_booted_and_asked_over_its_socket(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with MailboxClient(path, PL0) as client:
        with pytest.raises(MailboxError) as error:
            client.run(CommandId.FW_INFO)
        assert error.value.code == Code.FW_PROC_MAILBOX_INVALID_COMMAND
        client.load_firmware(bundle())
        assert client.verify_firmware(bundle(runtime=b"other" * 100))
        client.run(CommandId.STASH_MEASUREMENT, stash_body(b"\1" * 48))
        for profile in Profile:
            exchange = client.dpe(profile)
            assert profile_of(exchange).profile is profile
            dpe = DpeClient(profile, exchange)
            certified = dpe.run(CertifyKey(DEFAULT_HANDLE, bytes(48), 0))
            assert isinstance(certified, CertifiedKey)
            assert dpe.certificate_chain()
    with MailboxClient(path, PL1) as other:
        with pytest.raises(DpeCommandError):
            DpeClient(Profile.P384_SHA384, other.dpe(Profile.P384_SHA384)).run(
                DestroyContext(DEFAULT_HANDLE)
            )
        with pytest.raises(MailboxError) as error:
            other.run(CommandId.STASH_MEASUREMENT, stash_body(bytes(48)))
        assert error.value.code == Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL


FRAME = RequestFrame(
    PL0,
    CommandId.STASH_MEASUREMENT,
    seal_request(CommandId.STASH_MEASUREMENT, stash_body(b"\1" * 48)),
).encode()
TOO_LONG = FRAME_HEADER.pack(b"CMBQ", PL0, CommandId.FIRMWARE_LOAD, 256 * 1024 + 1)


@pytest.mark.parametrize(
    "message",
    [
        FRAME[:1],
        FRAME[:15],
        FRAME[:16],
        FRAME[:100],
        FRAME[:-1],
        b"GET / HTTP/1.1\r\n\r\n",
        TOO_LONG,
    ],
    ids=["one byte", "no header", "header", "half", "all but one", "other protocol", "too long"],
)
@pytest.mark.parametrize("hangs", [False, True], ids=["leaves", "hangs"])
def test_half_a_command_gets_one_error_and_changes_nothing(
    bench: Bench, path: Path, message: bytes, hangs: bool
) -> None:
    before = bench.device.root.pcrs.values
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(message)
        if not hangs:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(5)
        answer = b""
        while part := client.recv(4096):
            answer += part
    status, code, length = decode_response_header(answer)
    assert (status, code, length) == (
        MailboxStatus.FAILURE,
        Code.RUNTIME_MAILBOX_INVALID_PARAMS,
        0,
    )
    assert len(answer) == FRAME_HEADER.size
    assert bench.device.root.pcrs.values == before
    with MailboxClient(path, PL0) as other:
        other.run(CommandId.STASH_MEASUREMENT, stash_body(b"\1" * 48))
    assert bench.device.root.pcrs.values != before


def test_a_client_that_does_not_wait_for_its_answer_costs_nobody(bench: Bench, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(FRAME)
    with MailboxClient(path, PL0) as other:
        assert len(other.run(CommandId.CAPABILITIES)) == 16


def test_an_idle_client_may_stay_as_long_as_it_likes(path: Path) -> None:
    with MailboxClient(path, PL0) as idle:
        threading.Event().wait(0.5)
        assert len(idle.run(CommandId.CAPABILITIES)) == 16


def test_clients_take_turns(bench: Bench, path: Path) -> None:
    bench.load()
    errors: list[BaseException] = []

    def stash() -> None:
        try:
            with MailboxClient(path, PL0) as client:
                for number in range(4):
                    body = stash_body(bytes([number]) * 48)
                    assert client.run(CommandId.STASH_MEASUREMENT, body) == bytes(4)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=stash) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert len(list(bench.device.contexts)) == 2 + 16


def test_a_live_socket_is_not_taken_over(bench: Bench, path: Path) -> None:
    with (
        pytest.raises(FileExistsError, match="another process"),
        MailboxServer(bench.mailbox, path),
    ):
        pass
    with MailboxClient(path, PL0) as client:
        assert len(client.run(CommandId.CAPABILITIES)) == 16
