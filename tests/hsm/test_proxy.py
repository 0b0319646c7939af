"""A partition through the stream proxy: the same messages, framed."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.cli.pkcs11_path import library
from casemate.hsm.client import Algorithm, connect
from casemate.hsm.client.discovery import find_sockets
from casemate.hsm.proxy import Proxy, admits, listen
from tests.running_module import RunningModule

HELLO = struct.pack("<4sHH56x", b"CMh1", 4, 4)


@pytest.fixture
def proxied(module: RunningModule) -> Iterator[Path]:
    """A guest's registry whose partition `web` is a proxy's socket."""
    folder = module.base / "guest" / "web"
    folder.mkdir(parents=True)
    proxy = Proxy(listen(folder / "hsm.sock"), module.socket())
    thread = threading.Thread(target=proxy.run)
    thread.start()
    yield folder / "hsm.sock"
    proxy.stop()
    thread.join(timeout=5)


def test_keys_are_made_used_and_found_through_the_proxy(
    module: RunningModule, proxied: Path
) -> None:
    with connect(str(proxied)) as guest:
        pair = guest.generate(Algorithm.P256, label="guest", stored=True)
        pair.public.verify(pair.private.sign(b"message"), b"message")
        assert guest.random(100_000) != guest.random(100_000)
    with module.connect() as host:
        assert host.find("guest").label == "guest"


def test_a_large_message_goes_through(proxied: Path) -> None:
    message = os.urandom(3 << 20)
    with connect(str(proxied)) as guest:
        assert guest.digest(message) == hashlib.sha256(message).digest()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HELLO[:10],
        b"x" * 64,
        HELLO + b"\xff\xff\xff\xff",
        HELLO + struct.pack("<I", 20) + b"short",
        HELLO + struct.pack("<I", 56) + b"\xff" * 56,
    ],
)
def test_a_guest_that_sends_garbage_harms_itself_only(proxied: Path, sent: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(str(proxied))
        guest.sendall(sent)
        guest.shutdown(socket.SHUT_WR)
        guest.settimeout(10)
        while guest.recv(4096):
            pass
    with connect(str(proxied)) as other:
        assert len(other.random(16)) == 16


def test_the_library_works_through_the_proxy(module: RunningModule, proxied: Path) -> None:
    tool = subprocess.run(["which", "pkcs11-tool"], capture_output=True, check=False)
    if tool.returncode != 0:
        pytest.skip("pkcs11-tool (package opensc) is not installed")
    done = subprocess.run(
        ["pkcs11-tool", "--module", str(library()), "--list-slots"],
        env={**os.environ, "CASEMATE_SOCKETS": str(proxied), "CASEMATE_RUNTIME": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "token label        : web" in done.stdout


def test_vsock_places_are_partitions_of_the_host() -> None:
    found = find_sockets({"CASEMATE_SOCKETS": "/dev/vsock/2/5000"}, 0)
    assert found["vsock-2-5000"] == Path("/dev/vsock/2/5000")


@pytest.mark.parametrize(
    ("machine", "admitted"), [(7, True), (8, False), (2, False), (1, False), (0, False)]
)
def test_only_named_machines_use_a_vsock_port(machine: int, admitted: bool) -> None:
    assert admits(socket.AF_VSOCK, (machine, 1024), frozenset({7})) is admitted
    assert not admits(socket.AF_VSOCK, (machine, 1024), frozenset())
    assert admits(socket.AF_UNIX, "", frozenset())


def test_a_vsock_port_without_machines_is_a_usage_error(module: RunningModule) -> None:
    from click.testing import CliRunner

    from casemate.cli.main import main

    result = CliRunner().invoke(main, ["proxy", "web", "--vsock", "5000"])
    assert result.exit_code == 2
    assert "--cid" in result.stderr
