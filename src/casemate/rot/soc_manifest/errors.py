"""Why a SoC manifest is refused: the public error codes of the runtime.

Source: chipsalliance/caliptra-sw, `error/src/lib.rs`. Codes that no bytes can cause (reads of
fields of fixed size) are left out.
"""

from __future__ import annotations

import enum

from casemate.rot.errors import RotError


class ManifestError(enum.Enum):
    """One public error: its code, and what it means to the person who asks."""

    code: int
    meaning: str

    def __init__(self, code: int, meaning: str) -> None:
        self.code = code
        self.meaning = meaning

    @property
    def public_name(self) -> str:
        """The error's name in the public sources."""
        image_verifier = self.name.startswith("FIRMWARE_SVN")
        return ("IMAGE_VERIFIER_ERR_" if image_verifier else "RUNTIME_") + self.name

    FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED = 0x000B002C, "the SVN is above what the fuses allow"
    FIRMWARE_SVN_LESS_THAN_FUSE = 0x000B002E, "the SVN is below the fused one: rolled back"

    MAILBOX_INVALID_PARAMS = 0x000E0009, "the manifest is larger than the command takes"
    INCORRECT_PAUSER_PRIVILEGE_LEVEL = 0x000E0016, "only the PL0 user may stash measurements"
    INVALID_AUTH_MANIFEST_MARKER = 0x000E0045, "this is no SoC manifest (wrong marker)"
    AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH = 0x000E0046, "the preamble states another size"
    AUTH_MANIFEST_VENDOR_ECC_SIGNATURE_INVALID = 0x000E0047, "a vendor ECC signature is wrong"
    AUTH_MANIFEST_VENDOR_LMS_SIGNATURE_INVALID = 0x000E0048, "a vendor LMS signature is wrong"
    AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID = 0x000E0049, "an owner ECC signature is wrong"
    AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID = 0x000E004A, "an owner LMS signature is wrong"
    AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN = 0x000E004B, "the manifest ends before its preamble does"
    AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_SIZE = (
        0x000E004C,
        "the list of images ends before its last entry",
    )
    AUTH_MANIFEST_IMAGE_METADATA_LIST_INVALID_ENTRY_COUNT = (
        0x000E004D,
        "the list counts no image, or more than 80",
    )
    AUTH_AND_STASH_UNSUPPORTED_IMAGE_SOURCE = 0x000E004E, "the image source is none of 1, 2 and 3"
    AUTH_MANIFEST_IMAGE_METADATA_LIST_DUPLICATE_FIRMWARE_ID = (
        0x000E0053,
        "two images have the same id (in this manifest or in the owner's)",
    )
    AUTH_MANIFEST_MLDSA_VENDOR_SIG_INVALID = 0x000E0065, "a vendor ML-DSA signature is wrong"
    AUTH_MANIFEST_MLDSA_OWNER_SIG_INVALID = 0x000E0068, "an owner ML-DSA signature is wrong"
    AUTH_MANIFEST_INVALID_PQC_KEY_TYPE_IN_FUSE = (
        0x000E008A,
        "the post-quantum key type is not fused",
    )
    AUTH_MANIFEST_INVALID_PQC_KEY_TYPE = 0x000E008B, "the firmware's key type is unknown"
    AUTH_MANIFEST_PQC_KEY_TYPE_MISMATCH = (
        0x000E008C,
        "the firmware's post-quantum key type is not the fused one",
    )
    OWNER_AUTH_MANIFEST_INVALID_MARKER = 0x000E009F, "this is no owner manifest (wrong marker)"
    OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_LT_MIN = (
        0x000E00A0,
        "the manifest ends before its preamble does",
    )
    OWNER_AUTH_MANIFEST_PREAMBLE_SIZE_MISMATCH = 0x000E00A1, "the preamble states another size"
    OWNER_AUTH_MANIFEST_SVN_LESS_THAN_MIN = 0x000E00A2, "the SVN is below the strapped one"
    OWNER_AUTH_MANIFEST_SVN_GREATER_THAN_MAX = 0x000E00A3, "the SVN is above 255"
    OWNER_AUTH_MANIFEST_OWNER_ECC_SIGNATURE_INVALID = (
        0x000E00A4,
        "the ECC signature over the keys is wrong",
    )
    OWNER_AUTH_MANIFEST_OWNER_LMS_SIGNATURE_INVALID = (
        0x000E00A5,
        "the LMS signature over the keys is wrong",
    )
    OWNER_AUTH_MANIFEST_OWNER_MLDSA_SIGNATURE_INVALID = (
        0x000E00A6,
        "the ML-DSA signature over the keys is wrong",
    )
    OWNER_AUTH_MANIFEST_IMC_OWNER_ECC_SIGNATURE_INVALID = (
        0x000E00A7,
        "the ECC signature over the images is wrong",
    )
    OWNER_AUTH_MANIFEST_IMC_OWNER_LMS_SIGNATURE_INVALID = (
        0x000E00A8,
        "the LMS signature over the images is wrong",
    )
    OWNER_AUTH_MANIFEST_IMC_OWNER_MLDSA_SIGNATURE_INVALID = (
        0x000E00A9,
        "the ML-DSA signature over the images is wrong",
    )
    OWNER_AUTH_MANIFEST_IMC_INVALID_SIZE = 0x000E00AA, "the manifest is not of 14,720 bytes"
    OWNER_AUTH_MANIFEST_IMC_INVALID_ENTRY_COUNT = (
        0x000E00AB,
        "the list counts no image, or more than 32",
    )
    OWNER_AUTH_MANIFEST_IMC_DUPLICATE_FW_ID = (
        0x000E00AC,
        "two images have the same id (in this manifest or in the vendor's)",
    )
    OWNER_AUTH_MANIFEST_INVALID_FLAGS = 0x000E00AD, "a flag is set; owner manifests have none"


class ManifestRefusedError(RotError):
    """The runtime would not take this manifest or command; `error` is the public reason."""

    def __init__(self, error: ManifestError, detail: str = "") -> None:
        text = f"{error.public_name} ({error.code:#010x}): {error.meaning}"
        super().__init__(f"{text}; {detail}" if detail else text)
        self.error = error
        self.code = error.code
