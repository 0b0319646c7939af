"""The demonstration's TLS server: a program that somebody else wrote uses a key in a partition."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from casemate.cli._story import Story
from casemate.cli.pkcs11_path import library
from casemate.hsm.client import KeyPair
from casemate.hsm.client.certificates import pem
from casemate.hsm.client.integrations import openssl_engine_conf, openssl_provider_conf
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders


@dataclass(frozen=True, slots=True)
class OpenSsl:
    """An OpenSSL that can load the PKCS#11 library: its configuration and s_server's options."""

    how: str
    configuration: str
    key_options: list[str]


def serve_tls(story: Story, pair: KeyPair, folders: Folders, certificate: Path) -> None:
    """Have OpenSSL serve TLS 1.3 with the key `tls` of partition web, or check a signature."""
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
