"""`casemate reference`: from a release's files to values that an appraisal uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa

from casemate.cli.main import main
from casemate.cli.pkcs11_path import library
from casemate.formats.corim import manifest
from casemate.formats.corim.comid import Comid
from casemate.formats.corim.manifest import SignedCorim
from casemate.hsm.client.algorithms import Algorithm
from tests.attestation.reference import making
from tests.attestation.reference.test_release import released
from tests.running_module import RunningModule


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["reference", *map(str, arguments)])


def ok(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with bundle, SoC manifest and signing keys."""
    made = released()
    (tmp_path / "bundle").write_bytes(made.bundle)
    (tmp_path / "manifest").write_bytes(made.manifest)
    for name, key in (
        ("ecc", ec.generate_private_key(ec.SECP384R1())),
        ("mldsa", mldsa.MLDSA87PrivateKey.generate()),
    ):
        (tmp_path / f"{name}.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return tmp_path


def generate(files: Path, key: str = "ecc", *more: object) -> Any:
    return ok(
        "generate",
        files / "bundle",
        "--manifest",
        files / "manifest",
        "--key",
        files / f"{key}.pem",
        "--out",
        files / "r.corim",
        "--public-key-out",
        files / "public.pem",
        *more,
    )


@pytest.mark.parametrize("key", ["ecc", "mldsa"])
def test_a_release_becomes_a_signed_manifest_in_a_folder(files: Path, key: str) -> None:
    made = generate(files, key)
    assert len(made["values"]) == 13
    store = files / "store"
    (first,) = ok("import", files / "r.corim", "--store", store, "--signer", files / "public.pem")
    assert first["new"]
    assert Path(first["path"]).read_bytes() == (files / "r.corim").read_bytes()
    # The signer is known from now on.
    (again,) = ok("import", files / "r.corim", "--store", store)
    assert (again["new"], again["path"]) == (False, first["path"])
    listed = ok("list", "--store", store)
    (tag,) = listed["tags"]
    assert (tag["tag"], tag["in_force"], tag["version"]) == (made["tag"], True, 0)
    shown = ok("show", made["tag"], "--store", store)
    assert shown[0]["triples"] == tag["triples"]
    assert (
        shown
        == ok("show", files / "store" / Path(first["path"]).name, "--signer", files / "public.pem")
        or shown[0]["triples"]
    )


def test_the_content_of_the_manifest(files: Path) -> None:
    generate(files, "ecc", "--id", "own", "--tag-version", 3, "--replaces", "old", "--days", 10)
    read = manifest.decode((files / "r.corim").read_bytes())
    assert isinstance(read, SignedCorim)
    (tag,) = read.corim.tags
    assert isinstance(tag, Comid)
    assert (tag.identity.id, tag.identity.version) == ("own", 3)
    assert [(link.target, link.relation.name) for link in tag.linked_tags] == [("old", "REPLACES")]
    assert read.corim.validity is not None
    assert read.corim.validity.not_before is not None
    assert (read.corim.validity.not_after - read.corim.validity.not_before).days == 10
    assert read.signer is not None
    assert read.signer.validity == read.corim.validity


def test_people_can_read_it_all(files: Path) -> None:
    generate(files)
    result = run("show", files / "r.corim")
    assert result.exit_code == 0
    assert "the signature is not checked" in result.output
    assert "CALIPTRA_2_X_RT_FIRMWARE_INFO" in result.output
    assert "SVN at least 3" in result.output
    checked = run("show", files / "r.corim", "--signer", files / "public.pem")
    assert "public.pem" in checked.output
    empty = run("list", "--store", files / "none")
    assert "has no reference values" in empty.output
    run("import", files / "r.corim", "--store", files / "s", "-s", files / "public.pem")
    table = run("list", "--store", files / "s")
    assert "in force" in table.output
    later = run("list", "--store", files / "s", "--at", "2099-01-01T00:00:00Z")
    assert "not valid after" in later.output


def test_what_is_not_authentic_is_not_imported(files: Path) -> None:
    generate(files)
    store = files / "store"
    data = bytearray((files / "r.corim").read_bytes())
    data[300] ^= 1
    (files / "changed.corim").write_bytes(data)
    for file, more, message in (
        ("r.corim", (), "nobody is named who may sign"),
        ("changed.corim", ("-s", files / "public.pem"), "changed.corim"),
        ("bundle", ("-s", files / "public.pem"), "no CoRIM or CoMID"),
    ):
        result = run("import", files / file, "--store", store, *more, "--json")
        assert result.exit_code == 1
        assert message in json.loads(result.output)["error"]["what"]
    assert not store.exists()


def test_unsigned_manifests_are_taken_on_the_operators_word_alone(files: Path) -> None:
    file = making.unsigned(making.corim(making.tag([making.triple(making.values(1))])))
    (files / "u.corim").write_bytes(file.data)
    refused = run("import", files / "u.corim", "--store", files / "s")
    assert refused.exit_code == 1
    assert "not signed" in refused.output
    assert ok("import", files / "u.corim", "--store", files / "s", "--unsigned")
    changed = making.corim(making.tag([making.triple(making.values(2))]))
    (files / "v.corim").write_bytes(making.unsigned(changed).data)
    conflict = run("import", files / "v.corim", "--store", files / "s", "--unsigned")
    assert conflict.exit_code == 1
    assert "a changed tag needs a higher version" in " ".join(conflict.output.split())


def test_the_command_line_says_what_is_missing(files: Path) -> None:
    neither = run("generate", files / "bundle", "--out", files / "r.corim")
    assert neither.exit_code == 2
    assert "say who signs" in neither.output
    absent = run("show", "no-such-tag", "--store", files / "none")
    assert absent.exit_code == 1
    assert "no such file" in " ".join(absent.output.split())
    wrong = run("generate", files / "manifest", "--unsigned", "--out", files / "r.corim", "--json")
    assert "no firmware bundle" in json.loads(wrong.output)["error"]["what"]


def test_an_import_leaves_no_half_written_file(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(files)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("casemate.attestation.files.os.fsync", full)
    store = files / "store"
    result = run("import", files / "r.corim", "--store", store, "-s", files / "public.pem")
    assert result.exit_code == 1
    assert "No space left" in result.output
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_a_key_in_a_partition_signs(files: Path, shared_module: RunningModule) -> None:
    with shared_module.connect() as partition:
        partition.generate(Algorithm.P384, label="signer", stored=True)
    command = [
        sys.executable,
        "-m",
        "casemate.cli.main",
        "reference",
        "generate",
        str(files / "bundle"),
        "--key",
        f"pkcs11:token=web;object=signer?module-path={library()}",
        "--out",
        str(files / "r.corim"),
        "--public-key-out",
        str(files / "public.pem"),
    ]
    done = subprocess.run(
        command, env=shared_module.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (imported,) = ok(
        "import", files / "r.corim", "--store", files / "s", "-s", files / "public.pem"
    )
    assert imported["manifest"]["signed_by"] == str(files / "public.pem")
