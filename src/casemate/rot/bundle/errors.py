"""Why a device refuses a bundle: the public error codes, and which of them a bundle can cause.

Source: chipsalliance/caliptra-sw, `error/src/lib.rs` (names and codes). The explanations are ours.
"""

from __future__ import annotations

import enum

from casemate.rot.errors import BootError

_FAMILY = 0x000B0000
_PUBLIC_PREFIX = "IMAGE_VERIFIER_ERR_"


class Cause(enum.Enum):
    """What can bring an error about."""

    BYTES = "bytes of the bundle"
    FUSES = "fuses against the bundle"
    RESET = "an update reset against the cold boot"
    HARDWARE = "an accelerator that fails; a digest or signature in software does not"
    UNREACHABLE = "nothing: the public code checks what its own earlier lines guarantee"


class BundleError(enum.Enum):
    """One public error: its code, what can cause it, and what it means to the person who asks."""

    code: int
    cause: Cause
    meaning: str

    def __init__(self, code: int, cause: Cause, meaning: str) -> None:
        self.code = _FAMILY | code if code < 0x1000 else code
        self.cause = cause
        self.meaning = meaning

    @property
    def public_name(self) -> str:
        """The error's name in the public sources."""
        if self.name.startswith("FW_PROC") or self is BundleError.ACTIVATION_FAILED:
            return self.name if self.name.startswith("FW_PROC") else f"IMAGE_VERIFIER_{self.name}"
        return _PUBLIC_PREFIX + self.name

    # What the ROM refuses before it looks at the manifest.
    FW_PROC_MANIFEST_READ_FAILURE = (
        0x01020001,
        Cause.BYTES,
        "the bundle ends before its manifest does",
    )
    FW_PROC_INVALID_IMAGE_SIZE = (
        0x01020002,
        Cause.BYTES,
        "the bundle is empty or larger than 256 KiB",
    )

    MANIFEST_MARKER_MISMATCH = 0x01, Cause.BYTES, "this is no firmware bundle (wrong marker)"
    MANIFEST_SIZE_MISMATCH = 0x02, Cause.BYTES, "the manifest states another size than its own"
    VENDOR_PUB_KEY_DIGEST_INVALID = (
        0x03,
        Cause.FUSES,
        "the vendor hash is not fused: past the unprovisioned lifecycle nothing boots without it",
    )
    VENDOR_PUB_KEY_DIGEST_FAILURE = 0x04, Cause.HARDWARE, "the vendor keys could not be hashed"
    VENDOR_PUB_KEY_DIGEST_MISMATCH = (
        0x05,
        Cause.FUSES,
        "the vendor keys are not those of the fused hash",
    )
    OWNER_PUB_KEY_DIGEST_FAILURE = 0x06, Cause.HARDWARE, "the owner keys could not be hashed"
    OWNER_PUB_KEY_DIGEST_MISMATCH = (
        0x07,
        Cause.FUSES,
        "the owner keys are not those of the fused hash",
    )
    VENDOR_ECC_PUB_KEY_INDEX_OUT_OF_BOUNDS = (
        0x08,
        Cause.BYTES,
        "the vendor ECC key index points behind the last key",
    )
    VENDOR_ECC_PUB_KEY_REVOKED = 0x09, Cause.FUSES, "the vendor ECC key is revoked in the fuses"
    HEADER_DIGEST_FAILURE = 0x0A, Cause.HARDWARE, "the header could not be hashed"
    VENDOR_ECC_VERIFY_FAILURE = (
        0x0B,
        Cause.BYTES,
        "r or s of the vendor's ECC signature is not below the order of the group",
    )
    VENDOR_ECC_SIGNATURE_INVALID = (
        0x0C,
        Cause.BYTES,
        "the vendor's ECC signature does not match header and key",
    )
    VENDOR_ECC_PUB_KEY_INDEX_MISMATCH = (
        0x0D,
        Cause.BYTES,
        "the signed header names another vendor ECC key than the preamble",
    )
    OWNER_ECC_VERIFY_FAILURE = (
        0x0E,
        Cause.BYTES,
        "r or s of the owner's ECC signature is not below the order of the group",
    )
    OWNER_ECC_SIGNATURE_INVALID = (
        0x0F,
        Cause.BYTES,
        "the owner's ECC signature does not match header and key",
    )
    TOC_ENTRY_COUNT_INVALID = 0x10, Cause.BYTES, "the header counts other than two TOC entries"
    TOC_DIGEST_FAILURE = 0x11, Cause.HARDWARE, "the TOC could not be hashed"
    TOC_DIGEST_MISMATCH = 0x12, Cause.BYTES, "the TOC is not the one that was signed"
    FMC_DIGEST_FAILURE = 0x13, Cause.BYTES, "the TOC places the FMC beyond the end of the bundle"
    FMC_DIGEST_MISMATCH = 0x14, Cause.BYTES, "the FMC is not the one that was signed"
    RUNTIME_DIGEST_FAILURE = (
        0x15,
        Cause.BYTES,
        "the TOC places the runtime beyond the end of the bundle",
    )
    RUNTIME_DIGEST_MISMATCH = 0x16, Cause.BYTES, "the runtime is not the one that was signed"
    FMC_RUNTIME_OVERLAP = 0x17, Cause.BYTES, "FMC and runtime overlap in the bundle"
    FMC_RUNTIME_INCORRECT_ORDER = 0x18, Cause.BYTES, "the runtime stands before the FMC"
    OWNER_ECC_PUB_KEY_INVALID_ARG = 0x19, Cause.BYTES, "a coordinate of the owner ECC key is zero"
    OWNER_ECC_SIGNATURE_INVALID_ARG = (
        0x1A,
        Cause.BYTES,
        "r or s of the owner's ECC signature is zero: the bundle is not signed by an owner",
    )
    VENDOR_ECC_PUB_KEY_INVALID_ARG = (
        0x1B,
        Cause.BYTES,
        "a coordinate of the vendor ECC key is zero",
    )
    VENDOR_ECC_SIGNATURE_INVALID_ARG = (
        0x1C,
        Cause.BYTES,
        "r or s of the vendor's ECC signature is zero: the bundle is not signed by a vendor",
    )
    UPDATE_RESET_OWNER_DIGEST_FAILURE = (
        0x1D,
        Cause.RESET,
        "an update reset cannot change the owner: that needs a cold reset",
    )
    UPDATE_RESET_VENDOR_ECC_PUB_KEY_IDX_MISMATCH = (
        0x1E,
        Cause.RESET,
        "an update reset cannot change the vendor ECC key: that needs a cold reset",
    )
    UPDATE_RESET_FMC_DIGEST_MISMATCH = (
        0x1F,
        Cause.RESET,
        "an update reset cannot change the FMC: that needs a cold reset",
    )
    FMC_LOAD_ADDR_INVALID = 0x21, Cause.BYTES, "the FMC is loaded outside of the ICCM"
    FMC_LOAD_ADDR_UNALIGNED = 0x22, Cause.BYTES, "the FMC's load address is no multiple of 4"
    FMC_ENTRY_POINT_INVALID = 0x23, Cause.BYTES, "the FMC's entry point lies outside of the ICCM"
    FMC_ENTRY_POINT_UNALIGNED = 0x24, Cause.BYTES, "the FMC's entry point is no multiple of 4"
    RUNTIME_LOAD_ADDR_INVALID = 0x28, Cause.BYTES, "the runtime is loaded outside of the ICCM"
    RUNTIME_LOAD_ADDR_UNALIGNED = (
        0x29,
        Cause.BYTES,
        "the runtime's load address is no multiple of 4",
    )
    RUNTIME_ENTRY_POINT_INVALID = (
        0x2A,
        Cause.BYTES,
        "the runtime's entry point lies outside of the ICCM",
    )
    RUNTIME_ENTRY_POINT_UNALIGNED = (
        0x2B,
        Cause.BYTES,
        "the runtime's entry point is no multiple of 4",
    )
    FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED = 0x2C, Cause.BYTES, "the SVN is above 128"
    FIRMWARE_SVN_LESS_THAN_FUSE = (
        0x2E,
        Cause.FUSES,
        "the SVN is below the fused one: this firmware was rolled back",
    )
    IMAGE_LEN_MORE_THAN_BUNDLE_SIZE = (
        0x2F,
        Cause.BYTES,
        "manifest, FMC and runtime are together longer than the bundle: it is truncated",
    )
    VENDOR_PQC_PUB_KEY_INDEX_MISMATCH = (
        0x30,
        Cause.BYTES,
        "the signed header names another vendor LMS or ML-DSA key than the preamble",
    )
    VENDOR_LMS_VERIFY_FAILURE = (
        0x31,
        Cause.BYTES,
        "the vendor's LMS signature is of another type than the key, or names no leaf of its tree",
    )
    VENDOR_PQC_PUB_KEY_INDEX_OUT_OF_BOUNDS = (
        0x32,
        Cause.BYTES,
        "the vendor LMS or ML-DSA key index points behind the last key",
    )
    VENDOR_LMS_SIGNATURE_INVALID = (
        0x33,
        Cause.BYTES,
        "the vendor's LMS signature does not match header and key",
    )
    FMC_RUNTIME_LOAD_ADDR_OVERLAP = 0x34, Cause.BYTES, "FMC and runtime overlap where loaded"
    OWNER_LMS_VERIFY_FAILURE = (
        0x36,
        Cause.BYTES,
        "the owner's LMS signature is of another type than the key, or names no leaf of its tree",
    )
    OWNER_LMS_SIGNATURE_INVALID = (
        0x38,
        Cause.BYTES,
        "the owner's LMS signature does not match header and key",
    )
    VENDOR_PQC_PUB_KEY_REVOKED = (
        0x3A,
        Cause.FUSES,
        "the vendor LMS or ML-DSA key is revoked in the fuses",
    )
    FMC_SIZE_ZERO = 0x3B, Cause.BYTES, "the FMC is empty"
    RUNTIME_SIZE_ZERO = 0x3C, Cause.BYTES, "the runtime is empty"
    UPDATE_RESET_VENDOR_PQC_PUB_KEY_IDX_MISMATCH = (
        0x3D,
        Cause.RESET,
        "an update reset cannot change the vendor LMS or ML-DSA key: that needs a cold reset",
    )
    FMC_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW = (
        0x3E,
        Cause.BYTES,
        "the FMC's load address plus its size passes 32 bits",
    )
    RUNTIME_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW = (
        0x3F,
        Cause.BYTES,
        "the runtime's load address plus its size passes 32 bits",
    )
    TOC_ENTRY_RANGE_ARITHMETIC_OVERFLOW = (
        0x40,
        Cause.BYTES,
        "offset plus size of FMC or runtime passes 32 bits",
    )
    DIGEST_OUT_OF_BOUNDS = (
        0x41,
        Cause.UNREACHABLE,
        "an inner error that the verifier replaces by the digest's own failure",
    )
    ECC_KEY_DESCRIPTOR_VERSION_MISMATCH = (
        0x42,
        Cause.BYTES,
        "the ECC key descriptor is of an unknown version",
    )
    ECC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX = (
        0x43,
        Cause.BYTES,
        "the ECC key descriptor counts more than 4 keys",
    )
    PQC_KEY_DESCRIPTOR_VERSION_MISMATCH = (
        0x44,
        Cause.BYTES,
        "the post-quantum key descriptor is of an unknown version",
    )
    PQC_KEY_DESCRIPTOR_TYPE_MISMATCH = (
        0x45,
        Cause.BYTES,
        "the post-quantum key descriptor is for another algorithm than the bundle",
    )
    PQC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX = (
        0x46,
        Cause.BYTES,
        "the post-quantum key descriptor counts more keys than allowed (32 LMS, 4 ML-DSA)",
    )
    ECC_KEY_DESCRIPTOR_INVALID_HASH_COUNT = 0x47, Cause.BYTES, "there is no vendor ECC key"
    PQC_KEY_DESCRIPTOR_INVALID_HASH_COUNT = (
        0x48,
        Cause.BYTES,
        "there is no vendor post-quantum key",
    )
    PQC_KEY_TYPE_INVALID = (
        0x49,
        Cause.BYTES,
        "the bundle's post-quantum key type is neither 1 (ML-DSA) nor 3 (LMS)",
    )
    LMS_VENDOR_PUB_KEY_INVALID = 0x4A, Cause.UNREACHABLE, "a field of fixed size is too short"
    LMS_VENDOR_SIG_INVALID = 0x4B, Cause.UNREACHABLE, "a field of fixed size is too short"
    LMS_OWNER_PUB_KEY_INVALID = 0x4C, Cause.UNREACHABLE, "a field of fixed size is too short"
    LMS_OWNER_SIG_INVALID = 0x4D, Cause.UNREACHABLE, "a field of fixed size is too short"
    MLDSA_VENDOR_PUB_KEY_READ_FAILED = (
        0x4E,
        Cause.UNREACHABLE,
        "a field of fixed size is too short",
    )
    MLDSA_VENDOR_SIG_READ_FAILED = 0x4F, Cause.UNREACHABLE, "a field of fixed size is too short"
    MLDSA_OWNER_PUB_KEY_READ_FAILED = 0x50, Cause.UNREACHABLE, "a field of fixed size is too short"
    MLDSA_OWNER_SIG_READ_FAILED = 0x51, Cause.UNREACHABLE, "a field of fixed size is too short"
    VENDOR_MLDSA_MSG_MISSING = (
        0x52,
        Cause.UNREACHABLE,
        "the ML-DSA check runs without the header that is always given to it",
    )
    OWNER_MLDSA_MSG_MISSING = (
        0x53,
        Cause.UNREACHABLE,
        "the ML-DSA check runs without the header that is always given to it",
    )
    VENDOR_MLDSA_VERIFY_FAILURE = 0x54, Cause.HARDWARE, "the ML-DSA accelerator failed"
    VENDOR_MLDSA_SIGNATURE_INVALID = (
        0x55,
        Cause.BYTES,
        "the vendor's ML-DSA signature does not match header and key",
    )
    OWNER_MLDSA_VERIFY_FAILURE = 0x56, Cause.HARDWARE, "the ML-DSA accelerator failed"
    OWNER_MLDSA_SIGNATURE_INVALID = (
        0x57,
        Cause.BYTES,
        "the owner's ML-DSA signature does not match header and key",
    )
    MLDSA_TYPE_CONVERSION_FAILED = 0x58, Cause.UNREACHABLE, "a field of fixed size is too short"
    VENDOR_ECC_PUB_KEY_DIGEST_MISMATCH = (
        0x59,
        Cause.BYTES,
        "the active vendor ECC key is not the one listed under its index",
    )
    VENDOR_PQC_PUB_KEY_DIGEST_MISMATCH = (
        0x5A,
        Cause.BYTES,
        "the active vendor LMS or ML-DSA key is not the one listed under its index",
    )
    INVALID_PQC_KEY_TYPE_IN_FUSE = (
        0x5B,
        Cause.FUSES,
        "the post-quantum key type is not fused: past the unprovisioned lifecycle it must be",
    )
    PQC_KEY_TYPE_MISMATCH = (
        0x5C,
        Cause.FUSES,
        "the bundle is signed with another post-quantum algorithm than the fuses ask for",
    )
    ACTIVATION_FAILED = (
        0x5D,
        Cause.UNREACHABLE,
        "no check of the verifier gives it: the runtime reports it for its activation command",
    )
    DOT_OWNER_PUB_KEY_DIGEST_MISMATCH = (
        0x5E,
        Cause.FUSES,
        "the owner keys are not those installed by device ownership transfer",
    )


class BundleRefusedError(BootError):
    """A device would not boot this bundle; `error` is the public reason."""

    def __init__(self, error: BundleError, detail: str = "") -> None:
        text = f"{error.public_name} ({error.code:#010x}): {error.meaning}"
        super().__init__(f"{text}; {detail}" if detail else text, error.code)
        self.error = error
        self.detail = detail
