"""Would a device with these fuses boot this bundle: the public checks, in the public order.

Source: chipsalliance/caliptra-sw, `image/verify/src/verifier.rs` (and, for the size,
`rom/dev/src/flow/cold_reset/fw_processor`). The first check that fails names the error:

1. Size of the bundle; the manifest's marker, size and post-quantum type, that type against the
   fuse.
2. Vendor keys: the fused hash, both descriptors, the hash over them, the two active keys.
   Skipped in the unprovisioned lifecycle.
3. Owner keys: the fused hash; without one, the hash that ownership transfer installed; without
   that, any owner.
4. Vendor key indices: in range, not revoked (the last key of a list never is).
5. Signatures over the header: vendor ECC, vendor LMS or ML-DSA; the indices in the header; owner
   ECC, owner LMS or ML-DSA.
6. The TOC: its count and digest, sizes, order and overlaps.
7. FMC, then runtime: digest, load address, entry point.
8. The SVN. Skipped in the unprovisioned lifecycle and with anti-rollback disabled.

An update reset also holds owner, indices and FMC against those of the cold boot. What the chip
has in its mailbox behind a bundle is not modelled: an executable that the TOC places beyond the
end of the bundle fails its digest check.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.errors import BundleError, BundleRefusedError
from casemate.rot.bundle.signatures import (
    Outcome,
    check_ecdsa,
    check_lms,
    check_mldsa,
)
from casemate.rot.firmware import ResetReason, VerifiedFirmware
from casemate.rot.fuses import SVN_BITS, Fuses, Lifecycle, PqcKeyType

_WORD = 1 << 32
_ZERO_SCALAR = bytes(48)
_ZERO_DIGEST = bytes(fb.DIGEST_SIZE)


@dataclass(frozen=True, slots=True)
class _Context:
    """What every check reads."""

    data: bytes
    manifest: fb.Manifest
    pqc: PqcKeyType
    fuses: Fuses
    cold_boot: VerifiedFirmware | None
    dot_owner_pk_hash: bytes | None

    @property
    def provisioned(self) -> bool:
        return self.fuses.lifecycle is not Lifecycle.UNPROVISIONED


def _refuse_if(condition: bool, error: BundleError, detail: str = "") -> None:
    if condition:
        raise BundleRefusedError(error, detail)


def _differ(expected: object, found: object) -> str:
    def show(value: object) -> str:
        return value.hex() if isinstance(value, bytes) else str(value)

    return f"expected {show(expected)}, found {show(found)}"


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def verify(
    bundle: bytes,
    fuses: Fuses,
    *,
    reason: ResetReason = ResetReason.COLD,
    cold_boot: VerifiedFirmware | None = None,
    dot_owner_pk_hash: bytes | None = None,
) -> VerifiedFirmware:
    """Run all checks; return what the boot will measure.

    `cold_boot` is what the last cold boot ran and must be given for an update reset.
    `dot_owner_pk_hash` (48 bytes) is the owner that ownership transfer installed, if any.
    Raises BundleRefusedError with the public error of the first check that fails.
    """
    if (reason is ResetReason.UPDATE) != (cold_boot is not None):
        raise ValueError("cold_boot belongs to an update reset, and to no other")
    manifest = _check_size(bundle)
    context = _Context(
        bundle,
        manifest,
        _check_manifest(manifest, fuses),
        fuses,
        cold_boot,
        dot_owner_pk_hash,
    )
    if context.provisioned:
        _check_vendor_keys(context)
    owner_pk_hash = _check_owner_keys(context)
    _check_vendor_ecc_index(context)
    _check_vendor_pqc_index(context)
    _check_vendor_signatures(context)
    _check_header_indices(manifest)
    _check_owner_signatures(context)
    _check_toc(context)
    _check_fmc(context)
    _check_runtime(context)
    if context.provisioned and not fuses.anti_rollback_disable:
        _check_svn(manifest.header.svn, fuses)
    return _verified(context, owner_pk_hash)


def _verified(context: _Context, owner_pk_hash: bytes) -> VerifiedFirmware:
    manifest = context.manifest
    return VerifiedFirmware(
        fmc_digest=manifest.fmc.digest,
        rt_digest=manifest.runtime.digest,
        svn=manifest.header.svn,
        owner_pk_hash=owner_pk_hash,
        vendor_ecc_index=manifest.vendor_ecc_index,
        vendor_pqc_index=manifest.vendor_pqc_index,
        pqc_key_type=context.pqc,
        fmc_version=manifest.fmc.version,
        rt_version=manifest.runtime.version,
        pl0_pauser=manifest.header.pl0_pauser,
        flags=manifest.header.flags,
        fmc_load_address=manifest.fmc.load_addr,
        fmc_entry_point=manifest.fmc.entry_point,
        rt_load_address=manifest.runtime.load_addr,
        rt_entry_point=manifest.runtime.entry_point,
        vendor_not_before=manifest.header.vendor.not_before,
        vendor_not_after=manifest.header.vendor.not_after,
        owner_not_before=manifest.header.owner.not_before,
        owner_not_after=manifest.header.owner.not_after,
    )


# --- 1. size, marker, type -------------------------------------------------------------------


def _check_size(bundle: bytes) -> fb.Manifest:
    _refuse_if(
        not 0 < len(bundle) <= fb.MAX_BUNDLE_SIZE,
        BundleError.FW_PROC_INVALID_IMAGE_SIZE,
        f"found {len(bundle)} bytes",
    )
    try:
        return fb.Manifest.decode(bundle)
    except fb.BundleFormatError as error:
        raise BundleRefusedError(BundleError.FW_PROC_MANIFEST_READ_FAILURE, str(error)) from None


def _check_manifest(manifest: fb.Manifest, fuses: Fuses) -> PqcKeyType:
    _refuse_if(manifest.marker != fb.MANIFEST_MARKER, BundleError.MANIFEST_MARKER_MISMATCH)
    _refuse_if(
        manifest.size != fb.MANIFEST_SIZE,
        BundleError.MANIFEST_SIZE_MISMATCH,
        _differ(fb.MANIFEST_SIZE, manifest.size),
    )
    _refuse_if(
        manifest.pqc_key_type not in (PqcKeyType.MLDSA, PqcKeyType.LMS),
        BundleError.PQC_KEY_TYPE_INVALID,
        f"found {manifest.pqc_key_type}",
    )
    pqc = PqcKeyType(manifest.pqc_key_type)
    if fuses.lifecycle is not Lifecycle.UNPROVISIONED:
        _refuse_if(
            fuses.pqc_key_type is PqcKeyType.UNPROGRAMMED,
            BundleError.INVALID_PQC_KEY_TYPE_IN_FUSE,
        )
        _refuse_if(
            fuses.pqc_key_type is not pqc,
            BundleError.PQC_KEY_TYPE_MISMATCH,
            _differ(fuses.pqc_key_type.name, pqc.name),
        )
    return pqc


# --- 2. vendor keys --------------------------------------------------------------------------


def _check_vendor_keys(context: _Context) -> None:
    manifest = context.manifest
    ecc, pqc = manifest.vendor_key_info.ecc, manifest.vendor_key_info.pqc
    most_pqc_keys = fb.MAX_LMS_KEYS if context.pqc is PqcKeyType.LMS else fb.MAX_MLDSA_KEYS
    expected = context.fuses.vendor_pk_hash
    _refuse_if(expected == _ZERO_DIGEST, BundleError.VENDOR_PUB_KEY_DIGEST_INVALID)

    _refuse_if(
        ecc.version != fb.KEY_DESCRIPTOR_VERSION,
        BundleError.ECC_KEY_DESCRIPTOR_VERSION_MISMATCH,
        f"found {ecc.version}",
    )
    _refuse_if(ecc.hash_count == 0, BundleError.ECC_KEY_DESCRIPTOR_INVALID_HASH_COUNT)
    _refuse_if(
        ecc.hash_count > fb.MAX_ECC_KEYS,
        BundleError.ECC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX,
        f"found {ecc.hash_count}",
    )
    _refuse_if(
        pqc.version != fb.KEY_DESCRIPTOR_VERSION,
        BundleError.PQC_KEY_DESCRIPTOR_VERSION_MISMATCH,
        f"found {pqc.version}",
    )
    _refuse_if(
        pqc.kind != context.pqc,
        BundleError.PQC_KEY_DESCRIPTOR_TYPE_MISMATCH,
        _differ(int(context.pqc), pqc.kind),
    )
    _refuse_if(pqc.hash_count == 0, BundleError.PQC_KEY_DESCRIPTOR_INVALID_HASH_COUNT)
    _refuse_if(
        pqc.hash_count > most_pqc_keys,
        BundleError.PQC_KEY_DESCRIPTOR_HASH_COUNT_GT_MAX,
        f"found {pqc.hash_count}",
    )
    found = _sha384(fb.LAYOUT["vendor_key_info"].of(context.data))
    _refuse_if(
        found != expected, BundleError.VENDOR_PUB_KEY_DIGEST_MISMATCH, _differ(expected, found)
    )

    index = manifest.vendor_ecc_index
    _refuse_if(
        index >= fb.MAX_ECC_KEYS,
        BundleError.VENDOR_ECC_PUB_KEY_INDEX_OUT_OF_BOUNDS,
        f"found {index}",
    )
    found = _sha384(fb.LAYOUT["vendor_ecc_key"].of(context.data))
    _refuse_if(
        found != ecc.hashes[index],
        BundleError.VENDOR_ECC_PUB_KEY_DIGEST_MISMATCH,
        _differ(ecc.hashes[index], found),
    )
    index = manifest.vendor_pqc_index
    _refuse_if(
        index >= most_pqc_keys,
        BundleError.VENDOR_PQC_PUB_KEY_INDEX_OUT_OF_BOUNDS,
        f"found {index}",
    )
    key_size = fb.LMS_KEY_SIZE if context.pqc is PqcKeyType.LMS else fb.PQC_KEY_SIZE
    found = _sha384(fb.LAYOUT["vendor_pqc_key"].of(context.data)[:key_size])
    _refuse_if(
        found != pqc.hashes[index],
        BundleError.VENDOR_PQC_PUB_KEY_DIGEST_MISMATCH,
        _differ(pqc.hashes[index], found),
    )


# --- 3. owner keys ---------------------------------------------------------------------------


def _check_owner_keys(context: _Context) -> bytes:
    found = _sha384(fb.OWNER_KEYS.of(context.data))
    fused, installed = context.fuses.owner_pk_hash, context.dot_owner_pk_hash
    if fused != _ZERO_DIGEST:
        _refuse_if(found != fused, BundleError.OWNER_PUB_KEY_DIGEST_MISMATCH, _differ(fused, found))
    elif installed is not None:
        _refuse_if(
            found != installed,
            BundleError.DOT_OWNER_PUB_KEY_DIGEST_MISMATCH,
            _differ(installed, found),
        )
    if context.cold_boot is not None:
        _refuse_if(
            found != context.cold_boot.owner_pk_hash,
            BundleError.UPDATE_RESET_OWNER_DIGEST_FAILURE,
            _differ(context.cold_boot.owner_pk_hash, found),
        )
    return found


# --- 4. vendor key indices -------------------------------------------------------------------
# Past the unprovisioned lifecycle counts and indices are within bounds here (step 2). Before, they
# are what the bundle says, and 32-bit arithmetic wraps round as on the chip.


def _last_index(hash_count: int) -> int:
    return (hash_count - 1) % _WORD


def _check_vendor_ecc_index(context: _Context) -> None:
    index = context.manifest.vendor_ecc_index
    last = _last_index(context.manifest.vendor_key_info.ecc.hash_count)
    _refuse_if(
        index > last,
        BundleError.VENDOR_ECC_PUB_KEY_INDEX_OUT_OF_BOUNDS,
        f"found {index} of {last + 1} keys",
    )
    # The public code asks whether the fuse contains the key's bit, cut to four bits: beyond the
    # fourth key that is the empty set, which every fuse contains.
    bit = (1 << index % 32) & 0xF
    _refuse_if(
        index != last and context.fuses.ecc_revocation & bit == bit,
        BundleError.VENDOR_ECC_PUB_KEY_REVOKED,
        f"key {index}, revocation fuse {context.fuses.ecc_revocation:#x}",
    )
    _refuse_if(
        context.cold_boot is not None and index != context.cold_boot.vendor_ecc_index,
        BundleError.UPDATE_RESET_VENDOR_ECC_PUB_KEY_IDX_MISMATCH,
        f"found {index}",
    )


def _check_vendor_pqc_index(context: _Context) -> None:
    fuses = context.fuses
    index = context.manifest.vendor_pqc_index
    last = _last_index(context.manifest.vendor_key_info.pqc.hash_count)
    revoked = fuses.lms_revocation if context.pqc is PqcKeyType.LMS else fuses.mldsa_revocation
    _refuse_if(
        index > last,
        BundleError.VENDOR_PQC_PUB_KEY_INDEX_OUT_OF_BOUNDS,
        f"found {index} of {last + 1} keys",
    )
    _refuse_if(
        index != last and revoked & (1 << index % 32) != 0,
        BundleError.VENDOR_PQC_PUB_KEY_REVOKED,
        f"key {index}, revocation fuse {revoked:#x}",
    )
    _refuse_if(
        context.cold_boot is not None and index != context.cold_boot.vendor_pqc_index,
        BundleError.UPDATE_RESET_VENDOR_PQC_PUB_KEY_IDX_MISMATCH,
        f"found {index}",
    )


# --- 5. header signatures --------------------------------------------------------------------


def _has_zero_half(value: bytes) -> bool:
    return _ZERO_SCALAR in (value[:48], value[48:])


def _check_vendor_signatures(context: _Context) -> None:
    manifest = context.manifest
    keys, signatures = manifest.vendor_keys, manifest.vendor_signatures
    header = fb.LAYOUT["header"].of(context.data)[: fb.VENDOR_HEADER_SIZE]
    _refuse_if(_has_zero_half(keys.ecc), BundleError.VENDOR_ECC_PUB_KEY_INVALID_ARG)
    _refuse_if(_has_zero_half(signatures.ecc), BundleError.VENDOR_ECC_SIGNATURE_INVALID_ARG)
    outcome = check_ecdsa(_sha384(header), keys.ecc, signatures.ecc)
    _refuse_if(outcome is Outcome.MALFORMED, BundleError.VENDOR_ECC_VERIFY_FAILURE)
    _refuse_if(outcome is Outcome.WRONG, BundleError.VENDOR_ECC_SIGNATURE_INVALID)
    if context.pqc is PqcKeyType.LMS:
        outcome = check_lms(_sha384(header), keys.pqc, signatures.pqc)
        _refuse_if(outcome is Outcome.MALFORMED, BundleError.VENDOR_LMS_VERIFY_FAILURE)
        _refuse_if(outcome is Outcome.WRONG, BundleError.VENDOR_LMS_SIGNATURE_INVALID)
    else:
        outcome = check_mldsa(header, keys.pqc, signatures.pqc)
        _refuse_if(outcome is not Outcome.GOOD, BundleError.VENDOR_MLDSA_SIGNATURE_INVALID)


def _check_header_indices(manifest: fb.Manifest) -> None:
    header = manifest.header
    _refuse_if(
        header.vendor_ecc_index != manifest.vendor_ecc_index,
        BundleError.VENDOR_ECC_PUB_KEY_INDEX_MISMATCH,
        _differ(manifest.vendor_ecc_index, header.vendor_ecc_index),
    )
    _refuse_if(
        header.vendor_pqc_index != manifest.vendor_pqc_index,
        BundleError.VENDOR_PQC_PUB_KEY_INDEX_MISMATCH,
        _differ(manifest.vendor_pqc_index, header.vendor_pqc_index),
    )


def _check_owner_signatures(context: _Context) -> None:
    keys, signatures = context.manifest.owner_keys, context.manifest.owner_signatures
    header = fb.LAYOUT["header"].of(context.data)
    _refuse_if(_has_zero_half(keys.ecc), BundleError.OWNER_ECC_PUB_KEY_INVALID_ARG)
    _refuse_if(_has_zero_half(signatures.ecc), BundleError.OWNER_ECC_SIGNATURE_INVALID_ARG)
    outcome = check_ecdsa(_sha384(header), keys.ecc, signatures.ecc)
    _refuse_if(outcome is Outcome.MALFORMED, BundleError.OWNER_ECC_VERIFY_FAILURE)
    _refuse_if(outcome is Outcome.WRONG, BundleError.OWNER_ECC_SIGNATURE_INVALID)
    if context.pqc is PqcKeyType.LMS:
        outcome = check_lms(_sha384(header), keys.pqc, signatures.pqc)
        _refuse_if(outcome is Outcome.MALFORMED, BundleError.OWNER_LMS_VERIFY_FAILURE)
        _refuse_if(outcome is Outcome.WRONG, BundleError.OWNER_LMS_SIGNATURE_INVALID)
    else:
        outcome = check_mldsa(header, keys.pqc, signatures.pqc)
        _refuse_if(outcome is not Outcome.GOOD, BundleError.OWNER_MLDSA_SIGNATURE_INVALID)


# --- 6. TOC ----------------------------------------------------------------------------------


def _check_toc(context: _Context) -> None:
    manifest = context.manifest
    header, fmc, runtime = manifest.header, manifest.fmc, manifest.runtime
    _refuse_if(
        header.toc_len != fb.TOC_ENTRIES,
        BundleError.TOC_ENTRY_COUNT_INVALID,
        f"found {header.toc_len}",
    )
    found = _sha384(fb.TOC.of(context.data))
    _refuse_if(
        found != header.toc_digest,
        BundleError.TOC_DIGEST_MISMATCH,
        _differ(header.toc_digest, found),
    )
    _refuse_if(fmc.size == 0, BundleError.FMC_SIZE_ZERO)
    _refuse_if(runtime.size == 0, BundleError.RUNTIME_SIZE_ZERO)
    length = manifest.size + fmc.size + runtime.size
    _refuse_if(
        length > len(context.data),
        BundleError.IMAGE_LEN_MORE_THAN_BUNDLE_SIZE,
        f"{length} bytes in a bundle of {len(context.data)}",
    )
    for entry in (fmc, runtime):
        _refuse_if(
            entry.span.end >= _WORD,
            BundleError.TOC_ENTRY_RANGE_ARITHMETIC_OVERFLOW,
            f"offset {entry.offset:#x}, size {entry.size}",
        )
    ranges = f"FMC {fmc.offset:#x} + {fmc.size}, runtime {runtime.offset:#x} + {runtime.size}"
    _refuse_if(
        fmc.span.start < runtime.span.end and runtime.span.start < fmc.span.end,
        BundleError.FMC_RUNTIME_OVERLAP,
        ranges,
    )
    _refuse_if(fmc.span.end > runtime.span.start, BundleError.FMC_RUNTIME_INCORRECT_ORDER, ranges)
    fmc_last = fmc.load_addr + fmc.size - 1
    runtime_last = runtime.load_addr + runtime.size - 1
    _refuse_if(fmc_last >= _WORD, BundleError.FMC_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW)
    _refuse_if(
        runtime_last >= _WORD, BundleError.RUNTIME_LOAD_ADDRESS_IMAGE_SIZE_ARITHMETIC_OVERFLOW
    )
    _refuse_if(
        fmc.load_addr <= runtime_last and runtime.load_addr <= fmc_last,
        BundleError.FMC_RUNTIME_LOAD_ADDR_OVERLAP,
        f"FMC {fmc.load_addr:#x} to {fmc_last:#x}, "
        f"runtime {runtime.load_addr:#x} to {runtime_last:#x}",
    )


# --- 7. FMC and runtime ----------------------------------------------------------------------


def _in_iccm(address: int) -> bool:
    return fb.ICCM_START <= address < fb.ICCM_END


def _loads_in_iccm(entry: fb.TocEntry) -> bool:
    return _in_iccm(entry.load_addr) and _in_iccm(entry.load_addr + entry.size - 1)


def _check_fmc(context: _Context) -> None:
    fmc = context.manifest.fmc
    _refuse_if(fmc.span.end > len(context.data), BundleError.FMC_DIGEST_FAILURE)
    found = _sha384(fmc.span.of(context.data))
    _refuse_if(found != fmc.digest, BundleError.FMC_DIGEST_MISMATCH, _differ(fmc.digest, found))
    address = f"found {fmc.load_addr:#x}"
    _refuse_if(not _loads_in_iccm(fmc), BundleError.FMC_LOAD_ADDR_INVALID, address)
    _refuse_if(fmc.load_addr % 4 != 0, BundleError.FMC_LOAD_ADDR_UNALIGNED, address)
    entry_point = f"found {fmc.entry_point:#x}"
    _refuse_if(not _in_iccm(fmc.entry_point), BundleError.FMC_ENTRY_POINT_INVALID, entry_point)
    _refuse_if(fmc.entry_point % 4 != 0, BundleError.FMC_ENTRY_POINT_UNALIGNED, entry_point)
    if context.cold_boot is not None:
        _refuse_if(
            found != context.cold_boot.fmc_digest,
            BundleError.UPDATE_RESET_FMC_DIGEST_MISMATCH,
            _differ(context.cold_boot.fmc_digest, found),
        )


def _check_runtime(context: _Context) -> None:
    runtime = context.manifest.runtime
    _refuse_if(runtime.span.end > len(context.data), BundleError.RUNTIME_DIGEST_FAILURE)
    found = _sha384(runtime.span.of(context.data))
    _refuse_if(
        found != runtime.digest,
        BundleError.RUNTIME_DIGEST_MISMATCH,
        _differ(runtime.digest, found),
    )
    address = f"found {runtime.load_addr:#x}"
    _refuse_if(not _loads_in_iccm(runtime), BundleError.RUNTIME_LOAD_ADDR_INVALID, address)
    _refuse_if(runtime.load_addr % 4 != 0, BundleError.RUNTIME_LOAD_ADDR_UNALIGNED, address)
    entry_point = f"found {runtime.entry_point:#x}"
    _refuse_if(
        not _in_iccm(runtime.entry_point), BundleError.RUNTIME_ENTRY_POINT_INVALID, entry_point
    )
    _refuse_if(runtime.entry_point % 4 != 0, BundleError.RUNTIME_ENTRY_POINT_UNALIGNED, entry_point)


# --- 8. SVN ----------------------------------------------------------------------------------


def _check_svn(svn: int, fuses: Fuses) -> None:
    _refuse_if(svn > SVN_BITS, BundleError.FIRMWARE_SVN_GREATER_THAN_MAX_SUPPORTED, f"found {svn}")
    _refuse_if(
        svn < fuses.firmware_svn,
        BundleError.FIRMWARE_SVN_LESS_THAN_FUSE,
        f"expected {fuses.firmware_svn} or more, found {svn}",
    )
