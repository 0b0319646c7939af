"""Signatures: ECDSA P-256 and P-384, RSA PKCS#1 v1.5 and PSS, and ML-DSA-87 of revocation lists.

Keys are SubjectPublicKeyInfo (DER). A certificate's signature algorithm is an identifier with
parameters; what stands in a TPM's or a report's structure is named by `Scheme`. SHA-1 is not taken.

Sources: RFC 4055 and RFC 8017 (RSA), RFC 5758 (ECDSA).
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from casemate._silicon import P384PublicKey
from casemate.formats import der_reader
from casemate.formats.der_reader import DerError

OID_RSASSA_PSS = "1.2.840.113549.1.1.10"
_OID_MGF1 = "1.2.840.113549.1.1.8"
_LEAST_RSA_BITS, _MOST_RSA_BITS = 2048, 8192
_NULL = b"\x05\x00"


class SignatureError(ValueError):
    """A signature that does not verify, or an algorithm or key that is not taken."""


class Padding(enum.Enum):
    """How a signature is made of a digest."""

    ECDSA = "ECDSA"
    PKCS1 = "RSA PKCS#1 v1.5"
    PSS = "RSA PSS"
    MLDSA87 = "ML-DSA-87"


@dataclass(frozen=True, slots=True)
class Scheme:
    """An algorithm: its padding, its hash ("sha256", "sha384", "sha512"), PSS's salt in bytes.

    A salt of None takes whatever length the signature has. ML-DSA-87 has no hash ("").
    """

    padding: Padding
    hash_name: str
    salt: int | None = None


_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_HASH_OIDS = {
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
_SCHEMES = {
    "1.2.840.10045.4.3.2": Scheme(Padding.ECDSA, "sha256"),
    "1.2.840.10045.4.3.3": Scheme(Padding.ECDSA, "sha384"),
    "1.2.840.10045.4.3.4": Scheme(Padding.ECDSA, "sha512"),
    "2.16.840.1.101.3.4.3.19": Scheme(Padding.MLDSA87, ""),
    "1.2.840.113549.1.1.11": Scheme(Padding.PKCS1, "sha256"),
    "1.2.840.113549.1.1.12": Scheme(Padding.PKCS1, "sha384"),
    "1.2.840.113549.1.1.13": Scheme(Padding.PKCS1, "sha512"),
}


def scheme_of(algorithm: str, parameters: bytes) -> Scheme:
    """The scheme of an AlgorithmIdentifier. Raises SignatureError."""
    if (scheme := _SCHEMES.get(algorithm)) is not None:
        if parameters not in (b"", _NULL):
            raise SignatureError(f"signature algorithm {algorithm} has parameters")
        return scheme
    if algorithm != OID_RSASSA_PSS:
        raise SignatureError(f"signature algorithm {algorithm} is not taken")
    try:
        return _pss(parameters)
    except DerError as error:
        raise SignatureError(f"RSASSA-PSS parameters {error}") from None


def _pss(parameters: bytes) -> Scheme:
    fields = der_reader.parse_one(parameters, der_reader.SEQUENCE, "parameters").children()
    hash_name = mask_hash = "sha1"
    salt, trailer = 20, 1
    for field in fields:
        inner = field.children()
        match field.tag:
            case 0xA0:
                hash_name = _hash(inner.next())
            case 0xA1:
                generator = inner.next(der_reader.SEQUENCE, "mask generator").children()
                oid = der_reader.read_oid(generator.next())
                mask_hash = _hash(generator.next()) if oid == _OID_MGF1 else oid
            case 0xA2:
                salt = der_reader.read_integer(inner.next())
            case 0xA3:
                trailer = der_reader.read_integer(inner.next())
            case _:
                raise DerError(f"unexpected tag {field.tag:02x}", field.offset)
        inner.end("parameter")
    if hash_name not in _HASHES or mask_hash != hash_name or trailer != 1 or not 0 <= salt <= 64:
        raise SignatureError(
            f"RSASSA-PSS with {hash_name}, mask {mask_hash}, salt {salt} is not taken"
        )
    return Scheme(Padding.PSS, hash_name, salt)


def _hash(element: der_reader.Element) -> str:
    fields = element.expect(der_reader.SEQUENCE, "hash").children()
    oid = der_reader.read_oid(fields.next())
    if not fields.at_end() and fields.next().encoded != _NULL:
        raise DerError("a hash has parameters", element.offset)
    fields.end("hash")
    return _HASH_OIDS.get(oid, oid)


def verify(spki: bytes, scheme: Scheme, signature: bytes, data: bytes) -> None:
    """Check one signature (ECDSA: DER of r and s) over data. Raises SignatureError."""
    try:
        key = load_der_public_key(spki)
        if isinstance(key, MLDSA87PublicKey) and scheme.padding is Padding.MLDSA87:
            key.verify(signature, data)
            return
        algorithm = _HASHES[scheme.hash_name]()
        if isinstance(key, ec.EllipticCurvePublicKey):
            if scheme.padding is not Padding.ECDSA or key.curve.name not in (
                "secp256r1",
                "secp384r1",
            ):
                raise SignatureError(f"{scheme.padding.value} with a key on {key.curve.name}")
            if key.curve.name == "secp384r1" and scheme.hash_name == "sha384":
                _verify_p384(key, signature, data)
            else:
                key.verify(signature, data, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            if not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
                raise SignatureError(f"an RSA key of {key.key_size} bits is not taken")
            key.verify(signature, data, _rsa_padding(scheme, algorithm), algorithm)
        else:
            raise SignatureError("a key that is neither EC nor RSA is not taken")
    except InvalidSignature:
        raise SignatureError("the signature does not verify") from None
    except SignatureError:
        raise
    except (ValueError, KeyError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"the key or algorithm cannot be used: {error}") from None


def _verify_p384(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """The frequent case, by AWS-LC. Raises InvalidSignature, ValueError."""
    r, s = utils.decode_dss_signature(signature)
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    if max(r.bit_length(), s.bit_length()) > 384 or not P384PublicKey(point).verifies(
        hashlib.sha384(data).digest(), r.to_bytes(48, "big") + s.to_bytes(48, "big")
    ):
        raise InvalidSignature


def _rsa_padding(scheme: Scheme, algorithm: hashes.HashAlgorithm) -> padding.AsymmetricPadding:
    if scheme.padding is Padding.PKCS1:
        return padding.PKCS1v15()
    if scheme.padding is Padding.PSS:
        salt = padding.PSS.AUTO if scheme.salt is None else scheme.salt
        return padding.PSS(mgf=padding.MGF1(algorithm), salt_length=salt)
    raise SignatureError(f"{scheme.padding.value} with an RSA key")
