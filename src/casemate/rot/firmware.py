"""What the boot takes from a firmware bundle once it has been verified.

The verifier (`casemate.rot.bundle`) makes it; the boot flow (`casemate.rot.boot`) measures it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from casemate.rot.fuses import Fuses, PqcKeyType

#: Validity of certificates when a bundle states none.
DEFAULT_NOT_BEFORE = "20230101000000Z"
DEFAULT_NOT_AFTER = "99991231235959Z"
_NO_TIME = bytes(15)


class ResetReason(enum.Enum):
    """Why the flow runs; it decides what is derived again and what must not have changed."""

    COLD = "cold"
    WARM = "warm"
    UPDATE = "update"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFirmware:
    """A verified bundle, as measured: digests are 48 bytes (SHA-384), dates 15 bytes or zeros.

    `owner_pk_hash` is that of the owner keys which signed the bundle, fused or not.
    """

    fmc_digest: bytes
    rt_digest: bytes
    svn: int
    owner_pk_hash: bytes
    vendor_ecc_index: int
    vendor_pqc_index: int
    pqc_key_type: PqcKeyType
    fmc_version: int = 0
    rt_version: int = 0
    pl0_pauser: int = 0
    flags: int = 0
    fmc_load_address: int = 0
    fmc_entry_point: int = 0
    rt_load_address: int = 0
    rt_entry_point: int = 0
    vendor_not_before: bytes = _NO_TIME
    vendor_not_after: bytes = _NO_TIME
    owner_not_before: bytes = _NO_TIME
    owner_not_after: bytes = _NO_TIME

    @property
    def validity(self) -> tuple[str, str]:
        """The dates of the FMC and RT certificates: the owner's, else the vendor's, else fixed."""
        for before, after in (
            (self.owner_not_before, self.owner_not_after),
            (self.vendor_not_before, self.vendor_not_after),
        ):
            if _NO_TIME not in (before, after):
                return before.decode("latin-1"), after.decode("latin-1")
        return DEFAULT_NOT_BEFORE, DEFAULT_NOT_AFTER


class Verifier(Protocol):
    """Verifies a bundle's bytes against fuses, in the public order."""

    def __call__(
        self,
        bundle: bytes,
        fuses: Fuses,
        *,
        reason: ResetReason,
        cold_boot: VerifiedFirmware | None,
    ) -> VerifiedFirmware:
        """Return what is to be measured.

        `cold_boot` is what the last cold boot ran; an update reset must keep its vendor indices,
        owner and FMC. Raises BootError with the public error code.
        """
        ...
