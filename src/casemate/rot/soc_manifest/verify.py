"""Set a SoC manifest as the runtime does: the public checks, in the public order.

Source: chipsalliance/caliptra-sw, `runtime/src/{set_auth_manifest,set_owner_auth_manifest}.rs`.
The keys of the firmware bundle that booted vouch for the manifest's own keys, and those for the
list of images:

1. Size, marker, stated size, SVN against the fuses, the firmware's post-quantum type against them.
2. The firmware's vendor keys over version, SVN, flags and the manifest's vendor keys; the
   firmware's owner keys over the manifest's owner keys.
3. The count of images; the manifest's vendor keys over the list, if a flag asks for it; its owner
   keys over the list, always.
4. No id twice, neither here nor in the other kind's list.

A manifest that is refused changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.rot.bundle.signatures import Outcome, check_ecdsa, check_lms, check_mldsa
from casemate.rot.fuses import SVN_BITS, Fuses, Lifecycle, PqcKeyType
from casemate.rot.soc_manifest.errors import ManifestError, ManifestRefusedError

MAX_SIZE = 34 * 1024
OWNER_MAX_SIZE = 24 * 1024
OWNER_MANIFEST_SIZE = sm.OWNER_PREAMBLE_SIZE + sm.OWNER_LIST_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorizations:
    """What the runtime remembers of the manifests that are set: images sorted by id, and digests.

    A digest is the SHA-384 of the whole manifest as it came; empty where none is set.
    """

    images: tuple[sm.ImageMetadata, ...] = ()
    digest: bytes = b""
    svn: int = 0
    vendor_measurement: bytes = b""
    owner_measurement: bytes = b""
    owner_images: tuple[sm.ImageMetadata, ...] = ()
    owner_digest: bytes = b""
    owner_svn: int = 0

    def find(self, fw_id: int) -> tuple[sm.ImageMetadata, bool] | None:
        """The image of that id, and whether it is the owner's alone."""
        for images, owner_only in ((self.images, False), (self.owner_images, True)):
            for image in images:
                if image.fw_id == fw_id:
                    return image, owner_only
        return None

    @property
    def unchecked(self) -> tuple[sm.ImageMetadata, ...]:
        """The images under whose id anything at all is authorised (`ignore_auth_check`)."""
        return tuple(
            image for image in (*self.images, *self.owner_images) if image.ignore_auth_check
        )


@dataclass(frozen=True, slots=True)
class _Wrong:
    """Which error a wrong signature gives, by algorithm."""

    ecc: ManifestError
    lms: ManifestError
    mldsa: ManifestError


_VENDOR = _Wrong(
    ManifestError.AUTH_MANIFEST_VENDOR_ECC_SIGNATURE_INVALID,
    ManifestError.AUTH_MANIFEST_VENDOR_LMS_SIGNATURE_INVALID,
    ManifestError.AUTH_MANIFEST_MLDSA_VENDOR_SIG_INVALID,
)
_OWNER = _Wrong(
    ManifestError.AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID,
    ManifestError.AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID,
    ManifestError.AUTH_MANIFEST_MLDSA_OWNER_SIG_INVALID,
)
_OWNER_ONLY_KEYS = _Wrong(
    ManifestError.OWNER_AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID,
    ManifestError.OWNER_AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID,
    ManifestError.OWNER_AUTH_MANIFEST_OWNER_MLDSA_SIGNATURE_INVALID,
)
_OWNER_ONLY_LIST = _Wrong(
    ManifestError.OWNER_AUTH_MANIFEST_IMC_OWNER_ECC_SIGNATURE_INVALID,
    ManifestError.OWNER_AUTH_MANIFEST_IMC_OWNER_LMS_SIGNATURE_INVALID,
    ManifestError.OWNER_AUTH_MANIFEST_IMC_OWNER_MLDSA_SIGNATURE_INVALID,
)


def _refuse_if(condition: bool, error: ManifestError, detail: str = "") -> None:
    if condition:
        raise ManifestRefusedError(error, detail)


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def set_manifest(
    state: Authorizations, manifest: bytes, firmware: fb.Manifest, fuses: Fuses
) -> Authorizations:
    """The state after SET_AUTH_MANIFEST; `firmware` is the manifest of the bundle that booted.

    VERIFY_AUTH_MANIFEST is the same with its result thrown away. Raises ManifestRefusedError.
    """
    _refuse_if(len(manifest) > MAX_SIZE, ManifestError.MAILBOX_INVALID_PARAMS)
    try:
        read = sm.SocManifest.decode(manifest)
    except sm.ManifestFormatError as error:
        raise ManifestRefusedError(
            ManifestError.AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN, str(error)
        ) from None
    _refuse_if(read.marker != sm.MARKER, ManifestError.INVALID_AUTH_MANIFEST_MARKER)
    _refuse_if(
        read.size != sm.PREAMBLE_SIZE,
        ManifestError.AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH,
        f"expected {sm.PREAMBLE_SIZE}, found {read.size}",
    )
    _check_svn(read.svn, fuses)
    kind = _pqc_key_type(firmware, fuses)
    vendor_signed = sm.VENDOR_SIGNED.of(manifest)
    owner_keys = sm.OWNER_KEYS.of(manifest)
    _check(kind, vendor_signed, firmware.vendor_keys, read.vendor_key_signatures, _VENDOR)
    _check(kind, owner_keys, firmware.owner_keys, read.owner_key_signatures, _OWNER)
    images = _entries(
        lambda: read.entries,
        ManifestError.AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_SIZE,
        ManifestError.AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_ENTRY_COUNT,
    )
    if read.vendor_signature_required:
        _check(kind, read.image_list, read.vendor_keys, read.vendor_image_signatures, _VENDOR)
    _check(kind, read.image_list, read.owner_keys, read.owner_image_signatures, _OWNER)
    _check_ids(
        images,
        state.owner_images,
        ManifestError.AUTH_MANIFEST_IMAGE_METADATA_LIST_DUPLICATE_FIRMWARE_ID,
    )
    return replace(
        state,
        images=_sorted(images),
        digest=_sha384(manifest),
        svn=read.svn,
        vendor_measurement=_sha384(vendor_signed),
        owner_measurement=_sha384(owner_keys),
    )


def set_owner_manifest(
    state: Authorizations,
    manifest: bytes,
    firmware: fb.Manifest,
    fuses: Fuses,
    *,
    min_svn: int = 0,
) -> Authorizations:
    """The state after SET_OWNER_AUTH_MANIFEST; `min_svn` comes from a strap, not a fuse.

    Raises ManifestRefusedError.
    """
    _refuse_if(len(manifest) > OWNER_MAX_SIZE, ManifestError.MAILBOX_INVALID_PARAMS)
    try:
        read = sm.OwnerManifest.decode(manifest)
    except sm.ManifestFormatError as error:
        raise ManifestRefusedError(
            ManifestError.OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN, str(error)
        ) from None
    _refuse_if(read.marker != sm.OWNER_MARKER, ManifestError.OWNER_AUTH_MANIFEST_INVALID_MARKER)
    _refuse_if(
        read.size != sm.OWNER_PREAMBLE_SIZE,
        ManifestError.OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH,
        f"expected {sm.OWNER_PREAMBLE_SIZE}, found {read.size}",
    )
    _refuse_if(
        len(manifest) != OWNER_MANIFEST_SIZE,
        ManifestError.OWNER_AUTH_MANIFEST_IMC_INVALID_SIZE,
        f"found {len(manifest)} bytes",
    )
    _refuse_if(read.flags != 0, ManifestError.OWNER_AUTH_MANIFEST_INVALID_FLAGS)
    if _checks_svn(fuses):
        _refuse_if(read.svn > 255, ManifestError.OWNER_AUTH_MANIFEST_SVN_GREATER_THAN_MAX)
        _refuse_if(read.svn < min_svn, ManifestError.OWNER_AUTH_MANIFEST_SVN_LESS_THAN_MIN)
    kind = _pqc_key_type(firmware, fuses)
    signed = sm.OWNER_SIGNED.of(manifest)
    _check(kind, signed, firmware.owner_keys, read.owner_key_signatures, _OWNER_ONLY_KEYS)
    images = _entries(
        lambda: read.entries,
        ManifestError.OWNER_AUTH_MANIFEST_IMC_INVALID_SIZE,
        ManifestError.OWNER_AUTH_MANIFEST_IMC_INVALID_ENTRY_COUNT,
    )
    _check(kind, read.image_list, read.owner_keys, read.owner_image_signatures, _OWNER_ONLY_LIST)
    _check_ids(images, state.images, ManifestError.OWNER_AUTH_MANIFEST_IMC_DUPLICATE_FW_ID)
    return replace(
        state,
        owner_images=_sorted(images),
        owner_digest=_sha384(manifest),
        owner_svn=read.svn,
    )


def _checks_svn(fuses: Fuses) -> bool:
    return fuses.lifecycle is not Lifecycle.UNPROVISIONED and not fuses.anti_rollback_disable


def _check_svn(svn: int, fuses: Fuses) -> None:
    if not _checks_svn(fuses):
        return
    most = min(SVN_BITS, fuses.soc_manifest_max_svn)
    _refuse_if(
        svn > most,
        ManifestError.FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED,
        f"expected at most {most}, found {svn}",
    )
    _refuse_if(
        svn < fuses.soc_manifest_svn,
        ManifestError.FIRMWARE_SVN_LESS_THAN_FUSE,
        f"expected {fuses.soc_manifest_svn} or more, found {svn}",
    )


def _pqc_key_type(firmware: fb.Manifest, fuses: Fuses) -> PqcKeyType:
    _refuse_if(
        firmware.pqc_key_type not in (PqcKeyType.LMS, PqcKeyType.MLDSA),
        ManifestError.AUTH_MANIFEST_INVALID_PQC_KEY_TYPE,
    )
    kind = PqcKeyType(firmware.pqc_key_type)
    if fuses.lifecycle is not Lifecycle.UNPROVISIONED:
        _refuse_if(
            fuses.pqc_key_type is PqcKeyType.UNPROGRAMMED,
            ManifestError.AUTH_MANIFEST_INVALID_PQC_KEY_TYPE_IN_FUSE,
        )
        _refuse_if(
            fuses.pqc_key_type is not kind, ManifestError.AUTH_MANIFEST_PQC_KEY_TYPE_MISMATCH
        )
    return kind


def _check(
    kind: PqcKeyType, data: bytes, keys: fb.PublicKeys, signatures: fb.Signatures, wrong: _Wrong
) -> None:
    digest = _sha384(data)
    _refuse_if(check_ecdsa(digest, keys.ecc, signatures.ecc) is not Outcome.GOOD, wrong.ecc)
    if kind is PqcKeyType.LMS:
        _refuse_if(check_lms(digest, keys.pqc, signatures.pqc) is not Outcome.GOOD, wrong.lms)
    else:
        _refuse_if(check_mldsa(data, keys.pqc, signatures.pqc) is not Outcome.GOOD, wrong.mldsa)


def _entries(
    read: Callable[[], tuple[sm.ImageMetadata, ...]],
    wrong_size: ManifestError,
    wrong_count: ManifestError,
) -> tuple[sm.ImageMetadata, ...]:
    try:
        return read()
    except sm.ManifestFormatError as error:
        # The count's own bytes may be missing: that is a wrong size too.
        count_is_wrong = error.field == "entry count" and "ends" not in str(error)
        raise ManifestRefusedError(
            wrong_count if count_is_wrong else wrong_size, str(error)
        ) from None


def _check_ids(
    images: tuple[sm.ImageMetadata, ...],
    others: tuple[sm.ImageMetadata, ...],
    error: ManifestError,
) -> None:
    seen = {image.fw_id for image in others}
    for image in images:
        _refuse_if(image.fw_id in seen, error, f"id {image.fw_id:#x}")
        seen.add(image.fw_id)


def _sorted(images: tuple[sm.ImageMetadata, ...]) -> tuple[sm.ImageMetadata, ...]:
    return tuple(sorted(images, key=lambda image: image.fw_id))
