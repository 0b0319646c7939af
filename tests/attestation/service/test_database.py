"""The database: groups, locks, a file that goes away, a process that is killed while it commits."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from casemate.attestation.service.database import (
    appraisals,
    challenges,
    connection,
    documents,
    schema,
)
from casemate.attestation.service.database.appraisals import Kept
from casemate.attestation.service.database.documents import Kind
from casemate.attestation.service.database.reader import Reader
from casemate.attestation.service.database.writer import Event, Publisher, Writer
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.trust import Effect
from casemate.attestation.states import State

AT = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "verifier.db"
    connection.create(made)
    return made


@pytest.fixture
def writer(path: Path) -> Iterator[Writer]:
    opened = Writer(path)
    yield opened
    opened.close()


def issue(db: sqlite3.Connection) -> int:
    return challenges.issue(
        db, value=os.urandom(32), principal="p", issued=AT, expires=AT + timedelta(minutes=5)
    ).number


def count(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT count(*) FROM challenges").fetchone()[0])


def hold(writer: Writer) -> Callable[[], None]:
    """Keep the writer busy until the function that is returned is called."""
    gate = threading.Event()
    started = threading.Event()

    def occupy(_: sqlite3.Connection) -> None:
        started.set()
        gate.wait()

    writer.submit(occupy)
    started.wait()
    return gate.set


def test_waiting_changes_share_one_commit(writer: Writer) -> None:
    release = hold(writer)
    futures = [writer.submit(issue) for _ in range(200)]
    release()
    assert sorted(future.result() for future in futures) == list(range(1, 201))
    assert writer.counters.commits == 2


def test_a_change_that_fails_undoes_itself_alone(writer: Writer, path: Path) -> None:
    def fails(db: sqlite3.Connection) -> None:
        issue(db)
        raise ValueError("no")

    release = hold(writer)
    before, bad, after = writer.submit(issue), writer.submit(fails), writer.submit(issue)
    release()
    with pytest.raises(ValueError, match="no"):
        bad.result()
    assert {before.result(), after.result()} == {1, 2}
    reader = Reader(path)
    assert reader.query(count) == 2
    reader.close()


def test_a_caller_that_has_gone_does_not_stop_the_writer(writer: Writer) -> None:
    release = hold(writer)
    gone = writer.submit(issue)
    assert gone.cancel()
    kept = writer.submit(issue)
    release()
    assert kept.result() == 1


def test_a_locked_database_fails_what_meets_it_and_nothing_else(writer: Writer, path: Path) -> None:
    assert writer.submit(issue).result() == 1
    reader = Reader(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError, match="locked"):
        writer.submit(issue).result()
    assert reader.query(count) == 1
    assert writer.last_error is not None
    other.execute("ROLLBACK")
    other.close()
    assert writer.submit(issue).result() == 2
    assert writer.last_error is None
    reader.close()


def test_a_removed_database_takes_no_change_until_it_is_back(writer: Writer, path: Path) -> None:
    assert writer.submit(issue).result() == 1
    reader = Reader(path)
    away = path.with_suffix(".away")
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).rename(away.with_name(away.name + end))
    with pytest.raises(StoreError, match="gone"):
        writer.submit(issue).result()
    assert not path.exists()
    # What was committed can still be read: trust is as it was, and decays by age.
    assert reader.query(count) == 1
    for end in ("", "-wal", "-shm"):
        if away.with_name(away.name + end).exists():
            away.with_name(away.name + end).rename(path.with_name(path.name + end))
    assert writer.submit(issue).result() == 2
    assert reader.query(count) == 2
    reader.close()


def test_another_database_in_its_place_is_refused(writer: Writer, path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    connection.create(path)
    with pytest.raises(StoreError, match="another database"):
        writer.submit(issue).result()


@pytest.mark.parametrize("damage", ["not a database", "another program's", "a newer version"])
def test_a_database_that_is_not_ours_is_left_alone(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "v.db"
    if damage == "not a database":
        path.write_bytes(b"something else entirely" * 100)
    else:
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE t (x)")
        if damage == "a newer version":
            db.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            db.execute("PRAGMA user_version = 999")
        db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="cannot be used"):
        connection.create(path)
    # The journal mode may have been noted in the header; the contents are as they were.
    assert path.read_bytes()[100:] == before[100:]


class Recording(Publisher):
    """Keeps events; `broken` refuses them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.broken = False
        self.caught_up = 0

    def catch_up(self, connection: sqlite3.Connection) -> None:
        self.refuse()
        self.caught_up += 1

    def publish(self, events: Sequence[Event]) -> None:
        self.refuse()
        self.events += events

    def refuse(self) -> None:
        if self.broken:
            raise StoreError("the spool's disk is full")


def test_events_follow_the_commit_and_a_broken_spool_stops_the_next_group(path: Path) -> None:
    publisher = Recording()
    writer = Writer(path, publisher)

    def event(number: int) -> Event:
        return {"number": number}

    assert writer.submit(issue, event).result() == 1
    publisher.broken = True
    assert writer.submit(issue, event).result() == 2
    with pytest.raises(StoreError, match="spool"):
        writer.submit(issue, event).result()
    publisher.broken = False
    assert writer.submit(issue, event).result() == 3
    assert [event["number"] for event in publisher.events] == [1, 3]
    assert publisher.caught_up == 2
    writer.close()


_COMMITTING = """
import sys, threading
from pathlib import Path
sys.path.insert(0, {root!r})
from casemate.attestation.service.database.writer import Writer
from tests.attestation.service.test_database import issue
writer = Writer(Path(sys.argv[1]))
def client():
    while True:
        number = writer.submit(issue).result()
        sys.stdout.write(f"{{number}}\\n")
        sys.stdout.flush()
for _ in range(8):
    threading.Thread(target=client).start()
"""


@pytest.mark.parametrize("after", [0.05, 0.2, 0.4])
def test_no_answer_is_lost_when_the_process_is_killed(path: Path, after: float) -> None:
    root = str(Path(__file__).parents[3])
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMITTING.format(root=root), str(path)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    lines = (first + rest).split(b"\n")
    answered = {int(line) for line in lines[:-1]}
    reader = Reader(path)
    kept = {row[0] for row in reader.query(lambda db: db.execute(
        "SELECT number FROM challenges").fetchall())}  # fmt: skip
    reader.close()
    assert answered
    assert answered <= kept


def test_too_many_waiting_changes_are_refused(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer._queue, "maxsize", 10)
    release = hold(writer)
    futures: list[Future[int]] = [writer.submit(issue) for _ in range(12)]
    release()
    wait(futures)
    refused = [future for future in futures if isinstance(future.exception(), StoreError)]
    assert len(refused) == 2


def test_old_challenges_are_pruned_in_their_order(path: Path) -> None:
    db = connection.open_writer(path)
    for minutes in (0, 1, 2, 90):
        challenges.issue(
            db,
            value=bytes(32),
            principal="p",
            issued=AT,
            expires=AT + timedelta(minutes=minutes),
        )
    assert challenges.prune(db, AT + timedelta(minutes=60), 2) == 2
    assert challenges.prune(db, AT + timedelta(minutes=60), 100) == 1
    assert challenges.prune(db, AT + timedelta(minutes=60), 100) == 0
    assert count(db) == 1
    assert challenges.prune(db, AT + timedelta(minutes=100), 100) == 1
    assert issue(db) == 5


def test_versions_and_epochs_of_documents(path: Path) -> None:
    db = connection.open_writer(path)

    def add(data: bytes) -> documents.Document:
        return documents.add(db, kind=Kind.POLICY, name="web", data=data, at=AT, principal="admin")

    one, two = add(b"1"), add(b"2")
    assert (one.version, two.version) == (1, 2)
    assert add(b"1") == one
    assert documents.epoch(db) == 0
    assert documents.set_active(db, one, active=True, at=AT, principal="admin") == 1
    assert documents.set_active(db, one, active=True, at=AT, principal="admin") == 1
    assert documents.set_active(db, two, active=True, at=AT, principal="admin") == 2
    assert [data for _, data in documents.in_force(db, Kind.POLICY)] == [b"2"]
    assert documents.set_active(db, two, active=False, at=AT, principal="admin") == 3
    assert documents.in_force(db, Kind.POLICY) == []
    assert [each.action for each in documents.epochs(db, before=None, most=10)] == [
        "deactivate",
        "activate",
        "activate",
    ]
    assert [each.version for each in documents.page(db, Kind.POLICY)] == [1, 2]
    found = documents.find(db, Kind.POLICY, "web", 2)
    assert found is not None
    assert found[1] == b"2"


def test_times_bound_lists_of_verdicts_also_where_the_clock_was_set_back(path: Path) -> None:
    db = connection.open_writer(path)
    minutes = [0, 10, 20, 5, 15, 25]
    for minute in minutes:
        appraisals.insert(
            db,
            at=AT + timedelta(minutes=minute),
            principal="p",
            host=None,
            state=State.WARNING,
            effect=Effect.NO_NONCE,
            challenge=None,
            correlation="c",
            policy=bytes(32),
            reference=bytes(32),
            claims=Kept(b""),
            envelope=None,
        )
    for since, until in ((None, None), (10, None), (None, 10), (5, 16), (30, None), (None, 0)):
        bounds = {
            name: None if value is None else AT + timedelta(minutes=value)
            for name, value in (("since", since), ("until", until))
        }
        found = [
            row.number for row in appraisals.page(db, since=bounds["since"], until=bounds["until"])
        ]
        assert found == [
            number
            for number, minute in reversed(list(enumerate(minutes, 1)))
            if (since is None or minute >= since) and (until is None or minute < until)
        ]
