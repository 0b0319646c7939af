"""OpenSSL's provider for PKCS#11 (latchset/pkcs11-provider) with keys in a partition, configured as
`casemate integrate openssl` says.

It needs the provider, built, as `pkcs11-provider-1.1/build/src/pkcs11.so` or
`pkcs11-provider/build/src/pkcs11.so` under CASEMATE_SUITES: Debian 12 has no package of it.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.hsm.client.integrations import openssl_provider_conf
from tests.pkcs11.cryptoki import LIBRARY
from tests.running_module import RunningModule

KEYS = {"rsa": "rsa:2048", "ec": "EC:secp384r1"}


def providers() -> list[Path]:
    root = os.environ.get("CASEMATE_SUITES")
    names = ("pkcs11-provider-1.1", "pkcs11-provider")
    paths = [Path(root or "/nowhere") / name / "build" / "src" / "pkcs11.so" for name in names]
    return [path for path in paths if path.exists()]


@pytest.fixture
def module(tmp_path: Path) -> Iterator[RunningModule]:
    if not providers():
        pytest.skip("CASEMATE_SUITES has no pkcs11-provider that is built")
    if not LIBRARY.exists():
        pytest.skip("the native parts are not built: run make build")
    if shutil.which("pkcs11-tool") is None:
        pytest.skip("pkcs11-tool is not installed")
    running = RunningModule(tmp_path).start()
    yield running
    running.stop()


def run(variables: dict[str, str], *command: str | Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


def handshake(port: int, certificate: Path) -> str:
    context = ssl.create_default_context(cafile=str(certificate))
    deadline = time.monotonic() + 10
    while True:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secured,
            ):
                return secured.version() or ""
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.conformance
def test_certificates_signatures_and_tls(module: RunningModule, tmp_path: Path) -> None:
    plain = module.environment()
    tool = ["pkcs11-tool", "--module", str(LIBRARY), "--token-label", "web", "--keypairgen"]
    for number, (label, kind) in enumerate(KEYS.items(), 1):
        run(plain, *tool, "--key-type", kind, "--label", label, "--id", f"{number:02}")
    message = tmp_path / "message"
    message.write_bytes(b"message")
    for provider in providers():
        configuration = tmp_path / "openssl.cnf"
        configuration.write_text(openssl_provider_conf(LIBRARY, pin=False, provider=provider))
        ours = {**plain, "OPENSSL_CONF": str(configuration)}
        for label in KEYS:
            key = f"pkcs11:object={label};type=private"
            certificate, signature = tmp_path / "certificate.pem", tmp_path / "signature"
            request = ("openssl", "req", "-new", "-x509", "-subj", "/CN=localhost", "-days", "2")
            run(ours, *request, "-sha256", "-key", key, "-out", certificate)
            run(ours, "openssl", "dgst", "-sha256", "-sign", key, "-out", signature, message)
            public = tmp_path / "public.pem"
            public.write_text(
                run(plain, "openssl", "x509", "-in", certificate, "-noout", "-pubkey")
            )
            verify = ("openssl", "dgst", "-sha256", "-verify", public, "-signature", signature)
            assert "Verified OK" in run(plain, *verify, message)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = int(free.getsockname()[1])
            serve = ["openssl", "s_server", "-quiet", "-accept", str(port), "-key", key]
            server = subprocess.Popen(
                [*serve, "-cert", str(certificate)],
                env=ours,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                if provider == providers()[0]:
                    assert [handshake(port, certificate) for _ in range(3)] == ["TLSv1.3"] * 3
            finally:
                server.kill()
                server.wait()
