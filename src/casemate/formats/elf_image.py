"""The memory image of a 32-bit ELF executable: what a loader would put where.

Source: the ELF specification (System V ABI, chapter 4 and 5). As the public bundle tools do
(caliptra-sw, `image/elf`), segments that begin within the ELF header or the program header table
are not part of the image, and gaps between segments are zeros.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x7fELF"
#: No executable of a bundle is larger.
LARGEST_IMAGE = 256 * 1024
_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_CLASS_32, _LITTLE_ENDIAN = 1, 1
_PT_LOAD = 1


class ElfError(ValueError):
    """Bytes that are no 32-bit little-endian ELF executable with an image: where, and why."""

    def __init__(self, field: str, offset: int, message: str) -> None:
        super().__init__(f"ELF {field} at offset {offset:#x}: {message}")
        self.field = field
        self.offset = offset


@dataclass(frozen=True, slots=True)
class ElfImage:
    """An image to be loaded: its bytes, where they go, where execution begins."""

    content: bytes
    load_addr: int
    entry_point: int


@dataclass(frozen=True, slots=True)
class _Segment:
    at: int
    offset: int
    address: int
    size: int


def is_elf(data: bytes) -> bool:
    """Whether the bytes begin as an ELF file does."""
    return data[:4] == MAGIC


def decode(data: bytes) -> ElfImage:
    """Read the image. Raises ElfError."""
    if len(data) < _HEADER.size:
        raise ElfError("header", 0, f"expected {_HEADER.size} bytes, found {len(data)}")
    identity, _, _, _, entry, table, _, _, _, entry_size, count, _, _, _ = _HEADER.unpack_from(data)
    if identity[:6] != MAGIC + bytes((_CLASS_32, _LITTLE_ENDIAN)):
        raise ElfError("header", 0, "expected a 32-bit little-endian file")
    if count and entry_size != _PROGRAM_HEADER.size:
        raise ElfError("header", 42, f"expected program headers of 32 bytes, found {entry_size}")
    table_end = table + entry_size * count
    if table_end > len(data):
        raise ElfError("program headers", table, "they pass the end of the file")
    segments = _load_segments(data, table, count, table_end)
    if not segments:
        raise ElfError("program headers", table, "there is no segment to load")
    base = min(segment.address for segment in segments)
    image = bytearray()
    for segment in segments:
        if segment.size == 0:
            continue
        start = segment.address - base
        end = start + segment.size
        if end > LARGEST_IMAGE:
            raise ElfError(
                "segment", segment.at, f"the image would pass {LARGEST_IMAGE} bytes ({end})"
            )
        image.extend(bytes(max(0, end - len(image))))
        image[start:end] = data[segment.offset : segment.offset + segment.size]
    return ElfImage(bytes(image), base, entry)


def _load_segments(data: bytes, table: int, count: int, table_end: int) -> list[_Segment]:
    segments = []
    for number in range(count):
        at = table + number * _PROGRAM_HEADER.size
        kind, offset, _, address, size, _, _, _ = _PROGRAM_HEADER.unpack_from(data, at)
        if kind != _PT_LOAD or (size and offset < table_end):
            continue
        if offset + size > len(data):
            raise ElfError("segment", at, "its contents pass the end of the file")
        segments.append(_Segment(at, offset, address, size))
    return segments
