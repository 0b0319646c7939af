"""Verification of the three signature algorithms of bundles and SoC manifests, as the chip does it.

Keys and signatures come in the order of their standards (see `casemate.formats.firmware_bundle`).
Sources: chipsalliance/caliptra-sw, `drivers/src/{ecc384,lms,mldsa87}.rs`.
"""

from __future__ import annotations

import enum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, utils

from casemate.formats.firmware_bundle import (
    LMS_KEY_SIZE,
    LMS_SIGNATURE_SIZE,
    MLDSA_SIGNATURE_SIZE,
)
from casemate.rot import lms

_ECDSA = ec.ECDSA(utils.Prehashed(hashes.SHA384()))
_CURVE = ec.SECP384R1()
#: The order of the group of P-384 (SP 800-186). Not taken from `casemate.rot.crypto`: verifying a
#: bundle needs no native code.
_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


class Outcome(enum.Enum):
    """What a check of one signature found."""

    GOOD = enum.auto()
    #: The arithmetic was done and does not fit.
    WRONG = enum.auto()
    #: The driver refuses to calculate: out of range, of another type.
    MALFORMED = enum.auto()


def check_ecdsa(digest: bytes, key: bytes, signature: bytes) -> Outcome:
    """Check an ECDSA P-384 signature (r || s) over a SHA-384 digest; `key` is X || Y.

    A key off the curve gives WRONG: the chip calculates an r that cannot match.
    """
    r, s = (int.from_bytes(part, "big") for part in (signature[:48], signature[48:]))
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        return Outcome.MALFORMED
    x, y = (int.from_bytes(part, "big") for part in (key[:48], key[48:]))
    try:
        public_key = ec.EllipticCurvePublicNumbers(x, y, _CURVE).public_key()
        public_key.verify(utils.encode_dss_signature(r, s), digest, _ECDSA)
    except (ValueError, InvalidSignature):
        return Outcome.WRONG
    return Outcome.GOOD


def check_mldsa(message: bytes, key: bytes, signature: bytes) -> Outcome:
    """Check an ML-DSA-87 signature (4,627 bytes; a pad byte behind them is not read)."""
    try:
        public_key = mldsa.MLDSA87PublicKey.from_public_bytes(key)
        public_key.verify(signature[:MLDSA_SIGNATURE_SIZE], message)
    except (ValueError, InvalidSignature):
        return Outcome.WRONG
    return Outcome.GOOD


def check_lms(digest: bytes, key: bytes, signature: bytes) -> Outcome:
    """Check an LMS signature over a SHA-384 digest; bytes behind key and signature are not read.

    As the public driver does it, which differs from RFC 8554 in one point: the LMS types of key
    and signature are not compared. Any type of height 15 will do in the signature (7 or 12), and
    the key's is not read at all.
    """
    if key[4:8] != signature[4:8]:
        return Outcome.MALFORMED
    try:
        read = lms.LmsSignature.decode(signature[:LMS_SIGNATURE_SIZE], node_size=24)
    except lms.LmsError:
        return Outcome.MALFORMED
    if read.ots != lms.OTS_N24_W4 or read.tree.h != lms.TREE_M24_H15.h:
        return Outcome.MALFORMED
    public_key = lms.LmsPublicKey(lms.TREE_M24_H15, lms.OTS_N24_W4, key[8:24], key[24:LMS_KEY_SIZE])
    root = lms.root_of(public_key, digest, read)
    return Outcome.GOOD if root == public_key.root else Outcome.WRONG


def lms_type_is_foreign(signature: bytes) -> bool:
    """Whether an LMS signature names another LMS type than the key's, as only the chip accepts."""
    at = 4 + lms.OTS_N24_W4.signature_size
    return signature[at : at + 4] != lms.TREE_M24_H15.code.to_bytes(4, "big")
