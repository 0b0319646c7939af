"""What the ROM measures of the device itself: the status bytes and the two info digests.

The same facts go to two places: as status bytes into PCR 0 and 1, and as two digests (what the
owner decides, what the vendor decides) into the FMC alias certificate.

Up to ROM 2.1.2 the last fact, subsystem mode, is not measured: 17 status bytes instead of 18.

Sources: caliptra-sw rom/dev/src/pcr.rs, common/src/dice.rs.
"""

from __future__ import annotations

import enum
import hashlib

from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.fuses import Fuses

#: Where the debug state stands in the status bytes.
DEBUG_LOCKED_AT = 13


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


def _owner_bytes(fuses: Fuses) -> bytes:
    return (
        bytes((fuses.owner_pk_hash_fused, fuses.anti_rollback_disable, fuses.ecc_revocation))
        + fuses.lms_revocation.to_bytes(4, "little")
        + bytes(
            (
                fuses.mldsa_revocation,
                fuses.firmware_svn,
                fuses.soc_manifest_svn,
                fuses.soc_manifest_max_svn,
            )
        )
    )


def _vendor_bytes(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    status = bytes(
        (
            fuses.pqc_key_type,
            fuses.lifecycle,
            fuses.debug_locked,
            cold_boot.svn & 0xFF,
            cold_boot.vendor_ecc_index & 0xFF,
            cold_boot.vendor_pqc_index & 0xFF,
        )
    )
    return status + bytes((fuses.subsystem_mode,)) if rom.measures_subsystem_mode else status


def device_status(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    """The status bytes (17 or 18) that PCR 0 and 1 are extended with first."""
    return _owner_bytes(fuses) + _vendor_bytes(fuses, cold_boot, rom)


def owner_info_digest(fuses: Fuses, owner_pk_hash: bytes) -> bytes:
    """SHA-384 of the owner's key hash and the facts that the owner decides."""
    return hashlib.sha384(owner_pk_hash + _owner_bytes(fuses)).digest()


def vendor_info_digest(fuses: Fuses, cold_boot: VerifiedFirmware, rom: RomVersion) -> bytes:
    """SHA-384 of the vendor's key hash and the facts that the vendor decides."""
    vendor = _vendor_bytes(fuses, cold_boot, rom)
    return hashlib.sha384(fuses.vendor_pk_hash + vendor).digest()
