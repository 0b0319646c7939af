"""The device status that Caliptra's ROM measures, and the two info digests of the same facts.

It is what PCR 0 and 1 are extended with first: 18 bytes, or 17 up to ROM 2.1.2, which does not
measure subsystem mode. The first eleven are what the owner decides, the others what the vendor
decides; with either's key hash before them their SHA-384 stands in the FMC alias certificate.
The LMS revocation is little-endian; all else is a byte.

Sources: caliptra-sw rom/dev/src/pcr.rs, common/src/dice.rs.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from dataclasses import dataclass

SIZES = (18, 17)
_OWNER = struct.Struct("<BBBIBBBB")
_VENDOR = struct.Struct("<BBBBBB")


class DeviceStatusError(ValueError):
    """Bytes that are no device status; the message names the field."""


class LifecycleState(enum.IntEnum):
    """The two bits of the lifecycle register."""

    UNPROVISIONED = 0
    MANUFACTURING = 1
    PRODUCTION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatus:
    """The facts, in their order. `subsystem_mode` is None where the ROM does not measure it.

    The three SVNs are the least that the fuses take of firmware and of SoC manifests, and the
    most; `cold_boot_svn` is the firmware's. Revocations are bit masks, indices the keys in use.
    """

    owner_hash_in_fuses: bool
    anti_rollback_disabled: bool
    ecc_revocation: int
    lms_revocation: int
    mldsa_revocation: int
    firmware_svn: int
    soc_manifest_svn: int
    soc_manifest_max_svn: int
    pqc_key_type: int
    lifecycle: LifecycleState
    debug_locked: bool
    cold_boot_svn: int
    ecc_key_index: int
    pqc_key_index: int
    subsystem_mode: bool | None = None


def encode(status: DeviceStatus) -> bytes:
    """17 or 18 bytes."""
    owner = _OWNER.pack(
        status.owner_hash_in_fuses,
        status.anti_rollback_disabled,
        status.ecc_revocation,
        status.lms_revocation,
        status.mldsa_revocation,
        status.firmware_svn,
        status.soc_manifest_svn,
        status.soc_manifest_max_svn,
    )
    vendor = _VENDOR.pack(
        status.pqc_key_type,
        status.lifecycle,
        status.debug_locked,
        status.cold_boot_svn,
        status.ecc_key_index,
        status.pqc_key_index,
    )
    mode = b"" if status.subsystem_mode is None else bytes((status.subsystem_mode,))
    return owner + vendor + mode


def decode(data: bytes) -> DeviceStatus:
    """The facts of 17 or 18 bytes. Raises DeviceStatusError: size, a flag or state unknown."""
    if len(data) not in SIZES:
        raise DeviceStatusError(f"device status: expected 17 or 18 bytes, found {len(data)}")
    fused, rollback, ecc, lms, mldsa, firmware, manifest, most = _OWNER.unpack_from(data)
    pqc, lifecycle, locked, cold_boot, ecc_index, pqc_index = _VENDOR.unpack_from(data, _OWNER.size)
    if lifecycle not in LifecycleState._value2member_map_:
        raise DeviceStatusError(f"device status: lifecycle {lifecycle} is not defined")
    return DeviceStatus(
        owner_hash_in_fuses=_flag("owner hash in fuses", fused),
        anti_rollback_disabled=_flag("anti-rollback disable", rollback),
        ecc_revocation=ecc,
        lms_revocation=lms,
        mldsa_revocation=mldsa,
        firmware_svn=firmware,
        soc_manifest_svn=manifest,
        soc_manifest_max_svn=most,
        pqc_key_type=pqc,
        lifecycle=LifecycleState(lifecycle),
        debug_locked=_flag("debug locked", locked),
        cold_boot_svn=cold_boot,
        ecc_key_index=ecc_index,
        pqc_key_index=pqc_index,
        subsystem_mode=_flag("subsystem mode", data[17]) if len(data) > 17 else None,
    )


def _flag(name: str, value: int) -> bool:
    if value > 1:
        raise DeviceStatusError(f"device status: {name} is {value}, neither 0 nor 1")
    return bool(value)


def owner_info_digest(owner_pk_hash: bytes, status: bytes) -> bytes:
    """SHA-384 of the owner's key hash (48 bytes) and the owner's part of the encoded status."""
    return hashlib.sha384(owner_pk_hash + status[: _OWNER.size]).digest()


def vendor_info_digest(vendor_pk_hash: bytes, status: bytes) -> bytes:
    """SHA-384 of the vendor's key hash (48 bytes) and the vendor's part of the encoded status."""
    return hashlib.sha384(vendor_pk_hash + status[_OWNER.size :]).digest()


def state_mask(status: bytes) -> bytes:
    """Of an encoded status, the bits that say lifecycle and debug: for references with a mask."""
    mask = bytearray(len(status))
    mask[_OWNER.size + 1 : _OWNER.size + 3] = b"\xff\xff"
    return bytes(mask)
