"""The spool: every event once, in order, numbered, whatever a crash leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.audit import spool as spools
from casemate.audit.spool import Durability, Spool, SpoolError, SpoolLimits


def events(count: int, size: int = 10) -> list[dict[str, Any]]:
    return [{"metadata": {"uid": f"e{number}"}, "text": "x" * size} for number in range(count)]


def numbers(folder: Path, after: int = 0) -> list[int]:
    return [event["metadata"]["sequence"] for event in spools.read(folder, after=after)]


def test_numbers_go_on_over_restarts_and_files(tmp_path: Path) -> None:
    for _ in range(3):
        with Spool(tmp_path, limits=SpoolLimits(file_bytes=200)) as spool:
            for _ in range(4):
                spool.append(events(2))
    assert numbers(tmp_path) == list(range(1, 25))
    assert numbers(tmp_path, after=20) == [21, 22, 23, 24]
    assert len(list(tmp_path.glob("*.jsonl"))) > 3


def test_old_files_go_when_they_are_limited(tmp_path: Path) -> None:
    with Spool(tmp_path, limits=SpoolLimits(file_bytes=200, files=2)) as spool:
        for _ in range(20):
            spool.append(events(1, 100))
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    found = numbers(tmp_path)
    assert found == list(range(found[0], 21))


def test_one_writer(tmp_path: Path) -> None:
    with Spool(tmp_path), pytest.raises(SpoolError, match="another process"):
        Spool(tmp_path)
    Spool(tmp_path).close()


@given(cut=st.integers(min_value=1, max_value=400), junk=st.binary(max_size=30))
def test_a_torn_tail_is_moved_aside_and_its_number_given_again(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with Spool(folder, durability=Durability.BUFFERED) as spool:
        spool.append(events(5))
    (path,) = folder.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)] + junk)
    kept = whole[: max(0, len(whole) - cut)].count(b"\n")
    # What was cut exactly at a line's end and got junk behind it keeps that line.
    with Spool(folder, durability=Durability.BUFFERED) as spool:
        assert spool.last == kept
        assert spool.append(events(1)) == kept + 1
    assert numbers(folder) == list(range(1, kept + 2))
    torn = b"".join(file.read_bytes() for file in folder.glob("*.torn"))
    assert junk in torn + b"\n" or not junk


def test_an_empty_last_file_keeps_the_count(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append(events(3))
    (tmp_path / "events-0000000000000004.jsonl").touch()
    with Spool(tmp_path) as spool:
        assert spool.last == 3
        assert next(spool.backwards())["metadata"]["uid"] == "e2"
        spool.append(events(1))
    assert numbers(tmp_path) == [1, 2, 3, 4]


@pytest.mark.parametrize("tail", [1, 7, 100, 1 << 20])
def test_it_reads_backwards_in_blocks_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tail: int
) -> None:
    with Spool(tmp_path) as spool:
        spool.append(events(20))
        monkeypatch.setattr(spools, "_TAIL", tail)
        found = [event["metadata"]["uid"] for event in spool.backwards()]
    assert found == [f"e{number}" for number in reversed(range(20))]


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Spool(tmp_path) as spool:
        spool.append(events(1))
        real = os.write

        def half(descriptor: int, data: bytes) -> int:
            if len(data) < 40:
                raise OSError(28, "No space left on device")
            return real(descriptor, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(SpoolError, match="No space left"):
            spool.append(events(2))
        monkeypatch.undo()
        assert spool.append(events(2)) == 3
    assert numbers(tmp_path) == [1, 2, 3]


def test_lines_are_json_and_ascii(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append([{"metadata": {}, "message": "line\nbreak \u2028 ü"}])
    (path,) = tmp_path.glob("*.jsonl")
    (line,) = path.read_bytes().splitlines()
    assert json.loads(line)["message"] == "line\nbreak \u2028 ü"
    assert line.isascii()
