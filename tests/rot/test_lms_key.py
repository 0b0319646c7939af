"""The state of an LMS key: no leaf twice, whatever happens to the files."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from casemate.rot import lms, lms_key
from casemate.rot.lms_key import LmsKey, LmsKeyError, LmsStateError
from tests.rot.bundle.parts import small_tree

MACHINE = b"m" * 32


class Home:
    """A key and its anchor in folders of their own."""

    def __init__(self, folder: Path) -> None:
        self.key, self.anchors = folder / "key", folder / "anchors"
        LmsKey.create(
            self.key, anchor_directory=self.anchors, machine=MACHINE, make_tree=small_tree
        )
        (self.anchor,) = self.anchors.iterdir()

    def open(self, machine: bytes = MACHINE) -> LmsKey:
        return LmsKey.open(self.key, anchor_directory=self.anchors, machine=machine)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def _overwrite(path: Path, content: bytes) -> None:
    """Put old bytes back into the same file (the inode stays)."""
    with path.open("r+b") as stream:
        stream.write(content)


def test_signatures_verify_and_take_a_leaf_each(home: Home) -> None:
    public = home.open().public_key
    leaves = []
    for message in (b"one", b"two", b"three"):
        signature = home.open().sign(message)
        assert len(signature) == 1620
        assert lms.verify(public, message, signature)
        leaves.append(lms.LmsSignature.decode(signature).leaf)
    assert leaves == [0, 1, 2]
    assert home.open().used() == 3


def test_the_leaf_is_on_disk_before_it_signs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(lms, "sign_leaf", power_cut)
    with pytest.raises(KeyboardInterrupt):
        home.open().sign(b"lost")
    monkeypatch.undo()
    assert lms.LmsSignature.decode(home.open().sign(b"next")).leaf == 1


def _crash(home: Home, monkeypatch: pytest.MonkeyPatch, writes: int) -> None:
    """Reserve a leaf; power fails once that many of the three writes are on disk."""
    real, done = os.fsync, 0

    def fsync(file: int) -> None:
        nonlocal done
        real(file)
        done += 1
        if done == writes:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(KeyboardInterrupt):
        home.open().reserve()
    monkeypatch.undo()


@pytest.mark.parametrize(
    "crashes", [(1,), (2,), (3,), (1, 1), (1, 1, 1), (1, 2), (2, 1), (1, 3, 1), (3, 1, 2)]
)
def test_crashes_lose_a_leaf_each_and_never_block_the_key(
    home: Home, monkeypatch: pytest.MonkeyPatch, crashes: tuple[int, ...]
) -> None:
    first = home.open().reserve()
    for writes in crashes:
        _crash(home, monkeypatch, writes)
    last = home.open().reserve()
    assert last == first + len(crashes) + 1
    assert home.open().reserve() == last + 1


def test_every_write_is_synced_before_the_leaf_is_given_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_write, real_sync = os.pwrite, os.fsync

    def pwrite(file: int, data: bytes, offset: int) -> int:
        events.append("write")
        return real_write(file, data, offset)

    def fsync(file: int) -> None:
        events.append("sync")
        real_sync(file)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fsync", fsync)
    home.open().reserve()
    assert events == ["write", "sync"] * 3


def test_a_rolled_back_state_is_refused(home: Home) -> None:
    old = (home.key / "state").read_bytes()
    home.open().sign(b"used")
    _overwrite(home.key / "state", old)
    with pytest.raises(LmsStateError, match="rolled back"):
        home.open().sign(b"again")


def test_a_rolled_back_anchor_is_refused(home: Home) -> None:
    old = home.anchor.read_bytes()
    home.open().sign(b"used")
    home.open().sign(b"used")
    _overwrite(home.anchor, old)
    with pytest.raises(LmsStateError, match="anchor"):
        home.open().sign(b"again")


def test_a_restored_file_is_a_copy_and_refused(home: Home) -> None:
    shutil.copy(home.key / "state", home.key / "backup")
    (home.key / "backup").replace(home.key / "state")
    with pytest.raises(LmsStateError, match="copy"):
        home.open().sign(b"again")


def test_a_copied_key_is_refused(home: Home, tmp_path: Path) -> None:
    shutil.copytree(home.key, tmp_path / "copy")
    copy = LmsKey.open(tmp_path / "copy", anchor_directory=home.anchors, machine=MACHINE)
    with pytest.raises(LmsStateError, match="copy"):
        copy.sign(b"twice")
    shutil.copytree(home.anchors, tmp_path / "anchors-too")
    copy = LmsKey.open(
        tmp_path / "copy", anchor_directory=tmp_path / "anchors-too", machine=MACHINE
    )
    with pytest.raises(LmsStateError, match="copy"):
        copy.sign(b"twice")


def test_the_same_files_on_another_machine_are_refused(home: Home) -> None:
    with pytest.raises(LmsStateError, match="copy"):
        home.open(machine=b"x" * 32).sign(b"twice")


@pytest.mark.parametrize("which", ["state", "anchor"])
@pytest.mark.parametrize("damage", ["gone", "empty", "zeros", "bit", "longer"])
def test_a_damaged_state_is_refused(home: Home, which: str, damage: str) -> None:
    path = home.key / "state" if which == "state" else home.anchor
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = {
            "empty": b"",
            "zeros": bytes(len(content)),
            "bit": bytes(byte ^ 1 for byte in content),
            "longer": content + b"x",
        }[damage]
        path.write_bytes(changed)
    with pytest.raises(LmsStateError):
        home.open().sign(b"never")


def test_a_torn_write_leaves_the_older_record(home: Home) -> None:
    """One slot is lost: the state then is behind its anchor, or the same leaf is skipped."""
    home.open().sign(b"first")
    for path in (home.key / "state", home.anchor):
        content = bytearray(path.read_bytes())
        half = len(content) // 2
        content[half:] = bytes(half)
        _overwrite(path, bytes(content))
    with contextlib.suppress(LmsStateError):
        assert home.open().reserve() >= 1


def _take(folder: str, anchors: str, count: int) -> list[int]:
    key = LmsKey.open(Path(folder), anchor_directory=Path(anchors), machine=MACHINE)
    return [key.reserve() for _ in range(count)]


def test_processes_at_the_same_time_take_different_leaves(home: Home) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        arguments = [(str(home.key), str(home.anchors), 20)] * 2
        leaves = [leaf for part in pool.starmap(_take, arguments) for leaf in part]
    assert sorted(leaves) == list(range(40))


def test_a_moved_key_goes_on_behind_what_was_used(home: Home, tmp_path: Path) -> None:
    home.open().sign(b"one")
    shutil.copytree(home.key, tmp_path / "new")
    moved = LmsKey.open(tmp_path / "new", anchor_directory=tmp_path / "other", machine=MACHINE)
    with pytest.raises(LmsStateError, match="names 1"):
        moved.move(0)
    moved.move(8)
    assert lms.LmsSignature.decode(moved.sign(b"two")).leaf == 8


def test_a_used_up_key_says_so(home: Home) -> None:
    home.open().move(32768)
    with pytest.raises(LmsKeyError, match="all 32768 leaves"):
        home.open().sign(b"one too many")


def test_a_tree_that_is_not_the_keys_signs_nothing(home: Home) -> None:
    tree = home.key / "tree"
    tree.write_bytes(bytes(tree.stat().st_size))
    with pytest.raises(LmsKeyError, match="does not belong"):
        home.open().sign(b"wrong path")


def test_private_bytes_stay_private(home: Home) -> None:
    key = home.open()
    seed = (home.key / "private").read_text().split('"seed": "')[1][:48]
    assert (home.key / "private").stat().st_mode & 0o077 == 0
    assert seed not in repr(key)
    for name in ("public", "tree", "state"):
        assert bytes.fromhex(seed) not in (home.key / name).read_bytes()


def test_a_damaged_key_says_which_file(home: Home) -> None:
    for content in (b"", b"{}", b"[]", b"\xff", b'{"format": "casemate-lms-key-1"}'):
        (home.key / "private").write_bytes(content)
        with pytest.raises(LmsKeyError, match="private"):
            home.open()
    with pytest.raises(LmsKeyError, match="exists"):
        LmsKey.create(home.key, make_tree=small_tree, anchor_directory=home.anchors)
    assert lms_key.this_machine() == lms_key.this_machine()
