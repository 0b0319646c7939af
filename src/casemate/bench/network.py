"""A network baseline: the same key, used through mutual TLS on loopback.

One connection, TLS 1.3 (Python's ssl), one request at a time: 32 bytes go to a server that signs
them with a P-256 key in the module (Python client) and answers with the signature. It stands for a
network HSM at its best: no protocol but TLS, no queue, no second machine. A round trip of so many
milliseconds more is the server's waiting before it answers.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from casemate.bench.measurer import percentile
from casemate.bench.network_server import DIGEST, KEY, SIGNATURE, certificates, context
from casemate.bench.own_module import OwnModule
from casemate.hsm.client import Algorithm, connect
from casemate.hsm.errors import Code, ModuleError


@dataclass(frozen=True, slots=True)
class Network:
    """Signatures through TLS, one in flight: a second, and their latencies in microseconds."""

    added_ms: float
    rate: float
    p50_us: float
    p99_us: float


def network(module: OwnModule, seconds: float) -> tuple[Network, ...]:
    """Measure at 0 and at 1 ms of added round trip."""
    with connect(str(module.socket())) as partition:
        partition.generate(Algorithm.P256, label=KEY, stored=True)
    with tempfile.TemporaryDirectory(prefix="cm-") as made:
        folder = Path(made)
        certificates(folder)
        return tuple(_measure(module, folder, added, seconds) for added in (0.0, 1.0))


def _measure(module: OwnModule, folder: Path, added_ms: float, seconds: float) -> Network:
    client = context(folder, ssl.PROTOCOL_TLS_CLIENT)
    with _server(module, folder, added_ms) as port:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with raw, client.wrap_socket(raw, server_hostname="localhost") as tls:
            latencies: dict[int, int] = {}
            begun = last = time.perf_counter_ns()
            while last - begun < seconds * 1e9:
                tls.sendall(bytes(DIGEST))
                if len(tls.recv(SIGNATURE)) != SIGNATURE:
                    raise ModuleError(Code.INTERNAL, "the TLS server of the baseline went away")
                now = time.perf_counter_ns()
                latencies[now - last] = latencies.get(now - last, 0) + 1
                last = now
    return Network(
        added_ms=added_ms,
        rate=sum(latencies.values()) * 1e9 / (last - begun),
        p50_us=percentile(latencies, 0.5) / 1000,
        p99_us=percentile(latencies, 0.99) / 1000,
    )


@contextmanager
def _server(module: OwnModule, folder: Path, added_ms: float) -> Iterator[int]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "casemate.bench.network_server"),
            *(str(folder), str(module.socket()), str(added_ms / 1000)),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None  # noqa: S101 (opened as a pipe)
        line = process.stdout.readline()
        if not line.strip().isdecimal():
            raise ModuleError(
                Code.INTERNAL, "the TLS server of the network baseline did not start", str(folder)
            )
        yield int(line)
    finally:
        process.terminate()
        process.wait(timeout=10)
        if process.stdout is not None:
            process.stdout.close()
