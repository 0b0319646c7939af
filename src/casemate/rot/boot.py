"""The boot flow: ROM, FMC and runtime as one explicit state machine.

States and what moves between them:

    OFF -> power_on -> AWAITING_FIRMWARE -> load_firmware -> RUNTIME
    RUNTIME -> warm_reset -> RUNTIME
    RUNTIME -> update_reset -> RUNTIME (also when the bundle is refused: the old firmware runs on)
    any -> power_on (a cold reset) -> AWAITING_FIRMWARE
    a failure of power_on or load_firmware, and open_debug -> FAILED, which only power_on leaves

What each step does, in the order of the public firmware:

- power_on: decrypt UDS and field entropy; IDevID keys (and the CSR envelope if asked for); wipe
  UDS; LDevID keys, its certificates; wipe field entropy and IDevID keys. All PCRs are zeros, so
  STASH_MEASUREMENT can begin.
- load_firmware: verify the bundle; note it as the cold boot's; extend PCR 0 and 1 with device
  status, vendor key hash, owner key hash, FMC digest; build the key ladders from the LDevID CDI;
  FMC alias keys from PCR 0 and their certificates; wipe LDevID's CDI and keys; then the FMC:
  extend PCR 2 and 3 with the RT digest; RT alias keys and certificates.
- warm_reset: refused unless the last cold boot and the last update went through; no PCR changes;
  the RT alias is derived again, to the same keys.
- update_reset: verify with the stricter rules; the ladder goes down if the SVN did; begin the log
  anew, clear PCR 0, extend 0 and 1; if the RT digest is new, clear PCR 2, extend 2 and 3; RT alias
  again. The FMC alias stays as it was, with the cold boot's SVN. A refused bundle changes nothing
  but this: the next warm reset fails until a bundle has gone through.

Sources: caliptra-sw rom/dev/src/flow, fmc/src/flow.
"""

from __future__ import annotations

import dataclasses
import enum

from casemate.formats.pcr_log import PCR_SIZE, EntryId
from casemate.formats.pcr_log import extend as extended
from casemate.formats.pcr_quote import PcrQuote
from casemate.rot import ladder
from casemate.rot.boot_status import BootEvent, BootStatus
from casemate.rot.crypto import RotCrypto, Slot
from casemate.rot.device_layers import DeviceLayers
from casemate.rot.device_status import RomVersion, device_status
from casemate.rot.errors import BootError, KeyVaultError
from casemate.rot.firmware import ResetReason, VerifiedFirmware, Verifier
from casemate.rot.fuses import SVN_BITS, Fuses
from casemate.rot.identity import Algorithm, LayerName, Measured, Subject
from casemate.rot.ladder import KeyLadder, Layer
from casemate.rot.pcr import (
    FMC_CURRENT,
    FMC_JOURNEY,
    RT_CURRENT,
    RT_JOURNEY,
    PcrBank,
)
from casemate.rot.quote import make_quote

SVN_TOO_LARGE = 0x0102_000C
UNSUCCESSFUL_COLD_RESET = 0x0104_0010
UNSUCCESSFUL_UPDATE_RESET = 0x0104_0011


STABLE_KEY_INFO_SIZE = 32


class StableKeyKind(enum.IntEnum):
    """Which stable root a key hangs on; the values are the mailbox's."""

    IDEVID = 1
    LDEVID = 2


class State(enum.Enum):
    """Where the machine is."""

    OFF = "off"
    AWAITING_FIRMWARE = "awaiting firmware"
    RUNTIME = "runtime"
    FAILED = "failed"


@dataclasses.dataclass(slots=True)
class _Device:
    """What lives from a cold reset to the next."""

    fuses: Fuses
    layers: DeviceLayers
    pcrs: PcrBank = dataclasses.field(default_factory=PcrBank)
    stable_roots: tuple[Slot, Slot] | None = None
    ladder: KeyLadder | None = None
    sealing_start: Slot | None = None
    sealing: KeyLadder | None = None
    cold_boot: VerifiedFirmware | None = None
    current: VerifiedFirmware | None = None
    update_pending: bool = False


class RootOfTrust:
    """One device: fuses, a key vault, a verifier of bundles, and the state above."""

    def __init__(
        self,
        crypto: RotCrypto,
        verify: Verifier,
        *,
        rom: RomVersion = RomVersion.MAIN,
        make_requests: bool = False,
    ) -> None:
        """`make_requests` asks for the requests (CSRs) of all layers and the IDevID envelope."""
        self.crypto = crypto
        self.rom = rom
        self._verify = verify
        self._make_requests = make_requests
        self._state = State.OFF
        self._device: _Device | None = None
        self._journal: list[BootEvent] = []

    # --- what can be read -------------------------------------------------------------------

    @property
    def state(self) -> State:
        """Where the machine is."""
        return self._state

    @property
    def journal(self) -> tuple[BootEvent, ...]:
        """What was reached since the last cold reset, and the errors."""
        return tuple(self._journal)

    @property
    def fuses(self) -> Fuses:
        """The fuses as they were read at the last cold reset. Raises BootError when off."""
        return self._on().fuses

    @property
    def pcrs(self) -> PcrBank:
        """The PCR bank. Raises BootError when off."""
        return self._on().pcrs

    @property
    def firmware(self) -> VerifiedFirmware:
        """The firmware that runs. Raises BootError outside RUNTIME."""
        return self._measured().current

    @property
    def measured(self) -> Measured:
        """What the FMC and RT certificates state. Raises BootError outside RUNTIME."""
        return self._measured()

    @property
    def csr_envelope(self) -> bytes | None:
        """The IDevID CSR envelope, if requests were asked for."""
        return self._on().layers.csr_envelope

    @property
    def certificates(self) -> dict[tuple[LayerName, Algorithm], bytes]:
        """The certificates made so far (DER)."""
        return dict(self._on().layers.certificates)

    @property
    def requests(self) -> dict[tuple[LayerName, Algorithm], bytes]:
        """The requests made so far (DER), if they were asked for."""
        return dict(self._on().layers.requests)

    @property
    def subjects(self) -> dict[LayerName, dict[Algorithm, Subject]]:
        """Names, public keys and key identifiers of the layers made so far."""
        return dict(self._on().layers.subjects)

    @property
    def rt_alias(self) -> Layer:
        """The RT alias layer, from which DPE goes on. Raises BootError outside RUNTIME."""
        self._measured()
        return self._on().layers.held[LayerName.RT_ALIAS]

    @property
    def stable_roots(self) -> tuple[Slot, Slot]:
        """The roots of stable keys under IDevID and LDevID. Raises BootError when off."""
        roots = self._on().stable_roots
        if roots is None:
            raise BootError("there are no stable roots: the cold reset did not come so far")
        return roots

    @property
    def key_ladder(self) -> KeyLadder:
        """The firmware key ladder. Raises BootError outside RUNTIME."""
        self._measured()
        key_ladder = self._on().ladder
        if key_ladder is None:
            raise BootError("there is no key ladder")
        return key_ladder

    # --- moves ------------------------------------------------------------------------------

    def cold_reset(self, fuses: Fuses, bundle: bytes) -> None:
        """power_on and load_firmware. Raises BootError."""
        self.power_on(fuses)
        self.load_firmware(bundle)

    def power_on(self, fuses: Fuses) -> None:
        """Begin anew from the fuses, down to the LDevID; wait for firmware then."""
        self._wipe()
        self._journal.clear()
        self._state = State.FAILED
        layers = DeviceLayers(self.crypto, fuses, self._note, make_requests=self._make_requests)
        device = self._device = _Device(fuses, layers)
        self._note(BootStatus.COLD_RESET_STARTED)
        uds, field_entropy = ladder.deobfuscate(self.crypto, fuses)
        self._note(BootStatus.IDEVID_DECRYPT_UDS_COMPLETE)
        self._note(BootStatus.IDEVID_DECRYPT_FE_COMPLETE)
        self._note(BootStatus.IDEVID_CLEAR_DOE_SECRETS_COMPLETE)
        initial = layers.make_idevid(uds)
        local = layers.make_ldevid(field_entropy)
        device.stable_roots = ladder.stable_roots(self.crypto, initial.cdi, local.cdi)
        layers.erase(LayerName.IDEVID)
        self._state = State.AWAITING_FIRMWARE

    def load_firmware(self, bundle: bytes) -> None:
        """Verify and start a bundle. Raises BootError with the verifier's code; FAILED then."""
        device = self._expect(State.AWAITING_FIRMWARE, "load_firmware")
        self._state = State.FAILED
        self._note(BootStatus.FW_PROCESSOR_DOWNLOAD_IMAGE_COMPLETE)
        firmware = self._checked(bundle, ResetReason.COLD)
        self._note(BootStatus.FW_PROCESSOR_MANIFEST_LOAD_COMPLETE)
        self._note(BootStatus.FW_PROCESSOR_IMAGE_VERIFICATION_COMPLETE)
        device.cold_boot = device.current = firmware
        self._note(BootStatus.FW_PROCESSOR_POPULATE_DATA_VAULT_COMPLETE)
        self._extend_fmc_pcrs(device, firmware)
        self._note(BootStatus.FW_PROCESSOR_EXTEND_PCR_COMPLETE)
        self._note(BootStatus.FW_PROCESSOR_LOAD_IMAGE_COMPLETE)
        self._note(BootStatus.FW_PROCESSOR_FIRMWARE_DOWNLOAD_TX_COMPLETE)
        if firmware.svn > SVN_BITS:
            raise self._failure(
                ResetReason.COLD,
                f"the bundle's SVN {firmware.svn} is above {SVN_BITS}: no key ladder is so long",
                SVN_TOO_LARGE,
            )
        local = device.layers.held[LayerName.LDEVID]
        device.ladder = ladder.firmware_ladder(self.crypto, local.cdi, device.fuses, firmware.svn)
        device.sealing_start = ladder.sealing_start(
            self.crypto, local.cdi, device.fuses, firmware.owner_pk_hash
        )
        self._note(BootStatus.FW_PROCESSOR_CALCULATE_KEY_LADDER_COMPLETE)
        self._note(BootStatus.FW_PROCESSOR_COMPLETE)
        device.layers.make_fmc_alias(device.pcrs.values[FMC_CURRENT], self._facts(device))
        device.layers.erase(LayerName.LDEVID)
        self._note(BootStatus.COLD_RESET_COMPLETE)
        self._extend_rt_pcrs(device, firmware)
        device.layers.make_rt_alias(self._facts(device), ResetReason.COLD)
        self._state = State.RUNTIME

    def warm_reset(self) -> None:
        """Restart the firmware that runs.

        Raises BootError, with the public code, if the last cold boot or update did not go through.
        """
        if self._device is None or self._state is not State.RUNTIME:
            raise self._failure(
                ResetReason.WARM,
                f"warm reset: the last cold reset did not succeed (state: {self._state.value})",
                UNSUCCESSFUL_COLD_RESET,
            )
        device = self._device
        if device.update_pending:
            self._state = State.FAILED
            raise self._failure(
                ResetReason.WARM,
                "warm reset: the last update reset did not succeed; a cold reset is needed",
                UNSUCCESSFUL_UPDATE_RESET,
            )
        if not device.fuses.debug_locked:
            self._state = State.FAILED
            raise self._failure(
                ResetReason.WARM,
                "warm reset: with debug open the key vault is lost; a cold reset is needed",
            )
        device.layers.make_rt_alias(self._facts(device), ResetReason.WARM)

    def update_reset(self, bundle: bytes) -> None:
        """Replace the runtime firmware without a cold reset.

        Raises BootError with the verifier's code if the bundle is refused; the firmware that ran
        runs on.
        """
        device = self._expect(State.RUNTIME, "update_reset")
        reason = ResetReason.UPDATE
        self._note(BootStatus.UPDATE_RESET_STARTED, reason)
        device.update_pending = True
        firmware = self._checked(bundle, reason)
        self._note(BootStatus.UPDATE_RESET_LOAD_MANIFEST_COMPLETE, reason)
        self._note(BootStatus.UPDATE_RESET_IMAGE_VERIFICATION_COMPLETE, reason)
        device.current = firmware
        self._note(BootStatus.UPDATE_RESET_POPULATE_DATA_VAULT_COMPLETE, reason)
        self.key_ladder.lower(firmware.svn)
        self._note(BootStatus.UPDATE_RESET_EXTEND_KEY_LADDER_COMPLETE, reason)
        self._extend_fmc_pcrs(device, self._measured().cold_boot)
        self._note(BootStatus.UPDATE_RESET_EXTEND_PCR_COMPLETE, reason)
        self._note(BootStatus.UPDATE_RESET_LOAD_IMAGE_COMPLETE, reason)
        self._note(BootStatus.UPDATE_RESET_OVERWRITE_MANIFEST_COMPLETE, reason)
        device.update_pending = False
        self._note(BootStatus.UPDATE_RESET_COMPLETE, reason)
        if device.pcrs.values[RT_CURRENT] != extended(bytes(PCR_SIZE), firmware.rt_digest):
            self._extend_rt_pcrs(device, firmware)
        device.layers.make_rt_alias(self._facts(device), reason)

    def open_debug(self) -> None:
        """Debug is opened on a running device: every secret is wiped; only power_on goes on.

        What it then derives, from fuses with `debug_locked` false, is another device's: UDS and
        field entropy read as all ones.
        """
        self._wipe()
        self._state = State.FAILED
        self._journal.append(
            BootEvent(ResetReason.COLD, None, "debug was opened: all secrets are wiped")
        )

    # --- services of the runtime -----------------------------------------------------------

    def stash_measurement(
        self,
        measurement: bytes,
        *,
        metadata: bytes = bytes(4),
        context: bytes = bytes(48),
        svn: int = 0,
    ) -> None:
        """Extend PCR 31. Before the firmware runs it is logged; at most 8 times.

        Raises BootError in another state, PcrError for sizes and a full log.
        """
        if self._state not in (State.AWAITING_FIRMWARE, State.RUNTIME):
            raise BootError(f"stash measurement: not in state {self._state.value}")
        self.pcrs.stash(
            measurement,
            metadata=metadata,
            context=context,
            svn=svn,
            log=self._state is State.AWAITING_FIRMWARE,
        )

    def quote(self, nonce: bytes, algorithm: Algorithm) -> PcrQuote:
        """Quote all PCRs under the FMC alias key. Raises BootError outside RUNTIME, QuoteError."""
        self._measured()
        device = self._on()
        return make_quote(
            self.crypto, device.layers.held[LayerName.FMC_ALIAS], device.pcrs, nonce, algorithm
        )

    def stable_key(self, kind: StableKeyKind, info: bytes) -> Slot:
        """A key under a stable root, for 32 bytes of info; it outlives every firmware.

        Raises BootError when off, KeyVaultError for another size.
        """
        if len(info) != STABLE_KEY_INFO_SIZE:
            raise KeyVaultError(
                f"stable key: expected {STABLE_KEY_INFO_SIZE} bytes of info, found {len(info)}"
            )
        root = self.stable_roots[0 if kind is StableKeyKind.IDEVID else 1]
        return self.crypto.stable_key(root, b"DOT Final", info)

    def set_soc_manifest_svn(self, svn: int) -> None:
        """Note the SVN of the SoC manifest that was set: the sealing ladder's length.

        A later manifest may be lower (the ladder goes down); a higher one takes effect at the
        next cold reset. Raises BootError outside RUNTIME, KeyVaultError for an SVN above 128.
        """
        self._measured()
        device = self._on()
        if device.sealing is not None:
            device.sealing.lower(svn)
        elif device.sealing_start is not None:
            device.sealing = ladder.sealing_ladder(self.crypto, device.sealing_start, svn)
            device.sealing_start = None

    def sealing_secret(self, target_svn: int, context: bytes) -> Slot:
        """The module's sealing secret for an SVN and a context.

        Raises BootError before a SoC manifest is set, KeyVaultError for an SVN above its own.
        """
        self._measured()
        sealing = self._on().sealing
        if sealing is None:
            raise BootError("sealing secret: no SoC manifest is set, so its SVN is not known")
        return sealing.derive(target_svn, context)

    # --- measurements -----------------------------------------------------------------------

    def _extend_fmc_pcrs(self, device: _Device, cold_boot: VerifiedFirmware) -> None:
        pcrs, fuses = device.pcrs, device.fuses
        pcrs.restart_log()
        pcrs.clear(FMC_CURRENT)
        for entry_id, data in (
            (EntryId.DEVICE_STATUS, device_status(fuses, cold_boot, self.rom)),
            (EntryId.VENDOR_PK_INFO_HASH, fuses.vendor_pk_hash),
            (EntryId.OWNER_PK_HASH, cold_boot.owner_pk_hash),
            (EntryId.FMC_TCI, cold_boot.fmc_digest),
        ):
            pcrs.measure(entry_id, data, FMC_CURRENT, FMC_JOURNEY)

    @staticmethod
    def _extend_rt_pcrs(device: _Device, firmware: VerifiedFirmware) -> None:
        device.pcrs.clear(RT_CURRENT)
        device.pcrs.measure(EntryId.RT_TCI, firmware.rt_digest, RT_CURRENT, RT_JOURNEY)

    # --- keeping the rules ------------------------------------------------------------------

    def _checked(self, bundle: bytes, reason: ResetReason) -> VerifiedFirmware:
        device = self._on()
        try:
            return self._verify(bundle, device.fuses, reason=reason, cold_boot=device.cold_boot)
        except BootError as error:
            self._journal.append(BootEvent(reason, None, str(error), error.code))
            raise

    def _facts(self, device: _Device) -> Measured:
        if device.cold_boot is None or device.current is None:
            raise BootError("no firmware has been measured")
        return Measured(device.fuses, self.rom, device.cold_boot, device.current)

    def _measured(self) -> Measured:
        return self._facts(self._expect(State.RUNTIME, "this service"))

    def _on(self) -> _Device:
        if self._device is None:
            raise BootError(f"the device is in state {self._state.value}: power it on first")
        return self._device

    def _expect(self, state: State, what: str) -> _Device:
        if self._state is not state:
            raise BootError(
                f"{what} needs the state {state.value}; the device is in state {self._state.value}"
            )
        return self._on()

    def _note(self, status: BootStatus, reason: ResetReason = ResetReason.COLD) -> None:
        self._journal.append(BootEvent(reason, status))

    def _failure(self, reason: ResetReason, message: str, code: int | None = None) -> BootError:
        self._journal.append(BootEvent(reason, None, message, code))
        return BootError(message, code)

    def _wipe(self) -> None:
        device, self._device = self._device, None
        self._state = State.OFF
        if device is None:
            return
        device.layers.erase(*list(device.layers.held))
        for key_ladder in (device.ladder, device.sealing):
            if key_ladder is not None:
                key_ladder.erase()
        self.crypto.erase(*(device.stable_roots or ()))
        if device.sealing_start is not None:
            self.crypto.erase(device.sealing_start)
