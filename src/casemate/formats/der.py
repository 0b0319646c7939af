"""Writes DER (ITU-T X.690): the few types that certificates, CSRs and CMS messages are made of.

Every function returns one complete element, tag and length included, so that structures nest as
calls nest:

>>> sequence(integer(2), octet_string(b"hi")).hex()
'300702010204026869'

It only writes. The reader is `casemate.formats.der_reader`.
"""

from __future__ import annotations

from collections.abc import Iterable


def element(tag: int, content: bytes) -> bytes:
    """Return one element: identifier octet `tag`, definite length, content octets."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def boolean(value: bool) -> bytes:
    """Return a BOOLEAN; DER's true is 0xFF."""
    return element(0x01, b"\xff" if value else b"\x00")


def integer_content(value: int) -> bytes:
    """Return the content octets of an INTEGER >= 0: for an IMPLICIT tag."""
    if value < 0:
        raise ValueError("only integers of zero and above are written")
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def integer(value: int) -> bytes:
    """Return an INTEGER >= 0."""
    return element(0x02, integer_content(value))


def unsigned(magnitude: bytes) -> bytes:
    """Return an INTEGER from its magnitude, big-endian, of any width."""
    return integer(int.from_bytes(magnitude, "big"))


def bit_string(content: bytes, unused_bits: int = 0) -> bytes:
    """Return a BIT STRING; the last octet has `unused_bits` (0-7) zero bits that do not count."""
    return element(0x03, bytes((unused_bits,)) + content)


def octet_string(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return element(0x04, content)


def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER from its dotted form, such as "2.5.4.3"."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = b"".join(_base128(arc) for arc in (first * 40 + second, *rest))
    return element(0x06, content)


def utf8_string(text: str) -> bytes:
    """Return a UTF8String."""
    return element(0x0C, text.encode("utf-8"))


def printable_string(text: str) -> bytes:
    """Return a PrintableString; the caller keeps to its alphabet."""
    return element(0x13, text.encode("ascii"))


def generalized_time(text: str) -> bytes:
    """Return a GeneralizedTime from its own form, YYYYMMDDHHMMSSZ."""
    return element(0x18, text.encode("ascii"))


def sequence(*members: bytes) -> bytes:
    """Return a SEQUENCE of elements already encoded."""
    return element(0x30, b"".join(members))


def set_of(members: Iterable[bytes]) -> bytes:
    """Return a SET OF, its members sorted as DER demands."""
    return element(0x31, b"".join(sorted(members)))


def explicit(number: int, inner: bytes) -> bytes:
    """Return `[number] EXPLICIT inner`, or `[number] IMPLICIT` of a constructed type's content."""
    return element(0xA0 | number, inner)


def implicit(number: int, content: bytes) -> bytes:
    """Return `[number] IMPLICIT` of a primitive type, from its content octets."""
    return element(0x80 | number, content)


def _base128(arc: int) -> bytes:
    """Return one arc of an object identifier: seven bits an octet, the top bit for "more"."""
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | (arc & 0x7F))
    return bytes(reversed(octets))
