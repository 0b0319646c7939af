"""`casemate demo`: the product's story in half a minute; `make run` starts it.

It manufactures and boots a device, has the module's files authorised and starts the module from
them, makes a partition and a key in it, has OpenSSL serve TLS 1.3 with that key, and prints what it
did and how long each step took. It leaves nothing behind
unless --folder names a place.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._demo_root import measured_host
from casemate.cli._module import reports_errors
from casemate.cli.pkcs11_path import library
from casemate.formats.pkcs11 import Attribute
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.client import Algorithm, Key, KeyPair, Partition, connect
from casemate.hsm.client.certificates import pem, self_signed
from casemate.hsm.client.integrations import openssl_engine_conf, openssl_provider_conf
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders
from casemate.hsm.process import serves

R = TypeVar("R")
_SIGNATURES = 5000


class Story:
    """Prints each step with its time."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = time.perf_counter()

    def step(self, what: str, do: Callable[[], R], *, tell: Callable[[R], str] = str) -> R:
        """Do one step and print what it was, how long it took, and what came of it."""
        begun = time.perf_counter()
        result = do()
        took = (time.perf_counter() - begun) * 1000
        self._console.print(
            Text.assemble((f"{took:9.1f} ms  ", "cyan"), (f"{what:<44}", "bold"), " ", tell(result))
        )
        return result

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.perf_counter() - self._begun


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Keep the module's folders here [a temporary folder that is removed].",
)
@reports_errors
def demo(folder: Path | None) -> None:
    """Boot a device, start the module it measured, and serve TLS 1.3 with a key in it."""
    story = Story()
    with _folder(folder) as base:
        folders = Folders(state=base / "state", runtime=base / "run")
        with _module(story, folders) as process:
            _tell(story, folders)
            story.step("stop the module", lambda: _stop(process), tell=lambda code: f"exit {code}")
    story.say(f"\nDone in {story.seconds:.1f} s. To keep a module running, type:\n")
    story.say("    casemate up --partition web")
    story.say("    pkcs11-tool --module $(casemate pkcs11-path) --list-slots     # another shell")
    if shutil.which("casemate") is None:
        story.say(f"\n(the command stands in {Path(sys.executable).parent})")


def _tell(story: Story, folders: Folders) -> None:
    with AdminClient(folders.admin_socket) as module:
        tests = story.step(
            "self-tests of silicon",
            lambda: module.call("selftest")["tests"],
            tell=lambda tests: f"{len(tests)} passed",
        )
        if not all(test["passed"] for test in tests):
            raise ModuleError(Code.SELF_TEST, "a self-test failed")
    path = folders.partition_socket("web")
    with story.step(
        "connect to partition web", lambda: connect(str(path)), tell=lambda _: str(path)
    ) as web:
        pair = story.step(
            "make a P-256 key in the partition",
            lambda: _key(web),
            tell=lambda pair: f"label tls, on disk, id {pair.private.id.hex()}",
        )
        key = pair.private
        story.step("ask for the private key's value", lambda: _refused(key))
        certificate = story.step(
            "certificate for localhost, signed inside",
            lambda: _certificate(key, folders.runtime / "localhost.pem"),
        )
        story.step(
            f"{_SIGNATURES:,} signatures from Python, one connection",
            lambda: _sign(key),
            tell=lambda rate: f"{rate:,.0f} a second",
        )
        _outside_program(story, pair, folders, certificate)


def _key(web: Partition) -> KeyPair:
    return web.generate(Algorithm.P256, label="tls", id=b"\x01", stored=True)


def _refused(key: Key) -> str:
    if Attribute.VALUE in key.attributes(Attribute.VALUE):
        raise ModuleError(Code.INTERNAL, "the partition told the value of a sensitive key")
    return "refused: it never leaves the module"


def _certificate(key: Key, path: Path) -> Path:
    now = datetime.now(UTC)
    made = self_signed(
        key,
        subject="CN=localhost",
        names=["localhost"],
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=1),
    )
    path.write_text(pem(made, "CERTIFICATE"))
    return path


def _sign(key: Key) -> float:
    begun = time.perf_counter()
    key.sign_many([number.to_bytes(32) for number in range(_SIGNATURES)])
    return _SIGNATURES / (time.perf_counter() - begun)


# --- a program that somebody else wrote --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSsl:
    """An OpenSSL that can load the PKCS#11 library: its configuration and s_server's options."""

    how: str
    configuration: str
    key_options: list[str]


def _outside_program(story: Story, pair: KeyPair, folders: Folders, certificate: Path) -> None:
    found = find_openssl(library(), "pkcs11:token=web;object=tls;type=private")
    if found is not None:
        with _server(found, folders.runtime, certificate) as port:
            story.step(
                f"TLS 1.3 handshake, OpenSSL by its {found.how}",
                lambda: _handshake(port, certificate),
            )
        return
    if shutil.which("openssl") is not None:
        story.step(
            "signature checked by the openssl program",
            lambda: _checked_by_openssl(pair, folders.runtime),
        )
    story.say(
        "\nNo program here can load a PKCS#11 library for TLS, so no TLS server was started.\n"
        "To see the handshake: apt install openssl libengine-pkcs11-openssl, then again."
    )


def find_openssl(module: Path, uri: str) -> OpenSsl | None:
    """Return how the installed OpenSSL reaches a PKCS#11 library; None where it cannot."""
    if shutil.which("openssl") is None or not module.exists():
        return None
    asked = subprocess.run(
        ["openssl", "version", "-e", "-m"], capture_output=True, text=True, check=False
    )
    folders = dict(
        line.replace('"', "").split(": ", 1) for line in asked.stdout.splitlines() if ": " in line
    )
    if (Path(folders.get("MODULESDIR", "")) / "pkcs11.so").is_file():
        return OpenSsl("provider", openssl_provider_conf(module, pin=False), ["-key", uri])
    if (Path(folders.get("ENGINESDIR", "")) / "pkcs11.so").is_file():
        options = ["-engine", "pkcs11", "-keyform", "engine", "-key", uri]
        return OpenSsl("engine", openssl_engine_conf(module), options)
    return None


@contextmanager
def _server(openssl: OpenSsl, folder: Path, certificate: Path) -> Iterator[int]:
    """Run `openssl s_server` with the key in the partition; yields its port."""
    configuration = folder / "openssl.cnf"
    configuration.write_text(openssl.configuration)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    log = folder / "s_server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-tls1_3", "-quiet"),
                *("-cert", str(certificate)),
                *openssl.key_options,
            ],
            env={
                "PATH": "/usr/bin:/bin:/usr/local/bin",
                "OPENSSL_CONF": str(configuration),
                "CASEMATE_SOCKETS": str(folder),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_port(port, process, log)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise ModuleError(
        Code.INTERNAL,
        "openssl s_server did not start with the key in the partition",
        where=log.read_text(errors="replace")[-400:],
        advice="openssl version; look whether its engine or provider fits it",
    )


def _handshake(port: int, certificate: Path) -> str:
    context = ssl.create_default_context(cafile=str(certificate))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        cipher = tls.cipher() or ("?", "", 0)
        return f"{tls.version()}, {cipher[0]}, certificate verified"


def _checked_by_openssl(pair: KeyPair, folder: Path) -> str:
    from casemate.formats.x509 import ecdsa_signature

    message, signature, public = (folder / name for name in ("message", "signature", "public.pem"))
    message.write_bytes(b"signed in the partition, checked by a program of somebody else\n")
    signature.write_bytes(ecdsa_signature(pair.private.sign(message.read_bytes())))
    public.write_text(pem(pair.public.public_key_info(), "PUBLIC KEY"))
    checked = subprocess.run(
        [
            *("openssl", "dgst", "-sha256", "-verify", str(public)),
            *("-signature", str(signature), str(message)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if checked.returncode:
        raise ModuleError(
            Code.INTERNAL, "openssl does not accept the signature", where=checked.stdout
        )
    return checked.stdout.strip()


# --- the module --------------------------------------------------------------------------------


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="casemate-") as made:
        yield Path(made)


@contextmanager
def _module(story: Story, folders: Folders) -> Iterator[subprocess.Popen[bytes]]:
    """Run the module's process; it ends with the story, however that ends."""
    host = measured_host(story, folders.state.parent)
    arguments = [
        *("--state", str(folders.state), "--runtime", str(folders.runtime)),
        *("--partition", "web", "--log-level", "WARNING"),
    ]
    process = story.step(
        "start the module with partition web",
        lambda: _start(host.start(arguments), folders),
        tell=lambda process: f"process {process.pid}, from sealed memory, secret from the ladder",
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=20)


def _start(process: subprocess.Popen[bytes], folders: Folders) -> subprocess.Popen[bytes]:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        if serves(folders, ["web"]):
            return process
        time.sleep(0.02)
    process.kill()
    raise ModuleError(Code.NOT_RUNNING, "the module did not become operational", str(folders.state))


def _stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    return process.wait(timeout=20)
