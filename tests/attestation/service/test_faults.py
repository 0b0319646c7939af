"""The service while things break: could-not-appraise, trust decays by age only, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from casemate.attestation.client import VerifierClient, VerifierError
from casemate.attestation.service import opening
from casemate.attestation.service.configuration import Configuration
from casemate.attestation.service.inputs import InForce
from casemate.attestation.service.workers import PoolAppraiser
from casemate.attestation.states import State
from casemate.audit import spool
from tests.attestation.service.running import Running, attest, prepare, running
from tests.attestation.test_pool import scripted
from tests.attestation.verifiers import host


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "verifier", maximum_age=timedelta(hours=1)) as found:
        prepare(found)
        yield found


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that a writer needs, as another program would."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def absent(path: Path) -> Iterator[None]:
    """Take the database away."""
    parts = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    for part in parts:
        part.rename(part.with_name("away-" + part.name))
    yield
    for part in parts:
        gone = part.with_name("away-" + part.name)
        if gone.exists():
            gone.rename(part)


@pytest.mark.parametrize("fault", [locked, absent])
def test_without_its_database_it_could_not_appraise_and_trust_decays_by_age_alone(
    service: Running, fault: object
) -> None:
    database = service.open.configuration.database
    with service.client("attester") as attester, service.client("reader") as reader:
        name = str(attest(attester).host)
        challenge = attester.challenge()
        evidence = host(1).token(nonce=challenge.nonce)
        before = reader.trust(name)
        assert callable(fault)
        with fault(database):
            with pytest.raises(VerifierError) as caught:
                attester.submit([evidence], challenge, correlation_id="during-the-fault")
            assert caught.value.status == 503
            assert caught.value.state is State.COULD_NOT_APPRAISE
            assert ("locked" if fault is locked else "gone") in str(caught.value)
            with pytest.raises(VerifierError):
                attester.challenge()
            assert not reader.health()["ready"]
            assert reader.trust(name) == before
            service.clock.move(timedelta(minutes=2))
            assert reader.trust(name)["trust"] == "affirming"
        told = [
            event
            for event in spool.read(service.open.configuration.spool)
            if event["metadata"]["correlation_uid"] == "during-the-fault"
        ]
        assert [event["compliance"]["status_id"] for event in told] == [0]
        assert reader.health()["ready"]
        # The fault did not cost the host its nonce.
        assert attester.submit([evidence], challenge).state is State.AFFIRMING
        service.clock.move(timedelta(hours=1))
        assert reader.trust(name)["trust"] == "expired"


def test_workers_that_are_killed_are_replaced(service: Running) -> None:
    def children() -> set[int]:
        """Processes that appraise: children of the fork server, which is a child of this one."""
        tree: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    status = (entry / "stat").read_text()
                except OSError:
                    continue
                parent = int(status.rsplit(")", 1)[1].split()[1])
                tree.setdefault(parent, []).append(int(entry.name))
        return {
            grandchild for child in tree.get(os.getpid(), []) for grandchild in tree.get(child, [])
        }

    with service.client("attester") as attester:
        assert attest(attester).state is State.AFFIRMING
        killed = children()
        assert killed
        for process in killed:
            os.kill(process, signal.SIGKILL)
        assert attest(attester).state is State.AFFIRMING
        assert not killed & children()


def test_only_evidence_that_kills_workers_is_to_blame_for_it(service: Running) -> None:
    appraiser = service.open.service.appraiser
    assert isinstance(appraiser, PoolAppraiser)
    with service.client("attester") as attester, service.client("reader") as reader:
        name = str(attest(attester).host)
        before = reader.trust(name)
        challenge = attester.challenge()
        good = service.open.administration.in_force.verifier
        appraiser.replace(InForce(scripted(), 1))
        ended = attester.submit([b"die SIGTERM"], challenge)
        assert (ended.state, ended.effect) == (State.COULD_NOT_APPRAISE, "verifier-failed")
        killer = attester.submit([b"die SIGKILL"], attester.challenge())
        assert (killer.state, killer.effect) == (State.CONTRAINDICATED, "not-authentic")
        assert reader.trust(name) == before
        appraiser.replace(InForce(good, 1))
        evidence = host(1).token(nonce=challenge.nonce)
        assert attester.submit([evidence], challenge).effect == "counted"


def test_events_that_the_spool_lost_are_told_again(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        with service.client("attester") as attester:
            ids = [attester.submit([b"x"], attester.challenge()).id for _ in range(5)]
        folder = service.open.configuration.spool
    (file,) = folder.glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:100])
    with running(tmp_path) as service, service.client("attester") as attester:
        ids.append(attester.submit([b"x"], attester.challenge()).id)
    events = list(spool.read(folder))
    assert [event["metadata"]["uid"] for event in events] == ids
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, 7))
    assert [json.loads(line) for line in lines] == events[:5]


def test_a_spool_that_cannot_be_written_stops_the_service_but_loses_no_event(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = service.open.configuration.spool
    (file,) = folder.glob("*.jsonl")
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == file:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with service.client("attester") as attester, service.client("reader") as reader:
        first = attest(attester, 1)
        monkeypatch.setattr(os, "write", full)
        second = attest(attester, 1)
        with pytest.raises(VerifierError, match="No space left") as caught:
            attester.challenge()
        assert caught.value.state is State.COULD_NOT_APPRAISE
        assert not reader.health()["ready"]
        monkeypatch.undo()
        third = attest(attester, 1)
    uids = [event["metadata"]["uid"] for event in spool.read(folder)]
    assert uids == [first.id, second.id, third.id]


def test_a_folder_has_one_service(tmp_path: Path) -> None:
    from casemate.attestation.errors import InputError

    configuration = Configuration(folder=tmp_path, port=0)
    with (
        running(tmp_path),
        pytest.raises(InputError, match="another verifier"),
        opening.opened(configuration),
    ):
        pass


def serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Start `casemate verifier serve`; returns it and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "casemate.cli.main", "verifier", "serve", "--folder", str(folder),
         "--port", "0", "--workers", "1", "--log-level", "ERROR"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    return process, process.stdout.readline().split()[2].rstrip(";")


def test_no_verdict_that_was_answered_is_lost_when_the_service_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "verifier"
    answered: dict[str, str] = {}
    with running(folder) as prepared:
        prepare(prepared)
        tokens = prepared.tokens
    process, url = serve(folder)
    enough = threading.Event()

    def client() -> None:
        try:
            with VerifierClient(url, token=tokens["attester"]) as attester:
                while True:
                    appraisal = attester.submit([os.urandom(8)], attester.challenge())
                    answered[appraisal.id] = appraisal.correlation_id
                    if len(answered) >= 60:
                        enough.set()
        except VerifierError:
            return

    threads = [threading.Thread(target=client) for _ in range(6)]
    for thread in threads:
        thread.start()
    assert enough.wait(120)
    process.kill()
    for thread in threads:
        thread.join()
    process.wait()
    process, url = serve(folder)
    try:
        with VerifierClient(url, token=tokens["reader"]) as reader:
            kept = {each["id"]: each["correlation_id"] for each in reader.appraisals()}
        assert answered.items() <= kept.items()
        with VerifierClient(url, token=tokens["attester"]) as attester:
            last = attester.submit([b"x"], attester.challenge()).id
    finally:
        process.terminate()
        assert process.wait(30) == 0
    events = list(spool.read(folder / "events"))
    assert [event["metadata"]["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert {event["metadata"]["uid"] for event in events} == kept.keys() | {last}
    assert len(events) == len(kept) + 1
