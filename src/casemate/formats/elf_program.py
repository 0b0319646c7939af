"""The dynamic loader that a program of this machine names (ELF, PT_INTERP).

Source: the System V ABI, chapters 4 and 5: ELF header and program header of 64-bit objects.
"""

from __future__ import annotations

import struct

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_MAGIC = b"\x7fELF\x02\x01"
_PT_INTERP = 3


def program_interpreter(data: bytes) -> str | None:
    """Return the path in PT_INTERP; None but for a little-endian 64-bit program that has one."""
    if len(data) < _HEADER.size or not data.startswith(_MAGIC):
        return None
    fields = _HEADER.unpack_from(data)
    offset, size, count = fields[5], fields[9], fields[10]
    if size < _PROGRAM.size:
        return None
    for index in range(count):
        start = offset + index * size
        if start + _PROGRAM.size > len(data):
            return None
        kind, _, at, _, _, length, _, _ = _PROGRAM.unpack_from(data, start)
        if kind == _PT_INTERP:
            path = data[at : at + length].split(b"\0")[0]
            return path.decode("utf-8", "replace") or None
    return None
