"""Types of options and arguments that several commands take."""

from __future__ import annotations

import grp
from typing import Any

import click


class Hexadecimal(click.ParamType[bytes]):
    """Bytes of one size, in hexadecimal."""

    name = "hex"

    def __init__(self, size: int) -> None:
        self.size = size

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Return the bytes; a usage error says which size was expected."""
        if isinstance(value, bytes):
            return value
        try:
            data = bytes.fromhex(value)
        except ValueError:
            self.fail("expected hexadecimal digits", param, ctx)
        if len(data) != self.size:
            self.fail(f"expected {self.size} bytes, found {len(data)}", param, ctx)
        return data


class Group(click.ParamType[int]):
    """A group of this host, by name or number."""

    name = "group"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return its number; a usage error where there is no such group."""
        if isinstance(value, int):
            return value
        if value.isdecimal():
            return int(value)
        try:
            return grp.getgrnam(value).gr_gid
        except KeyError:
            self.fail(f"there is no group {value!r}", param, ctx)


class Number32(click.ParamType[int]):
    """A number of 32 bits, decimal or with 0x."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; a usage error for anything else."""
        if isinstance(value, int):
            return value
        try:
            number = int(value, 0)
        except ValueError:
            number = -1
        if not 0 <= number < 1 << 32:
            self.fail("expected a number of 32 bits, such as 0x40000000", param, ctx)
        return number
