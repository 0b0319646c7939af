from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from casemate.formats import soc_manifest as sm
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse
from casemate.rot.soc_manifest.build import ManifestBuildError, build
from casemate.rot.soc_manifest.errors import ManifestError, ManifestRefusedError
from casemate.rot.soc_manifest.verify import Authorizations, set_manifest, set_owner_manifest
from tests.rot.bundle.parts import BOTH, LMS, MLDSA, flip, fuses_for, good, patch
from tests.rot.soc_manifest.manifests import (
    IMAGES,
    LIBRARY,
    OWNED,
    firmware_of,
    manifest,
    owner,
    owner_manifest,
    resign,
    resign_owner,
    vendor,
)

E = ManifestError
EMPTY = Authorizations()
#: Offsets in the preamble.
VENDOR_KEY_SIGNATURES = 20 + 2688
OWNER_KEYS = VENDOR_KEY_SIGNATURES + 4724
OWNER_KEY_SIGNATURES = OWNER_KEYS + 2688
VENDOR_IMAGE_SIGNATURES = OWNER_KEY_SIGNATURES + 4724
OWNER_IMAGE_SIGNATURES = VENDOR_IMAGE_SIGNATURES + 4724
LIST = sm.PREAMBLE_SIZE
OWNER_ONLY_KEY_SIGNATURES = 20 + 2688
OWNER_ONLY_IMAGE_SIGNATURES = OWNER_ONLY_KEY_SIGNATURES + 4724


def _fuses(kind: PqcKeyType, **changes: Any) -> Fuses:
    values: dict[str, Any] = {"soc_manifest_svn_fuse": svn_fuse(2), "soc_manifest_max_svn": 64}
    return fuses_for(good(kind), **(values | changes))


def _set(kind: PqcKeyType, data: bytes, state: Authorizations = EMPTY, **fuses: Any) -> Any:
    return lambda: set_manifest(state, data, firmware_of(kind), _fuses(kind, **fuses))


def _set_owner(kind: PqcKeyType, data: bytes, state: Authorizations = EMPTY, **fuses: Any) -> Any:
    return lambda: set_owner_manifest(
        state, data, firmware_of(kind), _fuses(kind, **fuses), min_svn=2
    )


def _list(*images: sm.ImageMetadata, count: int | None = None, slots: int = 80) -> bytes:
    encoded = sm.encode_list(images, slots=slots)
    return encoded if count is None else count.to_bytes(4, "little") + encoded[4:]


def _with_foreign_type() -> Callable[[], Authorizations]:
    firmware = replace(firmware_of(LMS), pqc_key_type=2)
    return lambda: set_manifest(EMPTY, manifest(LMS), firmware, _fuses(LMS))


CASES: dict[ManifestError, Callable[[], Any]] = {
    E.MAILBOX_INVALID_PARAMS: lambda: _set(LMS, manifest(LMS) + bytes(8192)),
    E.AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN: lambda: _set(LMS, manifest(LMS)[: LIST - 1]),
    E.INVALID_AUTH_MANIFEST_MARKER: lambda: _set(LMS, flip(manifest(LMS), 0)),
    E.AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH: lambda: _set(LMS, flip(manifest(LMS), 4)),
    E.FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED: lambda: _set(LMS, manifest(LMS, svn=65)),
    E.FIRMWARE_SVN_LESS_THAN_FUSE: lambda: _set(LMS, manifest(LMS, svn=1)),
    E.AUTH_MANIFEST_INVALID_PQC_KEY_TYPE: _with_foreign_type,
    E.AUTH_MANIFEST_INVALID_PQC_KEY_TYPE_IN_FUSE: lambda: _set(
        LMS, manifest(LMS), pqc_key_type=PqcKeyType.UNPROGRAMMED
    ),
    E.AUTH_MANIFEST_PQC_KEY_TYPE_MISMATCH: lambda: _set(LMS, manifest(LMS), pqc_key_type=MLDSA),
    E.AUTH_MANIFEST_VENDOR_ECC_SIGNATURE_INVALID: lambda: _set(
        LMS, flip(manifest(LMS), VENDOR_KEY_SIGNATURES)
    ),
    E.AUTH_MANIFEST_VENDOR_LMS_SIGNATURE_INVALID: lambda: _set(
        LMS, flip(manifest(LMS), VENDOR_IMAGE_SIGNATURES + 96)
    ),
    E.AUTH_MANIFEST_MLDSA_VENDOR_SIG_INVALID: lambda: _set(
        MLDSA, flip(manifest(MLDSA), VENDOR_IMAGE_SIGNATURES + 96)
    ),
    E.AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID: lambda: _set(LMS, flip(manifest(LMS), OWNER_KEYS)),
    E.AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID: lambda: _set(
        LMS, flip(manifest(LMS), OWNER_KEY_SIGNATURES + 96 + 4)
    ),
    E.AUTH_MANIFEST_MLDSA_OWNER_SIG_INVALID: lambda: _set(
        MLDSA, flip(manifest(MLDSA), OWNER_IMAGE_SIGNATURES + 96)
    ),
    E.AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_SIZE: lambda: _set(
        LMS, resign(LMS, _list(LIBRARY)[:83])
    ),
    E.AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_ENTRY_COUNT: lambda: _set(
        LMS, resign(LMS, _list(LIBRARY, count=81))
    ),
    E.AUTH_MANIFEST_IMAGE_METADATA_LIST_DUPLICATE_FIRMWARE_ID: lambda: _set(
        LMS, resign(LMS, _list(LIBRARY, IMAGES[0], LIBRARY))
    ),
    E.OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN: lambda: _set_owner(LMS, b"OWOM"),
    E.OWNER_AUTH_MANIFEST_INVALID_MARKER: lambda: _set_owner(LMS, flip(owner_manifest(LMS), 0)),
    E.OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), 5)
    ),
    E.OWNER_AUTH_MANIFEST_IMC_INVALID_SIZE: lambda: _set_owner(LMS, owner_manifest(LMS)[:-1]),
    E.OWNER_AUTH_MANIFEST_INVALID_FLAGS: lambda: _set_owner(LMS, flip(owner_manifest(LMS), 16)),
    E.OWNER_AUTH_MANIFEST_SVN_GREATER_THAN_MAX: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), 13)
    ),
    E.OWNER_AUTH_MANIFEST_SVN_LESS_THAN_MIN: lambda: _set_owner(LMS, owner_manifest(LMS, svn=1)),
    E.OWNER_AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), 8)
    ),
    E.OWNER_AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), OWNER_ONLY_KEY_SIGNATURES + 96 + 9)
    ),
    E.OWNER_AUTH_MANIFEST_OWNER_MLDSA_SIGNATURE_INVALID: lambda: _set_owner(
        MLDSA, flip(owner_manifest(MLDSA), OWNER_ONLY_KEY_SIGNATURES + 96 + 9)
    ),
    E.OWNER_AUTH_MANIFEST_IMC_OWNER_ECC_SIGNATURE_INVALID: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), sm.OWNER_PREAMBLE_SIZE + 500)
    ),
    E.OWNER_AUTH_MANIFEST_IMC_OWNER_LMS_SIGNATURE_INVALID: lambda: _set_owner(
        LMS, flip(owner_manifest(LMS), OWNER_ONLY_IMAGE_SIGNATURES + 96 + 9)
    ),
    E.OWNER_AUTH_MANIFEST_IMC_OWNER_MLDSA_SIGNATURE_INVALID: lambda: _set_owner(
        MLDSA, flip(owner_manifest(MLDSA), OWNER_ONLY_IMAGE_SIGNATURES + 96 + 9)
    ),
    E.OWNER_AUTH_MANIFEST_IMC_INVALID_ENTRY_COUNT: lambda: _set_owner(
        LMS, resign_owner(LMS, _list(count=0, slots=32))
    ),
    E.OWNER_AUTH_MANIFEST_IMC_DUPLICATE_FW_ID: lambda: _set_owner(
        LMS, owner_manifest(LMS), Authorizations(images=OWNED)
    ),
}
#: What only the command AUTHORIZE_AND_STASH gives: tests/rot/soc_manifest/test_authorize.py.
OF_AUTHORIZE = {E.INCORRECT_PAUSER_PRIVILEGE_LEVEL, E.AUTH_AND_STASH_UNSUPPORTED_IMAGE_SOURCE}


@pytest.mark.parametrize("error", CASES, ids=lambda error: error.name)
def test_each_error_by_its_cause(error: ManifestError) -> None:
    with pytest.raises(ManifestRefusedError) as caught:
        CASES[error]()()
    assert caught.value.error is error
    assert error.public_name in str(caught.value)


def test_no_error_is_without_a_case() -> None:
    assert set(CASES) | OF_AUTHORIZE == set(ManifestError)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("vendor_signs_images", [True, False])
def test_a_good_manifest_is_set_with_its_images_by_id(
    kind: PqcKeyType, vendor_signs_images: bool
) -> None:
    data = manifest(kind, vendor_signs_images=vendor_signs_images)
    assert len(data) % 256 == 0
    state = set_manifest(EMPTY, data, firmware_of(kind), _fuses(kind))
    assert [image.fw_id for image in state.images] == [3, 7, 9]
    assert state.digest == hashlib.sha384(data).digest()
    assert state.svn == 4
    assert state.unchecked == (IMAGES[2],)


@pytest.mark.parametrize("kind", BOTH)
def test_both_kinds_stand_side_by_side_and_replace_their_own(kind: PqcKeyType) -> None:
    firmware, fuses = firmware_of(kind), _fuses(kind)
    state = set_manifest(EMPTY, manifest(kind), firmware, fuses)
    state = set_owner_manifest(state, owner_manifest(kind), firmware, fuses)
    assert state.find(100) == (OWNED[0], True)
    assert state.find(3) == (LIBRARY, False)
    smaller = resign(kind, _list(LIBRARY))
    state = set_manifest(state, smaller, firmware, fuses)
    assert state.find(7) is None
    assert state.find(100) is not None
    with pytest.raises(ManifestRefusedError) as caught:
        set_manifest(state, resign(kind, _list(OWNED[0])), firmware, fuses)
    assert caught.value.error is E.AUTH_MANIFEST_IMAGE_METADATA_LIST_DUPLICATE_FIRMWARE_ID


def test_the_list_may_be_shorter_than_80_slots() -> None:
    """What is signed is what is there: the public code takes lists of any length."""
    short = resign(LMS, _list(LIBRARY)[:84])
    state = set_manifest(EMPTY, short, firmware_of(LMS), _fuses(LMS))
    assert state.images == (LIBRARY,)


def test_svn_is_free_unprovisioned_or_with_anti_rollback_disabled() -> None:
    low = manifest(LMS, svn=0)
    for changes in ({"lifecycle": Lifecycle.UNPROVISIONED}, {"anti_rollback_disable": True}):
        assert _set(LMS, low, **changes)().svn == 0


@pytest.mark.parametrize("kind", BOTH)
def test_any_changed_byte_that_something_covers_is_refused(kind: PqcKeyType) -> None:
    data, rng = manifest(kind), random.Random(5)
    used = 1620 if kind is LMS else 4627
    covered = [*range(20 + 2688), *range(OWNER_KEYS, OWNER_KEYS + 2688)]
    for start in (
        VENDOR_KEY_SIGNATURES,
        OWNER_KEY_SIGNATURES,
        VENDOR_IMAGE_SIGNATURES,
        OWNER_IMAGE_SIGNATURES,
    ):
        covered += range(start, start + 96 + used)
    covered += range(LIST, LIST + sm.LIST_SIZE)
    firmware, fuses = firmware_of(kind), _fuses(kind)
    for at in [*range(20), *rng.sample(covered, 400)]:
        with pytest.raises(ManifestRefusedError):
            set_manifest(EMPTY, flip(data, at, 1 << rng.randrange(8)), firmware, fuses)
    tail = VENDOR_KEY_SIGNATURES + 96 + used
    assert set_manifest(EMPTY, flip(data, tail), firmware, fuses).images
    assert set_manifest(EMPTY, flip(data, len(data) - 1), firmware, fuses).images


def test_a_manifest_of_other_keys_is_refused() -> None:
    foreign = build(IMAGES, vendor=owner(LMS), owner=vendor(LMS), svn=4)
    with pytest.raises(ManifestRefusedError, match="VENDOR_ECC"):
        set_manifest(EMPTY, foreign, firmware_of(LMS), _fuses(LMS))


def test_garbage_is_refused_with_an_error_of_the_table() -> None:
    rng = random.Random(6)
    for size in (0, 1, 19, 20, 5000, LIST, LIST + 3, LIST + 4, 30720, 34816, 34817):
        for data in (rng.randbytes(size), manifest(LMS)[:20] + rng.randbytes(size)):
            for refuse in (_set(LMS, data), _set_owner(LMS, data)):
                with pytest.raises(ManifestRefusedError):
                    refuse()


def test_a_builder_refuses_what_no_device_takes() -> None:
    with pytest.raises(ManifestBuildError, match="twice"):
        build((LIBRARY, LIBRARY), vendor=vendor(LMS), owner=owner(LMS))
    with pytest.raises(ManifestBuildError, match="1 to 80"):
        build((), vendor=vendor(LMS), owner=owner(LMS))
    with pytest.raises(ManifestBuildError, match="SVN"):
        build((LIBRARY,), svn=129, vendor=vendor(LMS), owner=owner(LMS))
    with pytest.raises(sm.ManifestFormatError):
        build((replace(LIBRARY, digest=b"short"),), vendor=vendor(LMS), owner=owner(LMS))
    with pytest.raises(sm.ManifestFormatError):
        build((replace(LIBRARY, fw_id=1 << 32),), vendor=vendor(LMS), owner=owner(LMS))


@pytest.mark.parametrize("kind", BOTH)
def test_the_codec_gives_back_what_it_read(kind: PqcKeyType) -> None:
    data = manifest(kind)
    assert sm.SocManifest.decode(data).encode() == data
    data = owner_manifest(kind)
    assert len(data) == 14720
    assert sm.OwnerManifest.decode(data).encode() == data
    assert patch(data, 0, b"OWOM") == data
