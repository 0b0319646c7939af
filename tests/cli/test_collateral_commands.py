"""`casemate collateral` and `casemate appraise --collateral`, against a local server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from casemate.cli.main import main
from casemate.formats.sev_snp import Product
from tests.attestation.authorities import spki_of
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.vendor_services import Vendors, pem, serving

SNP = Platform()


def run(*arguments: str | Path, folder: Path | None = None) -> Result:
    environment = {"CASEMATE_COLLATERAL": str(folder)} if folder else {}
    return CliRunner().invoke(main, list(map(str, arguments)), env=environment)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    file = tmp_path / "report.bin"
    file.write_bytes(SNP.evidence().data)
    return file


def _root_key(tmp_path: Path) -> Path:
    file = tmp_path / "root.der"
    file.write_bytes(spki_of(SNP.ark.key))
    return file


def test_fetch_carry_and_appraise(report: Path, tmp_path: Path) -> None:
    online, offline = tmp_path / "online", tmp_path / "offline"
    with serving(Vendors(snp=(SNP,))) as base:
        host = base.removeprefix("http://")
        fetched = run(
            *("collateral", "fetch", report, "--amd-url", base, "--plain-host", host, "--json"),
            folder=online,
        )
    assert fetched.exit_code == 0, fetched.output
    assert [item["kind"] for item in json.loads(fetched.output)["items"]] == [
        "vcek",
        "amd-chain",
        "amd-crl",
    ]
    bundle = tmp_path / "bundle.tar"
    exported = run("collateral", "export", bundle, "--json", folder=online)
    assert json.loads(exported.output)["items"] == 3
    imported = run("collateral", "import", bundle, folder=offline)
    assert "3 items imported" in imported.output
    listed = json.loads(run("collateral", "list", "--json", folder=offline).output)
    assert {item["kind"] for item in listed["items"]} == {"vcek", "amd-chain", "amd-crl"}
    assert listed["broken"] == [] and all(item["valid"] for item in listed["items"])

    def appraise(folder: Path) -> int:
        arguments = ("appraise", report, "--anchor", _root_key(tmp_path), "--at", "2026-06-01")
        return run(*arguments, folder=folder).exit_code

    assert appraise(offline) == 10
    assert appraise(tmp_path / "empty") == 12


def test_what_cannot_be_had_is_told(report: Path, tmp_path: Path) -> None:
    with serving(Vendors()) as base:
        host = base.removeprefix("http://")
        arguments = ("collateral", "fetch", report, "--amd-url", base, "--plain-host", host)
        answer = run(*arguments, "--json", folder=tmp_path / "store")
        told = run(*arguments, folder=tmp_path / "store")
    assert answer.exit_code == told.exit_code == 1
    missing = json.loads(answer.output)["missing"]
    assert [entry["kind"] for entry in missing] == ["vcek", "amd-chain", "amd-crl"]
    assert "missing: collateral cannot be fetched: vcek Milan/" in told.output
    assert run("collateral", "fetch", folder=tmp_path).exit_code == 2


def test_files_are_imported_and_keys_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    chain = tmp_path / "chain.pem"
    chain.write_bytes(pem(*(found.data for found in SNP.endorsements().certificates)))
    assert "3 items imported" in run("collateral", "import", chain, folder=folder).output
    shown = run("collateral", "list", "--at", "2050-01-01", folder=folder).output
    assert shown.count("ended 2045-01-01") == 3
    refused = run("collateral", "import", _root_key(tmp_path), folder=folder)
    assert refused.exit_code == 1 and "anchor" in refused.output
    nothing = run("collateral", "export", tmp_path / "b", "--kind", "tdx", folder=folder)
    assert nothing.exit_code == 1 and "nothing to export" in nothing.output
    assert not (tmp_path / "b").exists()


def test_a_chain_by_product(tmp_path: Path) -> None:
    with serving(Vendors(snp=(Platform(Product.GENOA),))) as base:
        host = base.removeprefix("http://")
        arguments = ("collateral", "fetch", "--amd", "Genoa", "--amd-url", base)
        answer = run(*arguments, "--plain-host", host, "--json", folder=tmp_path)
    assert [item["key"] for item in json.loads(answer.output)["items"]] == ["Genoa/vcek"] * 2
