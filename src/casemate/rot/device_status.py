"""What the ROM measures of the device itself: its fuses and its firmware's facts, as one status.

`casemate.formats.device_status` has the bytes. Up to ROM 2.1.2 the last fact, subsystem mode, is
not measured.

Sources: caliptra-sw rom/dev/src/pcr.rs, common/src/dice.rs.
"""

from __future__ import annotations

import enum

from casemate.formats import device_status as codec
from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.fuses import Fuses


class RomVersion(enum.Enum):
    """Which ROM the flow follows."""

    V2_1_2 = "2.1.2"
    """2.1.0 to 2.1.2: subsystem mode is not measured."""
    MAIN = "main"
    """What comes after 2.1.2."""

    @property
    def measures_subsystem_mode(self) -> bool:
        """Whether the last status byte is there."""
        return self is RomVersion.MAIN


def device_status(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    """The status bytes (17 or 18) that PCR 0 and 1 are extended with first."""
    return codec.encode(
        codec.DeviceStatus(
            owner_hash_in_fuses=fuses.owner_pk_hash_fused,
            anti_rollback_disabled=fuses.anti_rollback_disable,
            ecc_revocation=fuses.ecc_revocation,
            lms_revocation=fuses.lms_revocation,
            mldsa_revocation=fuses.mldsa_revocation,
            firmware_svn=fuses.firmware_svn,
            soc_manifest_svn=fuses.soc_manifest_svn,
            soc_manifest_max_svn=fuses.soc_manifest_max_svn,
            pqc_key_type=fuses.pqc_key_type,
            lifecycle=codec.LifecycleState(fuses.lifecycle),
            debug_locked=fuses.debug_locked,
            cold_boot_svn=cold_boot.svn & 0xFF,
            ecc_key_index=cold_boot.vendor_ecc_index & 0xFF,
            pqc_key_index=cold_boot.vendor_pqc_index & 0xFF,
            subsystem_mode=fuses.subsystem_mode if rom.measures_subsystem_mode else None,
        )
    )


def owner_info_digest(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    """SHA-384 of the owner's key hash and the facts that the owner decides."""
    status = device_status(fuses, cold_boot, rom)
    return codec.owner_info_digest(cold_boot.owner_pk_hash, status)


def vendor_info_digest(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    """SHA-384 of the vendor's key hash and the facts that the vendor decides."""
    status = device_status(fuses, cold_boot, rom)
    return codec.vendor_info_digest(fuses.vendor_pk_hash, status)
