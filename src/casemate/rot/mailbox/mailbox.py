"""The mailbox: takes one command of one user at a time, and answers.

States and what they take:

- Before the firmware runs, the ROM's few commands, and FIRMWARE_LOAD, which starts the firmware.
- While it runs, the runtime's commands; FIRMWARE_LOAD is an update then.
- After SHUTDOWN or a failed start, nothing but a power cycle helps; every command says so.

The checks before a command is even looked at, each with its public code: the user is not the
reserved one (all ones); the payload has a checksum; it adds up (FIRMWARE_LOAD and FIRMWARE_VERIFY
carry a bundle instead). A command that fails has changed nothing, unless its own text says so.

Commands that this device does not have are answered as a device without them answers:
RUNTIME_UNIMPLEMENTED_COMMAND, or FW_PROC_MAILBOX_INVALID_COMMAND before the firmware runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from casemate.formats.mailbox import (
    ChecksumError,
    CommandId,
    MailboxFormatError,
    MailboxStatus,
    RequestFrame,
    ResponseFrame,
    command_letters,
    open_request,
    seal_response,
)
from casemate.rot.boot import State
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox import (
    attested_csr,
    dpe_commands,
    firmware_commands,
    identity_commands,
    manifest_commands,
    measurement_commands,
    stable_key,
    verification_commands,
)
from casemate.rot.mailbox.device import MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError

Handler = Callable[[MailboxDevice, int, bytes], Reply]

_RESERVED_USER = 0xFFFFFFFF

_ECC, _MLDSA = Algorithm.ECC, Algorithm.MLDSA
_certificate, _request = identity_commands.layer_certificate, identity_commands.layer_request

#: What the ROM takes before the firmware runs.
ROM_COMMANDS: Mapping[int, Handler] = MappingProxyType(
    {
        CommandId.CAPABILITIES: firmware_commands.capabilities,
        CommandId.VERSION: firmware_commands.version,
        CommandId.SELF_TEST_START: firmware_commands.start_self_test,
        CommandId.SELF_TEST_GET_RESULTS: firmware_commands.self_test_results,
        CommandId.SHUTDOWN: firmware_commands.shut_down,
        CommandId.INSTALL_OWNER_PK_HASH: firmware_commands.install_owner_pk_hash,
        CommandId.STASH_MEASUREMENT: measurement_commands.stash_in_rom,
        CommandId.ECDSA384_SIGNATURE_VERIFY: verification_commands.ecdsa_in_rom,
        CommandId.MLDSA87_SIGNATURE_VERIFY: verification_commands.mldsa_in_rom,
        CommandId.GET_IDEV_ECC384_CSR: _request(
            LayerName.IDEVID, _ECC, Code.FW_PROC_MAILBOX_GET_IDEV_CSR_UNPROVISIONED_CSR
        ),
        CommandId.GET_IDEV_MLDSA87_CSR: _request(
            LayerName.IDEVID, _MLDSA, Code.FW_PROC_MAILBOX_GET_IDEV_CSR_UNPROVISIONED_CSR
        ),
        CommandId.GET_LDEV_ECC384_CERT: _certificate(LayerName.LDEVID, _ECC),
        CommandId.GET_LDEV_MLDSA87_CERT: _certificate(LayerName.LDEVID, _MLDSA),
        CommandId.CM_DERIVE_STABLE_KEY: stable_key.derive_in_rom,
    }
)

#: What the runtime firmware takes.
RUNTIME_COMMANDS: Mapping[int, Handler] = MappingProxyType(
    {
        CommandId.FW_INFO: firmware_commands.firmware_info,
        CommandId.CAPABILITIES: firmware_commands.capabilities,
        CommandId.VERSION: firmware_commands.version,
        CommandId.GET_MCU_FW_SIZE: firmware_commands.companion_size,
        CommandId.SELF_TEST_START: firmware_commands.start_self_test,
        CommandId.SELF_TEST_GET_RESULTS: firmware_commands.self_test_results,
        CommandId.SHUTDOWN: firmware_commands.shut_down,
        CommandId.DISABLE_ATTESTATION: firmware_commands.disable_attestation,
        CommandId.GET_IDEV_ECC384_INFO: identity_commands.idevid_info(_ECC),
        CommandId.GET_IDEV_MLDSA87_INFO: identity_commands.idevid_info(_MLDSA),
        CommandId.GET_IDEV_ECC384_CERT: identity_commands.idevid_certificate(_ECC),
        CommandId.GET_IDEV_MLDSA87_CERT: identity_commands.idevid_certificate(_MLDSA),
        CommandId.POPULATE_IDEV_ECC384_CERT: identity_commands.populate_idevid_certificate(_ECC),
        CommandId.POPULATE_IDEV_MLDSA87_CERT: identity_commands.populate_idevid_certificate(_MLDSA),
        CommandId.GET_IDEV_ECC384_CSR: _request(
            LayerName.IDEVID, _ECC, Code.RUNTIME_GET_IDEV_ID_UNPROVISIONED
        ),
        CommandId.GET_IDEV_MLDSA87_CSR: _request(
            LayerName.IDEVID, _MLDSA, Code.RUNTIME_GET_IDEV_ID_UNPROVISIONED
        ),
        CommandId.GET_FMC_ALIAS_ECC384_CSR: _request(
            LayerName.FMC_ALIAS, _ECC, Code.RUNTIME_GET_FMC_CSR_UNPROVISIONED
        ),
        CommandId.GET_FMC_ALIAS_MLDSA87_CSR: _request(
            LayerName.FMC_ALIAS, _MLDSA, Code.RUNTIME_GET_FMC_CSR_UNPROVISIONED
        ),
        CommandId.GET_LDEV_ECC384_CERT: _certificate(LayerName.LDEVID, _ECC),
        CommandId.GET_LDEV_MLDSA87_CERT: _certificate(LayerName.LDEVID, _MLDSA),
        CommandId.GET_FMC_ALIAS_ECC384_CERT: _certificate(LayerName.FMC_ALIAS, _ECC),
        CommandId.GET_FMC_ALIAS_MLDSA87_CERT: _certificate(LayerName.FMC_ALIAS, _MLDSA),
        CommandId.GET_RT_ALIAS_ECC384_CERT: _certificate(LayerName.RT_ALIAS, _ECC),
        CommandId.GET_RT_ALIAS_MLDSA87_CERT: _certificate(LayerName.RT_ALIAS, _MLDSA),
        CommandId.GET_ATTESTED_ECC384_CSR: attested_csr.attested_request(_ECC),
        CommandId.GET_ATTESTED_MLDSA87_CSR: attested_csr.attested_request(_MLDSA),
        CommandId.STASH_MEASUREMENT: measurement_commands.stash,
        CommandId.EXTEND_PCR: measurement_commands.extend_pcr,
        CommandId.INCREMENT_PCR_RESET_COUNTER: measurement_commands.increment_reset_counter,
        CommandId.QUOTE_PCRS_ECC384: measurement_commands.quote(_ECC),
        CommandId.QUOTE_PCRS_MLDSA87: measurement_commands.quote(_MLDSA),
        CommandId.GET_PCR_LOG: measurement_commands.get_pcr_log,
        CommandId.INVOKE_DPE_ECC384: dpe_commands.invoke_ecc,
        CommandId.INVOKE_DPE_MLDSA87: dpe_commands.invoke_mldsa,
        CommandId.DPE_TAG_TCI: dpe_commands.tag_tci,
        CommandId.DPE_GET_TAGGED_TCI: dpe_commands.get_tagged_tci,
        CommandId.CERTIFY_KEY_EXTENDED_ECC384: dpe_commands.certify_key_extended_ecc,
        CommandId.CERTIFY_KEY_EXTENDED_MLDSA87: dpe_commands.certify_key_extended_mldsa,
        CommandId.CERTIFY_KEY_CHUNKS: dpe_commands.certify_key_chunks,
        CommandId.ADD_SUBJECT_ALT_NAME: dpe_commands.add_subject_alt_name,
        CommandId.SIGN_WITH_EXPORTED_ECDSA: dpe_commands.sign_with_exported_ecdsa,
        CommandId.SIGN_WITH_EXPORTED_MLDSA: dpe_commands.sign_with_exported_mldsa,
        CommandId.REVOKE_EXPORTED_CDI_HANDLE: dpe_commands.revoke_exported_cdi_handle,
        CommandId.REALLOCATE_DPE_CONTEXT_LIMITS: dpe_commands.reallocate_context_limits,
        CommandId.ECDSA384_SIGNATURE_VERIFY: verification_commands.ecdsa,
        CommandId.LMS_SIGNATURE_VERIFY: verification_commands.lms,
        CommandId.MLDSA87_SIGNATURE_VERIFY: verification_commands.mldsa,
        CommandId.SET_AUTH_MANIFEST: manifest_commands.set_manifest,
        CommandId.VERIFY_AUTH_MANIFEST: manifest_commands.verify_manifest,
        CommandId.SET_OWNER_AUTH_MANIFEST: manifest_commands.set_owner_manifest,
        CommandId.AUTHORIZE_AND_STASH: manifest_commands.authorize_and_stash,
        CommandId.GET_IMAGE_INFO: manifest_commands.get_image_info,
        CommandId.CM_DERIVE_STABLE_KEY: stable_key.derive,
    }
)


class Mailbox:
    """The mailbox of one device."""

    def __init__(self, device: MailboxDevice) -> None:
        self.device = device

    def execute(self, request: RequestFrame) -> ResponseFrame:
        """Run one command and return the answer; never raises for anything a caller sends."""
        try:
            if request.command == CommandId.FIRMWARE_LOAD:
                self._load(request)
                return ResponseFrame(MailboxStatus.COMPLETE, 0, b"")
            reply = self._run(request)
        except MailboxError as error:
            return self._failure(error.code)
        except RotError as error:
            return self._failure(getattr(error, "code", None) or Code.RUNTIME_INTERNAL)
        payload = seal_response(reply.body, reply.fips_status)
        return ResponseFrame(MailboxStatus.DATA_READY, 0, payload)

    def _failure(self, code: int) -> ResponseFrame:
        self.device.last_error = code
        return ResponseFrame(MailboxStatus.FAILURE, code, b"")

    def _load(self, request: RequestFrame) -> None:
        if self._in_rom(request.user):
            firmware_commands.load_in_rom(self.device, request.payload)
        else:
            firmware_commands.update(self.device, request.payload)

    def _run(self, request: RequestFrame) -> Reply:
        in_rom = self._in_rom(request.user)
        if not in_rom and request.command == CommandId.FIRMWARE_VERIFY:
            return firmware_commands.verify_only(self.device, request.payload)
        handler = (ROM_COMMANDS if in_rom else RUNTIME_COMMANDS).get(request.command)
        try:
            body = open_request(request.command, request.payload)
        except ChecksumError as error:
            code = (
                Code.FW_PROC_MAILBOX_INVALID_CHECKSUM if in_rom else Code.RUNTIME_INVALID_CHECKSUM
            )
            raise MailboxError(code, str(error)) from None
        except MailboxFormatError as error:
            code = (
                Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH
                if in_rom
                else Code.RUNTIME_MAILBOX_INVALID_PARAMS
            )
            raise MailboxError(code, str(error)) from None
        if handler is None:
            code = (
                Code.FW_PROC_MAILBOX_INVALID_COMMAND
                if in_rom
                else Code.RUNTIME_UNIMPLEMENTED_COMMAND
            )
            raise MailboxError(code, command_letters(request.command))
        return handler(self.device, request.user, body)

    def _in_rom(self, user: int) -> bool:
        """Whether the ROM answers; raises MailboxError if nobody does, or not to this user."""
        if self.device.shut_down:
            raise MailboxError(Code.RUNTIME_SHUTDOWN, "the device was shut down: power it on anew")
        state = self.device.root.state
        if state not in (State.AWAITING_FIRMWARE, State.RUNTIME):
            raise MailboxError(
                self.device.last_error or Code.RUNTIME_INTERNAL,
                f"the device is in state {state.value}: power it on anew",
            )
        in_rom = state is State.AWAITING_FIRMWARE
        if user == _RESERVED_USER:
            raise MailboxError(
                Code.FW_PROC_MAILBOX_RESERVED_PAUSER if in_rom else Code.RUNTIME_CMD_RESERVED_PAUSER
            )
        return in_rom
