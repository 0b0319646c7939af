"""`casemate bundle` and `casemate manifest` from the outside: files in, files and answers out."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from casemate.cli.main import main
from casemate.formats import firmware_bundle as fb
from casemate.rot import lms
from casemate.rot.lms_key import LmsKey
from tests.formats.test_elf_image import elf
from tests.rot.bundle.parts import small_tree


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def run_json(*arguments: object, code: int = 0) -> dict[str, Any]:
    answer = json.loads(run(*arguments, "--json", code=code).stdout)
    assert isinstance(answer, dict)
    return answer


@dataclass
class Workshop:
    """A folder with keys of a vendor and an owner, and two executables."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def build(self, *more: object, pqc: str = "vendor-mldsa.pem", svn: int = 7) -> dict[str, Any]:
        return run_json(
            *("bundle", "build", "--fmc", self / "fmc.bin", "--fmc-load", "0x40000000"),
            *("--runtime", self / "rt.bin", "--runtime-load", 0x40005000),
            *("--vendor-ecc", self / "vendor-ecc.pem", "--vendor-pqc", self / pqc),
            *("--svn", svn, "--out", self / "unsigned.bin", *more),
        )

    def sign(
        self, *, vendor_pqc: str = "vendor-mldsa.pem", owner_pqc: str = "owner-mldsa.pem"
    ) -> None:
        run(
            *("bundle", "sign", self / "unsigned.bin", "--out", self / "bundle.bin"),
            *("--vendor-ecc-key", self / "vendor-ecc.pem", "--vendor-pqc-key", self / vendor_pqc),
            *("--owner-ecc-key", self / "owner-ecc.pem", "--owner-pqc-key", self / owner_pqc),
        )

    def hashes(self, name: str = "bundle.bin") -> tuple[object, ...]:
        found = run_json("bundle", "inspect", self / name)
        return (
            *("--vendor-hash", found["vendor"]["hash"]),
            *("--owner-hash", found["owner"]["hash"]),
        )


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name, kind in (("ecc", "ecc"), ("mldsa", "mldsa")):
        for party in ("vendor", "owner"):
            run("bundle", "keygen", "--type", kind, "--out", tmp_path / f"{party}-{name}.pem")
    (tmp_path / "fmc.bin").write_bytes(b"fmc " * 100)
    (tmp_path / "rt.bin").write_bytes(b"rt!!" * 1000)
    return Workshop(tmp_path)


def test_from_keys_to_a_bundle_that_boots(workshop: Workshop) -> None:
    built = workshop.build("--not-before", "20260101000000Z", "--not-after", "20360101000000Z")
    assert not built["vendor"]["signed"]
    workshop.sign()
    answer = run_json("bundle", "verify", workshop / "bundle.bin", *workshop.hashes())
    assert answer["boots"] is True
    assert answer["measured"]["svn"] == 7
    assert answer["measured"]["fmc_digest"] == hashlib.sha384(b"fmc " * 100).hexdigest()
    said = run("bundle", "verify", workshop / "bundle.bin", *workshop.hashes()).stdout
    assert said.startswith("boots: ")


def test_lms_keys_are_directories_and_their_leaves_are_used_up(workshop: Workshop) -> None:
    for party in ("vendor", "owner"):
        LmsKey.create(workshop / f"{party}-lms", make_tree=small_tree)
    workshop.build(pqc="vendor-lms")
    workshop.sign(vendor_pqc="vendor-lms", owner_pqc="owner-lms")
    workshop.sign(vendor_pqc="vendor-lms", owner_pqc="owner-lms")
    assert run_json("bundle", "verify", workshop / "bundle.bin", *workshop.hashes())["boots"]
    signature = fb.LAYOUT["vendor_pqc_signature"].of((workshop / "bundle.bin").read_bytes())
    assert lms.LmsSignature.decode(signature[:1620]).leaf == 1
    assert run_json("bundle", "inspect", workshop / "bundle.bin")["vendor"]["lms_leaf"] == 1
    assert "owner (LMS leaf 1)" in run("bundle", "inspect", workshop / "bundle.bin").stdout
    moved = run_json(
        *("bundle", "move-key", workshop / "vendor-lms", "--first-leaf", 9, "--yes"),
    )
    assert moved["first_leaf"] == 9
    said = run("bundle", "move-key", workshop / "vendor-lms", "--first-leaf", 3, "--yes", code=1)
    assert "names 9 already" in said.stderr


def test_an_lms_key_looks_for_its_anchor_where_it_is_told(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASEMATE_LMS_ANCHORS", str(workshop / "vault"))
    for party in ("vendor", "owner"):
        LmsKey.create(workshop / f"{party}-lms", make_tree=small_tree)
    assert len(list((workshop / "vault").iterdir())) == 2
    workshop.build(pqc="vendor-lms")
    workshop.sign(vendor_pqc="vendor-lms", owner_pqc="owner-lms")
    monkeypatch.setenv("CASEMATE_LMS_ANCHORS", str(workshop / "elsewhere"))
    said = run(
        *("bundle", "resign", workshop / "bundle.bin", "--out", workshop / "x.bin"),
        *("--owner-ecc-key", workshop / "owner-ecc.pem"),
        *("--owner-pqc-key", workshop / "owner-lms"),
        code=1,
    )
    assert "which leaves were used is unknown" in said.stderr


def test_the_answer_no_has_the_public_name_code_and_exit_code_3(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    hashes = workshop.hashes()
    answer = run_json("bundle", "verify", workshop / "bundle.bin", *hashes, "--fuse-svn", 8, code=3)
    assert answer["boots"] is False
    assert answer["error"]["name"] == "IMAGE_VERIFIER_ERR_FIRMWARE_SVN_LESS_THAN_FUSE"
    assert answer["error"]["code"] == "0x000b002e"
    assert answer["error"]["detail"] == "expected 8 or more, found 7"
    said = run("bundle", "verify", workshop / "bundle.bin", *hashes, "--fuse-pqc", "lms", code=3)
    assert "PQC_KEY_TYPE_MISMATCH (0x000b005c)" in said.stdout


def test_without_fuses_there_is_no_question(workshop: Workshop) -> None:
    workshop.build()
    said = run("bundle", "verify", workshop / "unsigned.bin", code=2)
    assert "--fuses" in said.stderr


def test_the_default_fuses_are_unprovisioned_and_say_so(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    answer = run_json("bundle", "verify", workshop / "bundle.bin", "--fuses", "default")
    assert answer["boots"]
    assert any("unprovisioned" in remark for remark in answer["remarks"])


def test_an_update_reset_cannot_change_the_fmc(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    hashes = workshop.hashes()
    (workshop / "bundle.bin").rename(workshop / "cold.bin")
    (workshop / "rt.bin").write_bytes(b"newer runtime")
    workshop.build(svn=8)
    workshop.sign()
    update = ("bundle", "verify", workshop / "bundle.bin", *hashes)
    assert run_json(*update, "--update-from", workshop / "cold.bin")["boots"]
    (workshop / "fmc.bin").write_bytes(b"newer FMC too")
    workshop.build(svn=8)
    workshop.sign()
    answer = run_json(*update, "--update-from", workshop / "cold.bin", code=3)
    assert answer["error"]["name"] == "IMAGE_VERIFIER_ERR_UPDATE_RESET_FMC_DIGEST_MISMATCH"


def test_a_manufactured_device_boots_what_verify_says_it_boots(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    found = run_json("bundle", "inspect", workshop / "bundle.bin")
    device = workshop / "device"
    run(
        *("rot", "manufacture", device, "--vendor-pk-hash", found["vendor"]["hash"]),
        *("--owner-pk-hash", found["owner"]["hash"]),
    )
    bundle = workshop / "bundle.bin"
    answer = run_json("bundle", "verify", bundle, "--fuses", device)
    assert answer["boots"]
    assert run_json("bundle", "verify", bundle, "--fuses", device / "fuses.json")["boots"]
    assert run("rot", "boot", "--device", device, "--bundle", bundle)
    damaged = bytearray(bundle.read_bytes())
    damaged[fb.MANIFEST_SIZE] ^= 1
    bundle.write_bytes(damaged)
    answer = run_json("bundle", "verify", bundle, "--fuses", device, code=3)
    said = run("rot", "boot", "--device", device, "--bundle", bundle, code=1)
    assert answer["error"]["code"] == "0x000b0014"
    assert "0x000b0014" in said.stderr


def test_another_owner_signs_again_without_the_vendor(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    vendor_hash = workshop.hashes()[:2]
    before = (workshop / "bundle.bin").read_bytes()
    for kind in ("ecc", "mldsa"):
        run("bundle", "keygen", "--type", kind, "--out", workshop / f"second-{kind}.pem")
    run(
        *("bundle", "resign", workshop / "bundle.bin", "--out", workshop / "second.bin"),
        *("--owner-ecc-key", workshop / "second-ecc.pem"),
        *("--owner-pqc-key", workshop / "second-mldsa.pem"),
        *("--owner-not-before", "20260101000000Z", "--owner-not-after", "20270101000000Z"),
    )
    after = (workshop / "second.bin").read_bytes()
    vendor = fb.LAYOUT["vendor_ecc_signature"].start, fb.LAYOUT["vendor_pqc_signature"].end
    assert before[vendor[0] : vendor[1]] == after[vendor[0] : vendor[1]]
    assert workshop.hashes("second.bin")[:2] == vendor_hash
    old, new = workshop.hashes(), workshop.hashes("second.bin")
    assert run_json("bundle", "verify", workshop / "second.bin", *new)["boots"]
    answer = run_json("bundle", "verify", workshop / "second.bin", *old, code=3)
    assert answer["error"]["name"] == "IMAGE_VERIFIER_ERR_OWNER_PUB_KEY_DIGEST_MISMATCH"


def test_resign_wants_a_vendor_first(workshop: Workshop) -> None:
    workshop.build()
    said = run(
        *("bundle", "resign", workshop / "unsigned.bin", "--out", workshop / "x.bin"),
        *("--owner-ecc-key", workshop / "owner-ecc.pem"),
        *("--owner-pqc-key", workshop / "owner-mldsa.pem"),
        code=1,
    )
    assert "not signed by a vendor" in said.stderr
    assert not (workshop / "x.bin").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--vendor-ecc-key", "owner-ecc.pem", "--vendor-pqc-key", "vendor-mldsa.pem"), "active"),
        (("--vendor-ecc-key", "vendor-mldsa.pem", "--vendor-pqc-key", "owner-ecc.pem"), "expected"),
        (("--vendor-ecc-key", "missing.pem", "--vendor-pqc-key", "vendor-mldsa.pem"), "No such"),
        (("--vendor-ecc-key", "rt.bin", "--vendor-pqc-key", "vendor-mldsa.pem"), "no private key"),
    ],
)
def test_a_wrong_key_is_named_and_nothing_is_written(
    workshop: Workshop, options: tuple[str, ...], expected: str
) -> None:
    workshop.build()
    arguments = [each if each.startswith("--") else workshop / each for each in options]
    said = run(
        *("bundle", "sign", workshop / "unsigned.bin", "--out", workshop / "out.bin"),
        *arguments,
        code=1,
    )
    assert expected in said.stderr
    assert not (workshop / "out.bin").exists()


def test_half_a_pair_of_keys_is_a_usage_error(workshop: Workshop) -> None:
    workshop.build()
    said = run(
        *("bundle", "sign", workshop / "unsigned.bin", "--out", workshop / "out.bin"),
        *("--owner-ecc-key", workshop / "owner-ecc.pem"),
        code=2,
    )
    assert "two keys" in said.stderr


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("--fmc-load", "0x3ffffffc"), "ICCM"),
        (("--fmc-load", "0x40000002"), "multiples of 4"),
        (("--runtime-load", "0x40000004"), "over one another"),
        (("--runtime-entry", "0x50000000"), "outside of the ICCM"),
        (("--ecc-index", "1"), "0 to 0"),
        (("--not-before", "tomorrow"), "YYYYMMDD"),
    ],
)
def test_a_bundle_that_no_device_would_boot_is_not_built(
    workshop: Workshop, change: tuple[str, str], expected: str
) -> None:
    said = run(
        *("bundle", "build", "--fmc", workshop / "fmc.bin", "--fmc-load", "0x40000000"),
        *("--runtime", workshop / "rt.bin", "--runtime-load", "0x40005000"),
        *("--vendor-ecc", workshop / "vendor-ecc.pem"),
        *("--vendor-pqc", workshop / "vendor-mldsa.pem"),
        *("--svn", 1, "--out", workshop / "out.bin", *change),
        code=1,
    )
    assert expected in said.stderr


def test_an_elf_file_brings_its_addresses(workshop: Workshop) -> None:
    (workshop / "fmc.elf").write_bytes(elf((0x40000000, b"elf!" * 50), entry=0x40000004))
    arguments = (
        *("bundle", "build", "--fmc", workshop / "fmc.elf", "--runtime", workshop / "rt.bin"),
        *("--vendor-ecc", workshop / "vendor-ecc.pem"),
        *("--vendor-pqc", workshop / "vendor-mldsa.pem", "--svn", 1, "--out", workshop / "b"),
    )
    built = run_json(*arguments, "--runtime-load", "0x40005000")
    assert (built["fmc"]["load_addr"], built["fmc"]["entry_point"]) == ("0x40000000", "0x40000004")
    assert built["fmc"]["digest"] == hashlib.sha384(b"elf!" * 50).hexdigest()
    assert "only an ELF file has its own" in run(*arguments, code=2).stderr
    (workshop / "fmc.elf").write_bytes(b"\x7fELF")
    assert "expected 52 bytes" in run(*arguments, "--runtime-load", 0x40005000, code=1).stderr


def test_inspect_shows_what_nothing_covers(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    found = run_json("bundle", "inspect", workshop / "bundle.bin")
    fields = {each["field"] for each in found["uncovered"]}
    assert {"reserved", "preamble_reserved", "owner_pqc_signature"} <= fields
    weaker = run_json(
        *("bundle", "inspect", workshop / "bundle.bin", "--lifecycle", "unprovisioned")
    )
    assert "vendor_key_info" in {each["field"] for each in weaker["uncovered"]}
    assert "Bytes that nothing covers" in run("bundle", "inspect", workshop / "bundle.bin").stdout


def test_garbage_gets_one_clear_error(workshop: Workshop) -> None:
    (workshop / "garbage").write_bytes(b"garbage")
    said = run_json("bundle", "inspect", workshop / "garbage", code=1)
    assert "ends early" in said["error"]["what"]
    zeros = "00" * 48
    answer = run_json(*("bundle", "verify", workshop / "garbage", "--vendor-hash", zeros), code=3)
    assert answer["error"]["name"] == "FW_PROC_MANIFEST_READ_FAILURE"
    run("bundle", "verify", workshop / "none", "--vendor-hash", zeros, code=1)
    run("bundle", "verify", workshop / "garbage", "--vendor-hash", "00", code=2)


def test_a_private_key_is_for_its_owner_and_never_overwritten(workshop: Workshop) -> None:
    path = workshop / "owner-ecc.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    said = run("bundle", "keygen", "--type", "ecc", "--out", path, code=1)
    assert "never overwritten" in said.stderr


def _manifest_keys(workshop: Workshop, party: str) -> tuple[object, ...]:
    for kind in ("ecc", "mldsa"):
        run("bundle", "keygen", "--type", kind, "--out", workshop / f"{party}-man-{kind}.pem")
    return (
        *(f"--{party}-fw-ecc-key", workshop / f"{party}-ecc.pem"),
        *(f"--{party}-fw-pqc-key", workshop / f"{party}-mldsa.pem"),
        *(f"--{party}-man-ecc-key", workshop / f"{party}-man-ecc.pem"),
        *(f"--{party}-man-pqc-key", workshop / f"{party}-man-mldsa.pem"),
    )


def test_a_soc_manifest_authorises_the_files_it_lists(workshop: Workshop) -> None:
    workshop.build()
    workshop.sign()
    images = [
        {"fw_id": 2, "file": "rt.bin", "exec_bit": 3},
        {"fw_id": "0x10", "digest": "00" * 48, "ignore_auth_check": True},
    ]
    (workshop / "images.json").write_text(json.dumps(images))
    vendor, owner = _manifest_keys(workshop, "vendor"), _manifest_keys(workshop, "owner")
    build = ("manifest", "build", "--images", workshop / "images.json")
    built = run_json(*build, *vendor, *owner, "--svn", 3, "--out", workshop / "man.bin")
    assert [image["fw_id"] for image in built["images"]] == [2, 16]
    ask = ("manifest", "verify", workshop / "man.bin", "--bundle", workshop / "bundle.bin")
    hashes = workshop.hashes()
    answer = run_json(*ask, *hashes, "--image", 2, workshop / "rt.bin")
    assert answer["accepted"]
    assert answer["images"][0]["result"] == "authorized"
    assert answer["unchecked"] == [16]
    answer = run_json(*ask, *hashes, "--image", 2, workshop / "fmc.bin", code=3)
    assert answer["images"][0]["result"] == "hash_mismatch"
    assert (
        "hash mismatch" in run(*ask, *hashes, "--image", "2", workshop / "fmc.bin", code=3).stdout
    )
    shown = run("manifest", "inspect", workshop / "man.bin").stdout
    assert "ignore_auth_check" in shown

    content = bytearray((workshop / "man.bin").read_bytes())
    content[24292 + 10] ^= 1
    (workshop / "man.bin").write_bytes(content)
    answer = run_json(*ask, *hashes, code=3)
    assert answer["accepted"] is False
    assert "RUNTIME_AUTH_MANIFEST_VENDOR_ECC_SIGNATURE_INVALID" in answer["error"]["what"]

    run_json(*build, *owner, "--owner-only", "--out", workshop / "owner.bin")
    ask = ("manifest", "verify", workshop / "owner.bin", "--bundle", workshop / "bundle.bin")
    answer = run_json(*ask, *hashes, "--image", 2, workshop / "rt.bin")
    assert answer["images"][0]["result"] == "authorized_owner_only"


@pytest.mark.parametrize(
    "content",
    [
        "nonsense",
        "{}",
        "[1]",
        '[{"fw_id": 1}]',
        '[{"fw_id": 1, "digest": "00"}]',
        '[{"fw_id": 1, "digest": "zz"}]',
        '[{"fw_id": 1, "digest": "", "colour": 3}]',
        '[{"fw_id": -1, "file": "rt.bin"}]',
        '[{"fw_id": 1, "file": "missing.bin"}]',
        "[" * 5000,
    ],
)
def test_a_wrong_list_of_images_is_one_clear_error(workshop: Workshop, content: str) -> None:
    (workshop / "images.json").write_text(content)
    keys = (*_manifest_keys(workshop, "vendor"), *_manifest_keys(workshop, "owner"))
    build = ("manifest", "build", "--images", workshop / "images.json")
    assert run_json(*build, *keys, "--out", workshop / "man.bin", code=1)["error"]["what"]
