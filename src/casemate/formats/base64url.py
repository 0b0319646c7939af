"""Base64url without padding (RFC 4648, section 5), as JOSE, EAT and conceptual messages use it."""

from __future__ import annotations

import base64
import binascii
import re

from casemate._silicon import base64url

_TEXT = re.compile(r"[A-Za-z0-9_-]*")


class Base64Error(ValueError):
    """Text that is no base64url without padding."""


def encode(data: bytes) -> str:
    """The text, without padding."""
    return base64url(b"", data).decode()


def encode_behind(head: bytes, data: bytes) -> bytes:
    """`head`, and the text of `data` behind it: what a signature is over, in one piece."""
    return base64url(head, data)


def decode(text: str) -> bytes:
    """The bytes. Raises Base64Error for other characters, padding, or bits left over."""
    if not _TEXT.fullmatch(text):
        raise Base64Error("expected base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise Base64Error("expected base64url: the last character is missing") from None
    if encode(data) != text:
        raise Base64Error("expected base64url: bits are left over at the end")
    return data
