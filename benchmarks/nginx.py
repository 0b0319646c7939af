"""nginx with its key in the module beside the same nginx with its key in a file.

Full TLS 1.3 handshakes a second (ECDSA P-256 certificates, no tickets, no session cache), one nginx
worker, runs of both kinds in turns, medians. The load comes from `handshakes/`, which costs less
than the server and refuses anything but a full handshake. Needs nginx, libengine-pkcs11-openssl and
cargo:

    python benchmarks/nginx.py                    # nginx and module share one CPU, the load another
    python benchmarks/nginx.py --layout free      # nothing is pinned
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from casemate.bench.measurer import cpu_seconds, pinning
from casemate.bench.network_server import certificates
from casemate.bench.own_module import PARTITION, OwnModule, own_module
from casemate.bench.report import Machine
from casemate.hsm.client import Algorithm, connect
from casemate.hsm.client.certificates import pem, self_signed
from casemate.hsm.client.integrations import Target, openssl_engine_conf

CLIENT = Path(__file__).with_name("handshakes")
#: What the handshakes of both kinds have in common.
SERVER = """\
{engine}
worker_processes 1;
daemon off;
user {user};
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.3;
        ssl_session_tickets off;
        ssl_session_cache off;
        ssl_certificate {certificate};
        ssl_certificate_key "{key}";
    }}
}}
"""
ENGINE = "env OPENSSL_CONF;\nenv CASEMATE_SOCKETS;\nssl_engine pkcs11;"


@dataclass(frozen=True, slots=True)
class Layout:
    """Which CPUs nginx and the module run on, and which the load; None: all."""

    server: frozenset[int] | None
    load: frozenset[int] | None
    text: str


def layouts() -> dict[str, Layout]:
    """The first two CPUs, or none in particular."""
    first, second = [*sorted(os.sched_getaffinity(0)), 0][:2]
    return {
        "shared": Layout(
            frozenset({first}),
            frozenset({second}),
            f"nginx and module on CPU {first}, load on CPU {second}",
        ),
        "free": Layout(None, None, "nothing pinned"),
    }


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running server: its port, its worker's process."""

    port: int
    worker: int


def key_file(folder: Path) -> Target:
    """Write a key and its certificate; the target's `certificate` holds both."""
    certificates(folder)
    return Target(Path(), Path(), "", "", folder / "tls.pem")


def key_in_module(module: OwnModule, folder: Path) -> Target:
    """Make a key in the partition and its certificate."""
    with connect(str(module.socket())) as partition:
        key = partition.generate(Algorithm.P256, label="tls", stored=True).private
        now = datetime.now(UTC)
        made = self_signed(
            key,
            subject="CN=localhost",
            names=["localhost"],
            not_before=now - timedelta(minutes=5),
            not_after=now + timedelta(days=1),
        )
    path = folder / "module.pem"
    path.write_text(pem(made, "CERTIFICATE"))
    library = module.subject().library
    assert library is not None
    return Target(library, module.folders.runtime, PARTITION, "tls", path)


@contextmanager
def nginx(target: Target, base: Path, layout: Layout) -> Iterator[Nginx]:
    """Run nginx with the target's key: from its certificate's file where it has no partition."""
    folder = base / (target.partition or "file")
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    in_module = bool(target.partition)
    (folder / "nginx.conf").write_text(
        SERVER.format(
            engine=ENGINE if in_module else "",
            user=pwd.getpwuid(os.geteuid()).pw_name,
            folder=folder,
            port=port,
            certificate=target.certificate,
            key=f"engine:pkcs11:{target.uri}" if in_module else target.certificate,
        )
    )
    environment = dict(os.environ)
    if in_module:
        (folder / "openssl.cnf").write_text(openssl_engine_conf(target.library))
        environment["OPENSSL_CONF"] = str(folder / "openssl.cnf")
        environment["CASEMATE_SOCKETS"] = str(target.sockets)
    process = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")],
        env=environment,
        preexec_fn=pinning(layout.server),  # noqa: PLW1509 (no thread of ours runs here)
    )
    try:
        yield Nginx(port, worker(process, port, folder))
    finally:
        process.terminate()
        process.wait(timeout=10)


def worker(process: subprocess.Popen[bytes], port: int, folder: Path) -> int:
    """Wait until nginx serves and return its one worker."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            found = children.read_text().split()
            if len(found) == 1 and probe.connect_ex(("127.0.0.1", port)) == 0:
                return int(found[0])
        time.sleep(0.02)
    log = folder / "error.log"
    sys.exit(f"nginx did not start: {log.read_text() if log.exists() else ''}")


@dataclass(frozen=True, slots=True)
class Run:
    """Handshakes a second, and CPU time per handshake of worker and module in us."""

    rate: float
    worker_us: float
    module_us: float


def measure(client: Path, server: Nginx, module: OwnModule, layout: Layout, seconds: float) -> Run:
    """One run of the load."""
    before = cpu_seconds(server.worker), cpu_seconds(module.process)
    done = subprocess.run(
        [str(client), f"127.0.0.1:{server.port}", str(seconds), "4"],
        preexec_fn=pinning(layout.load),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    count, took = done.stdout.split()
    used = [
        (after - begin) * 1e6 / int(count)
        for after, begin in zip(
            (cpu_seconds(server.worker), cpu_seconds(module.process)), before, strict=True
        )
    ]
    return Run(int(count) / float(took), *used)


def build() -> Path:
    """Build the load generator and return its path."""
    target = CLIENT.parents[1] / "target" / "handshakes"
    subprocess.run(
        ["cargo", "build", "--release", "--quiet", "--locked", "--target-dir", str(target)],
        cwd=CLIENT,
        check=True,
    )
    return target / "release" / "handshakes"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--layout", choices=sorted(layouts()), default="shared")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    wanted = parser.parse_args()
    if shutil.which("nginx") is None:
        sys.exit("nginx is not installed: apt install nginx libengine-pkcs11-openssl")
    layout = layouts()[wanted.layout]
    client = build()
    machine = Machine.here()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {machine.processor}, {machine.cpus} CPUs, "
        f"{machine.kernel}, load {machine.load:.1f}; {layout.text}; "
        f"{wanted.runs} runs of {wanted.seconds:g} s each"
    )
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cm-")))
        module = stack.enter_context(own_module(layout.server))
        servers = {
            "file": stack.enter_context(nginx(key_file(base), base, layout)),
            "module": stack.enter_context(nginx(key_in_module(module, base), base, layout)),
        }
        runs: dict[str, list[Run]] = {name: [] for name in servers}
        for number in range(wanted.runs):
            for name in list(servers)[:: 1 if number % 2 == 0 else -1]:
                runs[name].append(measure(client, servers[name], module, layout, wanted.seconds))
    medians = {name: statistics.median(run.rate for run in some) for name, some in runs.items()}
    for name, some in runs.items():
        print(
            f"key in {name}: {medians[name]:,.0f} full handshakes/s, median of "
            f"{', '.join(f'{run.rate:,.0f}' for run in some)}; CPU per handshake: worker "
            f"{statistics.median(run.worker_us for run in some):.0f} us, module "
            f"{statistics.median(run.module_us for run in some):.0f} us"
        )
    print(f"module / file: {medians['module'] / medians['file']:.3f} (must be >= 0.9)")


if __name__ == "__main__":
    main()
