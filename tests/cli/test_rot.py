"""`casemate rot`: what a person or a program at the command line sees."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from casemate.cli.main import main
from casemate.formats import cose, eat, pcr_quote
from casemate.formats.key_binding import key_binding
from casemate.rot.fuse_file import encode
from casemate.rot.fuses import DEFAULT_FUSES, PqcKeyType
from casemate.rot.mailbox.server import MailboxServer
from tests.rot.bundle import parts
from tests.rot.devices import golden
from tests.rot.mailbox import devices

NONCE = "00" * 32


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["rot", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def asked(*arguments: object, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "bundle.bin"
    path.write_bytes(parts.good(PqcKeyType.MLDSA))
    return path


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    fuses = parts.fuses_for(bundle.read_bytes())
    path = tmp_path_factory.mktemp("device") / "device"
    run(
        *("manufacture", path),
        *("--vendor-pk-hash", fuses.vendor_pk_hash.hex()),
        *("--owner-pk-hash", fuses.owner_pk_hash.hex()),
    )
    return path


# --- manufacture, fuses, burn ---------------------------------------------------------------


def test_manufacture_reports_and_keeps_its_manufacturer(tmp_path: Path) -> None:
    first = asked("manufacture", tmp_path / "one", "--serial", "ab" * 16)
    assert first["ueid"] == "01" + "ab" * 16
    assert (first["lifecycle"], first["anchor"]) == ("production", "file")
    assert first["manufacturer_made"] is True
    second = asked("manufacture", tmp_path / "two")
    assert second["manufacturer_made"] is False
    again = asked("manufacture", tmp_path / "two", code=1)
    assert "not empty" in again["error"]["what"]
    text = run("manufacture", tmp_path / "three", "--pqc", "lms").stdout
    assert "anchor" in text


def test_fuses_of_a_device_a_file_and_the_default(device: Path, tmp_path: Path) -> None:
    shown = asked("fuses", device)
    assert shown["lifecycle"] == "production"
    assert asked("fuses", device / "fuses.json") == shown
    assert asked("fuses", "default")["uds_seed"] == DEFAULT_FUSES.uds_seed.hex()
    assert "uds seed" in run("fuses", "default").stdout
    (tmp_path / "f").write_text("{}")
    assert "no fuse file" in asked("fuses", tmp_path / "f", code=1)["error"]["what"]


def test_burn_only_rises(tmp_path: Path) -> None:
    device = tmp_path / "device"
    run("manufacture", device)
    changed = asked("burn", device, "--firmware-svn", 3, "--revoke-ecc", 1)
    assert set(changed) == {"firmware_svn_fuse", "ecc_revocation"}
    assert changed["ecc_revocation"] == [0, 2]
    assert asked("burn", device, "--revoke-ecc", 0)["ecc_revocation"] == [2, 3]
    before = (device / "fuses.json").read_bytes()
    error = asked("burn", device, "--firmware-svn", 2, "--revoke-lms", 5, code=1)["error"]
    assert "only rises: it is 3, asked for 2" in error["what"]
    assert (device / "fuses.json").read_bytes() == before
    assert "nothing changed" in run("burn", device, "--firmware-svn", 3).stdout
    assert "firmware_svn_fuse" in run("burn", device, "--firmware-svn", 4).stdout


def test_a_rolled_back_device_is_refused(tmp_path: Path) -> None:
    device = tmp_path / "device"
    run("manufacture", device)
    old = (device / "fuses.json").read_bytes()
    run("burn", device, "--firmware-svn", 3)
    (device / "fuses.json").write_bytes(old)
    error = asked("fuses", device, code=1)["error"]
    assert "rolled back" in error["what"]


# --- boot and what comes of it --------------------------------------------------------------


def test_boot_of_a_device_with_a_bundle(device: Path, bundle: Path) -> None:
    report = asked("boot", "--device", device, "--bundle", bundle)
    assert (report["state"], report["svn"], report["anchor"]) == ("runtime", 5, "file")
    codes = [event["code"] for event in report["journal"]]
    assert (codes[0], codes[-1]) == (257, 0x406)
    text = run("boot", "--device", device, "--bundle", bundle).stdout
    assert "cold reset complete" in text
    assert "runtime after" in text


def test_a_refused_bundle_names_its_public_code(device: Path, bundle: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(parts.flip(bundle.read_bytes(), 0))
    error = asked("boot", "--device", device, "--bundle", damaged, code=1)["error"]
    assert error["code"] == "0x000b0001"
    result = run("boot", "--device", device, "--bundle", damaged, code=1)
    assert "0x000b0001" in result.stderr
    missing = asked("boot", "--device", device, "--bundle", tmp_path / "no", code=1)["error"]
    assert "cannot be read" in missing["what"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("boot", "--device", "x"),
        ("boot", "--device", "x", "--fuses", "y", "--bundle", "z"),
        ("boot", "--bundle", "x", "--svn", "3"),
        ("boot", "--rt-digest", "00"),
        ("boot", "--rt-digest", "zz" * 48),
        ("boot", "--rom", "1.0"),
        ("quote",),
        ("quote", "--nonce", "00"),
        ("evidence", "--nonce", "00" * 7),
        ("evidence", "--nonce", "zz"),
    ],
)
def test_wrong_command_lines(arguments: tuple[str, ...]) -> None:
    run(*arguments, code=2)


def test_certs_are_the_golden_files(tmp_path: Path) -> None:
    report = asked("certs", "--fuses", "default", "--out", tmp_path / "certs")
    assert len(report["files"]) == 18
    for name in ("idevid_csr_ecc", "idevid_csr_mldsa", "ldevid_cert_ecc", "ldevid_cert_mldsa"):
        assert (tmp_path / "certs" / f"{name}.der").read_bytes() == golden(f"{name}.der")


def test_certs_of_a_fuse_file_and_of_a_device(device: Path, bundle: Path, tmp_path: Path) -> None:
    import dataclasses

    path = tmp_path / "fuses.json"
    fuses = dataclasses.replace(DEFAULT_FUSES, uds_seed=bytes(64))
    path.write_bytes(encode(fuses, 1))
    files = [row["file"] for row in asked("certs", "--fuses", path)["files"]]
    assert "idevid_csr_ecc.der" in files
    assert "idevid_cert_ecc.der" not in files  # nobody certified it
    rows = asked("certs", "--device", device, "--bundle", bundle)["files"]
    assert len(rows) == 18
    result = run("certs", "--device", device, "--bundle", bundle)
    assert "Casemate Manufacturer Ecc384 CA" in result.stdout
    assert "no firmware was named" in run("certs").stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    error = asked("certs", "--out", tmp_path / "file" / "x", code=1)["error"]
    assert "cannot be written" in error["what"]


def test_pcrs_and_log() -> None:
    values = asked("pcrs", "--rt-digest", "11" * 48)
    assert len(values) == 32
    assert values["2"] == values["3"] != asked("pcrs")["2"]
    report = asked("log", "--rt-digest", "11" * 48)
    assert report["replays"] is True
    assert [entry["id"] for entry in report["entries"]] == [1, 2, 3, 4, 6]
    assert report["entries"][4]["data"] == "11" * 48
    assert asked("log", "--rom", "2.1.2")["device_status_size"] == 17
    assert asked("log")["device_status_size"] == 18
    assert "FMC journey" in run("pcrs").stdout
    shown = run("log")
    assert "device status" in shown.stdout
    assert "the log replays to the PCRs" in shown.stderr


@pytest.mark.parametrize("algorithm", ["ecc", "mldsa"])
def test_quotes(algorithm: str, tmp_path: Path) -> None:
    out = tmp_path / "quote.bin"
    report = asked("quote", "--nonce", NONCE, "--algorithm", algorithm, "--out", out)
    quote = pcr_quote.decode(out.read_bytes())
    assert quote.signature.hex() == report["signature"]
    assert [value.hex() for value in quote.pcrs] == report["pcrs"]
    shown = run("quote", "--nonce", NONCE, "--algorithm", algorithm).stdout
    assert "signed by" in shown
    error = asked("quote", "--nonce", NONCE, "--out", tmp_path / "no" / "q", code=1)["error"]
    assert "cannot be written" in error["what"]


# --- evidence -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["ecc", "mldsa"])
def test_evidence_of_a_device(device: Path, bundle: Path, tmp_path: Path, algorithm: str) -> None:
    report = tmp_path / "report.cose"
    report.write_bytes(cose.encode(cose.Sign1(b"", b"payload", b"signature")))
    out = tmp_path / "token.cbor"
    where = ("--device", device, "--bundle", bundle, "--algorithm", algorithm)
    run("evidence", *where, "--nonce", "ab" * 16, "--key-report", report, "--out", out)
    message, tags = cose.decode(out.read_bytes())
    assert tags == eat.TOKEN_TAGS
    assert len(message.x5chain) == 5
    claims = eat.decode_claims(message.payload)
    assert claims[eat.NONCE] == b"\xab" * 16
    assert claims[eat.KEY_REPORT] == report.read_bytes()
    assert claims[eat.ANCHOR] == "file"
    # Without --out the token goes to standard output, for a pipe.
    piped = run("evidence", *where, "--nonce", "ab" * 16).stdout_bytes
    assert cose.decode(piped)[1] == eat.TOKEN_TAGS
    shown = asked("evidence", *where, "--nonce", "ab" * 16)
    assert cose.decode(bytes.fromhex(shown["token"]))[1] == eat.TOKEN_TAGS


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Path]:
    """The socket of a device that runs its firmware."""
    path = tmp_path / "mailbox.socket"
    with MailboxServer(devices.running().mailbox, path, timeout=5.0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.stop()
        thread.join(10)


def test_evidence_of_a_running_device(mailbox: Path, device: Path, tmp_path: Path) -> None:
    asks = ("--mailbox", mailbox, "--user", hex(devices.PL0), "--nonce", "ab" * 16)
    message, _ = cose.decode(bytes.fromhex(asked("evidence", *asks)["token"]))
    assert len(message.x5chain) == 4
    assert eat.decode_claims(message.payload)[eat.ANCHOR] == "unknown"
    named = bytes.fromhex(asked("evidence", *asks, "--device", device)["token"])
    assert eat.decode_claims(cose.decode(named)[0].payload)[eat.ANCHOR] == "file"
    (tmp_path / "p.der").write_bytes(message.x5chain[1])
    shown = asked("binding", *asks, "--partition", tmp_path / "p.der")
    assert bytes.fromhex(shown["leaf_certificate"]) == message.x5chain[0]
    stranger = ("--mailbox", mailbox, "--user", 99, "--nonce", "ab" * 16)
    assert "what" in asked("evidence", *stranger, code=1)["error"]
    nobody = ("--mailbox", tmp_path / "none", "--nonce", "ab" * 16)
    assert "no device answers" in asked("evidence", *nobody, code=1)["error"]["what"]


def test_the_binding_of_a_partitions_report(tmp_path: Path) -> None:
    run("certs", "--out", tmp_path)
    partition = tmp_path / "rt_alias_cert_ecc.der"
    shown = asked("binding", "--nonce", "ab" * 16, "--partition", partition)
    from casemate.formats import x509

    leaf = x509.read_certificate(bytes.fromhex(shown["leaf_certificate"])).spki
    key = x509.read_certificate(partition.read_bytes()).spki
    assert shown["report_data"] == key_binding(b"\xab" * 16, leaf, key).hex()
    token = asked("evidence", "--nonce", "ab" * 16)["token"]
    message, _ = cose.decode(bytes.fromhex(token))
    assert x509.read_certificate(message.x5chain[0]).spki == leaf
    assert "report data" in run("binding", "--nonce", "ab" * 16, "--partition", partition).stdout


def test_a_key_report_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"garbage")
    error = asked("evidence", "--nonce", NONCE, "--key-report", tmp_path / "r", code=1)["error"]
    assert "no COSE_Sign1" in error["what"]
    error = asked("evidence", "--nonce", NONCE, "--key-report", tmp_path / "no", code=1)["error"]
    assert "cannot be read" in error["what"]


def test_dpe(tmp_path: Path) -> None:
    out = tmp_path / "leaf.der"
    report = asked("dpe", "--stash", "modu=" + "11" * 48, "--out", out)
    assert [context["type"] for context in report["contexts"]] == ["RTMR", "CCIV", "modu"]
    assert report["contexts"][2]["current"] == "11" * 48
    assert out.read_bytes().hex() == report["certificate"]
    assert "csr" in asked("dpe", "--csr", "--algorithm", "mldsa")
    shown = run("dpe")
    assert "RTMR" in shown.stdout
    assert "certificate of the leaf" in shown.stderr
    run("dpe", "--stash", "modu=11", code=2)
    error = asked("dpe", "--stash", "x!!x=" + "11" * 48, "--out", tmp_path / "n" / "o", code=1)
    assert "cannot be written" in error["error"]["what"]


def test_help_of_every_command() -> None:
    shown = run("--help").stdout
    for name in ("manufacture", "fuses", "burn", "boot", "certs", "pcrs", "log", "quote"):
        assert name in shown
        assert "--json" in run(name, "--help").stdout
