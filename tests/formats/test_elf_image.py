from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import elf_image


def elf(
    *segments: tuple[int, bytes], entry: int = 0x40000010, kind: int = 1, bits: int = 1
) -> bytes:
    """An executable with segments (physical address, contents) behind the headers."""
    count = len(segments)
    header = struct.pack(
        "<4sBBBB8xHHIIIIIHHHHHH",
        *(b"\x7fELF", bits, 1, 1, 0, 2, 243, 1, entry, 52, 0, 0, 52, 32, count, 40, 0, 0),
    )
    table, contents, at = b"", b"", 52 + 32 * count
    for address, content in segments:
        size = len(content)
        table += struct.pack("<8I", kind, at, address, address, size, size, 5, 4)
        contents += content
        at += size
    return header + table + contents


def test_segments_are_laid_out_by_address_with_zeros_between() -> None:
    image = elf_image.decode(elf((0x40000006, b"hello"), (0x40000000, b"abc"), (0x4000000C, b"!")))
    assert image.content == b"abc\0\0\0hello\0!"
    assert (image.load_addr, image.entry_point) == (0x40000000, 0x40000010)


def test_a_segment_that_holds_the_headers_is_left_out() -> None:
    data = bytearray(elf((0x3FFF0000, b"header"), (0x40000000, b"code")))
    data[52 + 4 : 52 + 8] = bytes(4)
    image = elf_image.decode(bytes(data))
    assert (image.content, image.load_addr) == (b"code", 0x40000000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x7fELF", "expected 52 bytes"),
        (elf((0, b"x"), bits=2), "32-bit"),
        (elf(), "no segment"),
        (elf((0, b"x"), kind=2), "no segment"),
        (elf((0, b"xyz"))[:-1], "pass the end"),
        (elf((0, b"xyz"))[:60], "pass the end"),
        (elf((0, b"a"), (1 << 20, b"b")), "would pass"),
    ],
)
def test_what_cannot_be_loaded_says_why(data: bytes, expected: str) -> None:
    with pytest.raises(elf_image.ElfError, match=expected):
        elf_image.decode(data)


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 120), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(data: bytes, at: int, value: int) -> None:
    good = bytearray(elf((0x40000000, b"code"), (0x40000100, b"data")))
    good[at % len(good)] = value
    for attempt in (data, elf_image.MAGIC + data, bytes(good)):
        try:
            assert len(elf_image.decode(attempt).content) <= elf_image.LARGEST_IMAGE
        except elf_image.ElfError as error:
            assert str(error)
