"""A TPM quote as JSON, the form of the confidential-containers agents: what signs, what is signed.

    {"message": "ff5443478018...", "signature": "2afd...", "pcrs": ["f3a7...", ...]}

All values are lower-case hexadecimal. `message` is TPMS_ATTEST, `signature` the bare RSA PKCS#1
v1.5 signature with SHA-256, `pcrs` the SHA-256 bank from PCR 0 upward. What stands beside these
names is refused: nobody would have signed it.

Source: confidential-containers/trustee, deps/verifier/src/az_snp_vtpm/compat.rs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from casemate.formats import strict_json
from casemate.formats.strict_json import JsonError

_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")
NAMES = frozenset({"message", "signature", "pcrs"})
_LONGEST = 8192
_MOST_PCRS = 24


@dataclass(frozen=True, slots=True)
class JsonQuote:
    """The signed message, its RSA signature, and PCRs 0 to at most 23 (32 bytes each)."""

    message: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]


def decode(data: bytes) -> JsonQuote:
    """A quote from JSON. Raises JsonError."""
    return from_value(strict_json.decode(data))


def from_value(value: Any) -> JsonQuote:
    """A quote from a decoded JSON object. Raises JsonError."""
    if not isinstance(value, dict) or value.keys() != NAMES:
        raise JsonError(f"expected an object of {', '.join(sorted(NAMES))}")
    pcrs = value["pcrs"]
    if not isinstance(pcrs, list) or not 1 <= len(pcrs) <= _MOST_PCRS:
        raise JsonError(f"pcrs: expected a list of 1 to {_MOST_PCRS} values")
    values = tuple(_bytes(entry, f"pcrs[{number}]") for number, entry in enumerate(pcrs))
    if any(len(entry) != 32 for entry in values):
        raise JsonError("pcrs: expected 32 bytes each")
    return JsonQuote(
        _bytes(value["message"], "message"), _bytes(value["signature"], "signature"), values
    )


def _bytes(value: Any, name: str) -> bytes:
    if not isinstance(value, str) or len(value) > _LONGEST or not _HEXADECIMAL.fullmatch(value):
        raise JsonError(f"{name}: expected lower-case hexadecimal")
    return bytes.fromhex(value)


def encode(quote: JsonQuote) -> bytes:
    """The JSON of a quote."""
    return json.dumps(
        {
            "signature": quote.signature.hex(),
            "message": quote.message.hex(),
            "pcrs": [value.hex() for value in quote.pcrs],
        }
    ).encode()


def covered(data: bytes) -> tuple[range, ...]:
    """Where the hexadecimal values of a well-formed quote stand in its text."""
    return covered_values(data, decode(data))


def covered_values(text: bytes, quote: JsonQuote) -> tuple[range, ...]:
    """Where a quote's hexadecimal values stand in a text that has it somewhere."""
    ranges: list[range] = []
    for value in {quote.message, quote.signature, *quote.pcrs}:
        quoted = f'"{value.hex()}"'.encode()
        start = text.find(quoted)
        while start >= 0:
            ranges.append(range(start + 1, start + len(quoted) - 1))
            start = text.find(quoted, start + 1)
    return tuple(sorted(ranges, key=lambda found: found.start))
