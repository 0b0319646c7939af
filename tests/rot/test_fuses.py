"""Fuses: fields, the rule that they only rise, the file with its digest and its counter."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.rot.errors import FuseError, FuseFileError
from casemate.rot.fuse_file import FileCounter, FuseFile, decode, encode, read_fuses
from casemate.rot.fuses import (
    DEFAULT_FUSES,
    Fuses,
    IdevidAttributes,
    KeyIdAlgorithm,
    Lifecycle,
    PqcKeyType,
    burn,
    from_fields,
    program_field_entropy,
    raise_svn,
    svn_fuse,
    to_fields,
)
from tests.rot.devices import random_fuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"uds_seed": bytes(63)}, "uds_seed: expected 64 bytes, found 63"),
        ({"vendor_pk_hash": "00"}, "vendor_pk_hash: expected bytes, found str"),
        ({"ecc_revocation": 16}, "ecc_revocation: expected 4 bits"),
        ({"lms_revocation": -1}, "lms_revocation: expected 32 bits"),
        ({"firmware_svn_fuse": 1 << 128}, "firmware_svn_fuse: expected 128 bits"),
        ({"soc_manifest_max_svn": True}, "soc_manifest_max_svn: expected a number"),
        ({"debug_locked": 1}, "debug_locked: expected true or false"),
        ({"lifecycle": 2}, "lifecycle: expected one of UNPROVISIONED"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(FuseError, match=message):
        dataclasses.replace(DEFAULT_FUSES, **changes)  # type: ignore[arg-type]


def test_svn_is_the_highest_bit() -> None:
    for svn in (0, 1, 5, 127, 128):
        assert Fuses(firmware_svn_fuse=svn_fuse(svn)).firmware_svn == svn
    assert Fuses(firmware_svn_fuse=0b1000).firmware_svn == 4
    for svn in (-1, 129):
        with pytest.raises(FuseError):
            svn_fuse(svn)


def test_attributes_are_read_as_the_rom_reads_them() -> None:
    attributes = IdevidAttributes.build(
        ueid=bytes(range(17)),
        ecc_key_id_algorithm=KeyIdAlgorithm.SHA256,
        mldsa_key_id_algorithm=KeyIdAlgorithm.SHA512,
        ecc_key_id=b"e" * 20,
        mldsa_key_id=b"m" * 20,
    )
    assert len(attributes.raw) == 96
    assert attributes.raw[0] == 0b100_001
    assert attributes.ueid == bytes(range(17))
    assert attributes.ecc_key_id_algorithm is KeyIdAlgorithm.SHA256
    assert attributes.mldsa_key_id_algorithm is KeyIdAlgorithm.SHA512
    assert (attributes.ecc_key_id, attributes.mldsa_key_id) == (b"e" * 20, b"m" * 20)
    for code in (3, 5, 6, 7):
        assert IdevidAttributes(bytes((code,)) + bytes(95)).ecc_key_id_algorithm is (
            KeyIdAlgorithm.FUSE
        )
    with pytest.raises(FuseError, match="ueid: expected 17 bytes"):
        IdevidAttributes.build(ueid=bytes(16))


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_burning_never_clears_a_bit(seed_before: int, seed_asked: int) -> None:
    before = random_fuses(random.Random(seed_before))
    asked = random_fuses(random.Random(seed_asked))
    for field in dataclasses.fields(Fuses):
        old, new = getattr(before, field.name), getattr(asked, field.name)
        try:
            after = getattr(burn(before, **{field.name: new}), field.name)
        except FuseError:
            continue
        assert after == new
        if field.name in ("debug_locked", "subsystem_mode"):
            continue
        if isinstance(old, bytes):
            assert old == new or not any(old)
        elif field.name != "pqc_key_type":
            assert int(old) & ~int(new) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"uds_seed": bytes(64)},
        {"lifecycle": Lifecycle.UNPROVISIONED},
        {"ecc_revocation": 0b0001},
        {"pqc_key_type": PqcKeyType.LMS},
        {"anti_rollback_disable": False},
        {"no_such_fuse": 1},
    ],
)
def test_a_fuse_that_is_set_stays(changes: dict[str, object]) -> None:
    fuses = dataclasses.replace(
        DEFAULT_FUSES,
        lifecycle=Lifecycle.PRODUCTION,
        ecc_revocation=0b0110,
        anti_rollback_disable=True,
    )
    with pytest.raises(FuseError):
        burn(fuses, **changes)


def test_inputs_are_no_fuses() -> None:
    opened = burn(DEFAULT_FUSES, debug_locked=False, subsystem_mode=True)
    assert burn(opened, debug_locked=True, subsystem_mode=False) == DEFAULT_FUSES


def test_svn_counters_only_rise() -> None:
    fuses = raise_svn(DEFAULT_FUSES, firmware=3, soc_manifest=7)
    assert (fuses.firmware_svn, fuses.soc_manifest_svn) == (3, 7)
    assert raise_svn(fuses, firmware=3) == fuses
    with pytest.raises(FuseError, match="firmware SVN only rises: it is 3, asked for 2"):
        raise_svn(fuses, firmware=2)
    with pytest.raises(FuseError, match="SoC manifest SVN only rises"):
        raise_svn(fuses, soc_manifest=0)
    with pytest.raises(FuseError, match="0 to 128"):
        raise_svn(fuses, firmware=129)


def test_field_entropy_is_the_owners_once_and_in_production() -> None:
    with pytest.raises(FuseError, match="production lifecycle only"):
        program_field_entropy(Fuses(), b"e" * 32)
    fuses = program_field_entropy(Fuses(lifecycle=Lifecycle.PRODUCTION), b"e" * 32)
    assert fuses.field_entropy == b"e" * 32
    with pytest.raises(FuseError, match="once only"):
        program_field_entropy(fuses, b"f" * 32)


def test_seeds_do_not_show() -> None:
    assert "uds_seed" not in repr(DEFAULT_FUSES)
    assert "field_entropy" not in repr(DEFAULT_FUSES)


@given(st.integers(min_value=0))
def test_fields_and_file_round_trip(seed: int) -> None:
    fuses = random_fuses(random.Random(seed))
    assert from_fields(json.loads(json.dumps(to_fields(fuses)))) == fuses
    assert decode(encode(fuses, 9), "fuses.json") == (fuses, 9)


# --- the file -------------------------------------------------------------------------------


def test_default_is_a_name() -> None:
    assert read_fuses("default") == DEFAULT_FUSES


def test_create_read_program(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    assert file.read() == DEFAULT_FUSES
    assert (tmp_path / "fuses.json").stat().st_mode & 0o777 == 0o600
    file.program(lambda now: raise_svn(now, firmware=4))
    assert file.read().firmware_svn == 4
    assert read_fuses(str(tmp_path / "fuses.json")).firmware_svn == 4
    assert FileCounter(tmp_path / "fuses.json.counter").read() == 2
    with pytest.raises(FuseFileError, match="exists already"):
        file.create(DEFAULT_FUSES)


def test_a_refused_change_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(raise_svn(DEFAULT_FUSES, firmware=4))
    before = file.path.read_bytes()
    with pytest.raises(FuseError):
        file.program(lambda now: raise_svn(now, firmware=3))
    assert file.path.read_bytes() == before
    file.program(lambda now: now)
    assert file.path.read_bytes() == before


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    content = encode(DEFAULT_FUSES, 1)
    body = json.loads(content)
    for position in range(len(content)):
        damaged = content[:position] + bytes((content[position] ^ 1,)) + content[position + 1 :]
        try:
            decode(damaged, "fuses.json")
        except FuseFileError:
            continue
        # Whitespace between the fields carries nothing: then the same fields were read.
        assert json.loads(damaged) == body


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_garbage_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(FuseFileError, match=r"^fuses[.]json: "):
        decode(data, "fuses.json")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=10,
    )
)
def test_json_of_another_shape_is_one_clear_error(value: object) -> None:
    good = json.loads(encode(DEFAULT_FUSES, 1))
    for body in (value, good | {"fuses": value}, good | {"counter": value}):
        with pytest.raises(FuseFileError):
            decode(json.dumps(body).encode(), "fuses.json")


def test_deep_nesting_is_one_clear_error() -> None:
    with pytest.raises(FuseFileError):
        decode(b"[" * 60000, "fuses.json")


def test_a_truncated_file_is_damaged(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    file.path.write_bytes(file.path.read_bytes()[:-200])
    with pytest.raises(FuseFileError, match="damaged"):
        file.read()


def test_a_rolled_back_file_is_refused(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    old = file.path.read_bytes()
    file.program(lambda now: raise_svn(now, firmware=4))
    file.path.write_bytes(old)
    with pytest.raises(FuseFileError, match="rolled back: it is state 1, the counter says 2"):
        file.read()
    with pytest.raises(FuseFileError, match="rolled back"):
        file.program(lambda now: now)
    assert file.path.read_bytes() == old


def test_a_file_from_the_future_is_refused(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    file.path.write_bytes(encode(DEFAULT_FUSES, 3))
    with pytest.raises(FuseFileError, match="does not belong to its counter"):
        file.read()


def test_power_lost_between_file_and_counter(tmp_path: Path) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    newer = raise_svn(DEFAULT_FUSES, firmware=4)
    file.path.write_bytes(encode(newer, 2))
    assert file.read() == newer
    assert FileCounter(tmp_path / "fuses.json.counter").read() == 2


@pytest.mark.parametrize("content", [None, b"", b"x", b"-1", b"\xff", b"9" * 30])
def test_a_counter_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = FuseFile(tmp_path / "fuses.json")
    file.create(DEFAULT_FUSES)
    counter = tmp_path / "fuses.json.counter"
    counter.unlink()
    if content is not None:
        counter.write_bytes(content)
    with pytest.raises(FuseFileError, match="counter"):
        file.read()


def test_a_counter_never_falls(tmp_path: Path) -> None:
    counter = FileCounter(tmp_path / "counter")
    counter.advance(3)
    with pytest.raises(FuseFileError, match="is at 3, cannot go to 2"):
        counter.advance(2)


def _raise_often(path: Path) -> None:
    for _ in range(20):
        FuseFile(path).program(lambda now: raise_svn(now, firmware=now.firmware_svn + 1))


def test_two_programs_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fuses.json"
    FuseFile(path).create(DEFAULT_FUSES)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_raise_often, args=(path,)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert FuseFile(path).read().firmware_svn == 40


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FuseFileError, match="cannot be read"):
        FuseFile(tmp_path / "fuses.json").read()
    with pytest.raises(FuseFileError, match="cannot be locked"):
        FuseFile(tmp_path / "no" / "fuses.json").create(DEFAULT_FUSES)
    with pytest.raises(FuseFileError, match="cannot be read"):
        read_fuses(str(tmp_path / "none"))
