"""The PCR log and the measurement log: what was measured into which PCR, entry by entry.

A PCR log entry has 56 bytes: identifier u16, reserved 2, mask of PCRs u32, data 48; integers are
little-endian. A measurement log entry is one of these, then metadata 4, context 48, SVN u32,
reserved 4: 116 bytes.

The device status is shorter than its field: 17 bytes up to ROM 2.1.2, 18 after. An entry does not
say which, so whoever replays a log must know the ROM.

Source: caliptra-sw drivers/src/pcr_log.rs.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass

PCR_COUNT = 32
PCR_SIZE = 48
ENTRY_SIZE = 56
MEASUREMENT_ENTRY_SIZE = 116
#: How many entries the firmware has room for.
MOST_ENTRIES = 17
MOST_MEASUREMENTS = 8

_ENTRY = struct.Struct("<H2sI48s")
_MEASUREMENT = struct.Struct("<56s4s48sI4s")


class PcrLogError(ValueError):
    """Bytes that are no log; the message names the entry and the field."""


class EntryId(enum.IntEnum):
    """What an entry is a measurement of."""

    DEVICE_STATUS = 1
    VENDOR_PK_INFO_HASH = 2
    OWNER_PK_HASH = 3
    FMC_TCI = 4
    STASH_MEASUREMENT = 5
    RT_TCI = 6
    FW_IMAGE_MANIFEST = 7


@dataclass(frozen=True, slots=True)
class PcrLogEntry:
    """One extend: what, into which PCRs (mask: bit n is PCR n), the 48-byte field."""

    id: EntryId
    pcr_mask: int
    data: bytes

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The indices of the PCRs that were extended."""
        return tuple(index for index in range(PCR_COUNT) if self.pcr_mask >> index & 1)

    def measured(self, device_status_size: int) -> bytes:
        """The bytes that were extended: the whole field but for the device status (17 or 18)."""
        return self.data[:device_status_size] if self.id is EntryId.DEVICE_STATUS else self.data


@dataclass(frozen=True, slots=True)
class MeasurementLogEntry:
    """One stashed measurement: the extend, and what the caller said about it."""

    entry: PcrLogEntry
    metadata: bytes
    context: bytes
    svn: int


def encode_entry(entry: PcrLogEntry) -> bytes:
    """56 bytes."""
    return _ENTRY.pack(entry.id, bytes(2), entry.pcr_mask, entry.data)


def encode(entries: Iterable[PcrLogEntry]) -> bytes:
    """The entries one after another."""
    return b"".join(map(encode_entry, entries))


def decode(data: bytes) -> tuple[PcrLogEntry, ...]:
    """The entries of a log; it ends at the first entry of zeros (unused room).

    Raises PcrLogError: not whole entries, more than 17, an unknown identifier, reserved bytes
    set, or entries after the end.
    """
    if len(data) % ENTRY_SIZE:
        raise PcrLogError(f"a log is whole entries of {ENTRY_SIZE} bytes; found {len(data)} bytes")
    if len(data) > ENTRY_SIZE * MOST_ENTRIES:
        raise PcrLogError(
            f"a log has at most {MOST_ENTRIES} entries, found {len(data) // ENTRY_SIZE}"
        )
    entries: list[PcrLogEntry] = []
    for position in range(0, len(data), ENTRY_SIZE):
        raw = data[position : position + ENTRY_SIZE]
        if not any(raw):
            if any(data[position:]):
                raise PcrLogError(f"entry {position // ENTRY_SIZE} is empty, but others follow")
            break
        entries.append(decode_entry(raw, position // ENTRY_SIZE))
    return tuple(entries)


def decode_entry(raw: bytes, position: int = 0) -> PcrLogEntry:
    """One entry of 56 bytes. Raises PcrLogError with the position and the field."""
    if len(raw) != ENTRY_SIZE:
        raise PcrLogError(f"entry {position}: expected {ENTRY_SIZE} bytes, found {len(raw)}")
    number, reserved, mask, data = _ENTRY.unpack(raw)
    try:
        entry_id = EntryId(number)
    except ValueError:
        raise PcrLogError(f"entry {position}: unknown identifier {number}") from None
    if any(reserved):
        raise PcrLogError(f"entry {position}: reserved bytes are set")
    return PcrLogEntry(entry_id, mask, data)


def encode_measurements(entries: Iterable[MeasurementLogEntry]) -> bytes:
    """The measurement log's entries one after another."""
    return b"".join(
        _MEASUREMENT.pack(
            encode_entry(entry.entry), entry.metadata, entry.context, entry.svn, bytes(4)
        )
        for entry in entries
    )


def decode_measurements(data: bytes) -> tuple[MeasurementLogEntry, ...]:
    """The entries of a measurement log. Raises PcrLogError as `decode`."""
    if len(data) % MEASUREMENT_ENTRY_SIZE or len(data) > MEASUREMENT_ENTRY_SIZE * MOST_MEASUREMENTS:
        raise PcrLogError(
            f"a measurement log is at most {MOST_MEASUREMENTS} entries of "
            f"{MEASUREMENT_ENTRY_SIZE} bytes; found {len(data)} bytes"
        )
    entries: list[MeasurementLogEntry] = []
    for number, fields in enumerate(_MEASUREMENT.iter_unpack(data)):
        raw, metadata, context, svn, reserved = fields
        if any(reserved):
            raise PcrLogError(f"entry {number}: reserved bytes are set")
        entries.append(MeasurementLogEntry(decode_entry(raw, number), metadata, context, svn))
    return tuple(entries)


def extend(value: bytes, data: bytes) -> bytes:
    """The PCR's next value: SHA-384(value || data)."""
    return hashlib.sha384(value + data).digest()


def replay(entries: Iterable[PcrLogEntry], device_status_size: int) -> dict[int, bytes]:
    """The values that the logged PCRs have if they began at zeros.

    That is so for PCR 0 to 3 after a cold boot. An update reset begins the log anew: PCR 0 and 2
    (current) still replay, 1 and 3 (journey) go on from the values before it, and PCR 2 and 3 are
    not logged again if the runtime firmware is the same.
    """
    values: dict[int, bytes] = {}
    for entry in entries:
        for index in entry.pcrs:
            before = values.get(index, bytes(PCR_SIZE))
            values[index] = extend(before, entry.measured(device_status_size))
    return values
