"""The command line of the module, against a real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_public_key,
)

from casemate.cli.main import COMMANDS, LazyGroup, main
from casemate.formats.pkcs11 import Mechanism
from tests.running_module import RunningModule


class Shell:
    """Runs `casemate` in this process, with the environment of one module."""

    def __init__(self, module: RunningModule) -> None:
        self.module = module
        self.environment = {
            "CASEMATE_RUNTIME": str(module.folders.runtime),
            "CASEMATE_SOCKETS": str(module.folders.runtime),
            "CASEMATE_PARTITION": "web",
            "COLUMNS": "200",
        }

    def run(self, *words: str, data: bytes | None = None, code: int = 0) -> Result:
        result = CliRunner().invoke(main, list(words), input=data, env=self.environment)
        assert result.exit_code == code, f"{words}: {result.output} {result.exception!r}"
        return result

    def json(self, *words: str, code: int = 0) -> object:
        loaded: object = json.loads(self.run(*words, "--json", code=code).stdout)
        return loaded


@pytest.fixture
def shell(module: RunningModule) -> Iterator[Shell]:
    yield Shell(module)


def test_every_command_loads_and_has_help() -> None:
    assert isinstance(main, LazyGroup)
    for name in COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, name
        assert "Usage:" in result.output


def test_the_help_of_the_root_imports_no_command() -> None:
    code = (
        "import sys; from casemate.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in sys.modules if m.startswith('casemate.hsm')], file=sys.stderr)"
    )
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_status_for_people_and_for_programs(shell: Shell) -> None:
    shown = shell.run("status").stdout
    assert "operational" in shown
    assert "no anchor holds its counter" in shown
    answer = shell.json("status")
    assert isinstance(answer, dict)
    assert [p["name"] for p in answer["partitions"]] == ["web"]


def test_status_says_what_does_not_serve(shell: Shell) -> None:
    shell.run("suspend")
    shell.run("status", code=4)
    shell.run("resume")
    shell.run("status")


def test_without_a_module_the_error_says_what_to_do(tmp_path: Path) -> None:
    for words in (["status"], ["partition", "list"], ["selftest"], ["doctor"]):
        result = CliRunner().invoke(main, [*words, "--runtime", str(tmp_path)])
        assert result.exit_code == 1
        assert "casemate up" in result.stderr
        assert str(tmp_path) in result.stderr
        result = CliRunner().invoke(main, [*words, "--runtime", str(tmp_path), "--json"])
        assert json.loads(result.stdout)["error"]["code"] == "not-running"


def test_the_life_of_a_partition(shell: Shell) -> None:
    shell.run("partition", "create", "db", "--keys", "7", "--access", "unlisted")
    shown = shell.json("partition", "show", "db")
    assert isinstance(shown, dict)
    assert (shown["policy"]["keys"], shown["policy"]["access"]) == (7, "unlisted")
    shell.run("partition", "resize", "db", "--keys", "8", "--mechanism", "ecdsa-sha256")
    shown = shell.json("partition", "show", "db")
    assert isinstance(shown, dict)
    assert shown["policy"]["keys"] == 8
    assert shown["policy"]["mechanisms"] == [int(Mechanism.ECDSA_SHA256)]
    shell.run("partition", "suspend", "db")
    assert "suspended" in shell.run("partition", "list").stdout
    shell.run("partition", "resume", "db")
    shell.run("partition", "destroy", "db", data=b"n\n", code=1)
    shell.run("partition", "destroy", "db", "--yes")
    error = shell.json("partition", "show", "db", code=1)
    assert isinstance(error, dict)
    assert error["error"]["code"] == "unknown-partition"


def test_legacy_policies_are_shown_in_status(shell: Shell) -> None:
    shell.run("partition", "create", "old", "--legacy-test", "--pin-required")
    shown = shell.run("status").stdout
    assert "LEGACY-TEST (RSA-1024, SHA-1)" in shown
    assert "PIN" in shown


@pytest.mark.parametrize(
    "words",
    [
        ["partition", "create", "x", "--mechanism", "ROT13"],
        ["partition", "create", "x", "--group", "no-such-group"],
        ["partition", "create", "x", "--access", "everybody"],
        ["key", "generate", "x", "-a", "rot13"],
        ["key", "show", "id:zz"],
        ["sign", "x", "/nonexistent", "-m", "ROT13"],
        ["random", "0"],
        ["integrate", "apache", "x"],
    ],
)
def test_a_wrong_command_line_exits_with_2(shell: Shell, words: list[str]) -> None:
    if words[0] in ("key", "sign") and words[1] != "generate":
        shell.run("key", "generate", "x")
    result = CliRunner().invoke(main, words, env=shell.environment)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)


def test_keys_from_making_to_destroying(shell: Shell, tmp_path: Path) -> None:
    made = shell.json("key", "generate", "tls")
    assert isinstance(made, dict)
    assert (made["label"], made["algorithm"], made["id"]) == ("tls", "ec-p256", "01")
    assert made["sensitive"] is True
    shell.run("key", "generate", "tls", code=2)
    second = shell.json("key", "generate", "code", "-a", "ed25519")
    assert isinstance(second, dict)
    assert second["id"] == "02"
    listed = shell.json("key", "list")
    assert isinstance(listed, list)
    assert {(key["label"], key["class"]) for key in listed} == {
        (label, kind) for label in ("tls", "code") for kind in ("private key", "public key")
    }
    assert "ed25519" in shell.run("key", "list").stdout
    public = shell.run("key", "export-public", "tls").stdout
    load_pem_public_key(public.encode())
    by_id = shell.run("key", "export-public", "id:01").stdout
    assert by_id == public
    shell.run("key", "destroy", "tls", "--yes")
    error = shell.json("key", "show", "tls", code=1)
    assert isinstance(error, dict)
    assert "casemate key list" in error["error"]["advice"]
    listed = shell.json("key", "list")
    assert isinstance(listed, list)
    assert {key["label"] for key in listed} == {"code"}


def test_pins_from_files(shell: Shell, tmp_path: Path) -> None:
    shell.run("partition", "create", "db", "--pin-required")
    for name, text in (("so", "officer-1"), ("user", "user-1\n"), ("new", "user-2")):
        (tmp_path / name).write_text(text)
    so, user, new = (str(tmp_path / name) for name in ("so", "user", "new"))
    shell.run("pin", "init", "db", "--so-pin-file", so, "--new-pin-file", user)
    shell.run("key", "generate", "-p", "db", "k", "--pin-file", user)
    assert "--pin-file" in shell.run("sign", "-p", "db", "k", data=b"x", code=1).stderr
    shell.run("pin", "change", "db", "--old-pin-file", user, "--new-pin-file", new)
    shell.run("sign", "-p", "db", "k", "--pin-file", user, data=b"x", code=1)
    shell.run("sign", "-p", "db", "k", "--pin-file", new, data=b"x")
    shell.run("pin", "unlock", "db", "--so-pin-file", so, "--new-pin-file", user)
    shell.run("sign", "-p", "db", "k", "--pin-file", user, data=b"x")


def test_a_key_from_a_file(shell: Shell, tmp_path: Path) -> None:
    outside = ec.generate_private_key(ec.SECP384R1())
    path = tmp_path / "key.pem"
    path.write_bytes(outside.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made = shell.json("key", "import", "old", str(path))
    assert isinstance(made, dict)
    assert (made["algorithm"], made["always_sensitive"]) == ("ec-p384", False)
    public = shell.run("key", "export-public", "old").stdout.encode()
    assert load_pem_public_key(public) == outside.public_key()
    path.write_bytes(path.read_bytes()[:60])
    assert "PKCS #8" in shell.run("key", "import", "torn", str(path), code=1).stderr


def test_certificates(shell: Shell, tmp_path: Path) -> None:
    shell.run("key", "generate", "tls")
    asked = shell.run("key", "csr", "tls", "--subject", "CN=web", "--san", "web.example.org").stdout
    assert x509.load_pem_x509_csr(asked.encode()).is_signature_valid
    path = tmp_path / "web.pem"
    shell.run("certificate", "self-signed", "tls", "--subject", "CN=web", "-o", str(path))
    x509.load_pem_x509_certificate(path.read_bytes())
    shell.run("certificate", "import", str(path))
    listed = shell.json("certificate", "list")
    assert isinstance(listed, list)
    (row,) = listed
    assert (row["label"], row["id"], row["subject"]) == ("tls", "01", "CN=web")
    shell.run("certificate", "import", str(path))
    again = shell.json("certificate", "list")
    assert isinstance(again, list)
    assert len(again) == 1, "the same certificate is stored once"
    shell.run("certificate", "import", data=b"no certificate", code=1)


def test_signatures(shell: Shell, tmp_path: Path) -> None:
    shell.run("key", "generate", "tls")
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"hello")
    shell.run("sign", "tls", str(message), "-o", str(signature))
    shell.run("verify", "tls", str(signature), str(message))
    message.write_bytes(b"other")
    assert "DOES NOT FIT" in shell.run("verify", "tls", str(signature), str(message), code=5).stdout
    answer = shell.json("verify", "tls", str(signature), str(message), code=5)
    assert answer == {"valid": False}
    piped = shell.run("sign", "tls", data=b"hello").stdout_bytes
    signature.write_bytes(piped)
    message.write_bytes(b"hello")
    shell.run("verify", "tls", str(signature), str(message))


def test_openssl_checks_a_signature(shell: Shell, tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH")
    shell.run("key", "generate", "tls")
    (tmp_path / "m").write_bytes(b"hello")
    shell.run("sign", "tls", str(tmp_path / "m"), "--der", "-o", str(tmp_path / "s"))
    shell.run("key", "export-public", "tls", "-o", str(tmp_path / "p"))
    words = ["dgst", "-sha256", "-verify", "p", "-signature", "s", "m"]
    subprocess.run([openssl, *words], cwd=tmp_path, check=True)


def test_encryption(shell: Shell, tmp_path: Path) -> None:
    with shell.module.connect() as web:
        if Mechanism.AES_GCM not in web.mechanisms():
            pytest.skip("the partition does not offer AES_GCM")
    shell.run("key", "generate", "data", "-a", "aes-256")
    sealed = shell.run("encrypt", "data", "--associated", "a", data=b"hello").stdout_bytes
    opened = shell.run("decrypt", "data", "--associated", "a", data=sealed).stdout_bytes
    assert opened == b"hello"
    shell.run("decrypt", "data", "--associated", "b", data=sealed, code=1)


def test_random(shell: Shell) -> None:
    assert len(shell.run("random", "1000").stdout_bytes) == 1000
    assert len(shell.run("random", "16", "--hex").stdout.strip()) == 32


def test_one_partition_needs_no_name_and_two_do(shell: Shell) -> None:
    del shell.environment["CASEMATE_PARTITION"]
    shell.environment["XDG_RUNTIME_DIR"] = "/nonexistent"
    shell.run("key", "list")
    shell.run("partition", "create", "db")
    assert "db, web" in shell.run("key", "list", code=2).stderr
    shell.run("key", "list", "-p", "db")


def test_selftest_and_doctor(shell: Shell) -> None:
    answer = shell.json("selftest")
    assert isinstance(answer, dict)
    assert answer["passed"] is True
    assert len(answer["tests"]) >= 4
    assert "passed" in shell.run("selftest").stdout
    doctor = shell.json("doctor")
    assert isinstance(doctor, dict)
    assert doctor["isolated"] is True
    assert "core files" in shell.run("doctor").stdout


def test_completion_of_commands_partitions_and_keys(shell: Shell) -> None:
    shell.run("key", "generate", "tls-2026")
    shell.run("partition", "create", "db")

    def complete(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        result = CliRunner().invoke(
            main,
            [],
            prog_name="casemate",
            env={**shell.environment, **words, "_CASEMATE_COMPLETE": "bash_complete"},
        )
        return [row.split(",", 1)[1] for row in result.stdout.splitlines()]

    assert complete("casemate parti") == ["partition"]
    assert complete("casemate partition show ") == ["db", "web"]
    assert complete("casemate key show tls") == ["tls-2026"]
    for name in ("bash", "zsh", "fish"):
        assert "_CASEMATE_COMPLETE" in shell.run("completion", name).stdout


def test_a_cdi_specification(shell: Shell) -> None:
    spec = json.loads(shell.run("cdi", "web").stdout)
    (device,) = spec["devices"]
    (mount,) = device["containerEdits"]["mounts"]
    assert mount["hostPath"] == str(shell.module.socket().parent)
    assert mount["containerPath"] == "/run/casemate/web"
    assert device["containerEdits"]["env"] == ["CASEMATE_SOCKETS=/run/casemate"]
    assert spec["kind"] == "casemate/partition"


@pytest.mark.parametrize("program", ["openssl", "nginx", "java", "ssh"])
def test_integrations_name_library_sockets_and_key(
    shell: Shell, program: str, tmp_path: Path
) -> None:
    shell.run("key", "generate", "tls")
    shown = shell.run("integrate", program, "tls", "--write", str(tmp_path)).stdout
    texts = shown + "".join(path.read_text() for path in tmp_path.iterdir())
    assert "libcasemate_pkcs11.so" in texts
    assert f"CASEMATE_SOCKETS={shell.module.folders.runtime}" in texts
    if program in ("openssl", "nginx"):
        assert "pkcs11:token=web;object=tls;type=private" in texts


def test_openssl_makes_a_request_with_the_printed_configuration(
    shell: Shell, tmp_path: Path
) -> None:
    from casemate.cli._demo_tls import find_openssl
    from casemate.cli.pkcs11_path import library

    if find_openssl(library(), "") is None:
        pytest.skip("no openssl with an engine or a provider for PKCS#11")
    shell.run("key", "generate", "tls")
    answer = shell.json("integrate", "openssl", "tls", "--write", str(tmp_path))
    assert isinstance(answer, dict)
    found = find_openssl(library(), "")
    assert found is not None
    commands = [c for c in answer["commands"] if f"openssl-{found.how}" in c and " req " in c]
    (command,) = commands
    environment = {**os.environ, **answer["environment"]}
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=environment, check=True)
    request = x509.load_pem_x509_csr((tmp_path / "www.csr").read_bytes())
    assert request.is_signature_valid
    public = shell.run("key", "export-public", "tls").stdout.encode()
    assert request.public_key() == load_pem_public_key(public)


def test_integrations_of_a_partition_with_pins_name_a_file_for_it(
    shell: Shell, tmp_path: Path
) -> None:
    shell.run("partition", "create", "db", "--pin-required")
    (tmp_path / "so").write_text("officer-1")
    (tmp_path / "user").write_text("user-1")
    so, user = str(tmp_path / "so"), str(tmp_path / "user")
    shell.run("pin", "init", "db", "--so-pin-file", so, "--new-pin-file", user)
    shell.run("key", "generate", "-p", "db", "my key", "--pin-file", user)
    words = ("integrate", "nginx", "my key", "-p", "db", "--pin-file", user)
    shown = shell.run(*words).stdout
    uri = "pkcs11:token=db;object=my%20key;type=private?pin-source=file:/etc/casemate/db.pin"
    assert uri in shown
    assert "0400" in shown
    assert "user-1" not in shown


def test_zeroize_asks_first(shell: Shell) -> None:
    shell.run("zeroize", data=b"n\n", code=1)
    shell.run("status")
    shell.run("zeroize", "--yes")
    shell.run("status", code=4)


def test_the_demonstration_runs_and_leaves_nothing(short_folder: Path) -> None:
    import sys

    environment = {**os.environ, "TMPDIR": str(short_folder)}
    done = subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", "demo"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "casemate up" in done.stdout
    assert " ms  " in done.stdout
    assert "refused" in done.stdout
    assert list(short_folder.iterdir()) == []


def test_up_ends_by_signal_and_by_command(short_folder: Path) -> None:
    running = RunningModule(short_folder).start()
    assert running.process is not None
    Shell(running).run("stop")
    assert running.process.wait(timeout=20) == 0
    running.start()
    assert running.stop() == 0


@pytest.mark.parametrize("there", ["openssl without PKCS#11", "no openssl"])
def test_the_demonstration_says_what_is_missing(short_folder: Path, there: str) -> None:
    import sys

    programs = short_folder / "bin"
    programs.mkdir()
    if there != "no openssl":
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("no openssl on PATH")
        (programs / "openssl").write_text(
            f'#!/bin/sh\n[ "$1" = version ] && exit 0\nexec {openssl} "$@"\n'
        )
        (programs / "openssl").chmod(0o755)
    environment = {**os.environ, "PATH": str(programs), "TMPDIR": str(short_folder)}
    done = subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", "demo"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "apt install openssl libengine-pkcs11-openssl" in done.stdout
    assert ("Verified OK" in done.stdout) == (there != "no openssl")
    assert "TLSv1.3" not in done.stdout


def test_mechanisms_are_listed_with_their_uses(shell: Shell) -> None:
    listed = shell.json("mechanisms")
    assert isinstance(listed, list)
    ecdsa = {row["mechanism"]: row for row in listed}["ECDSA_SHA256"]
    assert {"SIGN", "VERIFY"} <= set(ecdsa["uses"])
    assert ecdsa["number"] == int(Mechanism.ECDSA_SHA256)
    assert "ECDSA_SHA256" in shell.run("mechanisms").stdout
