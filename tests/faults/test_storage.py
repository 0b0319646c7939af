"""Full disks and damaged files: one clear error each, the others served, nothing lost."""

from __future__ import annotations

import os
import random
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.formats.pkcs11 import ReturnValue
from casemate.hsm.client import Algorithm, ClientError
from casemate.hsm.client.errors import QuotaError
from tests.running_module import RunningModule


@pytest.fixture
def small_disk(short_folder: Path) -> Iterator[RunningModule]:
    """A module whose state folder stands on a file system of 1 MiB."""
    state = short_folder / "state"
    state.mkdir(mode=0o700)
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("needs root to mount a small file system")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(state)], check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a tmpfs")
    module = RunningModule(short_folder)
    try:
        yield module.start()
    finally:
        module.kill()
        subprocess.run(["umount", str(state)], check=True)


def test_a_full_disk_refuses_changes_and_goes_on_serving(small_disk: RunningModule) -> None:
    filler = small_disk.folders.state / "filler"
    with small_disk.connect() as web:
        pair = web.generate(Algorithm.P256, label="first", stored=True)
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(bytes(4096))
        made = []
        with pytest.raises(QuotaError) as raised:
            for number in range(2000):
                web.generate(Algorithm.P256, label=f"more-{number}", stored=True)
                made.append(f"more-{number}")
        assert raised.value.result is ReturnValue.DEVICE_MEMORY
        pair.public.verify(pair.private.sign(b"still served"), b"still served")
        web.generate(Algorithm.P256, label="a session object needs no disk")
        with small_disk.admin() as admin:
            assert "cannot grow" in admin.call("status")["store"]
        filler.unlink()
        web.generate(Algorithm.P256, label="after", stored=True)
    small_disk.kill()
    small_disk.start()
    with small_disk.connect() as web:
        assert {key.label for key in web.all_keys()} == {"first", "after", *made}


def test_a_limit_on_file_size_is_a_full_disk_too(module: RunningModule) -> None:
    """The limit is set from outside, so this needs no rights; the kernel answers EFBIG."""
    assert module.process is not None
    unlimited = resource.prlimit(module.process.pid, resource.RLIMIT_FSIZE)
    log = module.folders.database.with_name("module.db-wal")
    with module.connect() as web:
        pair = web.generate(Algorithm.P256, label="first", stored=True)
        resource.prlimit(
            module.process.pid,
            resource.RLIMIT_FSIZE,
            (log.stat().st_size + 20_000, unlimited[1]),
        )
        made = []
        with pytest.raises(QuotaError) as raised:
            for number in range(500):
                web.generate(Algorithm.P256, label=f"more-{number}", stored=True)
                made.append(f"more-{number}")
        assert raised.value.result is ReturnValue.DEVICE_MEMORY
        pair.public.verify(pair.private.sign(b"still served"), b"still served")
        with module.admin() as admin:
            assert "cannot grow" in admin.call("status")["store"]
        resource.prlimit(module.process.pid, resource.RLIMIT_FSIZE, unlimited)
        web.generate(Algorithm.P256, label="after", stored=True)
        with module.admin() as admin:
            assert admin.call("status")["store"] == "ok"
    module.kill()
    module.start()
    with module.connect() as web:
        assert {key.label for key in web.all_keys()} == {"first", "after", *made}


def damaged_state(module: RunningModule, statement: str) -> None:
    """Stop the module and change its database as somebody with the disk could."""
    module.stop()
    database = sqlite3.connect(module.folders.database)
    database.execute(statement)
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def filled(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.create", name="db")
    for name in ("web", "db"):
        with module.connect(name) as partition:
            for number in range(3):
                partition.generate(Algorithm.P256, label=f"key-{number}", stored=True)


WEB = "(SELECT id FROM partitions WHERE name = 'web')"
DB = "(SELECT id FROM partitions WHERE name = 'db')"


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE records SET blob = zeroblob(length(blob)) WHERE partition = {WEB} AND kind = 1",
        f"UPDATE records SET blob = substr(blob, 1, 20) WHERE partition = {WEB} AND kind = 1",
        f"DELETE FROM records WHERE partition = {WEB} AND kind = 1 AND id = 1",
        f"DELETE FROM records WHERE partition = {WEB} AND kind = 3",
        f"DELETE FROM records WHERE partition = {WEB}",
        f"UPDATE records SET generation = generation + 1 WHERE partition = {WEB} AND kind = 1",
        f"UPDATE records SET blob = (SELECT blob FROM records WHERE partition = {WEB} AND id = 2"
        f" AND kind = 1) WHERE partition = {WEB} AND kind = 1 AND id = 1",
        f"UPDATE records AS mine SET blob = (SELECT blob FROM records WHERE partition = {DB}"
        f" AND id = mine.id AND kind = mine.kind) WHERE partition = {WEB}",
        "UPDATE partitions SET secret = zeroblob(length(secret)) WHERE name = 'web'",
        f"UPDATE partitions SET secret = (SELECT secret FROM partitions WHERE id = {DB})"
        " WHERE name = 'web'",
        "UPDATE partitions SET policy = 'no json' WHERE name = 'web'",
    ],
    ids=[
        "zeroed", "torn", "one-missing", "root-missing", "all-missing", "generation", "swapped",
        "from-another-partition", "secret-zeroed", "secret-swapped", "policy",
    ],
)  # fmt: skip
def test_a_damaged_partition_is_named_and_the_others_are_served(
    module: RunningModule, statement: str
) -> None:
    filled(module)
    damaged_state(module, statement)
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        states = {p["name"]: p["state"] for p in admin.call("partition.list")}
        assert states == {"web": "damaged", "db": "active"}
        assert admin.call("partition.show", name="web")["reason"]
    with module.connect("db") as db:
        key = db.find("key-1")
        assert key.sign(b"x")
        db.generate(Algorithm.P256, label="new", stored=True)
    with pytest.raises(ClientError):
        module.connect("web")


def test_a_damaged_partition_can_be_destroyed(module: RunningModule) -> None:
    filled(module)
    damaged_state(module, f"DELETE FROM records WHERE partition = {WEB} AND kind = 1 AND id = 1")
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        admin.call("partition.destroy", name="web")
        admin.call("partition.create", name="web")
    with module.connect() as web:
        assert not list(web.all_keys())


def test_a_damaged_database_ends_the_start_with_one_clear_error(module: RunningModule) -> None:
    filled(module)
    module.stop()
    content = bytearray(module.folders.database.read_bytes())
    content[4096:8192] = os.urandom(4096)
    module.folders.database.write_bytes(content)
    assert module.start_in_vain() == 1
    last = module.log.splitlines()[-1]
    assert "the store is damaged" in last
    assert str(module.folders.database) in last
    assert "backup" in last


def test_a_lost_sealing_secret_is_never_made_anew(module: RunningModule) -> None:
    filled(module)
    module.stop()
    module.folders.sealing_secret.unlink()
    assert module.start_in_vain() == 1
    assert "sealing secret is gone" in module.log
    assert not module.folders.sealing_secret.exists()


@pytest.mark.parametrize("content", [b"", b"x" * 47, b"x" * 49])
def test_a_sealing_secret_of_another_size_is_refused(module: RunningModule, content: bytes) -> None:
    module.stop()
    module.folders.sealing_secret.write_bytes(content)
    assert module.start_in_vain() == 1
    assert "sealing secret cannot be used" in module.log


def test_a_sealing_secret_that_others_may_read_is_refused(module: RunningModule) -> None:
    module.stop()
    module.folders.sealing_secret.chmod(0o644)
    assert module.start_in_vain() == 1
    assert "sealing secret" in module.log


def test_another_sealing_secret_opens_nothing(module: RunningModule) -> None:
    filled(module)
    module.stop()
    module.folders.sealing_secret.write_bytes(os.urandom(48))
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        assert {p["state"] for p in admin.call("partition.list")} == {"damaged"}


def test_a_state_folder_open_to_others_is_refused(module: RunningModule) -> None:
    module.stop()
    module.folders.state.chmod(0o755)
    assert module.start_in_vain() == 1
    assert "chmod 700" in module.log


def test_another_source_of_the_sealing_secret_is_named(module: RunningModule) -> None:
    filled(module)
    secret = os.memfd_create("secret", 0)
    os.write(secret, os.urandom(48))
    os.lseek(secret, 0, os.SEEK_SET)
    module.stop()
    command = [*module.command(), "--sealing-descriptor", str(secret)]
    done = subprocess.run(
        command, pass_fds=[secret], capture_output=True, text=True, check=False, timeout=30
    )
    os.close(secret)
    assert done.returncode == 1
    assert "sealed by another source: file, not root-of-trust" in done.stderr
    module.start()
    with module.connect() as web:
        assert web.find("key-1").sign(b"x")


@pytest.mark.parametrize("share", [0.0, 0.31, 0.77, 0.999])
def test_a_torn_log_is_an_older_whole_state(module: RunningModule, share: float) -> None:
    """A log that ends in the middle of a transaction: SQLite drops that one and those after it.

    What is left must be a state that was: pairs whole, the root fitting, never a damaged partition.
    (That it is an older one cannot be seen: see docs/module.md, "Keys at rest".)
    """
    with module.connect() as web:
        for number in range(12):
            web.generate(Algorithm.P256, label=f"key-{number}", stored=True)
    module.kill()
    log = module.folders.database.with_name("module.db-wal")
    os.truncate(log, int(log.stat().st_size * share))
    module.start()
    with module.admin() as admin:
        assert {p["state"] for p in admin.call("partition.list")} == {"active"}
    with module.connect() as web:
        labels = sorted(key.label for key in web.all_keys())
        count = len(labels) // 2
        assert labels == sorted(2 * [f"key-{number}" for number in range(count)])
        assert count < 12
        web.generate(Algorithm.P256, label="goes on", stored=True)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_in_the_log_are_dropped_or_named(module: RunningModule, seed: int) -> None:
    with module.connect() as web:
        for number in range(6):
            web.generate(Algorithm.P256, label=f"key-{number}", stored=True)
    module.kill()
    log = module.folders.database.with_name("module.db-wal")
    content = bytearray(log.read_bytes())
    for position in random.Random(seed).sample(range(32, len(content)), 3):
        content[position] ^= 0x40
    log.write_bytes(content)
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        for partition in admin.call("partition.list"):
            assert partition["state"] == "active" or partition["reason"]
