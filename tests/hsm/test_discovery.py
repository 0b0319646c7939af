"""Which sockets a client believes: an impostor must not collect PINs."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import casemate
from casemate.hsm.client.discovery import find_socket, find_sockets, places
from casemate.hsm.client.errors import NotReachableError


@pytest.fixture
def registry(short_folder: Path) -> Iterator[Path]:
    with ExitStack() as stack:
        for name in ("web", "db"):
            (short_folder / name).mkdir()
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(short_folder / name / "hsm.sock"))
        yield short_folder


def environment(*places: Path, **more: str) -> dict[str, str]:
    return {
        "CASEMATE_SOCKETS": ":".join(map(str, places)),
        "XDG_RUNTIME_DIR": "/nonexistent",
        **more,
    }


def test_a_registry_a_partition_s_folder_and_a_socket_are_all_found(registry: Path) -> None:
    uid = os.geteuid()
    assert set(find_sockets(environment(registry), uid)) >= {"web", "db"}
    only = find_sockets(environment(registry / "web"), uid)
    assert only["web"] == registry / "web" / "hsm.sock"
    exact = find_sockets(environment(registry / "db" / "hsm.sock"), uid)
    assert exact["db"] == registry / "db" / "hsm.sock"


def test_named_places_come_before_the_registries() -> None:
    named = environment(Path("/a"), Path("/b"), CASEMATE_RUNTIME="/c")
    assert places(named, 5) == [
        Path("/a"),
        Path("/b"),
        Path("/c"),
        Path("/nonexistent/casemate"),
        Path("/tmp/casemate-5"),  # noqa: S108
        Path("/run/casemate"),
    ]


def test_a_folder_that_others_may_write_is_not_trusted(registry: Path) -> None:
    (registry / "web").chmod(0o777)
    assert "web" not in find_sockets(environment(registry), os.geteuid())
    with pytest.raises(NotReachableError, match="0777"):
        find_socket("web", environment(registry), os.geteuid())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give sockets to another user")
@pytest.mark.parametrize("what", ["socket", "folder"])
def test_another_user_s_socket_is_trusted_only_by_name(registry: Path, what: str) -> None:
    owned = registry / "web" / "hsm.sock" if what == "socket" else registry / "web"
    os.chown(owned, 12345, 12345)
    assert "web" not in find_sockets(environment(registry), 0)
    with pytest.raises(NotReachableError, match="CASEMATE_TRUSTED_UIDS"):
        find_socket("web", environment(registry), 0)
    named = environment(registry, CASEMATE_TRUSTED_UIDS="7,12345")
    assert "web" in find_sockets(named, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give sockets to another user")
def test_a_socket_named_by_its_path_must_be_trusted_too(registry: Path) -> None:
    path = registry / "web" / "hsm.sock"
    os.chown(path, 12345, 12345)
    with pytest.raises(NotReachableError, match="user 12345 owns the socket"):
        casemate.connect(str(path))


def test_an_unknown_partition_says_where_it_was_looked_for(registry: Path) -> None:
    with pytest.raises(NotReachableError) as raised:
        find_socket("nope", environment(registry), os.geteuid())
    assert str(registry) in str(raised.value)
    assert "db" in str(raised.value)
    assert "casemate up" in raised.value.advice


def test_a_missing_socket_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NotReachableError, match="casemate status"):
        casemate.connect(str(tmp_path / "web" / "hsm.sock"))
