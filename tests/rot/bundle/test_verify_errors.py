"""Every error that bytes, fuses or the reset reason can cause, each by a bundle that causes it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.errors import BundleError, BundleRefusedError, Cause
from casemate.rot.bundle.verdict import judge
from casemate.rot.bundle.verify import verify
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import Lifecycle, PqcKeyType, svn_fuse
from tests.rot.bundle.parts import BOTH, LMS, MLDSA, flip, forge, fuses_for, good, make, patch

START = {name: span.start for name, span in fb.LAYOUT.items()}
INFO_PQC = START["vendor_key_info"] + 196
TOP = b"\xff" * 48
E = BundleError


class Case:
    """A bundle, fuses and a reset that give an error. Fuses fit the bundle unless told."""

    def __init__(
        self,
        bundle: bytes,
        *,
        like: bytes | None = None,
        update_of: bytes | None = None,
        **fuses: Any,
    ) -> None:
        self.bundle = bundle
        self.fuses = fuses_for(bundle if like is None else like, **fuses)
        self.arguments: dict[str, Any] = {}
        if update_of is not None:
            self.arguments = {
                "reason": ResetReason.UPDATE,
                "cold_boot": verify(update_of, fuses_for(update_of)),
            }


def _info(kind: PqcKeyType, offset: int, value: bytes) -> Case:
    """A change to the vendor's key list, with the fused hash of the changed list."""
    return Case(patch(good(kind), offset, value))


def _field(kind: PqcKeyType, field: str, value: bytes) -> Case:
    """A change to a field that is not hashed into the fuses."""
    return Case(patch(good(kind), START[field], value))


def _resealed_owner(kind: PqcKeyType, offset: int, value: bytes) -> Case:
    return Case(patch(good(kind), offset, value))


def _outside(entry: str) -> Case:
    """An executable that the TOC places behind the end of the bundle."""
    end = len(good(MLDSA))
    if entry == "runtime":
        return Case(forge(MLDSA, runtime={"offset": end}))
    return Case(forge(MLDSA, fmc={"offset": end}, runtime={"offset": end + 4096}))


def _dot() -> Case:
    case = Case(good(MLDSA), owner_pk_hash=bytes(48))
    case.arguments = {"dot_owner_pk_hash": hashlib.sha384(b"another owner").digest()}
    return case


CASES: dict[BundleError, Callable[[], Case]] = {
    E.FW_PROC_MANIFEST_READ_FAILURE: lambda: Case(
        good(LMS)[: fb.MANIFEST_SIZE - 1], like=good(LMS)
    ),
    E.FW_PROC_INVALID_IMAGE_SIZE: lambda: Case(
        good(LMS) + bytes(fb.MAX_BUNDLE_SIZE), like=good(LMS)
    ),
    E.MANIFEST_MARKER_MISMATCH: lambda: _field(LMS, "marker", b"CMAX"),
    E.MANIFEST_SIZE_MISMATCH: lambda: _field(LMS, "size", bytes(4)),
    E.PQC_KEY_TYPE_INVALID: lambda: _field(LMS, "pqc_key_type", b"\x02"),
    E.INVALID_PQC_KEY_TYPE_IN_FUSE: lambda: Case(good(LMS), pqc_key_type=PqcKeyType.UNPROGRAMMED),
    E.PQC_KEY_TYPE_MISMATCH: lambda: Case(good(LMS), pqc_key_type=MLDSA),
    E.VENDOR_PUB_KEY_DIGEST_INVALID: lambda: Case(good(LMS), vendor_pk_hash=bytes(48)),
    E.ECC_KEY_DESCRIPTOR_VERSION_MISMATCH: lambda: _info(LMS, START["vendor_key_info"], b"\x02"),
    E.ECC_KEY_DESCRIPTOR_INVALID_HASH_COUNT: lambda: _info(
        LMS, START["vendor_key_info"] + 3, b"\x00"
    ),
    E.ECC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX: lambda: _info(
        LMS, START["vendor_key_info"] + 3, b"\x05"
    ),
    E.PQC_KEY_DESCRIPTOR_VERSION_MISMATCH: lambda: _info(LMS, INFO_PQC, b"\x00"),
    E.PQC_KEY_DESCRIPTOR_TYPE_MISMATCH: lambda: _info(LMS, INFO_PQC + 2, b"\x01"),
    E.PQC_KEY_DESCRIPTOR_INVALID_HASH_COUNT: lambda: _info(LMS, INFO_PQC + 3, b"\x00"),
    E.PQC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX: lambda: _info(MLDSA, INFO_PQC + 3, b"\x05"),
    E.VENDOR_PUB_KEY_DIGEST_MISMATCH: lambda: Case(
        good(LMS), vendor_pk_hash=hashlib.sha384(b"another vendor").digest()
    ),
    E.VENDOR_ECC_PUB_KEY_DIGEST_MISMATCH: lambda: Case(
        flip(good(LMS), START["vendor_ecc_key"]), like=good(LMS)
    ),
    E.VENDOR_PQC_PUB_KEY_DIGEST_MISMATCH: lambda: Case(
        flip(good(LMS), START["vendor_pqc_key"] + 47), like=good(LMS)
    ),
    E.OWNER_PUB_KEY_DIGEST_MISMATCH: lambda: Case(
        good(LMS), owner_pk_hash=hashlib.sha384(b"another owner").digest()
    ),
    E.DOT_OWNER_PUB_KEY_DIGEST_MISMATCH: _dot,
    E.UPDATE_RESET_OWNER_DIGEST_FAILURE: lambda: Case(
        flip(good(LMS), START["owner_pqc_key"] + 2000), update_of=good(LMS)
    ),
    E.VENDOR_ECC_PUB_KEY_INDEX_OUT_OF_BOUNDS: lambda: _field(LMS, "vendor_ecc_index", b"\x04"),
    E.VENDOR_ECC_PUB_KEY_REVOKED: lambda: Case(good(LMS), ecc_revocation=1),
    E.UPDATE_RESET_VENDOR_ECC_PUB_KEY_IDX_MISMATCH: lambda: Case(
        make(LMS, ecc_index=1), update_of=good(LMS)
    ),
    E.VENDOR_PQC_PUB_KEY_INDEX_OUT_OF_BOUNDS: lambda: _field(MLDSA, "vendor_pqc_index", b"\x04"),
    E.VENDOR_PQC_PUB_KEY_REVOKED: lambda: Case(good(MLDSA), mldsa_revocation=1),
    E.UPDATE_RESET_VENDOR_PQC_PUB_KEY_IDX_MISMATCH: lambda: Case(
        make(LMS, pqc_index=1), update_of=good(LMS)
    ),
    E.VENDOR_ECC_PUB_KEY_INVALID_ARG: lambda: Case(
        patch(good(LMS), START["vendor_ecc_key"], bytes(48)), lifecycle=Lifecycle.UNPROVISIONED
    ),
    E.VENDOR_ECC_SIGNATURE_INVALID_ARG: lambda: _field(LMS, "vendor_ecc_signature", bytes(48)),
    E.VENDOR_ECC_VERIFY_FAILURE: lambda: _field(LMS, "vendor_ecc_signature", TOP),
    E.VENDOR_ECC_SIGNATURE_INVALID: lambda: Case(flip(good(LMS), START["vendor_ecc_signature"])),
    E.VENDOR_LMS_VERIFY_FAILURE: lambda: _field(
        LMS, "vendor_pqc_signature", (1 << 15).to_bytes(4, "big")
    ),
    E.VENDOR_LMS_SIGNATURE_INVALID: lambda: Case(
        flip(good(LMS), START["vendor_pqc_signature"] + fb.LMS_SIGNATURE_SIZE - 1)
    ),
    E.VENDOR_MLDSA_SIGNATURE_INVALID: lambda: Case(
        flip(good(MLDSA), START["vendor_pqc_signature"] + fb.MLDSA_SIGNATURE_SIZE - 1)
    ),
    E.VENDOR_ECC_PUB_KEY_INDEX_MISMATCH: lambda: Case(forge(LMS, header={"vendor_ecc_index": 1})),
    E.VENDOR_PQC_PUB_KEY_INDEX_MISMATCH: lambda: Case(forge(LMS, header={"vendor_pqc_index": 1})),
    E.OWNER_ECC_PUB_KEY_INVALID_ARG: lambda: _resealed_owner(
        LMS, START["owner_ecc_key"] + 48, bytes(48)
    ),
    E.OWNER_ECC_SIGNATURE_INVALID_ARG: lambda: Case(
        patch(good(LMS), START["owner_ecc_signature"] + 48, bytes(48))
    ),
    E.OWNER_ECC_VERIFY_FAILURE: lambda: _field(LMS, "owner_ecc_signature", TOP),
    E.OWNER_ECC_SIGNATURE_INVALID: lambda: Case(flip(good(LMS), START["owner_ecc_signature"])),
    E.OWNER_LMS_VERIFY_FAILURE: lambda: Case(
        patch(good(LMS), START["owner_pqc_signature"] + 4, bytes((0, 0, 0, 8)))
    ),
    E.OWNER_LMS_SIGNATURE_INVALID: lambda: Case(flip(good(LMS), START["owner_pqc_signature"] + 9)),
    E.OWNER_MLDSA_SIGNATURE_INVALID: lambda: Case(flip(good(MLDSA), START["owner_pqc_signature"])),
    E.TOC_ENTRY_COUNT_INVALID: lambda: Case(forge(LMS, header={"toc_len": 3})),
    E.TOC_DIGEST_MISMATCH: lambda: Case(flip(good(LMS), START["fmc_entry"])),
    E.FMC_SIZE_ZERO: lambda: Case(forge(LMS, fmc={"size": 0})),
    E.RUNTIME_SIZE_ZERO: lambda: Case(forge(LMS, runtime={"size": 0})),
    E.IMAGE_LEN_MORE_THAN_BUNDLE_SIZE: lambda: Case(good(LMS)[: fb.MANIFEST_SIZE + 1500]),
    E.TOC_ENTRY_RANGE_ARITHMETIC_OVERFLOW: lambda: Case(forge(LMS, runtime={"offset": 0xFFFFFFFF})),
    E.FMC_RUNTIME_OVERLAP: lambda: Case(forge(LMS, runtime={"offset": fb.MANIFEST_SIZE})),
    E.FMC_RUNTIME_INCORRECT_ORDER: lambda: Case(forge(LMS, runtime={"offset": 0})),
    E.FMC_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW: lambda: Case(
        forge(LMS, fmc={"load_addr": 0xFFFFFFFC})
    ),
    E.RUNTIME_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW: lambda: Case(
        forge(LMS, runtime={"load_addr": 0xFFFFFFFC})
    ),
    E.FMC_RUNTIME_LOAD_ADDR_OVERLAP: lambda: Case(forge(LMS, runtime={"load_addr": 0x40000010})),
    E.FMC_DIGEST_FAILURE: lambda: _outside("fmc"),
    E.FMC_DIGEST_MISMATCH: lambda: Case(flip(good(LMS), fb.MANIFEST_SIZE)),
    E.FMC_LOAD_ADDR_INVALID: lambda: Case(forge(LMS, fmc={"load_addr": 0x3FFFFFFC})),
    E.FMC_LOAD_ADDR_UNALIGNED: lambda: Case(forge(LMS, fmc={"load_addr": 0x40000002})),
    E.FMC_ENTRY_POINT_INVALID: lambda: Case(forge(LMS, fmc={"entry_point": 0x40040000})),
    E.FMC_ENTRY_POINT_UNALIGNED: lambda: Case(forge(LMS, fmc={"entry_point": 0x40000001})),
    E.UPDATE_RESET_FMC_DIGEST_MISMATCH: lambda: Case(
        make(LMS, fmc=replace(_fmc(), content=b"another FMC!")), update_of=good(LMS)
    ),
    E.RUNTIME_DIGEST_FAILURE: lambda: _outside("runtime"),
    E.RUNTIME_DIGEST_MISMATCH: lambda: Case(flip(good(LMS), fb.MANIFEST_SIZE + 1024)),
    E.RUNTIME_LOAD_ADDR_INVALID: lambda: Case(forge(LMS, runtime={"load_addr": 0x4003FFFC})),
    E.RUNTIME_LOAD_ADDR_UNALIGNED: lambda: Case(forge(LMS, runtime={"load_addr": 0x40005001})),
    E.RUNTIME_ENTRY_POINT_INVALID: lambda: Case(forge(LMS, runtime={"entry_point": 0})),
    E.RUNTIME_ENTRY_POINT_UNALIGNED: lambda: Case(forge(LMS, runtime={"entry_point": 0x40005002})),
    E.FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED: lambda: Case(forge(LMS, header={"svn": 129})),
    E.FIRMWARE_SVN_LESS_THAN_FUSE: lambda: Case(good(LMS), firmware_svn_fuse=svn_fuse(6)),
}


def _fmc() -> Any:
    from tests.rot.bundle.parts import FMC

    return FMC


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.name)
def test_each_error_by_its_cause(error: BundleError) -> None:
    case = CASES[error]()
    with pytest.raises(BundleRefusedError) as caught:
        verify(case.bundle, case.fuses, **case.arguments)
    assert caught.value.error is error
    assert caught.value.code == error.code
    assert error.public_name in str(caught.value)


def test_no_error_that_can_be_caused_is_without_a_case() -> None:
    reachable = {each for each in E if each.cause in (Cause.BYTES, Cause.FUSES, Cause.RESET)}
    assert set(CASES) == reachable


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("lifecycle", Lifecycle)
def test_a_good_bundle_boots(kind: PqcKeyType, lifecycle: Lifecycle) -> None:
    verdict = judge(good(kind), fuses_for(good(kind), lifecycle=lifecycle))
    assert verdict.boots
    assert verdict.error is None
    assert verdict.firmware is not None
    assert verdict.firmware.svn == 5
    assert verdict.firmware.rt_version == 0x5678


@pytest.mark.parametrize("kind", BOTH)
def test_an_update_reset_with_another_runtime_boots(kind: PqcKeyType) -> None:
    old, new = good(kind), make(kind, svn=9)
    cold_boot = verify(old, fuses_for(old))
    updated = verify(new, fuses_for(old), reason=ResetReason.UPDATE, cold_boot=cold_boot)
    assert updated.svn == 9


@pytest.mark.parametrize("kind", BOTH)
def test_the_last_key_of_a_list_is_never_revoked(kind: PqcKeyType) -> None:
    bundle = make(kind, ecc_index=3, pqc_index=3)
    fuses = fuses_for(bundle, ecc_revocation=0xF, mldsa_revocation=0xF, lms_revocation=0xFFFFFFFF)
    assert judge(bundle, fuses).boots


def test_an_installed_owner_counts_only_without_a_fused_one() -> None:
    bundle = good(MLDSA)
    other = hashlib.sha384(b"another owner").digest()
    assert judge(bundle, fuses_for(bundle), dot_owner_pk_hash=other).boots
    own = fuses_for(bundle).owner_pk_hash
    unfused = fuses_for(bundle, owner_pk_hash=bytes(48))
    assert judge(bundle, unfused, dot_owner_pk_hash=own).boots
    assert judge(bundle, unfused).remarks != ()


def test_svn_is_not_checked_with_anti_rollback_disabled_or_unprovisioned() -> None:
    bundle = good(MLDSA)
    for changes in ({"anti_rollback_disable": True}, {"lifecycle": Lifecycle.UNPROVISIONED}):
        fuses = fuses_for(bundle, firmware_svn_fuse=svn_fuse(100), **changes)
        verdict = judge(bundle, fuses)
        assert verdict.boots
        assert any("SVN" in remark for remark in verdict.remarks)


def test_the_lms_type_quirk_of_the_driver_is_kept_and_reported() -> None:
    """The public driver compares the height of the signature's LMS type, not the type."""
    at = START["vendor_pqc_signature"] + 4 + 1252
    assert good(LMS)[at : at + 4] == (12).to_bytes(4, "big")
    verdict = judge(patch(good(LMS), at, (7).to_bytes(4, "big")), fuses_for(good(LMS)))
    assert verdict.boots
    assert any("quirk" in remark for remark in verdict.remarks)
    for other in (0, 6, 8, 11, 13, 14, 15):
        verdict = judge(patch(good(LMS), at, other.to_bytes(4, "big")), fuses_for(good(LMS)))
        assert verdict.error is E.VENDOR_LMS_VERIFY_FAILURE


def test_unprovisioned_counts_and_indices_wrap_as_on_the_chip() -> None:
    """Source: the 32-bit arithmetic of caliptra-sw, image/verify/src/verifier.rs."""
    open_fuses = fuses_for(good(LMS), lifecycle=Lifecycle.UNPROVISIONED)
    none = patch(good(LMS), START["vendor_key_info"] + 3, b"\x00")
    assert judge(none, open_fuses).boots
    beyond = forge(LMS, vendor_ecc_index=5, header={"vendor_ecc_index": 5})
    many = patch(beyond, START["vendor_key_info"] + 3, b"\x09")
    assert judge(many, open_fuses).error is E.VENDOR_ECC_PUB_KEY_REVOKED
    last = patch(beyond, START["vendor_key_info"] + 3, b"\x06")
    assert judge(last, open_fuses).boots


def test_a_toc_that_the_rom_would_not_load_from_is_remarked() -> None:
    contents = good(LMS)[fb.MANIFEST_SIZE :]
    moved = forge(
        LMS,
        fmc={"offset": fb.MANIFEST_SIZE + 256},
        runtime={"offset": fb.MANIFEST_SIZE + 256 + 1024},
        contents=bytes(256) + contents,
    )
    verdict = judge(moved, fuses_for(moved))
    assert verdict.boots
    assert sum("whatever the TOC says" in remark for remark in verdict.remarks) == 2


def test_an_update_reset_needs_its_cold_boot() -> None:
    fuses = fuses_for(good(LMS))
    with pytest.raises(ValueError, match="cold_boot"):
        verify(good(LMS), fuses, reason=ResetReason.UPDATE)
    with pytest.raises(ValueError, match="cold_boot"):
        verify(good(LMS), fuses, cold_boot=verify(good(LMS), fuses))
