"""Who signs: keys in PEM files, LMS key directories, or a hardware module behind PKCS#11.

A `Signer` shows its public key in the form a bundle carries and signs what a bundle signs:

| algorithm | public key | message | signature |
|---|---|---|---|
| ECDSA P-384 | X and Y, 96 bytes | a SHA-384 digest | r and s, 96 bytes |
| LMS | 48 bytes | a SHA-384 digest | 1,620 bytes |
| ML-DSA-87 | 2,592 bytes | the bytes themselves | 4,627 bytes |
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, utils
from cryptography.x509 import load_pem_x509_certificate

from casemate.formats.firmware_bundle import LMS_KEY_SIZE, PQC_KEY_SIZE
from casemate.rot.bundle.signatures import Outcome, check_ecdsa, check_lms, check_mldsa
from casemate.rot.errors import RotError
from casemate.rot.lms_key import LmsKey

_ECDSA = ec.ECDSA(utils.Prehashed(hashes.SHA384()))
_LARGEST_KEY_FILE = 64 * 1024


class SignerError(RotError):
    """A key cannot be read, is of the wrong kind, or does not sign."""


class Algorithm(enum.Enum):
    """A signature algorithm of bundles and SoC manifests."""

    ECDSA_P384 = "ECDSA P-384"
    LMS = "LMS"
    MLDSA87 = "ML-DSA-87"


class Signer(Protocol):
    """Something that holds a private key."""

    @property
    def algorithm(self) -> Algorithm:
        """What it signs with."""
        ...

    @property
    def public_key(self) -> bytes:
        """Its public key, in the form of the table above."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Sign; see the table above. Raises SignerError (LmsKeyError for LMS)."""
        ...


class EcdsaSigner:
    """A P-384 key in memory."""

    algorithm = Algorithm.ECDSA_P384

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.public_key = ecdsa_public_bytes(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """Sign a SHA-384 digest."""
        return join_rs(self._key.sign(message, _ECDSA))


class MldsaSigner:
    """An ML-DSA-87 key in memory; signatures are hedged."""

    algorithm = Algorithm.MLDSA87

    def __init__(self, key: mldsa.MLDSA87PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Sign the message with an empty context."""
        return self._key.sign(message)


class LmsSigner:
    """An LMS key directory; each signature uses one leaf up."""

    algorithm = Algorithm.LMS

    def __init__(self, key: LmsKey) -> None:
        self._key = key
        self.public_key = key.public_key

    def sign(self, message: bytes) -> bytes:
        """Sign a SHA-384 digest with the next leaf."""
        return self._key.sign(message)


def ecdsa_public_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """X || Y of a P-384 key. Raises SignerError on another curve."""
    if not isinstance(key.curve, ec.SECP384R1):
        raise SignerError(f"expected a P-384 key, found {key.curve.name}")
    numbers = key.public_numbers()
    return numbers.x.to_bytes(48, "big") + numbers.y.to_bytes(48, "big")


def join_rs(der_signature: bytes) -> bytes:
    """r || s (96 bytes) of a DER signature."""
    r, s = utils.decode_dss_signature(der_signature)
    return r.to_bytes(48, "big") + s.to_bytes(48, "big")


def sign_checked(signer: Signer, message: bytes) -> bytes:
    """Sign, and verify before the signature leaves: a faulty module or wrong key is found here."""
    check = {
        Algorithm.ECDSA_P384: check_ecdsa,
        Algorithm.LMS: check_lms,
        Algorithm.MLDSA87: check_mldsa,
    }[signer.algorithm]
    signature = signer.sign(message)
    if check(message, signer.public_key, signature) is not Outcome.GOOD:
        raise SignerError(
            f"the {signer.algorithm.value} signer made a signature that its own public key refuses"
        )
    return signature


def make_pem_key(algorithm: Algorithm, path: Path) -> int:
    """Make a P-384 or ML-DSA-87 key in a new PEM file (PKCS#8, mode 0600).

    Returns the public key's size in bytes. Raises SignerError if the file exists.
    """
    key: ec.EllipticCurvePrivateKey | mldsa.MLDSA87PrivateKey
    if algorithm is Algorithm.ECDSA_P384:
        key = ec.generate_private_key(ec.SECP384R1())
    elif algorithm is Algorithm.MLDSA87:
        key = mldsa.MLDSA87PrivateKey.generate()
    else:
        raise SignerError(f"{algorithm.value} keys are no PEM files")
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise SignerError(f"{path}: {error.strerror}; a key is never overwritten") from None
    with os.fdopen(file, "wb") as stream:
        stream.write(content)
    return 96 if algorithm is Algorithm.ECDSA_P384 else PQC_KEY_SIZE


# --- finding keys ----------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_KEY_FILE + 1)
    except OSError as error:
        raise SignerError(f"{path}: {error.strerror}") from None
    if len(content) > _LARGEST_KEY_FILE:
        raise SignerError(f"{path}: a key file has at most {_LARGEST_KEY_FILE} bytes")
    return content


def load_signer(
    reference: str,
    *,
    passphrase: Callable[[], bytes] | None = None,
    anchor_directory: Path | None = None,
) -> Signer:
    """Open a private key: a PEM file, an LMS key directory, or a `pkcs11:` URI.

    `passphrase` is asked for an encrypted PEM file. Raises SignerError or LmsKeyError.
    """
    if reference.startswith("pkcs11:"):
        from casemate.rot.bundle.pkcs11 import Pkcs11Signer

        return Pkcs11Signer.open(reference)
    path = Path(reference)
    if path.is_dir():
        return LmsSigner(LmsKey.open(path, anchor_directory=anchor_directory))
    content = _read(path)
    try:
        try:
            key = serialization.load_pem_private_key(content, None)
        except TypeError:
            if passphrase is None:
                raise SignerError(f"{path} is encrypted and no passphrase was given") from None
            key = serialization.load_pem_private_key(content, passphrase())
    except (ValueError, UnsupportedAlgorithm):
        raise SignerError(
            f"{path} holds no private key that can be read (expected PEM; wrong passphrase?)"
        ) from None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return EcdsaSigner(key)
    if isinstance(key, mldsa.MLDSA87PrivateKey):
        return MldsaSigner(key)
    raise SignerError(f"{path}: expected a P-384 or ML-DSA-87 key")


def load_public_key(reference: str) -> tuple[Algorithm, bytes]:
    """Read a public key: PEM (key or certificate), raw ML-DSA or LMS bytes, an LMS key directory,
    or a `pkcs11:` URI.

    Raises SignerError.
    """
    if reference.startswith("pkcs11:"):
        signer = load_signer(reference)
        return signer.algorithm, signer.public_key
    path = Path(reference)
    if path.is_dir():
        path = path / "public"
    content = _read(path)
    if b"-----BEGIN" not in content:
        if len(content) == LMS_KEY_SIZE:
            return Algorithm.LMS, content
        if len(content) == PQC_KEY_SIZE:
            return Algorithm.MLDSA87, content
        raise SignerError(
            f"{path}: expected PEM, a raw ML-DSA-87 key of {PQC_KEY_SIZE} bytes or an LMS key of "
            f"{LMS_KEY_SIZE} bytes"
        )
    key: object
    try:
        if b"-----BEGIN CERTIFICATE" in content:
            key = load_pem_x509_certificate(content).public_key()
        elif b"PRIVATE KEY-----" in content:
            signer = load_signer(reference)
            return signer.algorithm, signer.public_key
        else:
            key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise SignerError(f"{path} holds no public key that can be read") from None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return Algorithm.ECDSA_P384, ecdsa_public_bytes(key)
    if isinstance(key, mldsa.MLDSA87PublicKey):
        return Algorithm.MLDSA87, key.public_bytes_raw()
    raise SignerError(f"{path}: expected a P-384 or ML-DSA-87 key")
