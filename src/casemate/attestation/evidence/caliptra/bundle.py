"""Files of certificates: one in DER, several after one another, or PEM."""

from __future__ import annotations

import base64
import binascii
import re

from casemate.formats import der_reader
from casemate.formats.der_reader import DerError

MOST_CERTIFICATES = 16
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----\s(.{1,131072}?)-----END CERTIFICATE-----", re.S)
_PEM_START = b"-----BEGIN CERTIFICATE-----"


def read_bundle(data: bytes) -> tuple[bytes, ...]:
    """The certificates (DER) of a file, in its order; none if it is no such file.

    Text between PEM blocks is passed over. A file with more than 16 is none.
    """
    if data.lstrip().startswith(_PEM_START):
        return _pem(data)
    found: list[bytes] = []
    reader = der_reader.Reader(data)
    try:
        while not reader.at_end():
            found.append(reader.next(der_reader.SEQUENCE, "certificate").encoded)
            if len(found) > MOST_CERTIFICATES:
                return ()
    except DerError:
        return ()
    return tuple(found)


def _pem(data: bytes) -> tuple[bytes, ...]:
    found: list[bytes] = []
    for match in _BLOCK.finditer(data):
        try:
            found.append(base64.b64decode(b"".join(match[1].split()), validate=True))
        except binascii.Error:
            return ()
        if len(found) > MOST_CERTIFICATES:
            return ()
    return tuple(found)
