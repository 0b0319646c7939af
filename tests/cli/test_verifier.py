"""`casemate verifier`: from an empty folder to a trusted host, by commands alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from casemate.attestation.appraisal import policy, result
from casemate.attestation.states import State
from casemate.hsm.client import Algorithm as KeyAlgorithm
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.vendor_services import Vendors
from tests.attestation.vendor_services import serving as vendors
from tests.attestation.verifiers import good_corim, host
from tests.running_module import RunningModule

_CASEMATE = [sys.executable, "-m", "casemate.cli.main", "verifier"]


@dataclass
class Commands:
    """The commands against one running service."""

    folder: Path
    url: str

    def run(self, *words: object, by: str = "", code: int = 0) -> Any:
        """Run a command with the token of `by`; returns its JSON, or its text."""
        environment = {**os.environ, "CASEMATE_VERIFIER_URL": self.url}
        environment["CASEMATE_VERIFIER_TOKEN"] = self.token(by) if by else ""
        done = subprocess.run(
            [*_CASEMATE, *map(str, words)], capture_output=True, text=True, env=environment,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        return json.loads(done.stdout) if "--json" in words else done.stdout + done.stderr

    def token(self, name: str) -> str:
        """The token of a principal of this name and role; made once."""
        file = self.folder / f"{name}.token"
        if not file.exists():
            made = self.run("token", name, "--role", name, "--folder", self.folder, "--json")
            file.write_text(made["token"])
        return file.read_text()


@contextmanager
def serving(
    folder: Path, *options: object, environment: dict[str, str] | None = None
) -> Iterator[Commands]:
    """Run `casemate verifier serve` in a folder."""
    words = ("serve", "--folder", folder, "--port", 0, "--workers", 1, *options)
    process = subprocess.Popen(
        [*_CASEMATE, *map(str, words)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    try:
        yield Commands(folder, line.split()[2].rstrip(";"))
    finally:
        process.terminate()
        assert process.wait(30) == 0


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with serving(tmp_path) as found:
        yield found


def test_a_module_signs_what_fetched_collateral_vouches_for(
    tmp_path: Path, shared_module: RunningModule
) -> None:
    """A report, its chip's certificate from the vendor, and a result under a partition's key."""
    # Fetching goes by the real clock, and so does the report's chain.
    platform = Platform()
    with shared_module.connect() as web:
        made = web.generate(KeyAlgorithm.P384, label="results", stored=True)
        spki = made.public.public_key_info()
    root = tmp_path / "ark.der"
    root.write_bytes(platform.ark_certificate.data)
    folder = tmp_path / "v"
    with (
        vendors(Vendors(snp=(platform,))) as base,
        serving(
            folder,
            *("--signing-key", "pkcs11:token=web;object=results"),
            *("--collateral", tmp_path / "collateral", "--fetch-collateral"),
            *("--amd-url", base, "--plain-host", base.removeprefix("http://")),
            environment=shared_module.environment(),
        ) as commands,
    ):
        commands.run("add", "anchor", "amd", root, "--activate", by="administrator")
        issued = commands.run("challenge", "--json", by="attester")
        report, passport = tmp_path / "report", tmp_path / "passport"
        nonce = bytes.fromhex(issued["nonce"])
        report.write_bytes(platform.evidence(report_data=nonce.ljust(64, b"\0")).data)
        done = commands.run(
            "submit", report, "--challenge", issued["id"], "--result", passport, "--json",
            by="attester", code=10,
        )  # fmt: skip
        assert done["verdict"]["components"][0]["facts"]["revocation_checked"]
        (shown,) = commands.run("key", "list", "--folder", folder, "--json")
        assert shown["key"] == result.key_id(spki)
    read = result.verify(passport.read_text().strip(), trusted=[spki], at=datetime.now(UTC))
    assert read.state is State.WARNING
    kinds = {path.parent.name for path in (tmp_path / "collateral" / "items").rglob("*.json")}
    assert kinds == {"vcek", "amd-chain", "amd-crl"}


def test_the_keys_of_results(commands: Commands) -> None:
    (shown,) = commands.run("key", "list", "--folder", commands.folder, "--json")
    assert shown["state"] == "signs" and shown["until"] is None
    told = commands.run("key", "withdraw", shown["key"], "--folder", commands.folder, code=1)
    assert "another key first" in told.replace("\n", " ")


def test_the_service_does_not_start_without_its_key(tmp_path: Path) -> None:
    for uri, words in {
        "pkcs11:token=nowhere;object=results": "nowhere",
        "pkcs11:object=results": "name partition and key",
    }.items():
        done = subprocess.run(
            [*_CASEMATE, "serve", "--folder", tmp_path, "--port", "0", "--signing-key", uri],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1 and words in done.stderr


def test_from_an_empty_folder_to_a_trusted_host(commands: Commands, tmp_path: Path) -> None:
    anchor, reference, rules = (tmp_path / name for name in ("ca.der", "good.corim", "policy"))
    anchor.write_bytes(hosts.manufacturer_certificate(Algorithm.ECC))
    reference.write_bytes(good_corim())
    rules.write_bytes(policy.built_in_text("development"))
    admin: dict[str, Any] = {"by": "administrator"}
    for kind, file in (("anchor", anchor), ("reference", reference), ("policy", rules)):
        commands.run("add", kind, "first", file, "--activate", **admin)
    assert [each["name"] for each in commands.run("list", "policy", "--json", **admin)] == ["first"]
    assert commands.run("epochs", "--json", **admin)["epoch"] == 3

    issued = commands.run("challenge", "--json", by="attester")
    evidence, passport = tmp_path / "evidence", tmp_path / "passport"
    evidence.write_bytes(host(1).token(nonce=bytes.fromhex(issued["nonce"])))
    done = commands.run(
        "submit", evidence, "--challenge", issued["id"], "--result", passport, "--json",
        by="attester",
    )  # fmt: skip
    assert done["verdict"]["state"] == "affirming"
    name = done["verdict"]["host"]["name"]
    assert passport.read_text().count(".") == 2
    assert "nonce-used" not in commands.run(
        "submit", evidence, "--challenge", issued["id"], by="attester", code=1
    )

    trust = commands.run("host", "show", name, "--json", by="relying-party")
    assert (trust["trust"], trust["appraisal"]) == ("affirming", done["id"])

    folder: tuple[Any, ...] = ("--folder", commands.folder)
    again = commands.run("reprove", done["id"], *folder, "--json")
    assert again["holds"] and again["made"] == done["verdict"]
    material = tmp_path / "material"
    assert "word for word" in commands.run("reprove", done["id"], *folder, "--out", material)
    appraised = subprocess.run(
        [*_CASEMATE[:-1], "appraise", material / "evidence", "--at", done["verdict"]["at"],
         "--anchor", material / "anchors", "--nonce", issued["nonce"], "--policy",
         material / "policy" / "1", "--reference", material / "references", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    by_hand = json.loads(appraised.stdout)
    same = ("state", "reasons", "policy", "references", "host")
    assert {name: by_hand[name] for name in same} == {name: again["kept"][name] for name in same}
    fetched = tmp_path / "fetched"
    commands.run("appraisal", "material", done["id"], "--out", fetched, by="relying-party")
    both = [
        {path.relative_to(base): path.read_bytes() for path in base.rglob("*") if path.is_file()}
        for base in (material, fetched)
    ]
    assert both[0] == both[1] and len(both[0]) == 5
    refused = commands.run(
        "appraisal", "material", done["id"], "--out", tmp_path / "no", by="attester", code=1
    )
    assert "role" in refused
    told = commands.run("reprove", "0-1", *folder, code=1)
    assert "no appraisal" in told.replace("\n", " ")
    assert name in commands.run("host", "list", "--state", "affirming", by="relying-party")
    assert done["id"] in commands.run("appraisal", "list", "--host", name, by="relying-party")
    assert "affirming" in commands.run("appraisal", "show", done["id"], by="relying-party")

    made = commands.run("principal", "add", "web-7", "--role", "attester", "--json", **admin)
    assert made["token"].startswith("cmv_")
    assert "web-7" in commands.run("principal", "list", **admin)
    assert "token" not in commands.run("principal", "list", "--json", **admin)[0]
    commands.run("principal", "remove", "web-7", **admin)
    commands.run("principal", "remove", "web-7", code=1, **admin)
    commands.run("host", "own", name, "attester", **admin)
    commands.run("host", "forget", "idevid:0", code=1, **admin)

    commands.run("deactivate", "policy", "first", "1", **admin)
    issued = commands.run("challenge", "--json", by="attester")
    evidence.write_bytes(b"rubbish")
    shown = commands.run("submit", evidence, "--challenge", issued["id"], by="attester", code=11)
    assert "contraindicated" in shown
    assert "7 bytes" in shown
    assert commands.run("status", "--json")["ready"] is True


def test_errors_say_what_to_do(commands: Commands) -> None:
    error = commands.run("host", "list", "--json", code=1)["error"]
    assert "names no principal" in error["what"]
    assert "casemate verifier token" in error["advice"]
    commands.url = "http://127.0.0.1:1"
    error = commands.run("status", "--json", code=1)["error"]
    assert error["state"] == "could-not-appraise"
    assert "expected such as" in commands.run("serve", "--maximum-age", "soon", code=2)
