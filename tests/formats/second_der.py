"""A second reader of DER, in Python, to hold silicon's to: same elements, same refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from casemate.formats.der_reader import DerError


class Element(NamedTuple):
    """One TLV: its tag byte, where it stands, its content and its whole encoding.

    A tuple, because a chain of certificates has hundreds of them.
    """

    tag: int
    offset: int
    content: bytes
    encoded: bytes

    def expect(self, tag: int, what: str) -> Element:
        """Return itself if it has the tag. Raises DerError with `what` was expected."""
        if self.tag != tag:
            raise DerError(
                f"expected {what} (tag {tag:02x}), found tag {self.tag:02x}", self.offset
            )
        return self

    def children(self) -> Reader:
        """A reader over the content of a constructed element. Raises DerError if primitive."""
        if not self.tag & 0x20:
            raise DerError(f"tag {self.tag:02x} holds no elements", self.offset)
        return Reader(self.content, self.offset + len(self.encoded) - len(self.content))


class Reader:
    """Reads elements one after another from a piece of DER."""

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self._start = start
        self._position = 0

    @property
    def offset(self) -> int:
        """The offset of the next element in the outermost input."""
        return self._start + self._position

    def at_end(self) -> bool:
        """Whether everything has been read."""
        return self._position >= len(self._data)

    def peek(self) -> int | None:
        """The tag of the next element, or None at the end."""
        return None if self.at_end() else self._data[self._position]

    def next(self, tag: int | None = None, what: str = "an element") -> Element:
        """Read one element. Raises DerError at the end, for bad DER, or for another tag."""
        data, position = self._data, self._position
        left = len(data) - position
        if left < 2:
            wrong = f"expected {what}, found the end" if left <= 0 else "cut off after the tag"
            raise DerError(wrong, self.offset)
        found, size = data[position], data[position + 1]
        if found & 0x1F == 0x1F:
            raise DerError("tag numbers above 30 are not taken", self.offset)
        body = position + 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or body + count > len(data):
                raise DerError("length is indefinite, too long or cut off", self.offset)
            size = int.from_bytes(data[body : body + count], "big")
            if size < 0x80 or size >> (8 * (count - 1)) == 0:
                raise DerError("length is not in its shortest form", self.offset)
            body += count
        end = body + size
        if end > len(data):
            raise DerError(
                f"content of {size} bytes, but only {len(data) - body} are left", self.offset
            )
        element = Element(found, self._start + position, data[body:end], data[position:end])
        if tag is not None and found != tag:
            element.expect(tag, what)
        self._position = end
        return element

    def end(self, what: str) -> None:
        """Check that everything has been read. Raises DerError if something follows."""
        if not self.at_end():
            raise DerError(f"unexpected bytes after {what}", self.offset)

    def __iter__(self) -> Iterator[Element]:
        while self._position < len(self._data):
            yield self.next()
