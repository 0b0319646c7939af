"""Claims of an Entity Attestation Token in the OCP profile.

An OCP evidence token is tag 55799 (61 (18 (COSE_Sign1))) over a map of claims; the measurements
are concise evidence (`casemate.formats.corim.evidence`) as a byte string within. This module writes
the strict form and reads claims; the forms that differ in the wild are the verifier's named quirks.

Sources: RFC 9711, opencomputeproject/Security specifications/ietf-eat-profile.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from casemate.formats import cbor
from casemate.formats.cbor import CborError

TAG_SELF_DESCRIBED, TAG_CWT, TAG_SIGN1 = 55799, 61, 18
TOKEN_TAGS = (TAG_SELF_DESCRIBED, TAG_CWT, TAG_SIGN1)
#: Content types: of the token, and of concise evidence within it.
CONTENT_TYPE_EAT_CWT, CONTENT_TYPE_CONCISE_EVIDENCE = 263, 10571

#: Claim keys.
ISSUER, CWT_ID, NONCE = 1, 7, 10
UEID, OEM_ID, HARDWARE_MODEL, DEBUG_STATUS, PROFILE, MEASUREMENTS = 256, 258, 259, 263, 265, 273
#: Private claims of this project (below -65536, as RFC 8392 asks).
PCR_QUOTE, PCR_LOG, DEVICE_STATUS_SIZE, KEY_REPORT, ANCHOR = -72001, -72002, -72003, -72004, -72005
PARTITION_CHAIN = -72006

#: The content of the profile's object identifier, 1.3.6.1.4.1.42623.1.3.
OCP_PROFILE = bytes.fromhex("2b0601040182cc7f0103")


class EatError(ValueError):
    """Bytes that are no EAT; the message names the claim."""


class DebugStatus(enum.IntEnum):
    """The dbgstat claim."""

    ENABLED = 0
    DISABLED = 1
    DISABLED_SINCE_BOOT = 2
    DISABLED_PERMANENTLY = 3
    DISABLED_FULLY_AND_PERMANENTLY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The claims of a token. `private` holds whatever else there is, by key."""

    nonce: bytes
    debug_status: DebugStatus
    measurements: tuple[tuple[int, bytes], ...]
    issuer: str
    cwt_id: bytes
    ueid: bytes | None = None
    profile: bytes = OCP_PROFILE
    private: Mapping[int, Any] = field(default_factory=dict)


def encode_claims(claims: Claims) -> bytes:
    """The payload of the token. Raises EatError for a nonce or token id of another size."""
    for name, value in (("nonce", claims.nonce), ("token id", claims.cwt_id)):
        if not 8 <= len(value) <= 64:
            raise EatError(f"{name}: expected 8 to 64 bytes, found {len(value)}")
    content: dict[int, Any] = {
        ISSUER: claims.issuer,
        CWT_ID: claims.cwt_id,
        NONCE: claims.nonce,
        DEBUG_STATUS: int(claims.debug_status),
        PROFILE: claims.profile,
        MEASUREMENTS: [list(entry) for entry in claims.measurements],
    }
    if claims.ueid is not None:
        content[UEID] = claims.ueid
    return cbor.encode(content | dict(claims.private))


def decode_claims(payload: bytes) -> dict[int | str, Any]:
    """The claims of a payload by key, each as it came. Raises EatError if it is no map."""
    try:
        value = cbor.decode(payload)
    except CborError as error:
        raise EatError(f"claims: {error}") from None
    if not isinstance(value, dict):
        raise EatError("claims: expected a map")
    return value
