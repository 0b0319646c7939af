"""The worker pool: what dies, what is retried, what is refused; real processes throughout."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.evidence.family import Context, FamilyName, Piece, Verified
from casemate.attestation.pool import BusyError, Pool, Request
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from tests.attestation import hosts
from tests.attestation.verifiers import host, verifier


def request(data: bytes, name: str = "evidence") -> Request:
    return Request((Piece(data, name),), hosts.AT, hosts.NONCE, name)


class Scripted:
    """A family whose evidence says what becomes of the worker that reads it."""

    name = FamilyName.TPM
    media_types: tuple[str | int, ...] = ()
    required = frozenset({"script"})

    def role(self, data: bytes) -> str | None:
        return "script"

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        command, _, argument = pieces["script"][0].data.decode().partition(" ")
        if command == "die":
            os.kill(os.getpid(), signal.Signals[argument])
        elif command == "exit":
            os._exit(int(argument))
        elif command == "hang":
            time.sleep(600)
        elif command == "once":
            # The first worker dies, the next does not.
            marker = Path(argument)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        elif command == "wait":
            Path(argument).with_suffix(".pid").write_text(str(os.getpid()))
            while not Path(argument).exists():
                time.sleep(0.01)
        raise OSError("the script is at its end")

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        return ()


class ScriptedVerifier(Verifier):
    """A verifier of scripts; it travels as what it is."""

    def __reduce__(self) -> tuple[object, ...]:
        return scripted, ()


def scripted() -> Verifier:
    base = verifier()
    return ScriptedVerifier(base.endorsements, base.references, base.policy, families=(Scripted(),))


@pytest.fixture
def pool() -> Iterator[Pool[Verdict]]:
    with Pool[Verdict](scripted(), workers=1, limit=20) as made:
        yield made


def test_many_appraisals_come_back_in_order() -> None:
    token = host().token()
    requests = [request(token if at % 3 else b"noise", f"{at}") for at in range(60)]
    with Pool[Verdict](verifier(), workers=2, waiting=8) as pool:
        answers = list(pool.map(iter(requests)))
    assert [asked.correlation_id for asked, _ in answers] == [f"{at}" for at in range(60)]
    for at, (_, verdict) in enumerate(answers):
        assert verdict.correlation_id == f"{at}"
        assert verdict.state is (State.AFFIRMING if at % 3 else State.CONTRAINDICATED)


@pytest.mark.parametrize("script", ["die SIGKILL", "die SIGSEGV", "exit 3"])
def test_evidence_that_ends_two_workers_is_contraindicated(
    pool: Pool[Verdict], script: str
) -> None:
    verdict = pool.submit(request(script.encode())).result(timeout=120)
    assert verdict.state is State.CONTRAINDICATED
    assert "ended 2 workers" in verdict.reasons[0]
    assert verdict.host is None
    assert pool.restarts == 2


def test_evidence_that_hangs_is_contraindicated() -> None:
    with Pool[Verdict](scripted(), workers=1, limit=0.5) as pool:
        # The first answer waits for the start of a worker, longer than a hanging one may.
        assert pool.submit(request(b"end")).result(timeout=120).state is State.COULD_NOT_APPRAISE
        verdict = pool.submit(request(b"hang")).result(timeout=120)
    assert verdict.state is State.CONTRAINDICATED
    assert "did not answer in time" in verdict.reasons[0]


def test_a_worker_killed_from_outside_is_replaced_and_its_work_done_again(
    pool: Pool[Verdict], tmp_path: Path
) -> None:
    verdict = pool.submit(request(f"once {tmp_path / 'marker'}".encode())).result(timeout=120)
    assert verdict.state is State.COULD_NOT_APPRAISE
    assert "the script is at its end" in verdict.reasons[0], "the second worker read it"


def test_workers_that_are_asked_to_end_blame_no_evidence(pool: Pool[Verdict]) -> None:
    verdict = pool.submit(request(b"die SIGTERM")).result(timeout=120)
    assert verdict.state is State.COULD_NOT_APPRAISE
    assert "ended from outside" in verdict.reasons[0]


def test_a_killed_worker_takes_nothing_else_with_it(pool: Pool[Verdict]) -> None:
    first = pool.submit(request(b"die SIGKILL"))
    others = [pool.submit(request(b"end")) for _ in range(10)]
    assert first.result(timeout=120).state is State.CONTRAINDICATED
    assert all("at its end" in other.result(timeout=120).reasons[0] for other in others)


def test_a_full_queue_says_so_and_closing_answers_what_waits(tmp_path: Path) -> None:
    go = tmp_path / "go"
    pool = Pool[Verdict](scripted(), workers=1, waiting=2)
    running = pool.submit(request(f"wait {go}".encode()))
    deadline = time.monotonic() + 120
    while not go.with_suffix(".pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    waiting = [pool.submit(request(b"end")) for _ in range(2)]
    with pytest.raises(BusyError):
        pool.submit(request(b"end"), timeout=0)
    closing = threading.Thread(target=pool.close)
    closing.start()
    for future in waiting:
        verdict = future.result(timeout=120)
        assert verdict.state is State.COULD_NOT_APPRAISE
        assert "shutting down" in verdict.reasons[0]
    go.touch()
    assert "at its end" in running.result(timeout=120).reasons[0]
    closing.join()
    with pytest.raises(BusyError):
        pool.submit(request(b"end"))


def test_another_verifier_takes_over_from_the_next_request() -> None:
    token = host().token()
    with Pool[Verdict](verifier(), workers=1) as pool:
        assert pool.submit(request(token)).result(timeout=120).state is State.AFFIRMING
        pool.replace(verifier(by="default"))
        assert pool.submit(request(token)).result(timeout=120).state is State.WARNING


def test_what_finish_makes_is_what_comes_back() -> None:
    with Pool(verifier(), workers=1, finish=state_of) as pool:
        assert pool.submit(request(host().token())).result(timeout=120) == "affirming"


def state_of(verdict: Verdict) -> str:
    return verdict.state.value
