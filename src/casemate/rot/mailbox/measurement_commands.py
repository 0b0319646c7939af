"""Mailbox commands that measure and attest: stashing, PCRs, their log and quotes."""

from __future__ import annotations

from collections.abc import Callable

from casemate.formats import mailbox_messages as messages
from casemate.formats import pcr_log, pcr_quote
from casemate.formats.dpe import Status
from casemate.formats.pcr_log import MOST_ENTRIES, MOST_MEASUREMENTS, PCR_COUNT
from casemate.rot.dpe.errors import DpeError
from casemate.rot.errors import PcrError
from casemate.rot.identity import Algorithm
from casemate.rot.mailbox.device import MailboxDevice, Reply, decode
from casemate.rot.mailbox.errors import Code, MailboxError
from casemate.rot.pcr import RT_JOURNEY

#: The metadata that names the runtime's own companion firmware; callers may not use it.
_RESERVED_METADATA = (2).to_bytes(4, "little")


def stash_in_rom(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """STASH_MEASUREMENT before the firmware runs: PCR 31 and the log; at most eight."""
    request = decode(messages.StashMeasurement, body, Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH)
    if len(device.root.pcrs.measurements) >= MOST_MEASUREMENTS:
        raise MailboxError(
            Code.FW_PROC_MAILBOX_STASH_MEASUREMENT_MAX_LIMIT,
            f"the log holds {MOST_MEASUREMENTS} measurements",
        )
    device.root.stash_measurement(
        request.measurement,
        metadata=request.metadata,
        context=request.context,
        svn=request.svn,
    )
    return Reply(messages.DpeResult(Status.SUCCESS).encode())


def stash(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """STASH_MEASUREMENT of the firmware: a new default context of PL0, and PCR 31.

    A refusal of the DPE is a success of the mailbox; PCR 31 stays as it was then.
    """
    device.require_privilege(user)
    request = decode(messages.StashMeasurement, body)
    if request.metadata == _RESERVED_METADATA:
        raise MailboxError(
            Code.RUNTIME_STASH_MEASUREMENT_RESERVED_FW_ID, "firmware identifier 2 is reserved"
        )
    device.require_context_room(privileged=True)
    try:
        device.runtime_dpe.stash(request.measurement, metadata=request.metadata, svn=request.svn)
    except DpeError as error:
        return Reply(messages.DpeResult(error.status).encode())
    return Reply(messages.DpeResult(Status.SUCCESS).encode())


def extend_pcr(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """EXTEND_PCR: PCR 4 to 31."""
    request = decode(messages.ExtendPcr, body)
    if request.index > 0xFF:
        raise MailboxError(Code.RUNTIME_MAILBOX_INVALID_PARAMS, f"PCR {request.index}")
    if request.index >= PCR_COUNT:
        raise MailboxError(Code.RUNTIME_PCR_INVALID_INDEX, f"PCR {request.index}; 0 to 31 exist")
    if request.index <= RT_JOURNEY:
        raise MailboxError(Code.RUNTIME_PCR_RESERVED, f"PCR {request.index} is the firmware's own")
    device.root.pcrs.extend(request.index, request.data)
    return Reply()


def increment_reset_counter(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """INCREMENT_PCR_RESET_COUNTER."""
    request = decode(messages.IncrementPcrResetCounter, body)
    if request.index >= PCR_COUNT:
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS, f"PCR {request.index}; 0 to 31 exist"
        )
    try:
        device.root.pcrs.raise_reset_counter(request.index)
    except PcrError as error:
        raise MailboxError(Code.RUNTIME_INCREMENT_PCR_RESET_MAX_REACHED, str(error)) from None
    return Reply()


def quote(algorithm: Algorithm) -> Callable[[MailboxDevice, int, bytes], Reply]:
    """Return QUOTE_PCRS_ECC384 or QUOTE_PCRS_MLDSA87: all PCRs and a nonce, signed."""

    def quote_pcrs(device: MailboxDevice, _user: int, body: bytes) -> Reply:
        request = decode(messages.QuotePcrs, body, Code.RUNTIME_MAILBOX_INVALID_PARAMS)
        signed = device.root.quote(request.nonce, algorithm)
        # What the codec returns begins with the checksum and FIPS status of a whole response.
        return Reply(pcr_quote.encode(signed)[8:])

    return quote_pcrs


def get_pcr_log(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """GET_PCR_LOG: all 17 places of the log, empty ones as zeros, and unused room behind it."""
    log = pcr_log.encode(device.root.pcrs.log).ljust(MOST_ENTRIES * pcr_log.ENTRY_SIZE, b"\0")
    return Reply(messages.encode_sized(log).ljust(4 + messages.DATA_ROOM, b"\0"))
