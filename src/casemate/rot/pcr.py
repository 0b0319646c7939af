"""The PCR bank: 32 registers of SHA-384, with the PCR log and the log of stashed measurements.

Who extends what:
- 0 (FMC current) and 1 (FMC journey): the ROM. Current is cleared at an update reset, journey not.
- 2 (RT current) and 3 (RT journey): the FMC, likewise.
- 4 to 30: whoever asks by EXTEND_PCR; this is not logged.
- 31: STASH_MEASUREMENT; the ROM logs its measurements in a log of their own.
"""

from __future__ import annotations

from casemate.formats.pcr_log import (
    MOST_ENTRIES,
    MOST_MEASUREMENTS,
    PCR_COUNT,
    PCR_SIZE,
    EntryId,
    MeasurementLogEntry,
    PcrLogEntry,
    extend,
)
from casemate.rot.errors import BootError, PcrError

FMC_CURRENT, FMC_JOURNEY, RT_CURRENT, RT_JOURNEY, STASH = 0, 1, 2, 3, 31
#: How often a PCR's reset counter can be raised.
_MOST_RESETS = 0xFFFF_FFFF

PCR_RESERVED = 0x000E_003C
PCR_INVALID_INDEX = 0x000E_003D
PCR_LOG_EXHAUSTED = 0x0105_0006
MEASUREMENT_LOG_EXHAUSTED = 0x0105_000D


class PcrBank:
    """The registers with their logs and reset counters; a cold reset makes a new one."""

    def __init__(self) -> None:
        self._values = [bytes(PCR_SIZE)] * PCR_COUNT
        self._log: list[PcrLogEntry] = []
        self._measurements: list[MeasurementLogEntry] = []
        self._reset_counters = [0] * PCR_COUNT

    @property
    def values(self) -> tuple[bytes, ...]:
        """All 32 values."""
        return tuple(self._values)

    @property
    def log(self) -> tuple[PcrLogEntry, ...]:
        """The log since the last cold or update reset."""
        return tuple(self._log)

    @property
    def measurements(self) -> tuple[MeasurementLogEntry, ...]:
        """What was stashed before the firmware ran."""
        return tuple(self._measurements)

    @property
    def reset_counters(self) -> tuple[int, ...]:
        """The 32 reset counters."""
        return tuple(self._reset_counters)

    def restart_log(self) -> None:
        """Begin the log anew, as the ROM does before it measures."""
        self._log.clear()

    def clear(self, index: int) -> None:
        """Set a current PCR to zeros."""
        self._values[index] = bytes(PCR_SIZE)

    def measure(self, entry_id: EntryId, data: bytes, *indices: int) -> None:
        """Extend PCRs with data and log it. Raises BootError when the log is full."""
        if len(self._log) >= MOST_ENTRIES:
            raise BootError(f"the PCR log is full ({MOST_ENTRIES} entries)", PCR_LOG_EXHAUSTED)
        for index in indices:
            self._values[index] = extend(self._values[index], data)
        mask = sum(1 << index for index in indices)
        self._log.append(PcrLogEntry(entry_id, mask, data.ljust(PCR_SIZE, b"\0")))

    def extend(self, index: int, data: bytes) -> None:
        """EXTEND_PCR: extend PCR 4 to 31 with 48 bytes.

        Raises PcrError for PCR 0 to 3 (reserved), another index, or another size.
        """
        if not 0 <= index < PCR_COUNT:
            raise PcrError(f"PCR {index}: there are PCR 0 to 31 (code {PCR_INVALID_INDEX:#010x})")
        if index <= RT_JOURNEY:
            raise PcrError(
                f"PCR {index} is extended by the boot flow only (code {PCR_RESERVED:#010x})"
            )
        if len(data) != PCR_SIZE:
            raise PcrError(f"a measurement has {PCR_SIZE} bytes, found {len(data)}")
        self._values[index] = extend(self._values[index], data)

    def stash(
        self, measurement: bytes, *, metadata: bytes, context: bytes, svn: int, log: bool
    ) -> None:
        """STASH_MEASUREMENT into PCR 31: 48 bytes, with 4 of metadata and 48 of context.

        `log` is true in the ROM, before the firmware runs. Raises PcrError for a wrong size and
        when the measurement log is full.
        """
        for name, value, size in (
            ("measurement", measurement, PCR_SIZE),
            ("metadata", metadata, 4),
            ("context", context, 48),
        ):
            if len(value) != size:
                raise PcrError(f"{name}: expected {size} bytes, found {len(value)}")
        if not 0 <= svn < 1 << 32:
            raise PcrError(f"SVN: expected 32 bits, found {svn}")
        if log:
            if len(self._measurements) >= MOST_MEASUREMENTS:
                raise PcrError(
                    f"the measurement log is full ({MOST_MEASUREMENTS} entries, "
                    f"code {MEASUREMENT_LOG_EXHAUSTED:#010x})"
                )
            entry = PcrLogEntry(EntryId.STASH_MEASUREMENT, 1 << STASH, measurement)
            self._measurements.append(MeasurementLogEntry(entry, metadata, context, svn))
        self._values[STASH] = extend(self._values[STASH], measurement)

    def raise_reset_counter(self, index: int) -> None:
        """INCREMENT_PCR_RESET_COUNTER. Raises PcrError for another index or at the limit."""
        if not 0 <= index < PCR_COUNT:
            raise PcrError(f"PCR {index}: there are PCR 0 to 31")
        if self._reset_counters[index] >= _MOST_RESETS:
            raise PcrError(f"PCR {index}: its reset counter is at its limit")
        self._reset_counters[index] += 1
