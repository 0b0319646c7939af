"""The answer to the one question, with what the fuses leave open: would the device boot it?"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.errors import BundleError, BundleRefusedError
from casemate.rot.bundle.signatures import lms_type_is_foreign
from casemate.rot.bundle.verify import verify
from casemate.rot.firmware import ResetReason, VerifiedFirmware
from casemate.rot.fuses import SVN_BITS, Fuses, Lifecycle, PqcKeyType


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: `firmware` if the device boots, `refusal` if it does not, and what to know."""

    firmware: VerifiedFirmware | None
    refusal: BundleRefusedError | None
    remarks: tuple[str, ...]

    @property
    def boots(self) -> bool:
        """Whether the device would boot the bundle."""
        return self.firmware is not None

    @property
    def error(self) -> BundleError | None:
        """The public error, if the device would not."""
        return self.refusal.error if self.refusal else None


def judge(
    bundle: bytes,
    fuses: Fuses,
    *,
    reason: ResetReason = ResetReason.COLD,
    cold_boot: VerifiedFirmware | None = None,
    dot_owner_pk_hash: bytes | None = None,
) -> Verdict:
    """`verify` as an answer instead of an exception, with remarks on what the fuses leave open."""
    try:
        firmware = verify(
            bundle,
            fuses,
            reason=reason,
            cold_boot=cold_boot,
            dot_owner_pk_hash=dot_owner_pk_hash,
        )
    except BundleRefusedError as refusal:
        return Verdict(None, refusal, ())
    return Verdict(firmware, None, _remarks(fb.Manifest.decode(bundle), fuses, dot_owner_pk_hash))


def _remarks(
    manifest: fb.Manifest, fuses: Fuses, dot_owner_pk_hash: bytes | None
) -> tuple[str, ...]:
    remarks = []
    unprovisioned = fuses.lifecycle is Lifecycle.UNPROVISIONED
    if unprovisioned:
        remarks.append("unprovisioned: any vendor's keys are taken, and no SVN is refused")
    elif fuses.anti_rollback_disable:
        remarks.append("anti-rollback is disabled: no SVN is refused")
    if not fuses.owner_pk_hash_fused and dot_owner_pk_hash is None:
        remarks.append("no owner is fused or installed: any owner's keys are taken")
    if manifest.header.svn > SVN_BITS:
        remarks.append(
            f"the SVN {manifest.header.svn} passes unchecked here, but the ROM stops at its key "
            "ladder (FW_PROC_SVN_TOO_LARGE, 0x0102000c)"
        )
    expected = fb.MANIFEST_SIZE
    for name, entry in (("FMC", manifest.fmc), ("runtime", manifest.runtime)):
        if entry.offset != expected:
            remarks.append(
                f"the ROM loads the {name} from offset {expected:#x} whatever the TOC says; what "
                f"it verifies stands at {entry.offset:#x}"
            )
        expected += entry.size
    if manifest.pqc_key_type == PqcKeyType.LMS:
        for party, signatures in (
            ("vendor", manifest.vendor_signatures),
            ("owner", manifest.owner_signatures),
        ):
            if lms_type_is_foreign(signatures.pqc):
                remarks.append(
                    f"quirk: the {party}'s LMS signature names another LMS type than its key; the "
                    "public driver compares the height only, other verifiers will refuse it"
                )
    return tuple(remarks)
