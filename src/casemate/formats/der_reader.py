"""Reads DER (ITU-T X.690) strictly: what certificates and DICE extensions from outside hold.

Definite lengths in their shortest form and tag numbers up to 30 only; it never reads past its
input, and every error names the offset. The writer is `casemate.formats.der`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class DerError(ValueError):
    """Bytes that are not DER, or not the DER that was expected; `offset` counts from the start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"at offset {offset}: {message}")
        self.offset = offset


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


def parse_one(data: bytes, tag: int | None = None, what: str = "an element") -> Element:
    """The single element that `data` is. Raises DerError if bytes follow it."""
    reader = Reader(data)
    element = reader.next(tag, what)
    reader.end(what)
    return element


def read_integer(element: Element) -> int:
    """The value of an INTEGER. Raises DerError if it is empty or not shortest."""
    element.expect(INTEGER, "INTEGER")
    content = element.content
    if not content or (
        len(content) > 1 and content[0] in (0, 0xFF) and (content[0] ^ content[1]) < 0x80
    ):
        raise DerError("INTEGER is empty or not in its shortest form", element.offset)
    return int.from_bytes(content, "big", signed=True)


def read_oid(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER. Raises DerError if malformed."""
    element.expect(OID, "OBJECT IDENTIFIER")
    text, wrong = _dotted(element.content)
    if wrong:
        raise DerError(f"OBJECT IDENTIFIER {wrong}", element.offset)
    return text


def dotted(content: bytes) -> str:
    """The dotted form of an identifier's content, in hexadecimal where it is malformed."""
    text, wrong = _dotted(content)
    return content.hex() if wrong else text


@lru_cache(maxsize=1024)
def _dotted(content: bytes) -> tuple[str, str]:
    """The dotted form, or what is wrong. Certificates name the same few identifiers."""
    if not content or content[-1] & 0x80 or len(content) > 64:
        return "", "is empty, cut off or too long"
    arcs: list[int] = []
    arc = 0
    for index, byte in enumerate(content):
        if byte == 0x80 and (index == 0 or not content[index - 1] & 0x80):
            return "", "has a padded arc"
        arc = arc << 7 | (byte & 0x7F)
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:]))), ""


def read_boolean(element: Element) -> bool:
    """The value of a BOOLEAN. Raises DerError unless it is 00 or FF."""
    element.expect(BOOLEAN, "BOOLEAN")
    if element.content not in (b"\0", b"\xff"):
        raise DerError("BOOLEAN is neither 00 nor FF", element.offset)
    return element.content == b"\xff"


def read_bit_string(element: Element) -> tuple[bytes, int]:
    """The bytes of a BIT STRING and the number of unused bits. Raises DerError if malformed."""
    element.expect(BIT_STRING, "BIT STRING")
    if (
        not element.content
        or element.content[0] > 7
        or (element.content[0] and len(element.content) == 1)
    ):
        raise DerError("BIT STRING is malformed", element.offset)
    return element.content[1:], element.content[0]
