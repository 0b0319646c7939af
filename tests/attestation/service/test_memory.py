"""The service's memory does not grow with the hosts that it holds."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from casemate.attestation.client import VerifierClient
from casemate.attestation.service import opening
from casemate.attestation.service.database import appraisals, connection
from casemate.attestation.service.trust import Effect
from casemate.attestation.states import State
from casemate.audit.spool import Spool
from tests.attestation.service.running import NAMES, attest, prepare, running
from tests.attestation.service.test_faults import serve

HOSTS, LIMIT_MIB = 100_000, 300


def fill(path: Path) -> None:
    """Write hosts and their verdicts as the service would."""
    at = connection.microseconds(opening.now())
    claims = appraisals.compress(b'{"state": "affirming"}')
    with closing(sqlite3.connect(path)) as db, db:
        db.executemany(
            "INSERT INTO hosts (name, principal, verdict, at, challenge, good_at, good_until,"
            " appraisal) VALUES (?, 'attester', 'affirming', ?, ?, ?, ?, ?)",
            (
                (f"idevid:{number:032x}", at, number, at, at + 10**15, number)
                for number in range(1, HOSTS + 1)
            ),
        )
        db.executemany(
            "INSERT INTO appraisals (number, at, principal, host, state, effect, challenge,"
            " correlation, policy, reference, claims) VALUES (?, ?, 'attester', ?, ?, ?, ?, 'c',"
            " ?, ?, ?)",
            (
                (
                    number,
                    at,
                    f"idevid:{number:032x}",
                    State.AFFIRMING,
                    Effect.ENROLLED,
                    number,
                    bytes(32),
                    bytes(32),
                    claims,
                )
                for number in range(1, HOSTS + 1)
            ),
        )


def resident_mib(pid: int) -> float:
    """Memory of a process and all below it: resident, shared pages counted once."""
    found, left, total = {pid}, [pid], 0
    while left:
        for task in Path(f"/proc/{left.pop()}/task").iterdir():
            below = {int(child) for child in (task / "children").read_text().split()} - found
            found |= below
            left += below
    for each in found:
        rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
        total += sum(
            int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")
        )
    return total / 1024


def test_a_hundred_thousand_hosts(tmp_path: Path) -> None:
    folder = tmp_path / "verifier"
    with running(folder) as prepared:
        prepare(prepared)
        tokens = prepared.tokens
    assert tokens.keys() == NAMES.keys()
    fill(folder / "verifier.db")
    with Spool(folder / "events") as spool:
        # The last of them has been told.
        told = {"database": prepared.open.service.writer.database_id, "number": HOSTS}
        spool.append([{"metadata": {}, "unmapped": told}])
    process, url = serve(folder)
    try:
        with (
            VerifierClient(url, token=tokens["reader"]) as reader,
            VerifierClient(url, token=tokens["attester"]) as attester,
        ):
            for number in range(40):
                attest(attester, number % 4)
            assert sum(1 for _ in reader.hosts(state="affirming")) >= HOSTS
            assert reader.trust(f"idevid:{HOSTS:032x}")["trust"] == "affirming"
            assert reader.health()["ready"]
            assert resident_mib(process.pid) <= LIMIT_MIB
    finally:
        process.terminate()
        assert process.wait(30) == 0
