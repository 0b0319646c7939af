"""The two signature algorithms of Caliptra evidence: ECDSA P-384 with SHA-384, and ML-DSA-87.

Keys are held parsed, so that a key that signs often is parsed once.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate.formats import x509
from casemate.formats.der_reader import DerError

_SHA384 = ec.ECDSA(hashes.SHA384())
_PREHASHED = ec.ECDSA(utils.Prehashed(hashes.SHA384()))
MLDSA87_SIGNATURE_SIZE = 4627


class SignatureError(ValueError):
    """A signature that does not verify, or a key or algorithm that is not taken."""


class Algorithm(enum.StrEnum):
    """The algorithms; all of a chain, its quote and its token use one of them."""

    ECC = "ECDSA P-384 with SHA-384"
    MLDSA = "ML-DSA-87"

    @property
    def oid(self) -> str:
        """The signature algorithm's identifier in certificates."""
        return x509.OID_ECDSA_SHA384 if self is Algorithm.ECC else x509.OID_MLDSA87


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key: its SubjectPublicKeyInfo (DER), its bytes (97 or 2592) and the parsed key.

    `digest` is SHA-256 of the SubjectPublicKeyInfo.
    """

    spki: bytes
    digest: bytes
    raw: bytes
    algorithm: Algorithm
    parsed: ec.EllipticCurvePublicKey | MLDSA87PublicKey

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature over a message; an ECDSA one is DER. Raises SignatureError."""
        try:
            if isinstance(self.parsed, MLDSA87PublicKey):
                self.parsed.verify(signature, message)
            else:
                self.parsed.verify(signature, message, _SHA384)
        except InvalidSignature:
            raise SignatureError("the signature is not by this key") from None

    def verify_raw(self, signature: bytes, message: bytes) -> None:
        """The same with ECDSA's r and s as 96 bytes. Raises SignatureError."""
        self.verify(self._encoded(signature), message)

    def verify_digest(self, signature: bytes, digest: bytes) -> None:
        """Check r and s (96 bytes) over a SHA-384 digest. Raises SignatureError."""
        if isinstance(self.parsed, MLDSA87PublicKey):
            raise SignatureError("an ML-DSA-87 key signs no digest")
        try:
            self.parsed.verify(self._encoded(signature), digest, _PREHASHED)
        except InvalidSignature:
            raise SignatureError("the signature is not by this key") from None

    def _encoded(self, signature: bytes) -> bytes:
        if self.algorithm is Algorithm.MLDSA:
            return signature
        if len(signature) != 96:
            raise SignatureError(f"r and s: expected 96 bytes, found {len(signature)}")
        r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
        return utils.encode_dss_signature(r, s)


def read_key(spki: bytes) -> PublicKey:
    """A P-384 or ML-DSA-87 key. Raises SignatureError for any other, DerError if malformed."""
    kind, raw = x509.read_public_key(spki)
    digest = hashlib.sha256(spki).digest()
    try:
        if kind == x509.OID_SECP384R1:
            if len(raw) != 97:
                raise SignatureError("a P-384 key that is not an uncompressed point")
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), raw)
            return PublicKey(spki, digest, raw, Algorithm.ECC, point)
        if kind == x509.OID_MLDSA87:
            key = MLDSA87PublicKey.from_public_bytes(raw)
            return PublicKey(spki, digest, raw, Algorithm.MLDSA, key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"the public key cannot be used: {error}") from None
    raise SignatureError(f"a key of algorithm {kind}; only P-384 and ML-DSA-87 are taken")


def verify_certificate(signed: x509.Signed, issuer: PublicKey) -> None:
    """Check the signature of a certificate or request. Raises SignatureError."""
    if signed.algorithm != issuer.algorithm.oid:
        raise SignatureError(
            f"signature algorithm {signed.algorithm} under a key for {issuer.algorithm.value}"
        )
    try:
        issuer.verify(signed.signature, signed.tbs)
    except DerError as error:
        raise SignatureError(f"the signature {error}") from None
