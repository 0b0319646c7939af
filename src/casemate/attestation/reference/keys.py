"""Keys as CoRIM names them, held against public keys in DER."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from casemate.formats import x509
from casemate.formats.cbor import Tag
from casemate.formats.corim import measurement as corim
from casemate.formats.corim.measurement import Digest
from casemate.formats.der_reader import DerError

_HASHES = {
    corim.SHA256: "sha256",
    corim.SHA384: "sha384",
    corim.SHA512: "sha512",
    -16: "sha256",
    -43: "sha384",
    -44: "sha512",
}
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----\s(.*?)-----END \1-----", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Authority:
    """Who stands behind something: keys as it names them, and public keys (DER) that are proved."""

    named: frozenset[Tag] = frozenset()
    proved: frozenset[bytes] = frozenset()

    def has(self, key: Tag) -> bool:
        """Whether the key is one of them: by equal encodings, or as one of the proved keys."""
        return key in self.named or any(is_key(key, spki) for spki in self.proved)

    def has_all(self, keys: Iterable[Tag]) -> bool:
        """Whether all keys are among them."""
        return all(self.has(key) for key in keys)


def is_key(key: Tag, spki: bytes) -> bool:
    """Whether a key as CoRIM names it is this SubjectPublicKeyInfo (DER).

    Certificates and paths count by the key of their first certificate, thumbprints over the whole
    SubjectPublicKeyInfo. Opaque ids and thumbprints of certificates say nothing about a key.
    """
    if key.number == corim.TAG_KEY_THUMBPRINT and isinstance(key.value, Digest):
        name = _HASHES.get(key.value.algorithm) if isinstance(key.value.algorithm, int) else None
        return name is not None and hashlib.new(name, spki).digest() == key.value.value
    return spki == public_key(key)


@lru_cache(maxsize=4096)
def public_key(key: Tag) -> bytes | None:
    """The SubjectPublicKeyInfo (DER) that a key holds, None if it holds none that can be read."""
    try:
        if key.number == corim.TAG_CERTIFICATE_DER:
            return x509.read_certificate(key.value).spki
        if key.number not in corim.TEXT_KEYS:
            return None
        data = _der(key.value)
        if key.number == corim.TAG_PKIX_KEY:
            x509.read_public_key(data)
            return data
        return x509.read_certificate(data).spki
    except (DerError, ValueError):
        return None


def _der(text: str) -> bytes:
    """The first PEM block, or bare base64."""
    block = _PEM.search(text)
    try:
        return base64.b64decode("".join((block[2] if block else text).split()), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
