"""`casemate rot serve` as a process and `casemate rot invoke` against it and a simulator."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from casemate.cli.main import main
from casemate.rot.fuse_file import encode
from tests.rot.bundle.parts import fuses_for
from tests.rot.mailbox.devices import PL0, PL1, bundle

HERE = "casemate.cli.main"


def wait_for(process: subprocess.Popen[str], path: Path) -> None:
    deadline = time.monotonic() + 20
    while process.poll() is None and not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("serve")
    (folder / "bundle.bin").write_bytes(bundle())
    (folder / "fuses.json").write_bytes(encode(fuses_for(bundle()), 0))
    path = folder / "mailbox"
    arguments = [
        *("--socket", path),
        *("--fuses", folder / "fuses.json"),
        *("--bundle", folder / "bundle.bin"),
    ]
    command = [sys.executable, "-m", HERE, "rot", "serve", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_for(process, path)
    yield path
    process.send_signal(signal.SIGTERM)
    shown, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "in state runtime" in shown
    assert not path.exists()


def run(mailbox: Path, *arguments: object, code: int = 0, locality: int = PL0) -> Result:
    options = ["rot", "invoke", "--mailbox", str(mailbox), "--locality", hex(locality)]
    result = CliRunner().invoke(main, [*options, *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def asked(mailbox: Path, *arguments: object, code: int = 0, locality: int = PL0) -> Any:
    result = run(mailbox, *arguments, "--json", code=code, locality=locality)
    return json.loads(result.stdout)


def test_a_context_from_birth_to_death(mailbox: Path, tmp_path: Path) -> None:
    profile = asked(mailbox, "profile")
    assert (profile["version"], profile["contexts"]) == ("0.13", 64)
    assert "cdi_export" in profile["features"]
    child = asked(
        mailbox,
        *("derive", "--measurement", "11" * 48, "--type", "0x77", "--svn", 3),
        *("--target", hex(PL1), "--flag", "retain-parent-context", "--flag", "input-allow-x509"),
    )
    assert child["parent_handle"] == "00" * 16
    rotated = asked(mailbox, "rotate", "--handle", child["handle"], locality=PL1)
    out = tmp_path / "request.der"
    certified = asked(
        mailbox,
        *("certify", "--csr", "--handle", rotated["handle"], "--label", "22" * 48, "--out", out),
        locality=PL1,
    )
    assert out.read_bytes()[:1] == b"\x30"
    signed = asked(
        mailbox, "sign", "--handle", certified["handle"], "--digest", "33" * 48, locality=PL1
    )
    assert len(signed["signature"]) == 192
    asked(mailbox, "destroy", "--handle", signed["handle"], locality=PL1)
    error = asked(mailbox, "certify", "--handle", signed["handle"], "--csr", code=1, locality=PL1)
    assert "invalid-locality" in error["error"]["what"]


def test_a_parent_updates_its_child_and_simulations_begin_anew(mailbox: Path) -> None:
    simulation = asked(mailbox, "initialize", "--simulation", locality=PL1)
    child = asked(
        mailbox,
        *("derive", "--handle", simulation["handle"], "--measurement", "11" * 48),
        *("--type", 5, "--flag", "retain-parent-context"),
        locality=PL1,
    )
    parent = child["parent_handle"]
    updated = asked(
        mailbox,
        *("update", "--parent", parent, "--measurement", "22" * 48, "--type", 5),
        locality=PL1,
    )
    assert len({child["handle"], parent, updated["handle"], updated["parent_handle"]}) == 4
    asked(mailbox, "destroy", "--handle", updated["parent_handle"], locality=PL1)
    error = asked(mailbox, "initialize", code=1)
    assert "argument-not-supported" in error["error"]["what"]


def test_certificates_and_their_chain_in_both_profiles(mailbox: Path, tmp_path: Path) -> None:
    for profile in ("p384", "mldsa87"):
        options = ["rot", "invoke", "--mailbox", str(mailbox), "--locality", str(PL0)]
        arguments = [*options, "--profile", profile]
        leaf, chain = tmp_path / "leaf.der", tmp_path / "chain.der"
        for command in (["certify", "--out", str(leaf)], ["chain", "--out", str(chain)]):
            result = CliRunner().invoke(main, [*arguments, *command])
            assert result.exit_code == 0, result.output
        certificate = x509.load_der_x509_certificate(leaf.read_bytes())
        data = chain.read_bytes()
        while data:
            size = 4 + int.from_bytes(data[2:4], "big")
            issuer = x509.load_der_x509_certificate(data[:size])
            data = data[size:]
        certificate.verify_directly_issued_by(issuer)


def test_what_the_mailbox_refuses_is_one_clear_error(mailbox: Path) -> None:
    error = asked(mailbox, "certify", code=1, locality=PL1)
    assert "RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL" in error["error"]["what"]
    assert error["error"]["code"] == "0x000e0016"
    shown = run(mailbox, "certify", code=1, locality=PL1)
    assert "error:" in shown.stderr
    for arguments in (
        ("destroy",),
        ("destroy", "--handle", "11"),
        ("derive", "--measurement", "xx"),
        ("derive", "--measurement", "11" * 48, "--type", "many"),
        ("derive", "--measurement", "11" * 48, "--flag", "unheard-of"),
        ("sign", "--digest", "11" * 47),
    ):
        run(mailbox, *arguments, code=2)


def test_no_dpe_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    error = asked(nowhere, "profile", code=1)
    assert "no DPE answers here" in error["error"]["what"]
    result = CliRunner().invoke(main, ["rot", "invoke", "profile"])
    assert result.exit_code == 2
    assert "--mailbox SOCKET or --simulator SOCKET" in result.output


def test_a_simulator_answers_the_same_commands(tmp_path: Path) -> None:
    path = tmp_path / "simulator"
    code = "from casemate.cli.dpe_simulator import main_p384; main_p384()"
    command = [sys.executable, "-c", code, "--socket", str(path), "--supports-auto-init"]
    process = subprocess.Popen([*command, "--supports-cdi-export"], text=True)
    try:
        wait_for(process, path)
        options = ["rot", "invoke", "--simulator", str(path)]
        result = CliRunner().invoke(main, [*options, "profile"])
        assert result.exit_code == 0, result.output
        assert "auto_init" in result.stdout
        flags = ("--flag", "export-cdi", "--flag", "create-certificate")
        derive = [*options, "derive", "--measurement", "11" * 48, *flags, "--json"]
        exported = json.loads(CliRunner().invoke(main, derive).stdout)
        certificate = x509.load_der_x509_certificate(bytes.fromhex(exported["certificate"]))
        assert "DPE Exported CDI" in certificate.subject.rfc4514_string()
    finally:
        process.terminate()
        assert process.wait(10) == 0


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["rot", "serve", *map(str, arguments)])


def test_serve_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    bad = tmp_path / "bundle.bin"
    bad.write_bytes(b"garbage" * 5000)
    for arguments, code, what in (
        (["--socket", tmp_path / "s", "--bundle", bad], 1, "the device does not boot it"),
        (["--socket", tmp_path / "s", "--bundle", tmp_path / "none"], 1, "cannot be read"),
        (["--socket", tmp_path / "no" / "s"], 1, "cannot serve"),
        (["--socket", tmp_path / "s", "--device", tmp_path, "--fuses", "x"], 2, "its own fuses"),
        ([], 2, "--socket"),
    ):
        result = serve(*arguments)
        assert result.exit_code == code, result.output
        assert what in " ".join(result.output.split())
