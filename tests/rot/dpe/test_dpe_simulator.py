"""The simulator as a process on its socket: how it starts, survives clients and ends."""

from __future__ import annotations

import importlib
import signal
import socket
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from casemate.formats.dpe import GetProfile, Profile, Status, Support, encode_command
from casemate.rot.dpe.client import profile_of, socket_exchange

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dpe.socket"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    """Start a simulator and wait for its socket; whatever still runs at the end is killed."""
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str, *arguments: str) -> subprocess.Popen[bytes]:
        code = f"from casemate.cli.dpe_simulator import {script}; {script}()"
        command = [sys.executable, "-c", code, "--socket", str(path), *arguments]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        started.append(process)
        deadline = time.monotonic() + 15
        while process.poll() is None and time.monotonic() < deadline:
            try:
                profile_of(socket_exchange(path, 0))
            except OSError:
                time.sleep(0.02)
            else:
                break
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("script", "arguments", "profile"),
    [
        ("main_p384", [], Profile.P384_SHA384),
        ("main_mldsa87", [], Profile.ML_DSA_87),
        ("main", ["--profile", "mldsa87"], Profile.ML_DSA_87),
    ],
)
def test_it_speaks_its_profile_and_goes_at_sigterm(
    start: Start, path: Path, script: str, arguments: list[str], profile: Profile
) -> None:
    process = start(script, "--supports-x509", "--supports-auto-init", *arguments)
    info = profile_of(socket_exchange(path, 0))
    assert info.profile is profile
    assert info.support == Support.X509 | Support.AUTO_INIT
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert not path.exists()


def test_broken_clients_do_not_disturb_others(start: Start, path: Path) -> None:
    start("main_p384", "--supports-auto-init")
    command = struct.pack("<I", 0) + encode_command(Profile.P384_SHA384, GetProfile())
    for message in (b"", b"\0\0", command[:5], command[:15]):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
        if message:
            magic, status, _ = struct.unpack("<III", answer)
            assert (magic, status) == (0x44504552, Status.INVALID_COMMAND)
        else:
            assert answer == b""
    # One that leaves before it is answered.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(command)
    assert profile_of(socket_exchange(path, 0)).max_tci_nodes == 64


def test_a_stale_socket_is_replaced_a_live_one_is_not(start: Start, path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    first = start("main_p384")
    assert profile_of(socket_exchange(path, 0))
    second = start("main_p384")
    assert second.wait(10) == 1
    assert second.stderr is not None
    assert b"another process answers on this socket" in second.stderr.read()
    assert first.poll() is None
    assert profile_of(socket_exchange(path, 0))


def test_the_console_scripts_are_declared_and_there() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    scripts = tomllib.loads(project.read_text())["project"]["scripts"]
    names = [name for name in scripts if name.startswith("casemate-dpe-sim")]
    assert sorted(names) == [
        "casemate-dpe-sim",
        "casemate-dpe-sim-mldsa87",
        "casemate-dpe-sim-p384",
    ]
    for name in names:
        module, _, function = scripts[name].partition(":")
        assert callable(getattr(importlib.import_module(module), function))
