"""COSE_Sign1 (RFC 9052): the exact bytes that are signed, and the envelope around them.

Nothing here signs or verifies. The protected header is kept as the bytes that came, because those
are what was signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from casemate.formats import cbor
from casemate.formats.cbor import CborError, Tag

TAG_SIGN1 = 18

#: Header labels.
ALGORITHM, CONTENT_TYPE, KEY_ID, X5CHAIN = 1, 3, 4, 33
#: Algorithms: ECDSA with P-384 and SHA-384 (the fully specified number, and the older one).
ESP384, ES384, ML_DSA_87 = -51, -35, -50

#: A chain of DICE layers is about five certificates.
MOST_CERTIFICATES = 16

#: Headers of so many bytes are those of every message of a kind: they are decoded once.
_SHORT_HEADER = 64

#: How a Sig_structure begins: an array of four, the first its context (section 4.4).
_SIGNATURE1 = b"\x84" + cbor.encode("Signature1")


class CoseError(ValueError):
    """Bytes that are no COSE_Sign1; the message names the part."""


@dataclass(frozen=True, slots=True)
class Sign1:
    """A COSE_Sign1. `protected` is the encoded protected header, `signature` r and s or raw."""

    protected: bytes
    payload: bytes
    signature: bytes
    unprotected: Mapping[int | str, Any] = field(default_factory=dict)

    @property
    def headers(self) -> Mapping[int | str, Any]:
        """The protected header, decoded. Raises CoseError."""
        if len(self.protected) <= _SHORT_HEADER:
            return _short_header(self.protected)
        return _header(self.protected)

    @property
    def x5chain(self) -> tuple[bytes, ...]:
        """The certificates (DER) of either header, the signer's first. Raises CoseError."""
        value = self.headers.get(X5CHAIN, self.unprotected.get(X5CHAIN))
        if value is None:
            return ()
        chain = value if isinstance(value, list) else [value]
        for certificate in chain:
            if not isinstance(certificate, bytes):
                raise CoseError("x5chain: expected certificates as byte strings")
        if len(chain) > MOST_CERTIFICATES:
            raise CoseError(f"x5chain: more than {MOST_CERTIFICATES} certificates")
        return tuple(chain)

    def to_be_signed(self, external_aad: bytes = b"") -> bytes:
        """The Sig_structure: what the signature is over."""
        return to_be_signed(self.protected, self.payload, external_aad)


def _header(protected: bytes) -> Mapping[int | str, Any]:
    if not protected:
        return {}
    try:
        value = cbor.decode(protected)
    except CborError as error:
        raise CoseError(f"protected header: {error}") from None
    if not isinstance(value, dict):
        raise CoseError("protected header: expected a map")
    return value


@lru_cache(maxsize=128)
def _short_header(protected: bytes) -> Mapping[int | str, Any]:
    return MappingProxyType(dict(_header(protected)))


def protected_header(headers: Mapping[int | str, Any]) -> bytes:
    """The encoded protected header; an empty one is an empty string."""
    return cbor.encode(headers) if headers else b""


def to_be_signed(protected: bytes, payload: bytes, external_aad: bytes = b"") -> bytes:
    """The Sig_structure of an encoded protected header and a payload."""
    parts = (
        _SIGNATURE1,
        cbor.byte_string_head(len(protected)),
        protected,
        cbor.byte_string_head(len(external_aad)),
        external_aad,
        cbor.byte_string_head(len(payload)),
        payload,
    )
    return b"".join(parts)


def encode(message: Sign1, *, tags: tuple[int, ...] = (TAG_SIGN1,)) -> bytes:
    """The message within its tags, the outermost first."""
    value: Any = [message.protected, dict(message.unprotected), message.payload, message.signature]
    for number in reversed(tags):
        value = Tag(number, value)
    return cbor.encode(value)


def decode(data: bytes, *, most_items: int = cbor.MOST_ITEMS) -> tuple[Sign1, tuple[int, ...]]:
    """A message and the tags around it, the outermost first. Raises CoseError."""
    try:
        value = cbor.decode(data, most_items=most_items)
    except CborError as error:
        raise CoseError(str(error)) from None
    tags: list[int] = []
    while isinstance(value, Tag):
        tags.append(value.number)
        value = value.value
    if not isinstance(value, list) or len(value) != 4:
        raise CoseError("expected an array of four: protected, unprotected, payload, signature")
    protected, unprotected, payload, signature = value
    for name, part in (("protected", protected), ("payload", payload), ("signature", signature)):
        if not isinstance(part, bytes):
            raise CoseError(f"{name}: expected a byte string")
    if not isinstance(unprotected, dict):
        raise CoseError("unprotected: expected a map")
    message = Sign1(protected, payload, signature, unprotected)
    if both := message.headers.keys() & unprotected.keys():
        raise CoseError(f"header {sorted(map(str, both))[0]} is in both headers")
    return message, tuple(tags)
