"""A second reader of strict CBOR, in Python, to hold silicon's to: same values, same refusals."""

from __future__ import annotations

from typing import Any

from casemate.formats.cbor import DEEPEST, LARGEST, MOST_ITEMS, CborError, Tag


def decode(data: bytes, *, most_items: int = MOST_ITEMS, largest: int = LARGEST) -> Any:
    """See `casemate.formats.cbor.decode`."""
    if len(data) > largest:
        raise CborError(f"{len(data)} bytes; at most {largest} are taken", 0)
    reader = _Reader(data, most_items)
    value = reader.item(0)
    if reader.at != len(data):
        raise CborError("unexpected bytes after the item", reader.at)
    return value


class _Reader:
    def __init__(self, data: bytes, most_items: int) -> None:
        self.data = data
        self.most_items = most_items
        self.at = 0
        self.items = 0

    def argument(self, first: int, start: int) -> int:
        """The argument of an item whose first byte does not hold it; `at` is behind it then."""
        short = first & 31
        if short > 27:
            raise CborError("indefinite or reserved length", start)
        size = 1 << (short - 24)
        end = start + 1 + size
        if end > len(self.data):
            raise CborError("cut off", start)
        argument = int.from_bytes(self.data[start + 1 : end], "big")
        if first >> 5 == 7 or argument < (24 if size == 1 else 1 << (4 * size)):
            raise CborError("not in its shortest form, or a float or simple value", start)
        self.at = end
        return argument

    def item(self, depth: int) -> Any:
        start = self.at
        self.items += 1
        if self.items > self.most_items:
            raise CborError(f"more than {self.most_items} items", start)
        if depth > DEEPEST:
            raise CborError(f"nested deeper than {DEEPEST}", start)
        if start >= len(self.data):
            raise CborError("expected an item, found the end", start)
        first = self.data[start]
        major, argument = first >> 5, first & 31
        if argument < 24:
            self.at = start + 1
        else:
            argument = self.argument(first, start)
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major in (2, 3):
            return self.string(major, argument, start)
        if major == 4:
            self.room(argument, start)
            return [self.item(depth + 1) for _ in range(argument)]
        if major == 5:
            return self.map(argument, start, depth)
        if major == 6:
            return Tag(argument, self.item(depth + 1))
        if argument in (20, 21, 22):
            return {20: False, 21: True, 22: None}[argument]
        raise CborError(f"simple value {argument} is not taken", start)

    def string(self, major: int, size: int, start: int) -> bytes | str:
        end = self.at + size
        if end > len(self.data):
            raise CborError(f"a string of {size} bytes is cut off", start)
        raw = self.data[self.at : end]
        self.at = end
        if major == 2:
            return raw
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise CborError("a text string is not UTF-8", start) from None

    def room(self, count: int, start: int) -> None:
        """Refuse a count that the rest of the input cannot hold, before anything is made."""
        if count > len(self.data) - self.at:
            raise CborError(f"{count} items cannot follow", start)

    def map(self, count: int, start: int, depth: int) -> dict[Any, Any]:
        self.room(2 * count, start)
        result: dict[Any, Any] = {}
        for _ in range(count):
            key_at = self.at
            key = self.item(depth + 1)
            if isinstance(key, bool) or not isinstance(key, (int, str, bytes)):
                raise CborError("a map key is no number and no string", key_at)
            if key in result:
                shown = repr(key)
                if len(shown) > 40:
                    shown = f"{shown[:40]}..."
                raise CborError(f"the key {shown} stands twice", key_at)
            result[key] = self.item(depth + 1)
        return result
