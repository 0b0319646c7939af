"""The store by itself: what comes back, what damage and wrong permissions say."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.store import PartitionRow, RecordRow, Store

PARTITION = bytes(range(16))
OTHER = bytes(16)


def row(identity: bytes = PARTITION, name: str = "web") -> PartitionRow:
    return PartitionRow(identity, name, "{}", b"secret", "active", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "module.db"


def test_what_was_stored_comes_back_after_reopening(path: Path) -> None:
    store = Store(path)
    store.add_partition(row(), [RecordRow(PARTITION, 3, 0, 1, b"root")])
    store.apply(
        [
            RecordRow(PARTITION, 1, 2**64 - 1, 2**63, b"high"),
            RecordRow(PARTITION, 1, 5, 1, b"old"),
            RecordRow(PARTITION, 1, 6, 1, b"gone"),
        ]
    )
    store.apply([RecordRow(PARTITION, 1, 5, 2, b"new"), RecordRow(PARTITION, 1, 6, 0, None)])
    store.set_fact("a", "b")
    store.close()
    store = Store(path)
    assert store.partitions() == [row()]
    assert sorted(store.records(PARTITION)) == [
        (1, 5, 2, b"new"),
        (1, 2**64 - 1, 2**63, b"high"),
        (3, 0, 1, b"root"),
    ]
    assert store.fact("a") == "b"
    assert store.fact("c") is None
    store.close()


def test_a_refused_transaction_leaves_nothing(path: Path) -> None:
    store = Store(path)
    store.add_partition(row(), [])
    with pytest.raises(ModuleError):
        store.apply([RecordRow(PARTITION, 1, 1, 1, b"x"), RecordRow(OTHER, 1, 1, 1, b"x")])
    assert store.records(PARTITION) == []
    store.apply([RecordRow(PARTITION, 1, 1, 1, b"x")])
    assert store.records(PARTITION) == [(1, 1, 1, b"x")]
    store.close()


def test_a_destroyed_partition_leaves_no_bytes_in_the_files(path: Path) -> None:
    store = Store(path)
    marker = b"a blob that must not stay behind"
    store.add_partition(row(), [RecordRow(PARTITION, 1, 1, 1, marker * 20)])
    store.add_partition(row(OTHER, "db"), [RecordRow(OTHER, 1, 1, 1, b"kept" * 20)])
    files = [path, path.with_name("module.db-wal")]
    assert any(marker in file.read_bytes() for file in files)
    store.remove_partition(PARTITION)
    assert not any(marker in file.read_bytes() for file in files if file.exists())
    assert store.partitions() == [row(OTHER, "db")]
    assert store.records(OTHER)
    store.close()


def test_a_second_program_cannot_write_beside_the_module(path: Path) -> None:
    store = Store(path)
    store.add_partition(row(), [])
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("DELETE FROM partitions")
    other.close()
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all" * 500, b"SQLite format 3\0" * 300])
def test_a_foreign_file_is_named_as_damaged(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ModuleError) as raised:
        Store(path)
    assert raised.value.code is Code.STORE_DAMAGED
    assert str(path) in str(raised.value)
    assert "backup" in raised.value.advice


def test_another_database_is_not_taken_for_a_store(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE something (x)")
    db.commit()
    db.close()
    path.chmod(0o600)
    with pytest.raises(ModuleError) as raised:
        Store(path)
    assert raised.value.code is Code.STORE_DAMAGED


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_page_is_refused_or_harmless(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("store") / "module.db"
    store = Store(path)
    store.add_partition(row(), [RecordRow(PARTITION, 1, n, 1, bytes(300)) for n in range(40)])
    store.close()
    content = bytearray(path.read_bytes())
    start = data.draw(st.integers(0, len(content) - 64))
    content[start : start + 64] = data.draw(st.binary(min_size=64, max_size=64))
    path.write_bytes(content)
    path.with_name("module.db-wal").unlink(missing_ok=True)
    try:
        store = Store(path)
        for partition in store.partitions():
            store.records(partition.id)
        store.close()
    except ModuleError as error:
        assert error.code in (Code.STORE_DAMAGED, Code.STORE_FAILED)


def test_a_store_that_others_may_read_is_refused(path: Path) -> None:
    Store(path).close()
    path.chmod(0o644)
    with pytest.raises(ModuleError) as raised:
        Store(path)
    assert raised.value.code is Code.STORE_PERMISSION
    assert "0644" in raised.value.what


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give the file to another user")
def test_a_store_of_another_user_is_refused(path: Path) -> None:
    Store(path).close()
    os.chown(path, 12345, 12345)
    with pytest.raises(ModuleError, match="12345"):
        Store(path)


def test_a_link_in_the_store_s_place_is_refused(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModuleError) as raised:
        Store(path)
    assert raised.value.code is Code.STORE_PERMISSION
