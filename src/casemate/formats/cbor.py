"""CBOR (RFC 8949) as evidence needs it: deterministic writing, strict and bounded reading.

Reading refuses what two readers could see differently or what costs memory: duplicate keys,
indefinite lengths, lengths and numbers not in their shortest form, trailing bytes, deep nesting,
too many items. It knows integers, byte and text strings, arrays, maps, tags, false, true, null.
Silicon reads (`_silicon.read_cbor`); tests hold it to a second reader in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cbor2

from casemate._silicon import read_cbor

MOST_ITEMS = 20_000
DEEPEST = 32
LARGEST = 4 * 1024 * 1024


class CborError(ValueError):
    """Bytes that are no strict CBOR; `offset` counts from the start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"at offset {offset}: {message}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged item."""

    number: int
    value: Any


def encode(value: Any) -> bytes:
    """Core deterministic encoding: shortest forms, map keys sorted by their encoding."""
    # cbor2's own canonical form sorts by length first (RFC 7049); these are sorted already.
    return cbor2.dumps(_prepared(value))


def byte_string_head(size: int) -> bytes:
    """What stands before a byte string, for structures that are put together by hand."""
    if size < 24:
        return bytes((0x40 | size,))
    power = max(0, ((size.bit_length() + 7) // 8 - 1).bit_length())
    return bytes((0x58 + power,)) + size.to_bytes(1 << power, "big")


def _prepared(value: Any) -> Any:
    if isinstance(value, Tag):
        return cbor2.CBORTag(value.number, _prepared(value.value))
    if isinstance(value, Mapping):
        keys = sorted(value, key=cbor2.dumps)
        return {key: _prepared(value[key]) for key in keys}
    if isinstance(value, (list, tuple)):
        return [_prepared(item) for item in value]
    return value


def decode(data: bytes, *, most_items: int = MOST_ITEMS, largest: int = LARGEST) -> Any:
    """The one item that `data` is, within bounds of items and bytes. Raises CborError."""
    if len(data) > largest:
        raise CborError(f"{len(data)} bytes; at most {largest} are taken", 0)
    return read_cbor(Tag, data, most_items, DEEPEST)
