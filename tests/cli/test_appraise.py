"""`casemate appraise` and `casemate policy`: exit codes, what a person reads, what programs get."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from casemate.attestation.appraisal import result as results
from casemate.attestation.states import State
from casemate.cli.main import main
from casemate.hsm.client import Algorithm as KeyAlgorithm
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.verifiers import good_corim, host
from tests.rot.devices import firmware
from tests.running_module import RunningModule

AT = ("--at", "2026-11-25T12:00:00Z")
NONCE = ("--nonce", hosts.NONCE.hex())


def run(*arguments: object, code: int) -> Result:
    done = CliRunner().invoke(main, [*map(str, arguments)])
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good evidence, that of a host with other firmware, the anchor, reference values."""
    folder = tmp_path_factory.mktemp("evidence")
    (folder / "good.cbor").write_bytes(host().token())
    other = hosts.boot(5, code=firmware(rt=b"another runtime"))
    (folder / "other.cbor").write_bytes(other.token())
    (folder / "ca.der").write_bytes(hosts.manufacturer_certificate(Algorithm.ECC))
    (folder / "good.corim").write_bytes(good_corim())
    (folder / "noise").write_bytes(b"\xff\x00noise")
    return folder


def given(files: Path, *, policy: str = "development") -> tuple[object, ...]:
    return (
        *("-e", files / "ca.der", "-r", files / "good.corim", "--policy", policy),
        *AT,
        *NONCE,
    )


@pytest.mark.parametrize(
    ("evidence", "policy", "code", "state"),
    [
        ("good.cbor", "development", 0, "affirming"),
        ("good.cbor", "default", 10, "warning"),
        ("other.cbor", "development", 11, "contraindicated"),
        ("noise", "development", 11, "contraindicated"),
    ],
)
def test_the_exit_code_is_the_state(
    files: Path, evidence: str, policy: str, code: int, state: str
) -> None:
    done = run("appraise", files / evidence, *given(files, policy=policy), code=code)
    assert state.upper() in done.output.splitlines()[0]


def test_without_an_anchor_nothing_is_said_about_the_host(files: Path) -> None:
    done = run("appraise", files / "good.cbor", *AT, code=12)
    assert "COULD-NOT-APPRAISE" in done.output.splitlines()[0]
    assert "to do: give the manufacturer's certificate" in done.output


def test_the_first_lines_say_what_differs(files: Path) -> None:
    done = run("appraise", files / "other.cbor", *given(files), code=11)
    first = "\n".join(done.output.splitlines()[:4])
    assert "do not trust this host" in first
    assert "runtime: runtime firmware differs" in first
    assert "met their reference values" in done.output


def test_json_is_the_whole_verdict(files: Path) -> None:
    done = run("appraise", files / "other.cbor", *given(files), "--json", code=11)
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["version"] == 1
    assert document["state"] == "contraindicated"
    assert document["nonce"] == hosts.NONCE.hex()
    assert document["at"] == "2026-11-25T12:00:00Z"
    assert len(document["references"]) == 64
    assert len(document["evidence"][0]["digest"]) == 64
    runtime = next(part for part in document["components"] if part["name"] == "runtime")
    assert runtime["trustworthiness_vector"]["executables"] == 96
    assert [clause["name"] for clause in runtime["clauses"]] == ["mismatch"]
    differing = [claim for claim in runtime["claims"] if claim["comparison"] == "differs"]
    assert differing[0]["expected"]
    assert differing[0]["found"]


def test_a_file_that_cannot_be_used_is_named(files: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    done = run("appraise", files / "good.cbor", "-e", bad, code=1)
    assert str(bad) in done.output.replace("\n", "")


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_a_signed_result_can_be_verified(files: Path, tmp_path: Path, form: str) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    out = tmp_path / "result"
    signing = ("--ear", form, "--sign-key", pem, "--out", out)
    run("appraise", files / "good.cbor", *given(files), *signing, code=0)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    read = results.verify(out.read_bytes(), trusted=[spki], at=datetime.now(UTC))
    assert read.state is State.AFFIRMING
    assert read.verdict is not None
    assert read.verdict["nonce"] == hosts.NONCE.hex()


def test_a_key_in_a_partition_signs_a_result(
    files: Path, tmp_path: Path, shared_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shared_module.connect() as web:
        spki = web.generate(
            KeyAlgorithm.P384, label="results", stored=True
        ).public.public_key_info()
    monkeypatch.setenv("CASEMATE_SOCKETS", str(shared_module.folders.runtime))
    out = tmp_path / "result"
    signing = ("--ear", "jwt", "--sign-key", "pkcs11:token=web;object=results", "--out", out)
    run("appraise", files / "good.cbor", *given(files), *signing, code=0)
    read = results.verify(out.read_bytes(), trusted=[spki], at=datetime.now(UTC))
    assert read.state is State.AFFIRMING
    absent = ("--ear", "jwt", "--sign-key", "pkcs11:token=web;object=absent", "--out", out)
    done = run("appraise", files / "good.cbor", *given(files), *absent, code=1)
    assert "no key with label 'absent'" in done.output.replace("\n", " ")


def test_an_ear_needs_its_key(files: Path) -> None:
    run("appraise", files / "good.cbor", "--ear", "jwt", code=2)


def test_many_hosts_are_summed_up(files: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hosts"
    (folder / "host-1").mkdir(parents=True)
    (folder / "host-1" / "token").write_bytes((files / "good.cbor").read_bytes())
    (folder / "host-2").write_bytes((files / "other.cbor").read_bytes())
    lines = tmp_path / "more.jsonl"
    lines.write_text(
        "\n".join(
            json.dumps({"name": name, "evidence": [base64.b64encode(data).decode()]})
            for name, data in (("host-3", b"noise"), ("host-4", host().token()))
        )
    )
    out = tmp_path / "verdicts.jsonl"
    options = ("--bulk", "--workers", 2, "--out", out)
    done = run("appraise", folder, lines, *given(files), *options, "--json", code=11)
    summary = json.loads(done.stdout)
    assert summary["hosts"] == 4
    assert summary["states"]["affirming"] == 2
    assert summary["names"] == {"contraindicated": ["host-2", "host-3"]}
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["correlation_id"] for line in written] == [f"host-{n}" for n in (1, 2, 3, 4)]
    shown = run("appraise", folder, *given(files), "--bulk", code=11).output
    assert "2 hosts appraised" in shown
    assert "host-2" in shown


# --- policy -----------------------------------------------------------------------------------

TESTS = """
policy = "{policy}"

[[test]]
name = "an unlocked device is refused"
component = "device"
facts = {{ debug_locked = false, ueid = {{ hex = "00ff" }} }}
state = "contraindicated"
clauses = ["debug-unlocked"]

[[test]]
name = "what met its values is affirmed"
component = "fmc"
claims = [{{ label = "FMC", comparison = "met" }}]
state = "{state}"
"""


def test_policies_are_tested_by_files(tmp_path: Path) -> None:
    tests = tmp_path / "tests.toml"
    tests.write_text(TESTS.format(policy="default", state="affirming"))
    assert "2 of 2 tests passed" in run("policy", "test", tests, code=0).output
    tests.write_text(TESTS.format(policy="default", state="warning"))
    done = run("policy", "test", tests, code=3)
    assert "expected warning, found affirming" in done.output
    assert "1 of 2 tests passed" in done.output


def test_a_policy_of_ones_own_is_found_beside_its_tests(tmp_path: Path) -> None:
    run("policy", "show", "default", "--source", code=0)
    own = tmp_path / "own.toml"
    own.write_text('name = "own"\nversion = "1"\nextends = "default"\n')
    tests = tmp_path / "tests.toml"
    tests.write_text(TESTS.format(policy="own.toml", state="affirming"))
    run("policy", "test", tests, code=0)
    shown = json.loads(run("policy", "show", own, "--json", code=0).stdout)
    assert "debug-unlocked" in [clause["name"] for clause in shown["clauses"]]
    assert run("policy", "lint", own, code=0).output == "nothing to remark\n"


def test_lint_remarks_on_what_is_probably_wrong(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'name = "own"\nversion = "1"\n[[clause]]\nname = "svn"\nwhen = "facts.svn < 3"\n'
        'state = "warning"\nsentence = "old"\n'
    )
    remarks = json.loads(run("policy", "lint", own, "--json", code=3).stdout)["remarks"]
    assert any("has(facts.svn)" in remark for remark in remarks)
    assert any("differ" in remark for remark in remarks)
