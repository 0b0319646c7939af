from __future__ import annotations

import pytest

from casemate.rot.soc_manifest.authorize import (
    FLAG_SKIP_STASH,
    Authorization,
    Request,
    Result,
    Source,
    Stash,
    authorize,
)
from casemate.rot.soc_manifest.errors import ManifestError, ManifestRefusedError
from casemate.rot.soc_manifest.verify import Authorizations
from tests.rot.soc_manifest.manifests import ANYTHING, FIRMWARE, LIBRARY, OWNED, digest

STATE = Authorizations(images=(LIBRARY, FIRMWARE, ANYTHING), owner_images=OWNED)


def test_only_the_listed_digest_is_authorised() -> None:
    good = authorize(STATE, Request(fw_id=3, measurement=LIBRARY.digest, svn=6))
    assert good == Authorization(Result.AUTHORIZED, Stash(3, LIBRARY.digest, 6))
    assert good.yes
    bad = authorize(STATE, Request(fw_id=3, measurement=digest(b"other")))
    assert bad == Authorization(Result.HASH_MISMATCH, None)
    unknown = authorize(STATE, Request(fw_id=4, measurement=LIBRARY.digest))
    assert unknown == Authorization(Result.NOT_AUTHORIZED, None)
    assert not bad.yes
    assert not unknown.yes


def test_the_owners_images_have_a_yes_of_their_own() -> None:
    answer = authorize(STATE, Request(fw_id=100, measurement=OWNED[0].digest))
    assert answer.result is Result.AUTHORIZED_OWNER_ONLY
    assert answer.yes


def test_ignore_auth_check_authorises_anything_and_stashes_what_was_named() -> None:
    named = digest(b"anything at all")
    answer = authorize(STATE, Request(fw_id=9, measurement=named))
    assert answer == Authorization(Result.AUTHORIZED, Stash(9, named, 0))


@pytest.mark.parametrize(
    ("source", "address"),
    [
        (Source.LOAD_ADDRESS, FIRMWARE.load_address),
        (Source.STAGING_ADDRESS, FIRMWARE.staging_address),
    ],
)
def test_an_image_in_memory_is_hashed_where_the_manifest_says(source: Source, address: int) -> None:
    asked = []

    def hash_image(at: int, size: int) -> bytes:
        asked.append((at, size))
        return digest(b"firmware")

    request = Request(fw_id=7, measurement=bytes(48), source=source, image_size=8)
    answer = authorize(STATE, request, hash_image=hash_image)
    assert answer == Authorization(Result.AUTHORIZED, Stash(7, FIRMWARE.digest, 0))
    assert asked == [(address, 8)]
    wrong = authorize(STATE, request, hash_image=lambda _at, _size: digest(b"swapped"))
    assert wrong.result is Result.HASH_MISMATCH
    with pytest.raises(ManifestRefusedError):
        authorize(STATE, request)


def test_skip_stash_stashes_nothing() -> None:
    request = Request(fw_id=3, measurement=LIBRARY.digest, flags=FLAG_SKIP_STASH)
    for privileged in (True, False):
        assert authorize(STATE, request, privileged=privileged).stash is None


def test_another_user_than_pl0_may_not_stash() -> None:
    with pytest.raises(ManifestRefusedError) as caught:
        authorize(STATE, Request(fw_id=3, measurement=LIBRARY.digest), privileged=False)
    assert caught.value.error is ManifestError.INCORRECT_PAUSER_PRIVILEGE_LEVEL


@pytest.mark.parametrize("source", [0, 4, 0xFFFFFFFF])
def test_an_unknown_source_fails_the_command(source: int) -> None:
    for fw_id in (3, 4):
        with pytest.raises(ManifestRefusedError) as caught:
            authorize(STATE, Request(fw_id=fw_id, measurement=LIBRARY.digest, source=source))
        assert caught.value.code == 0x000E004E


def test_nothing_is_authorised_before_a_manifest_is_set() -> None:
    for fw_id in (0, 3, 0xFFFFFFFF):
        answer = authorize(Authorizations(), Request(fw_id=fw_id, measurement=bytes(48)))
        assert answer.result is Result.NOT_AUTHORIZED
