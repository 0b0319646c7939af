"""What the mailbox's commands share: the booted device, its DPE, and what only the mailbox keeps.

Privilege: a bundle may name one user as privileged (PL0); everyone else is PL1. PL0 owns the
firmware's measurements, certificates and exported CDIs; how many DPE contexts each level may use
is limited, 32 each at first.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from casemate.formats.dpe import Profile
from casemate.formats.firmware_bundle import Manifest
from casemate.formats.mailbox import FipsStatus, MailboxFormatError
from casemate.formats.mailbox_messages import Fixed
from casemate.rot.boot import RootOfTrust
from casemate.rot.bundle.verify import verify
from casemate.rot.crypto import RotCrypto
from casemate.rot.device_status import RomVersion
from casemate.rot.dpe.contexts import ContextTable
from casemate.rot.firmware import ResetReason, VerifiedFirmware
from casemate.rot.fuses import Fuses
from casemate.rot.identity import Algorithm
from casemate.rot.mailbox.errors import Code, MailboxError
from casemate.rot.runtime_dpe import CALIPTRA_LOCALITY, RuntimeDpe
from casemate.rot.soc_manifest.verify import Authorizations

_PL0_PAUSER_IS_VALID = 1
TOTAL_CONTEXT_LIMIT = 64
DEFAULT_CONTEXT_LIMIT = 32

ALGORITHM_OF_PROFILE = {Profile.P384_SHA384: Algorithm.ECC, Profile.ML_DSA_87: Algorithm.MLDSA}


@dataclass(frozen=True, slots=True)
class Reply:
    """The body of a response, and whether the service was an approved one."""

    body: bytes = b""
    fips_status: FipsStatus = FipsStatus.APPROVED


@dataclass(slots=True)
class MailboxDevice:
    """One device behind a mailbox. Make it with `power_on`."""

    root: RootOfTrust
    random: Callable[[int], bytes] = secrets.token_bytes
    dpe: RuntimeDpe | None = None
    bundle_manifest: Manifest | None = None
    authorizations: Authorizations = field(default_factory=Authorizations)
    dot_owner_pk_hash: bytes | None = None
    tags: dict[int, int] = field(default_factory=dict)
    idevid_certificates: dict[Profile, bytes] = field(default_factory=dict)
    pl0_context_limit: int = DEFAULT_CONTEXT_LIMIT
    pl1_context_limit: int = DEFAULT_CONTEXT_LIMIT
    device_info: bytes | None = None
    attestation_disabled: bool = False
    self_test_done: bool = False
    shut_down: bool = False
    last_error: int = 0
    #: What encrypted keys (CMKs) are sealed with until the next power cycle.
    cmk_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def power_on(
        cls,
        crypto: RotCrypto,
        fuses: Fuses,
        *,
        rom: RomVersion = RomVersion.MAIN,
        random: Callable[[int], bytes] = secrets.token_bytes,
    ) -> MailboxDevice:
        """Return a device that awaits its firmware in the mailbox. Raises BootError."""

        def verify_for_owner(
            bundle: bytes,
            fuses: Fuses,
            *,
            reason: ResetReason,
            cold_boot: VerifiedFirmware | None,
        ) -> VerifiedFirmware:
            return verify(
                bundle,
                fuses,
                reason=reason,
                cold_boot=cold_boot,
                dot_owner_pk_hash=device.dot_owner_pk_hash,
            )

        root = RootOfTrust(crypto, verify_for_owner, rom=rom, make_requests=True)
        device = cls(root, random)
        root.power_on(fuses)
        return device

    @property
    def runtime_dpe(self) -> RuntimeDpe:
        """The DPE. Raises MailboxError before the firmware runs."""
        if self.dpe is None:
            raise MailboxError(Code.RUNTIME_INTERNAL, "the firmware does not run yet")
        return self.dpe

    @property
    def firmware_manifest(self) -> Manifest:
        """The manifest of the bundle that runs. Raises MailboxError before the firmware runs."""
        if self.bundle_manifest is None:
            raise MailboxError(Code.RUNTIME_INTERNAL, "the firmware does not run yet")
        return self.bundle_manifest

    @property
    def contexts(self) -> ContextTable:
        """The contexts of both profiles. Raises MailboxError before the firmware runs."""
        return self.runtime_dpe.instance(Profile.P384_SHA384).contexts

    # --- privilege ---------------------------------------------------------------------------

    def is_privileged(self, user: int) -> bool:
        """Whether a user is PL0; nobody is if the bundle names nobody."""
        firmware = self.root.firmware
        return bool(firmware.flags & _PL0_PAUSER_IS_VALID) and user == firmware.pl0_pauser

    def require_privilege(self, user: int) -> None:
        """Raise MailboxError unless the user is PL0."""
        if not self.is_privileged(user):
            raise MailboxError(
                Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL,
                f"user 0x{user:x} is not the privileged one",
            )

    def used_contexts(self) -> tuple[int, int]:
        """How many contexts PL0 (the firmware's own included) and PL1 use, retired ones too."""
        pl0_owners = {self.root.firmware.pl0_pauser, CALIPTRA_LOCALITY}
        owners = [context.locality in pl0_owners for _, context in self.contexts]
        return owners.count(True), owners.count(False)

    def require_context_room(self, *, privileged: bool) -> None:
        """Raise MailboxError if this level uses as many contexts as it may, or more."""
        used_pl0, used_pl1 = self.used_contexts()
        used, limit = (
            (used_pl0, self.pl0_context_limit) if privileged else (used_pl1, self.pl1_context_limit)
        )
        if used < limit:
            return
        code = {
            (True, True): Code.RUNTIME_PL0_USED_DPE_CONTEXT_THRESHOLD_REACHED,
            (True, False): Code.RUNTIME_PL0_USED_DPE_CONTEXT_THRESHOLD_EXCEEDED,
            (False, True): Code.RUNTIME_PL1_USED_DPE_CONTEXT_THRESHOLD_REACHED,
            (False, False): Code.RUNTIME_PL1_USED_DPE_CONTEXT_THRESHOLD_EXCEEDED,
        }[privileged, used == limit]
        raise MailboxError(code, f"{used} of {limit} contexts are in use")

    def drop_stale_tags(self) -> None:
        """Forget the tags of contexts that are gone."""
        self.tags = {index: tag for index, tag in self.tags.items() if index in self.contexts}

    # --- the DPE's keys ----------------------------------------------------------------------

    def rebind_chain(self) -> None:
        """Put the populated IDevID certificates in front of the DPE's certificate chains."""
        for profile in Profile:
            instance = self.runtime_dpe.instance(profile)
            chain = b"".join(self.runtime_dpe.chain(profile))
            leading = self.idevid_certificates.get(profile, b"")
            instance.platform = dataclasses.replace(
                instance.platform, certificate_chain=leading + chain
            )


Message = TypeVar("Message", bound=Fixed)


def decode(
    message: type[Message], body: bytes, code: Code = Code.RUNTIME_INSUFFICIENT_MEMORY
) -> Message:
    """Return a request's fields; a body of another size is refused with `code`."""
    try:
        return message.decode(body)
    except MailboxFormatError as error:
        raise MailboxError(code, str(error)) from None
