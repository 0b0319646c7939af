"""TCG event logs of PC firmware: read, and replayed to the PCRs that they lead to.

Integers are little-endian. Two forms:

- legacy (SHA-1): entries of PCR, type, 20-byte digest, size, data.
- crypto-agile: a first legacy entry of type EV_NO_ACTION, whose data begins with "Spec ID Event03"
  and lists the algorithms with their digest sizes; then entries of PCR, type, a list of digests by
  algorithm, size, data.

Logs that firmware hands over in a table of fixed size are padded to it, with zeros or ones.

Replay starts at zeros (PCRs 17 to 22, which a dynamic launch resets, at ones) and extends each
digest. EV_NO_ACTION extends nothing; one of them, "StartupLocality", sets the last byte of PCR 0's
start to the locality that the TPM was started from.

Source: TCG PC Client Platform Firmware Profile, sections 10.2 and 10.4.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.formats.tpm import HASHES, MOST_PCRS, Algorithm

EV_NO_ACTION = 3
_SPEC_ID = b"Spec ID Event03\0"
_STARTUP_LOCALITY = b"StartupLocality\0"
LARGEST = 4 * 1024 * 1024
MOST_EVENTS = 65_536
_LEGACY_HEAD = struct.Struct("<II20sI")


class EventLogError(ValueError):
    """Bytes that are no event log; the message has the offset."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry: the PCR that it extends, its type, its digests by bank, its data."""

    pcr: int
    type: int
    digests: Mapping[Algorithm, bytes]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """A log; `banks` are the algorithms that every event has a digest of."""

    events: tuple[Event, ...]
    banks: tuple[Algorithm, ...]
    is_crypto_agile: bool


def looks_like_log(data: bytes) -> bool:
    """Whether bytes are a log: they begin with a Spec ID event, or are a legacy log throughout."""
    if len(data) < _LEGACY_HEAD.size or data[0] >= MOST_PCRS or any(data[1:4]):
        return False
    kind = int.from_bytes(data[4:8], "little")
    if kind == EV_NO_ACTION and not any(data[8:28]):
        return True
    if not (1 <= kind <= 0x20 or 0x80000000 <= kind <= 0x800000FF):
        return False
    try:
        decode(data)
    except EventLogError:
        return False
    return True


def _at_end(data: bytes, offset: int) -> bool:
    return offset == len(data) or (
        data[offset] in (0, 0xFF) and data.count(data[offset], offset) == len(data) - offset
    )


def decode(data: bytes) -> EventLog:
    """A log of either form. Raises EventLogError."""
    if len(data) > LARGEST:
        raise EventLogError(f"{len(data)} bytes; at most {LARGEST} are taken")
    first, offset = _legacy_event(data, 0)
    if first.type == EV_NO_ACTION and first.data.startswith(_SPEC_ID):
        return _crypto_agile(data, offset, first)
    events = [first]
    while not _at_end(data, offset):
        event, offset = _legacy_event(data, offset)
        events.append(event)
        _require_few(events)
    return EventLog(tuple(events), (Algorithm.SHA1,), False)


def _require_few(events: list[Event]) -> None:
    if len(events) > MOST_EVENTS:
        raise EventLogError(f"more than {MOST_EVENTS} events")


def _legacy_event(data: bytes, offset: int) -> tuple[Event, int]:
    if offset + _LEGACY_HEAD.size > len(data):
        raise EventLogError(f"at offset {offset}: an event is cut off")
    pcr, kind, digest, size = _LEGACY_HEAD.unpack_from(data, offset)
    content, end = _content(data, offset + _LEGACY_HEAD.size, size)
    return Event(_pcr(pcr, offset), kind, {Algorithm.SHA1: digest}, content), end


def _pcr(number: int, offset: int) -> int:
    # All ones: the event concerns no PCR.
    if number >= MOST_PCRS and number != 0xFFFFFFFF:
        raise EventLogError(f"at offset {offset}: there is no PCR {number}")
    return number


def _content(data: bytes, offset: int, size: int) -> tuple[bytes, int]:
    end = offset + size
    if end > len(data):
        raise EventLogError(f"at offset {offset}: {size} bytes of an event, but the log ends")
    return data[offset:end], end


def _crypto_agile(data: bytes, offset: int, first: Event) -> EventLog:
    sizes = _specified_sizes(first.data)
    events = [first]
    while not _at_end(data, offset):
        event, offset = _agile_event(data, offset, sizes)
        events.append(event)
        _require_few(events)
    banks = tuple(Algorithm(number) for number in sizes if number in HASHES)
    return EventLog(tuple(events), banks, True)


def _specified_sizes(content: bytes) -> dict[int, int]:
    """Digest sizes by algorithm, from the data of the first event."""
    head = struct.Struct("<16sIBBBBI")
    if len(content) < head.size:
        raise EventLogError("Spec ID Event: cut off")
    count = head.unpack_from(content)[-1]
    if not 1 <= count <= 16 or head.size + 4 * count > len(content):
        raise EventLogError(f"Spec ID Event: {count} algorithms")
    sizes = {}
    for position in range(count):
        number, size = struct.unpack_from("<HH", content, head.size + 4 * position)
        expected = HASHES[Algorithm(number)][1] if number in HASHES else size
        if number in sizes or size != expected or not 1 <= size <= 64:
            raise EventLogError(f"Spec ID Event: algorithm {number:#06x} with {size} bytes")
        sizes[number] = size
    return sizes


def _agile_event(data: bytes, offset: int, sizes: Mapping[int, int]) -> tuple[Event, int]:
    start = offset
    if offset + 12 > len(data):
        raise EventLogError(f"at offset {offset}: an event is cut off")
    pcr, kind, count = struct.unpack_from("<III", data, offset)
    offset += 12
    if count != len(sizes):
        raise EventLogError(f"at offset {start}: {count} digests, the log has {len(sizes)} banks")
    digests = {}
    seen = set()
    for _ in range(count):
        if offset + 2 > len(data):
            raise EventLogError(f"at offset {offset}: a digest is cut off")
        number = int.from_bytes(data[offset : offset + 2], "little")
        if number not in sizes or number in seen:
            raise EventLogError(f"at offset {offset}: algorithm {number:#06x} is not expected")
        seen.add(number)
        digest, offset = _content(data, offset + 2, sizes[number])
        if number in HASHES:
            digests[Algorithm(number)] = digest
    if offset + 4 > len(data):
        raise EventLogError(f"at offset {offset}: an event is cut off")
    size = int.from_bytes(data[offset : offset + 4], "little")
    content, end = _content(data, offset + 4, size)
    return Event(_pcr(pcr, start), kind, digests, content), end


def replay(log: EventLog, bank: Algorithm) -> dict[int, bytes]:
    """The PCRs of a bank that the log extends, by number, with the values that it leads to."""
    hash_name, size = HASHES[bank]
    pcrs: dict[int, bytes] = {}
    locality = 0
    for event in log.events:
        if event.type == EV_NO_ACTION:
            if event.data.startswith(_STARTUP_LOCALITY) and len(event.data) == 17:
                locality = event.data[16]
            continue
        if event.pcr >= MOST_PCRS or bank not in event.digests:
            continue
        current = pcrs.get(event.pcr)
        if current is None:
            current = start_value(event.pcr, size, locality)
        pcrs[event.pcr] = hashlib.new(hash_name, current + event.digests[bank]).digest()
    return pcrs


def start_value(pcr: int, size: int, locality: int = 0) -> bytes:
    """What a PCR holds before the first event; `locality` is the one that the TPM started from."""
    if pcr == 0:
        return bytes(size - 1) + bytes((locality,))
    return b"\xff" * size if 17 <= pcr <= 22 else bytes(size)


def encode_legacy_event(event: Event) -> bytes:
    """One entry of a legacy log."""
    digest = event.digests[Algorithm.SHA1]
    return _LEGACY_HEAD.pack(event.pcr, event.type, digest, len(event.data)) + event.data


def encode(log: EventLog) -> bytes:
    """A log's bytes; of a crypto-agile one, the first event must be its Spec ID event."""
    if not log.is_crypto_agile:
        return b"".join(map(encode_legacy_event, log.events))
    parts = [encode_legacy_event(log.events[0])]
    for event in log.events[1:]:
        digests = b"".join(
            number.to_bytes(2, "little") + digest for number, digest in event.digests.items()
        )
        parts.append(struct.pack("<III", event.pcr, event.type, len(event.digests)) + digests)
        parts.append(len(event.data).to_bytes(4, "little") + event.data)
    return b"".join(parts)


def spec_id_event(banks: tuple[Algorithm, ...]) -> Event:
    """The first event of a crypto-agile log (PC client, specification 2.0)."""
    sizes = b"".join(struct.pack("<HH", bank, HASHES[bank][1]) for bank in banks)
    data = struct.pack("<16sIBBBBI", _SPEC_ID, 0, 0, 2, 0, 2, len(banks)) + sizes + b"\0"
    return Event(0, EV_NO_ACTION, {Algorithm.SHA1: bytes(20)}, data)
