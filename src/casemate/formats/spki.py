"""SubjectPublicKeyInfo from the attributes of a PKCS#11 key, and back.

CKA_PUBLIC_KEY_INFO holds it where the token made it; this makes it of the key's own attributes.
Sources: RFC 5480 (EC), RFC 8017 (RSA), RFC 8410 (Ed25519, X25519), RFC 9881 (ML-DSA), RFC 9935
(ML-KEM).
"""

from __future__ import annotations

from casemate.formats import der, der_reader, x509
from casemate.formats.der_reader import DerError
from casemate.formats.pkcs11 import CURVES, Attribute, KeyType, curve_identifier
from casemate.formats.pkcs11_wire import Template

_A = Attribute
_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
_RSA_ENCRYPTION = "1.2.840.113549.1.1.1"
_NIST_SIGNATURES = "2.16.840.1.101.3.4.3"
_NIST_KEMS = "2.16.840.1.101.3.4.4"


def from_attributes(attributes: Template) -> bytes | None:
    """Return the DER, or None where the attributes do not hold a public key."""
    ready = attributes.get(_A.PUBLIC_KEY_INFO)
    if isinstance(ready, bytes) and ready:
        return ready
    kind = attributes.get(_A.KEY_TYPE)
    if kind in (KeyType.EC, KeyType.EC_EDWARDS, KeyType.EC_MONTGOMERY):
        return _elliptic(attributes, named_curve=kind is KeyType.EC)
    if kind is KeyType.RSA:
        return _rsa(attributes)
    if kind in (KeyType.ML_DSA, KeyType.ML_KEM):
        return _post_quantum(attributes, signature=kind is KeyType.ML_DSA)
    return None


def _elliptic(attributes: Template, *, named_curve: bool) -> bytes | None:
    curve, point = attributes.get(_A.EC_PARAMS), attributes.get(_A.EC_POINT)
    if not isinstance(curve, bytes) or not isinstance(point, bytes):
        return None
    raw, curve = _octet_string(point), curve_identifier(curve)
    if named_curve:
        algorithm = der.sequence(der.object_identifier(_EC_PUBLIC_KEY), curve)
    else:
        algorithm = der.sequence(curve)
    return der.sequence(algorithm, der.bit_string(raw))


def _octet_string(point: bytes) -> bytes:
    """Return the content of CKA_EC_POINT, which is an OCTET STRING or, in the wild, bare."""
    for head in (2, 3):
        if point[:1] == b"\x04" and point == der.octet_string(point[head:]):
            return point[head:]
    return point


def _rsa(attributes: Template) -> bytes | None:
    modulus, exponent = attributes.get(_A.MODULUS), attributes.get(_A.PUBLIC_EXPONENT)
    if not isinstance(modulus, bytes) or not isinstance(exponent, bytes):
        return None
    algorithm = der.sequence(der.object_identifier(_RSA_ENCRYPTION), der.element(0x05, b""))
    key = der.sequence(der.unsigned(modulus), der.unsigned(exponent))
    return der.sequence(algorithm, der.bit_string(key))


def _post_quantum(attributes: Template, *, signature: bool) -> bytes | None:
    value, parameter_set = attributes.get(_A.VALUE), attributes.get(_A.PARAMETER_SET)
    if not isinstance(value, bytes) or not isinstance(parameter_set, int):
        return None
    # ML-DSA-44, -65, -87 are arcs 17 to 19; ML-KEM-512, -768, -1024 arcs 1 to 3.
    arc = (
        f"{_NIST_SIGNATURES}.{16 + parameter_set}" if signature else f"{_NIST_KEMS}.{parameter_set}"
    )
    return der.sequence(der.sequence(der.object_identifier(arc)), der.bit_string(value))


def to_attributes(spki: bytes) -> Template:
    """The key type and the key's own attributes of an RSA key or one on a NIST curve.

    Raises DerError for other bytes, another algorithm, or a named curve that is not known here.
    """
    algorithm, key = x509.read_public_key(spki)
    if algorithm == _RSA_ENCRYPTION:
        fields = der_reader.parse_one(key, der_reader.SEQUENCE, "RSAPublicKey").children()
        modulus, exponent = (
            der_reader.read_integer(fields.next(der_reader.INTEGER, what))
            for what in ("modulus", "public exponent")
        )
        fields.end("RSAPublicKey")
        if modulus <= 0 or exponent <= 0:
            raise DerError("an RSA key has positive numbers", 0)
        return {
            _A.KEY_TYPE: KeyType.RSA,
            _A.MODULUS: _magnitude(modulus),
            _A.PUBLIC_EXPONENT: _magnitude(exponent),
        }
    curve = der.object_identifier(algorithm)
    if curve not in (CURVES["P-256"], CURVES["P-384"], CURVES["P-521"]):
        raise DerError(f"a public key of {algorithm}: expected RSA or a NIST curve", 0)
    return {_A.KEY_TYPE: KeyType.EC, _A.EC_PARAMS: curve, _A.EC_POINT: der.octet_string(key)}


def _magnitude(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8)
