"""A fleet through the verifier's service: appraised, stored, asked for; its rate, CPU and memory.

    PYTHONPATH=. python benchmarks/fleet_hosts.py /tmp/fleet --hosts 100000     evidence, once
    PYTHONPATH=. python benchmarks/fleet.py load /tmp/fleet /tmp/verifier       goes on where it was
    PYTHONPATH=. python benchmarks/fleet.py query /tmp/verifier

The service is the one that `casemate verifier serve` runs (HTTP on loopback, results signed, full
synchronisation of database and events), but for its nonces: they follow from the host's number, so
that the evidence can be made beforehand. Client and service share the machine; the client's CPU
time is counted apart. Each run adds a line to runs.jsonl in the service's folder.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import os
import random
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fleet_hosts import CHUNK, chunk_file, nonce, read_chunk

from casemate.attestation.appraisal import policy
from casemate.attestation.client import VerifierClient
from casemate.attestation.service import administration, opening, server
from casemate.attestation.service.configuration import Configuration
from casemate.attestation.service.database import principals
from casemate.attestation.service.principals import Role
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.verifiers import good_corim

ROLES = {"attester": Role.ATTESTER, "reader": Role.RELYING_PARTY, "admin": Role.ADMINISTRATOR}
RUNS = "runs.jsonl"
_TICK = os.sysconf("SC_CLK_TCK")


# --- the service's process ------------------------------------------------------------------


def _nonces(next_number: int) -> Callable[[int], bytes]:
    """Randomness for challenges alone: challenge n has the nonce of host n - 1."""
    place = next_number - 1

    def draw(size: int) -> bytes:
        nonlocal place
        assert size == 32
        place += 1
        return nonce(place - 1)

    return draw


def _serve(folder: Path, workers: int, pipe: Connection) -> None:
    with opening.opened(Configuration(folder=folder, port=0, workers=workers)) as opened:
        tokens = {}
        for name, role in ROLES.items():
            record, tokens[name] = administration.new_principal(
                name,
                frozenset({role}),
                randomness=os.urandom(32),
                key=None,
                created=opening.now(),
                expires=None,
            )
            opened.service.writer.submit(
                lambda db, record=record: principals.put(db, record)
            ).result()
        issued = opened.service.reader.query(
            lambda db: db.execute(
                "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'challenges'"
            ).fetchone()[0]
        )
        opened.service.randomness = _nonces(issued + 1)
        serving = server.Server(opened)
        pipe.send((serving.url, tokens, issued))
        threading.Thread(target=lambda: (pipe.recv(), serving.stop()), daemon=True).start()
        asyncio.run(serving.serve())
    pipe.send("ended")


@dataclass
class Usage:
    """CPU seconds and memory in KiB of the service's processes, each by its own."""

    main_cpu: float = 0.0
    workers_cpu: float = 0.0
    main_rss: int = 0
    workers_rss: list[int] = field(default_factory=list)
    peak_main_rss: int = 0
    peak_workers_rss: list[int] = field(default_factory=list)
    total_pss: int = 0


@dataclass
class Service:
    """A service in a process of its own."""

    url: str
    tokens: dict[str, str]
    issued: int
    pid: int

    def usage(self) -> Usage:
        """What it has used so far."""
        usage = Usage()
        for pid in (self.pid, *_descendants(self.pid)):
            try:
                stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                status = Path(f"/proc/{pid}/status").read_text()
                rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            cpu = (int(stat[11]) + int(stat[12])) / _TICK
            rss, peak = _kib(status, "VmRSS"), _kib(status, "VmHWM")
            usage.total_pss += _kib(rollup, "Pss")
            if pid == self.pid:
                usage.main_cpu, usage.main_rss, usage.peak_main_rss = cpu, rss, peak
            else:
                usage.workers_cpu += cpu
                usage.workers_rss.append(rss)
                usage.peak_workers_rss.append(peak)
        return usage


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, left = [], [pid]
    while left:
        below = parents.get(left.pop(), [])
        found += below
        left += below
    return found


def _kib(text: str, name: str) -> int:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name + ":"))


@contextmanager
def service(folder: Path, workers: int) -> Iterator[Service]:
    """Run the service in `folder`."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(folder, workers, there))
    process.start()
    url, tokens, issued = here.recv()
    try:
        yield Service(url, tokens, issued, process.pid or 0)
    finally:
        here.send("end")
        assert here.recv() == "ended"
        process.join()


# --- the runs -------------------------------------------------------------------------------


def prepare(running: Service) -> None:
    """Put the manufacturer, the reference values and the policy in force."""
    with VerifierClient(running.url, token=running.tokens["admin"]) as admin:
        for collection, name, data in (
            ("anchors", "manufacturer", hosts.manufacturer_certificate(Algorithm.ECC)),
            ("references", "good", good_corim()),
            ("policies", "development", policy.built_in_text("development")),
        ):
            version = admin.add_document(collection, name, data)["version"]
            admin.set_active(collection, name, version)


class Evidence:
    """The evidence by host, read a file at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._chunks: dict[int, list[bytes]] = {}

    def of(self, number: int) -> bytes | None:
        """The evidence of a host, None where there is none (any more)."""
        first = number - number % CHUNK
        with self._lock:
            if first not in self._chunks:
                path = chunk_file(self._folder, first)
                if not path.exists():
                    return None
                for old in [key for key in self._chunks if key < first - 2 * CHUNK]:
                    del self._chunks[old]
                self._chunks[first] = list(read_chunk(path))
            return self._chunks[first][number - first]


def load(evidence: Path, folder: Path, *, seconds: float, clients: int, workers: int) -> None:
    """Have hosts appraised until all evidence is used or the time is over."""
    source = Evidence(evidence)
    states: Counter[str] = Counter()
    latencies: list[float] = []
    with service(folder, workers) as running:
        prepare(running)
        before = running.usage()
        own = time.process_time()
        begun = time.monotonic()

        # No challenge is asked for that no evidence is there for.
        turns = itertools.count(running.issued)

        def client() -> None:
            with VerifierClient(running.url, token=running.tokens["attester"]) as attester:
                while time.monotonic() - begun < seconds:
                    if source.of(next(turns)) is None:
                        return
                    challenge = attester.challenge()
                    data = source.of(int(challenge.id.rsplit("-", 1)[1]) - 1)
                    assert data is not None
                    sent = time.perf_counter()
                    done = attester.submit([data], challenge)
                    latencies.append(time.perf_counter() - sent)
                    states[f"{done.state} {done.effect}"] += 1

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall = time.monotonic() - begun
        own = time.process_time() - own
        after = running.usage()
    count = states.total()
    _note(
        folder,
        {
            "run": "load",
            "hosts": count,
            "of": running.issued + count,
            "wall": wall,
            "rate": count / wall,
            "clients": clients,
            "workers": workers,
            "main_cpu_ms": 1000 * (after.main_cpu - before.main_cpu) / max(count, 1),
            "workers_cpu_ms": 1000 * (after.workers_cpu - before.workers_cpu) / max(count, 1),
            "client_cpu_ms": 1000 * own / max(count, 1),
            "peak_main_mib": after.peak_main_rss / 1024,
            "peak_workers_mib": [round(rss / 1024) for rss in after.peak_workers_rss],
            "total_pss_mib": after.total_pss / 1024,
            "submit_ms": _percentiles(latencies),
            "states": dict(states),
        },
    )


def query(folder: Path, *, workers: int, times: int) -> None:
    """Ask a service that holds all hosts."""
    begun = time.monotonic()
    with service(folder, workers) as running:
        start = time.monotonic() - begun
        names = _names(folder)
        source = random.Random(1)
        reader = VerifierClient(running.url, token=running.tokens["reader"])
        idle = running.usage()
        answers: dict[str, Any] = {}
        for what, path in (
            ("one host's trust", lambda: f"/v1/hosts/{source.choice(names)}/trust"),
            ("100 affirming hosts", lambda: "/v1/hosts?state=affirming"),
            ("expired hosts (none there)", lambda: "/v1/hosts?state=expired"),
            ("a host's verdicts", lambda: f"/v1/appraisals?host={source.choice(names)}"),
            ("the last 100 verdicts", lambda: "/v1/appraisals"),
        ):
            spent = []
            for _ in range(times):
                asked = path()
                sent = time.perf_counter()
                reader.call("GET", asked)
                spent.append(time.perf_counter() - sent)
            answers[what] = _percentiles(spent)
        listed = time.perf_counter()
        count = sum(1 for _ in reader.hosts())
        listed = time.perf_counter() - listed
        usage = running.usage()
        reader.close()
    size = sum(path.stat().st_size for path in folder.glob("verifier.db*"))
    _note(
        folder,
        {
            "run": "query",
            "hosts": count,
            "start_s": start,
            "idle_main_mib": idle.main_rss / 1024,
            "main_mib": usage.main_rss / 1024,
            "peak_main_mib": usage.peak_main_rss / 1024,
            "workers_mib": [round(rss / 1024) for rss in usage.workers_rss],
            "total_pss_mib": usage.total_pss / 1024,
            "database_mib": size / (1 << 20),
            "events_mib": sum(p.stat().st_size for p in folder.glob("events/*")) / (1 << 20),
            "list_all_s": listed,
            "answers_ms": answers,
        },
    )


def _names(folder: Path) -> list[str]:
    with sqlite3.connect(f"{(folder / 'verifier.db').as_uri()}?mode=ro", uri=True) as db:
        return [row[0] for row in db.execute("SELECT name FROM hosts")]


def _percentiles(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": 1000 * cuts[49], "p99": 1000 * cuts[98], "max": 1000 * max(seconds)}


def _note(folder: Path, run: dict[str, Any]) -> None:
    run = {"at": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), **run}
    with (folder / RUNS).open("a") as file:
        file.write(json.dumps(run) + "\n")
    print(json.dumps(run, indent=1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    loading = commands.add_parser("load")
    loading.add_argument("evidence", type=Path)
    loading.add_argument("folder", type=Path)
    loading.add_argument("--seconds", type=float, default=float("inf"))
    loading.add_argument("--clients", type=int, default=16)
    loading.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    asking = commands.add_parser("query")
    asking.add_argument("folder", type=Path)
    asking.add_argument("--times", type=int, default=1000)
    asking.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    folder = given.folder.absolute()
    if given.command == "load":
        load(
            given.evidence,
            folder,
            seconds=given.seconds,
            clients=given.clients,
            workers=given.workers,
        )
    else:
        query(folder, workers=given.workers, times=given.times)


if __name__ == "__main__":
    main()
