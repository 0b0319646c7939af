"""The PCR log: replayed to the quoted PCR 0 to 3, and what the device and its firmware are by it.

After a cold boot the log replays to all four. An update reset begins the log anew: PCR 0 still
replays; PCR 1 (its journey) holds the same entries once more for each update reset, because fuses
and FMC stay; PCR 2 replays if the runtime firmware changed, and is not logged again if it did not;
PCR 3 (its journey) then holds earlier runtime firmware that this log does not show.

Source: caliptra-sw rom/dev/src/pcr.rs, fmc/src/flow/pcr.rs, drivers/src/pcr_log.rs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.formats import device_status, pcr_log
from casemate.formats.device_status import DeviceStatus, DeviceStatusError
from casemate.formats.pcr_log import PCR_SIZE, EntryId, PcrLogEntry, PcrLogError

_FMC_MASK, _RT_MASK = 0b0011, 0b1100
_FMC_ENTRIES = (
    EntryId.DEVICE_STATUS,
    EntryId.VENDOR_PK_INFO_HASH,
    EntryId.OWNER_PK_HASH,
    EntryId.FMC_TCI,
)
#: How many update resets since the cold boot are looked for in PCR 1.
MOST_UPDATE_RESETS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the log shows. `status` is decoded from `status_bytes` (17 or 18).

    `runtime_digest` is None where the log has no runtime entry (an update reset that kept it).
    `update_resets` counts those since the cold boot, None where PCR 1 does not tell.
    `runtime_replaced` says that other runtime firmware ran since the cold boot.
    """

    status_bytes: bytes
    status: DeviceStatus
    vendor_pk_hash: bytes
    owner_pk_hash: bytes
    fmc_digest: bytes
    runtime_digest: bytes | None
    update_resets: int | None
    runtime_replaced: bool


def replay(
    log: bytes, pcrs: Sequence[bytes], checks: Checklist, *, status_size: int | None = None
) -> Boot:
    """Replay a log to quoted PCRs. `status_size` is what the attester says it is, if it does.

    Raises EvidenceError.
    """
    try:
        entries = pcr_log.decode(log)
    except PcrLogError as error:
        checks.refuse("log", f"PCR log: {error}")
    fmc, rest = entries[:4], entries[4:]
    checks.require(
        "log-entries",
        tuple(entry.id for entry in fmc) == _FMC_ENTRIES
        and all(entry.pcr_mask == _FMC_MASK for entry in fmc)
        and all(entry.pcr_mask == _RT_MASK for entry in rest)
        and (not rest or rest[0].id is EntryId.RT_TCI),
        "the PCR log does not have the entries of a boot: device status, vendor and owner keys and "
        "FMC in PCR 0 and 1, then runtime firmware in PCR 2 and 3",
        found=", ".join(entry.id.name for entry in entries),
    )
    size = _status_size(fmc, pcrs[0], status_size)
    if size is None:
        checks.refuse("log-pcr-0", "the PCR log does not replay to the quoted PCR 0")
    field = fmc[0].data
    checks.require(
        "log-device-status",
        not any(field[size:]),
        f"the device status has {size} bytes, but the rest of its field is not zero",
    )
    try:
        status = device_status.decode(field[:size])
    except DeviceStatusError as error:
        checks.refuse("log-device-status", str(error))
    once = [entry.measured(size) for entry in fmc]
    resets = _repetitions(once, pcrs[1])
    runtime = _extended(bytes(PCR_SIZE), [entry.data for entry in rest]) if rest else None
    checks.require(
        "log-pcr-2",
        runtime is None or runtime == pcrs[2],
        "the PCR log does not replay to the quoted PCR 2",
    )
    if resets == 0:
        checks.require(
            "log-pcr-3",
            runtime is not None and pcrs[3] == runtime,
            "PCR 1 says that nothing was updated since the cold boot, but the PCR log does not "
            "replay to the quoted PCR 3",
        )
    return Boot(
        status_bytes=field[:size],
        status=status,
        vendor_pk_hash=fmc[1].data,
        owner_pk_hash=fmc[2].data,
        fmc_digest=fmc[3].data,
        runtime_digest=rest[0].data if rest else None,
        update_resets=resets,
        runtime_replaced=pcrs[3] != pcrs[2],
    )


def _status_size(entries: Sequence[PcrLogEntry], pcr: bytes, stated: int | None) -> int | None:
    for size in device_status.SIZES:
        if stated in (None, size) and pcr == _extended(
            bytes(PCR_SIZE), [entry.measured(size) for entry in entries]
        ):
            return size
    return None


def _extended(value: bytes, measured: Sequence[bytes]) -> bytes:
    for data in measured:
        value = pcr_log.extend(value, data)
    return value


def _repetitions(once: Sequence[bytes], journey: bytes) -> int | None:
    """How many update resets turn zeros into this journey, by these entries each time."""
    value = bytes(PCR_SIZE)
    for count in range(MOST_UPDATE_RESETS + 1):
        value = _extended(value, once)
        if value == journey:
            return count
    return None
