"""Reads DER (ITU-T X.690) strictly: what certificates and DICE extensions from outside hold.

Definite lengths in their shortest form and tag numbers up to 30 only; it never reads past its
input, and every error names the offset. Silicon walks the elements (`Reader`, `Element`; tests hold
it to a second reader in Python), the values are read here. The writer is `casemate.formats.der`.
"""

from __future__ import annotations

from functools import lru_cache

from casemate._silicon import Element
from casemate._silicon import ElementReader as Reader

__all__ = [
    "DerError",
    "Element",
    "Reader",
]

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, OID = 0x01, 0x02, 0x03, 0x04, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31


class DerError(ValueError):
    """Bytes that are not DER, or not the DER that was expected; `offset` counts from the start."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"at offset {offset}: {message}")
        self.offset = offset


def parse_one(data: bytes, tag: int | None = None, what: str = "an element") -> Element:
    """The single element that `data` is. Raises DerError if bytes follow it."""
    reader = Reader(data)
    element = reader.next(tag, what)
    reader.end(what)
    return element


def read_integer(element: Element) -> int:
    """The value of an INTEGER. Raises DerError if it is empty or not shortest."""
    element.expect(INTEGER, "INTEGER")
    return implicit_integer(element)


def implicit_integer(element: Element) -> int:
    """The same, whatever its tag is."""
    content = element.content
    if not content or (
        len(content) > 1 and content[0] in (0, 0xFF) and (content[0] ^ content[1]) < 0x80
    ):
        raise DerError("INTEGER is empty or not in its shortest form", element.offset)
    return int.from_bytes(content, "big", signed=True)


def read_oid(element: Element) -> str:
    """The dotted form of an OBJECT IDENTIFIER. Raises DerError if malformed."""
    element.expect(OID, "OBJECT IDENTIFIER")
    text, wrong = identifier(element.content)
    if wrong:
        raise DerError(f"OBJECT IDENTIFIER {wrong}", element.offset)
    return text


def dotted(content: bytes) -> str:
    """The dotted form of an identifier's content, in hexadecimal where it is malformed."""
    text, wrong = identifier(content)
    return content.hex() if wrong else text


# Certificates name the same few identifiers.
@lru_cache(maxsize=1024)
def identifier(content: bytes) -> tuple[str, str]:
    """The dotted form of an identifier's content, and what is wrong with it (else empty)."""
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
    content = element.content
    if content not in (b"\0", b"\xff"):
        raise DerError("BOOLEAN is neither 00 nor FF", element.offset)
    return content == b"\xff"


def read_bit_string(element: Element) -> tuple[bytes, int]:
    """The bytes of a BIT STRING and the number of unused bits. Raises DerError if malformed."""
    element.expect(BIT_STRING, "BIT STRING")
    return implicit_bit_string(element)


def implicit_bit_string(element: Element) -> tuple[bytes, int]:
    """The same, whatever its tag is."""
    content = element.content
    if not content or content[0] > 7 or (content[0] and len(content) == 1):
        raise DerError("BIT STRING is malformed", element.offset)
    return content[1:], content[0]
