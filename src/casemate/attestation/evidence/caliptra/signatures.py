"""The two signature algorithms of Caliptra evidence: ECDSA P-384 with SHA-384, and ML-DSA-87.

Keys are held parsed, so that a key that signs often is parsed once. AWS-LC verifies P-384 here,
since an appraisal is mostly that.
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate._silicon import P384PublicKey
from casemate.formats import x509
from casemate.formats.der_reader import DerError

_SIZE, _SIGNATURE_SIZE = 48, 96
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
    parsed: P384PublicKey | MLDSA87PublicKey

    def verify(self, signature: bytes, message: bytes) -> None:
        """Check a signature over a message; an ECDSA one is DER. Raises SignatureError."""
        if isinstance(self.parsed, P384PublicKey):
            self._check(_joined(signature), hashlib.sha384(message).digest())
            return
        try:
            self.parsed.verify(signature, message)
        except InvalidSignature:
            raise SignatureError("the signature is not by this key") from None

    def verify_raw(self, signature: bytes, message: bytes) -> None:
        """The same with ECDSA's r and s as 96 bytes. Raises SignatureError."""
        if isinstance(self.parsed, P384PublicKey):
            self._check(signature, hashlib.sha384(message).digest())
        else:
            self.verify(signature, message)

    def verify_digest(self, signature: bytes, digest: bytes) -> None:
        """Check r and s (96 bytes) over a SHA-384 digest. Raises SignatureError."""
        self._check(signature, digest)

    def _check(self, signature: bytes, digest: bytes) -> None:
        if not isinstance(self.parsed, P384PublicKey):
            raise SignatureError("an ML-DSA-87 key signs no digest")
        if len(signature) != _SIGNATURE_SIZE:
            raise SignatureError(f"r and s: expected 96 bytes, found {len(signature)}")
        if not self.parsed.verifies(digest, signature):
            raise SignatureError("the signature is not by this key")


def _joined(signature: bytes) -> bytes:
    """r and s (96 bytes) of a DER signature. Raises SignatureError."""
    try:
        r, s = utils.decode_dss_signature(signature)
        return r.to_bytes(_SIZE, "big") + s.to_bytes(_SIZE, "big")
    except (ValueError, OverflowError):
        raise SignatureError("the signature is no pair of numbers of P-384 in DER") from None


def read_key(spki: bytes) -> PublicKey:
    """A P-384 or ML-DSA-87 key. Raises SignatureError for any other, DerError if malformed."""
    kind, raw = x509.read_public_key(spki)
    digest = hashlib.sha256(spki).digest()
    try:
        if kind == x509.OID_SECP384R1:
            if len(raw) != 97:
                raise SignatureError("a P-384 key that is not an uncompressed point")
            return PublicKey(spki, digest, raw, Algorithm.ECC, P384PublicKey(raw))
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
