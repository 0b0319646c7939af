"""Figures of a running module, read by another process, and what they may not show."""

from __future__ import annotations

import ctypes
import fcntl
import grp
import json
import mmap
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from casemate.formats.metrics_page import Histogram, Kind
from casemate.formats.pkcs11 import Mechanism
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.client import Algorithm, ClientError
from casemate.hsm.client.operations import Operation
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.metrics.rates import between
from casemate.hsm.metrics.reader import MetricsReader, Snapshot
from tests.running_module import RunningModule

SIGN = Kind(Operation.SIGN, Mechanism.ECDSA_SHA256)


@pytest.fixture
def reader(module: RunningModule) -> Iterator[MetricsReader]:
    with MetricsReader(module.folders.metrics_socket) as reader:
        yield reader


def until(read: Callable[[], Snapshot], holds: Callable[[Snapshot], bool]) -> Snapshot:
    """The first snapshot for which this holds: a worker counts just after it has answered."""
    end = time.monotonic() + 5
    while not holds(snapshot := read()) and time.monotonic() < end:
        time.sleep(0.01)
    return snapshot


def kinds(snapshot: Snapshot, name: str = "web") -> dict[Kind, Histogram]:
    return next(one.kinds for one in snapshot.partitions if one.name == name)


def count(snapshot: Snapshot, kind: Kind, name: str = "web") -> int:
    return kinds(snapshot, name).get(kind, Histogram()).count


def test_every_request_is_counted_once(module: RunningModule, reader: MetricsReader) -> None:
    with module.connect() as web:
        made = web.generate(Algorithm.P256, label="k", stored=True)
        before = reader.snapshot()
        signatures = made.private.sign_many([b"message"] * 500)
        made.public.verify_many([*signatures[1:], b"wrong"], [b"message"] * 500)
        verify = Kind(Operation.VERIFY, Mechanism.ECDSA_SHA256)
        now = until(reader.snapshot, lambda s: count(s, verify) == 500)
    assert (count(before, SIGN), count(now, SIGN)) == (0, 500)
    assert kinds(now)[SIGN].errors == 0
    assert kinds(now)[verify].errors == 1
    # Stored keys are answered by the firmware's thread, and count all the same.
    stored = kinds(now)[Kind(Operation.GENERATE_KEY_PAIR, Mechanism.EC_KEY_PAIR_GEN)]
    assert (stored.count, stored.errors) == (1, 0)
    median = kinds(now)[SIGN].quantile(0.5)
    assert median is not None
    assert 1_000 < median < 5_000_000
    assert 0.5 * median < kinds(now)[SIGN].nanoseconds / 500
    [partition] = now.partitions
    assert (partition.sessions, partition.connections) == (1, 1)
    assert (partition.objects, partition.token_objects) == (2, 2)
    assert partition.cpu_seconds > before.partitions[0].cpu_seconds
    status = module.admin().call("status")["partitions"][0]["in_use"]
    assert status["operations"] >= 1000
    assert status["errors"] >= 1


def test_an_error_that_another_thread_answers_counts_as_one(short_folder: Path) -> None:
    running = RunningModule(short_folder, pin_required=True).start()
    try:
        with running.connect() as web, pytest.raises(ClientError):
            web.login("not-the-pin")
        login = Kind(Operation.LOGIN, None)
        with MetricsReader(running.folders.metrics_socket) as reader:
            now = until(reader.snapshot, lambda s: count(s, login) == 1)
        assert (kinds(now)[login].count, kinds(now)[login].errors) == (1, 1)
    finally:
        running.stop()


def test_the_queue_is_seen_while_it_is_there(module: RunningModule, reader: MetricsReader) -> None:
    from casemate import _silicon

    client = _silicon.Client(module.socket())
    code, _, session, _ = client.call(Operation.OPEN_SESSION, aux=1)
    assert code == 0
    assert reader.snapshot().partitions[0].depth == 0
    from casemate.formats.pkcs11 import Attribute
    from casemate.formats.pkcs11_wire import encode_template

    template = encode_template(
        {Attribute.MODULUS_BITS: 4096, Attribute.PUBLIC_EXPONENT: b"\x01\x00\x01"}
    )
    tickets = [
        client.submit(
            Operation.GENERATE_KEY_PAIR,
            session=session,
            mechanism=Mechanism.RSA_PKCS_KEY_PAIR_GEN,
            first=template,
        )
        for _ in range(8)
    ]
    seen = until(reader.snapshot, lambda s: s.partitions[0].in_hand > 0).partitions[0]
    assert 0 < seen.depth <= 8
    for ticket in tickets:
        assert client.wait(ticket)[0] == 0
    assert until(reader.snapshot, lambda s: s.partitions[0].depth == 0).partitions[0].depth == 0


def test_labels_are_bounded_whatever_a_client_sends(
    module: RunningModule, reader: MetricsReader
) -> None:
    from casemate import _silicon

    client = _silicon.Client(module.socket())
    for number in range(3000):
        client.call(Operation.SIGN, mechanism=0x8000_0000 + number)
        client.call(1000 + number)
    now = until(reader.snapshot, lambda s: count(s, Kind(None, None)) == 3000)
    assert kinds(now)[Kind(None, None)].errors == 3000
    assert kinds(now)[Kind(Operation.SIGN, None)].errors == 3000
    assert len(kinds(now)) < 10


def test_a_reader_outlives_the_module(module: RunningModule, reader: MetricsReader) -> None:
    with module.connect() as web:
        key = web.generate(Algorithm.P256, label="k", stored=True).private
        key.sign_many([b"m"] * 10)
    before = until(reader.snapshot, lambda s: count(s, SIGN) == 10)
    module.kill()
    with pytest.raises(ModuleError) as caught:
        reader.snapshot()
    assert caught.value.code is Code.NOT_RUNNING
    module.start()
    with module.connect() as web:
        assert len(list(web.objects({}))) == 2
    now = reader.snapshot()
    assert now.instance != before.instance
    assert count(now, SIGN) == 0
    # What was counted before the restart is not taken off what came after it.
    assert all(rate.per_second >= 0 for rate in between(before, now))


def test_partitions_come_and_go(module: RunningModule, reader: MetricsReader) -> None:
    with module.admin() as admin:
        admin.call("partition.create", name="db", policy={})
        with module.connect("db") as db:
            db.random(8)
        random = Kind(Operation.RANDOM, None)
        first = until(reader.snapshot, lambda s: count(s, random, "db") == 1)
        assert count(first, random, "db") == 1
        assert count(first, random, "web") == 0
        admin.call("partition.destroy", name="db")
        assert [one.name for one in reader.snapshot().partitions] == ["web"]
        admin.call("partition.create", name="db", policy={})
        assert kinds(reader.snapshot(), "db") == {}
        admin.call("partition.suspend", name="db")
        states = {one.name: one.state for one in reader.snapshot().partitions}
        assert states == {"web": "active", "db": "suspended"}


def test_workers_that_are_replaced_lose_no_count(
    module: RunningModule, reader: MetricsReader
) -> None:
    with module.connect() as web, module.admin() as admin:
        key = web.generate(Algorithm.P256, label="k").private
        for workers in (1, 3, 2):
            admin.call("partition.set-policy", name="web", policy={"workers": workers})
            key.sign_many([b"m"] * 200)
        now = until(reader.snapshot, lambda s: count(s, SIGN) == 600)
        assert count(now, SIGN) == 600


# --- what others may ---------------------------------------------------------------------------


def page_of(module: RunningModule) -> int:
    with AdminClient(module.folders.metrics_socket) as client:
        result, descriptor = client.call_for_descriptor("page", name="web")
        assert result == {"name": "web"}
        return descriptor


def test_a_reader_cannot_change_the_page(module: RunningModule) -> None:
    descriptor = page_of(module)
    size = os.fstat(descriptor).st_size
    for attempt in (
        lambda: mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE),
        lambda: os.pwrite(descriptor, b"x", 0),
        lambda: os.ftruncate(descriptor, 0),
        lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE),
        lambda: os.posix_fallocate(descriptor, size, 1),
    ):
        with pytest.raises(PermissionError):
            attempt()
    # Punching a hole would set counts back to zero.
    library = ctypes.CDLL(None, use_errno=True)
    long = ctypes.c_long
    assert library.fallocate(descriptor, 3, long(0), long(4096)) == -1
    with mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ) as page:
        assert page[:4] == b"CMm1"
    os.close(descriptor)


def test_the_socket_of_figures_administers_nothing(module: RunningModule) -> None:
    mode = module.folders.metrics_socket.stat().st_mode
    assert stat.S_IMODE(mode) == 0o600
    with AdminClient(module.folders.metrics_socket) as client:
        for command in ("stop", "zeroize", "status", "partition.destroy"):
            with pytest.raises(ModuleError) as caught:
                client.call(command)
            assert caught.value.code is Code.BAD_REQUEST
        with pytest.raises(ModuleError) as caught:
            client.call_for_descriptor("page", name="nothing")
        assert caught.value.code is Code.UNKNOWN_PARTITION
        # After a refusal the connection goes on.
        figures = client.call("figures")
    assert figures["state"] == "operational"


def test_figures_name_no_key_and_no_client(module: RunningModule) -> None:
    with module.connect() as web:
        web.generate(Algorithm.P256, label="a-telling-label", id=b"identity", stored=True)
    descriptor = page_of(module)
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as page:
        content = page[: 4096 + 4 * 65536]
    os.close(descriptor)
    with AdminClient(module.folders.metrics_socket) as client:
        content += json.dumps(client.call("figures")).encode()
    assert b"telling" not in content
    assert b"identity" not in content
    assert str(os.getpid()).encode() not in re.findall(rb"\d+", content)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a socket to any group")
def test_a_group_may_read_the_figures_and_nothing_else(short_folder: Path) -> None:
    group = next(one.gr_gid for one in grp.getgrall() if one.gr_gid != 0)
    running = RunningModule(short_folder, extra=["--metrics-group", str(group)]).start()
    program = (
        "import os, socket, sys\n"
        f"os.setgroups([{group}]); os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        socket.socket(socket.AF_UNIX).connect(path); print('in')\n"
        "    except PermissionError:\n"
        "        print('out')\n"
    )
    try:
        short_folder.chmod(0o755)
        paths = [running.folders.metrics_socket, running.folders.admin_socket]
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, paths)], capture_output=True, check=True
        )
        assert done.stdout.split() == [b"in", b"out"], done.stderr
        status = running.folders.metrics_socket.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, group)
    finally:
        running.stop()


# --- the command line, and Prometheus ----------------------------------------------------------


def casemate(module: RunningModule, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", *arguments],
        env=module.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_top_shows_what_happens_between_two_looks(module: RunningModule) -> None:
    with module.connect() as web:
        key = web.generate(Algorithm.P256, label="k").private
        arguments = ["top", "--once", "--json", "--interval", "1"]
        with subprocess.Popen(
            [sys.executable, "-m", "casemate.cli.main", *arguments],
            env=module.environment(),
            stdout=subprocess.PIPE,
        ) as process:
            while process.poll() is None:
                key.sign_many([b"m"] * 20)
            assert process.stdout is not None
            shown = json.loads(process.stdout.read())
    [partition] = shown["partitions"]
    kind = partition["kinds"][0]
    assert (kind["operation"], kind["mechanism"]) == ("sign", "ECDSA_SHA256")
    assert kind["operations_per_second"] > 100
    assert 1e-6 < kind["p50_seconds"] <= kind["p99_seconds"] < 1
    assert partition["cpus"] > 0
    table = casemate(module, "top", "--once", "--interval", "0.1")
    assert table.returncode == 0, table.stderr
    assert "ECDSA_SHA256" in table.stdout
    assert (
        casemate(module, "top", "--once", "--interval", "0.1", "--partition", "x").returncode == 0
    )


def test_top_without_a_module_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", "top", "--once", "--runtime", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "casemate up" in done.stderr


def scrape(address: str) -> dict[str, list[Any]]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {family.name: list(family.samples) for family in families}


def test_prometheus_is_served_by_another_process(module: RunningModule) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    exporter = subprocess.Popen(
        [sys.executable, "-m", "casemate.cli.main", "metrics", "serve", "--listen", address],
        env=module.environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert exporter.stdout is not None
        assert address in exporter.stdout.readline()
        with module.connect() as web:
            key = web.generate(Algorithm.P256, label="telling", stored=True).private
            key.sign_many([b"m"] * 100)
            with pytest.raises(ClientError):
                key.sign(b"m", mechanism=Mechanism.SHA256_RSA_PKCS)
            families = scrape(address)
        sign = {"partition": "web", "operation": "sign", "mechanism": "ECDSA_SHA256"}

        def value(family: str, labels: dict[str, str], name: str | None = None) -> float:
            [found] = [
                sample.value
                for sample in families[family]
                if sample.labels == labels and sample.name == (name or family)
            ]
            return float(found)

        assert value("hsm_up", {}) == 1
        assert value("hsm_operations", sign, "hsm_operations_total") == 100
        assert value("hsm_operation_errors", sign, "hsm_operation_errors_total") == 0
        duration = "hsm_operation_duration_seconds"
        assert value(duration, sign, f"{duration}_count") == 100
        assert 0 < value(duration, sign, f"{duration}_sum") < 10
        buckets = [
            (float(sample.labels["le"]), sample.value)
            for sample in families[duration]
            if sample.name.endswith("_bucket") and sample.labels | sign == sample.labels
        ]
        assert buckets == sorted(buckets)
        assert buckets[0][0] == pytest.approx(1.024e-6)
        assert buckets[-1] == (float("inf"), 100)
        web_only = {"partition": "web"}
        assert value("hsm_sessions", web_only) == 1
        assert value("hsm_token_objects", web_only) == 2
        assert value("hsm_queue_depth", web_only) == 0
        state = {"hsm_module_state": "operational"}
        assert value("hsm_module_state", state) == 1
        assert "telling" not in str(families)
        module.kill()
        assert [sample.value for sample in scrape(address)["hsm_up"]] == [0]
        module.start()
        families = scrape(address)
        assert value("hsm_up", {}) == 1
    finally:
        exporter.send_signal(signal.SIGTERM)
        assert exporter.wait(timeout=10) == 0
