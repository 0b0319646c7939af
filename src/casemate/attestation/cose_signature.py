"""Signatures of COSE_Sign1 messages (RFC 9053, RFC 9864, RFC 9964) by public keys in DER.

The algorithm stands in the protected header alone; a key takes only the algorithms that are its
own: an algorithm that says less than the curve (ES256) is taken with the curve of that name.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PublicKey,
    MLDSA65PublicKey,
    MLDSA87PublicKey,
)
from cryptography.hazmat.primitives.serialization import load_der_public_key

from casemate.formats.cose import ALGORITHM, CoseError, Sign1

#: Algorithm: curve (as `cryptography` calls it) and hash.
_ECDSA: dict[int, tuple[str, type[hashes.HashAlgorithm]]] = {
    -7: ("secp256r1", hashes.SHA256),
    -9: ("secp256r1", hashes.SHA256),
    -35: ("secp384r1", hashes.SHA384),
    -51: ("secp384r1", hashes.SHA384),
    -36: ("secp521r1", hashes.SHA512),
    -52: ("secp521r1", hashes.SHA512),
}
_PSS: dict[int, type[hashes.HashAlgorithm]] = {
    -37: hashes.SHA256,
    -38: hashes.SHA384,
    -39: hashes.SHA512,
}
_ED25519 = frozenset({-8, -19})
_MLDSA = {-48: MLDSA44PublicKey, -49: MLDSA65PublicKey, -50: MLDSA87PublicKey}
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192


class CoseSignatureError(ValueError):
    """A signature that does not verify, or an algorithm or key that is not taken."""


def verify(message: Sign1, spki: bytes, *, external_aad: bytes = b"") -> None:
    """Check the signature under a SubjectPublicKeyInfo (DER). Raises CoseSignatureError."""
    try:
        algorithm = message.headers.get(ALGORITHM)
    except CoseError as error:
        raise CoseSignatureError(str(error)) from None
    if not isinstance(algorithm, int):
        raise CoseSignatureError("the protected header names no algorithm by number")
    try:
        key = load_der_public_key(spki)
        _check(key, algorithm, message.signature, message.to_be_signed(external_aad))
    except InvalidSignature:
        raise CoseSignatureError("the signature does not verify") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, CoseSignatureError):
            raise
        raise CoseSignatureError(f"the key or signature cannot be used: {error}") from None


def _check(key: object, algorithm: int, signature: bytes, data: bytes) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
        curve, hashed = _ECDSA[algorithm]
        if key.curve.name == curve:
            key.verify(_ecdsa_der(signature, key.key_size), data, ec.ECDSA(hashed()))
            return
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in _PSS:
        if _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
            digest = _PSS[algorithm]()
            scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
            key.verify(signature, data, scheme, digest)
            return
    elif (isinstance(key, Ed25519PublicKey) and algorithm in _ED25519) or (
        isinstance(key, (MLDSA44PublicKey, MLDSA65PublicKey, MLDSA87PublicKey))
        and _MLDSA.get(algorithm) is not None
        and isinstance(key, _MLDSA[algorithm])
    ):
        key.verify(signature, data)
        return
    raise CoseSignatureError(f"algorithm {algorithm} is not taken with this key")


def _ecdsa_der(signature: bytes, bits: int) -> bytes:
    size = (bits + 7) // 8
    if len(signature) != 2 * size:
        raise CoseSignatureError(f"r and s: expected {2 * size} bytes, found {len(signature)}")
    r, s = (int.from_bytes(part, "big") for part in (signature[:size], signature[size:]))
    return utils.encode_dss_signature(r, s)
