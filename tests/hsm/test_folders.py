"""Folders: the defaults, who may be let in, and the lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import check_socket_path, choose, lock, prepare


def test_the_order_is_argument_environment_default() -> None:
    environment = {"CASEMATE_STATE": "/e/state", "CASEMATE_RUNTIME": "/e/run"}
    chosen = choose(state=Path("/a"), environment=environment, uid=0)
    assert (chosen.state, chosen.runtime) == (Path("/a"), Path("/e/run"))
    chosen = choose(environment={}, uid=0)
    assert (chosen.state, chosen.runtime) == (Path("/var/lib/casemate"), Path("/run/casemate"))


def test_a_user_gets_the_xdg_folders() -> None:
    environment = {"XDG_STATE_HOME": "/h/s", "XDG_RUNTIME_DIR": "/r/u"}
    chosen = choose(environment=environment, uid=4242)
    assert (chosen.state, chosen.runtime) == (Path("/h/s/casemate"), Path("/r/u/casemate"))
    chosen = choose(environment={"HOME": "/h"}, uid=424242)
    assert chosen.state == Path("/h/.local/state/casemate")
    assert chosen.runtime == Path("/tmp/casemate-424242")  # noqa: S108


def test_a_new_folder_gets_its_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        prepare(tmp_path / "run", mode=0o755, what="runtime folder")
    finally:
        os.umask(before)
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o755


def test_an_open_folder_is_narrowed_when_empty_and_refused_when_not(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(0o755)
    prepare(folder, mode=0o700, what="state folder")
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "module.db").touch()
    folder.chmod(0o750)
    with pytest.raises(ModuleError, match="0750") as raised:
        prepare(folder, mode=0o700, what="state folder")
    assert raised.value.code is Code.BAD_FOLDER


def test_a_shared_folder_is_never_made_the_module_s(tmp_path: Path) -> None:
    """`--runtime /tmp` by root must not take /tmp from everybody else."""
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "somebody's").touch()
    with pytest.raises(ModuleError, match="1777"):
        prepare(shared, mode=0o755, what="runtime folder")
    assert shared.stat().st_mode & 0o7777 == 0o1777


def test_a_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ModuleError, match="not a folder"):
        prepare(tmp_path / "link", mode=0o700, what="state folder")


def test_a_folder_has_one_module(tmp_path: Path) -> None:
    held = lock(tmp_path, what="state folder")
    with pytest.raises(ModuleError, match=str(os.getpid())) as raised:
        lock(tmp_path, what="state folder")
    assert raised.value.code is Code.IN_USE
    os.close(held)
    os.close(lock(tmp_path, what="state folder"))


def test_a_path_too_long_for_a_socket_says_so() -> None:
    with pytest.raises(ModuleError, match="bytes"):
        check_socket_path(Path("/tmp") / ("x" * 120) / "hsm.sock")  # noqa: S108
