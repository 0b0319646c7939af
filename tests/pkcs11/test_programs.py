"""Programs that nobody here wrote, with keys in a partition; each skips where it is missing."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pkcs11.cryptoki import LIBRARY
from tests.running_module import RunningModule

ENGINE = Path("/usr/lib/x86_64-linux-gnu/engines-3/pkcs11.so")
ENGINE_LIBRARY = {"PKCS11_MODULE_PATH": str(LIBRARY)}
URI = "pkcs11:token=web;object={};type=private"


def need(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def run(
    module: RunningModule, *command: str | Path, variables: dict[str, str] | None = None
) -> str:
    """Run a program against the module; its output, standard and error."""
    done = subprocess.run(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**module.environment(), **(variables or {})},
        timeout=60,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}: {text}"
    return text


@pytest.fixture(scope="module")
def key(module: RunningModule) -> str:
    """The label of a P-256 key pair in the partition `web`, made by pkcs11-tool."""
    tool = need("pkcs11-tool")
    label = "programs"
    command = [tool, "--module", str(LIBRARY), "--token-label", "web", "--keypairgen"]
    command += ["--key-type", "EC:prime256v1", "--label", label, "--id", "a1"]
    run(module, *command)
    return label


@pytest.fixture
def engine() -> None:
    """OpenSSL's engine for PKCS#11."""
    need("openssl")
    if not ENGINE.exists():
        pytest.skip("libengine-pkcs11-openssl is not installed")


@pytest.fixture
def certificate(module: RunningModule, key: str, engine: None, tmp_path: Path) -> Path:
    """A self-signed certificate of the key, made by OpenSSL through its engine."""
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-new", "-x509", "-subj", "/CN=localhost", "-days", "2"]
    command += ["-engine", "pkcs11", "-keyform", "engine", "-key", URI.format(key)]
    run(module, *command, "-out", path, variables=ENGINE_LIBRARY)
    return path


def test_pkcs11_tool_lists_and_tests(module: RunningModule, key: str) -> None:
    tool = need("pkcs11-tool")
    slots = run(module, tool, "--module", LIBRARY, "--list-slots")
    assert "Casemate partition web" in slots and "Casemate partition db" in slots
    command = [tool, "--module", str(LIBRARY), "--token-label", "web"]
    assert key in run(module, *command, "--list-objects")
    assert "No errors" in run(module, *command, "--test")


def test_p11tool_lists_objects(module: RunningModule, key: str) -> None:
    p11tool = need("p11tool")
    listing = run(module, p11tool, "--provider", LIBRARY, "--list-all", "pkcs11:token=web")
    assert f"Label: {key}" in listing


def test_ssh_keygen_lists_the_key(module: RunningModule, key: str) -> None:
    ssh_keygen = need("ssh-keygen")
    assert "ecdsa-sha2-nistp256 " in run(module, ssh_keygen, "-D", LIBRARY)


def test_openssl_makes_requests_and_signatures(
    module: RunningModule, key: str, certificate: Path, tmp_path: Path
) -> None:
    command = ["openssl", "req", "-new", "-subj", "/CN=web", "-engine", "pkcs11"]
    request = tmp_path / "request.pem"
    run(
        module,
        *command,
        "-keyform",
        "engine",
        "-key",
        URI.format(key),
        "-out",
        request,
        variables=ENGINE_LIBRARY,
    )
    assert "verify OK" in run(module, "openssl", "req", "-verify", "-noout", "-in", request)
    verified = run(module, "openssl", "verify", "-CAfile", certificate, certificate)
    assert verified.strip().endswith("OK")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def handshake(port: int, certificate: Path) -> str:
    """One TLS handshake that verifies the certificate; the version."""
    context = ssl.create_default_context(cafile=str(certificate))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.version() or ""


def wait_for_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"no server on port {port}")


def test_openssl_serves_tls(
    module: RunningModule, key: str, certificate: Path, tmp_path: Path
) -> None:
    port = free_port()
    command = ["openssl", "s_server", "-accept", str(port), "-engine", "pkcs11"]
    command += ["-keyform", "engine", "-key", URI.format(key), "-cert", str(certificate)]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "-quiet"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**module.environment(), "PKCS11_MODULE_PATH": str(LIBRARY)},
        )
        try:
            wait_for_port(port, server)
            assert [handshake(port, certificate) for _ in range(3)] == ["TLSv1.3"] * 3
        finally:
            server.kill()
            server.wait()


NGINX = """
{user}
daemon off;
worker_processes 2;
error_log stderr;
pid {folder}/nginx.pid;
ssl_engine pkcs11;
env CASEMATE_SOCKETS; env CASEMATE_TRUSTED_UIDS; env CASEMATE_PKCS11_LOG; env PKCS11_MODULE_PATH;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/t; proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t;
    uwsgi_temp_path {folder}/t; scgi_temp_path {folder}/t;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.3;
        ssl_session_tickets off;
        ssl_certificate {certificate};
        ssl_certificate_key "engine:pkcs11:{uri}";
        location / {{ return 200 "served"; }}
    }}
}}
"""


class Nginx:
    """nginx in the foreground, with its key in the partition."""

    def __init__(self, module: RunningModule, folder: Path, certificate: Path, uri: str) -> None:
        self.port = free_port()
        self.log = folder / "nginx.log"
        configuration = folder / "nginx.conf"
        configuration.write_text(
            NGINX.format(
                user="user www-data;" if os.geteuid() == 0 else "",
                folder=folder,
                port=self.port,
                certificate=certificate,
                uri=uri,
            )
        )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [need("nginx"), "-c", str(configuration), "-p", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **module.environment(),
                    "PKCS11_MODULE_PATH": str(LIBRARY),
                    "CASEMATE_TRUSTED_UIDS": str(os.geteuid()),
                },
            )
        wait_for_port(self.port, self.process)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


@pytest.fixture
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that www-data may enter, for modules that nginx's workers use."""
    folder = Path("/tmp") / f"cm-nginx-{os.getpid()}"  # noqa: S108 (pytest's own is 0700 above us)
    folder.mkdir(mode=0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_nginx_serves_through_a_reload_and_a_restart_of_the_module(
    built: None, engine: None, shared_folder: Path
) -> None:
    need("nginx")
    tool = need("pkcs11-tool")
    module = RunningModule(shared_folder).start()
    for folder in (module.folders.runtime, module.folders.runtime / "web"):
        folder.chmod(0o711)
    module.socket("web").chmod(0o666)
    generate = [tool, "--module", str(LIBRARY), "--token-label", "web", "--keypairgen"]
    run(module, *generate, "--key-type", "EC:prime256v1", "--label", "tls", "--id", "01")
    certificate = shared_folder / "certificate.pem"
    make = ["openssl", "req", "-new", "-x509", "-subj", "/CN=localhost", "-days", "2"]
    make += ["-engine", "pkcs11", "-keyform", "engine", "-key", URI.format("tls")]
    run(module, *make, "-out", certificate, variables=ENGINE_LIBRARY)
    nginx = Nginx(module, shared_folder, certificate, URI.format("tls"))
    failures: list[str] = []
    served = [0]
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            try:
                assert handshake(nginx.port, certificate) == "TLSv1.3"
                served[0] += 1
            except (OSError, AssertionError) as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=load) for _ in range(2)]
    try:
        for _ in range(5):
            assert handshake(nginx.port, certificate) == "TLSv1.3"
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        nginx.process.send_signal(signal.SIGHUP)
        time.sleep(1)
        module.kill()
        module.start()
        module.socket("web").chmod(0o666)
        before = served[0]
        time.sleep(1)
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
        assert served[0] > before, nginx.log.read_text()
        assert not failures, (failures[:5], len(failures), nginx.log.read_text()[-3000:])
    finally:
        stop.set()
        nginx.end()
        module.stop()


SUNPKCS11 = "name = Casemate\nlibrary = {library}\nslotListIndex = {index}\n"


def test_keytool_makes_a_key_pair_and_a_certificate(module: RunningModule, tmp_path: Path) -> None:
    keytool = need("keytool")
    configuration = tmp_path / "sunpkcs11.cfg"
    index = sorted(module.partitions).index("web")
    configuration.write_text(SUNPKCS11.format(library=LIBRARY, index=index))
    common = ["-keystore", "NONE", "-storetype", "PKCS11", "-storepass", "1234"]
    common += ["-addprovider", "SunPKCS11", "-providerArg", str(configuration)]
    make = ["-genkeypair", "-alias", "java", "-keyalg", "EC", "-groupname", "secp256r1"]
    run(module, keytool, *make, "-dname", "CN=java", *common)
    listing = run(module, keytool, "-list", "-v", "-alias", "java", *common)
    assert "CN=java" in listing and "PrivateKeyEntry" in listing
    run(module, keytool, "-delete", "-alias", "java", *common)
