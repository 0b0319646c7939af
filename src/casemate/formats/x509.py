"""X.509 certificates and PKCS#10 requests as bytes: exact encoding, strict reading.

Encoding makes the part to be signed (TBS) and joins it with a signature; nothing here signs.
Reading splits a certificate or request into its fields, so that chains of algorithms that other
parsers do not know (ML-DSA-87) or extensions that they refuse can still be appraised.

Sources: RFC 5280, RFC 2986, RFC 9881 (ML-DSA in X.509), RFC 5758 (ECDSA with SHA-2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from casemate._silicon import certificate_parts
from casemate.formats import der, der_reader

OID_COMMON_NAME = "2.5.4.3"
OID_SERIAL_NUMBER = "2.5.4.5"
OID_EC_PUBLIC_KEY = "1.2.840.10045.2.1"
OID_SECP384R1 = "1.3.132.0.34"
OID_ECDSA_SHA384 = "1.2.840.10045.4.3.3"
OID_MLDSA87 = "2.16.840.1.101.3.4.3.19"
OID_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
OID_SUBJECT_KEY_ID = "2.5.29.14"
OID_KEY_USAGE = "2.5.29.15"
OID_BASIC_CONSTRAINTS = "2.5.29.19"
OID_AUTHORITY_KEY_ID = "2.5.29.35"
OID_EXTENDED_KEY_USAGE = "2.5.29.37"

#: No certificate of a chain is larger; ML-DSA-87 ones are near 8 KiB.
LARGEST = 64 * 1024
MOST_EXTENSIONS = 64

ECDSA_SHA384 = der.sequence(der.object_identifier(OID_ECDSA_SHA384))
MLDSA87 = der.sequence(der.object_identifier(OID_MLDSA87))
_EC_P384 = der.sequence(
    der.object_identifier(OID_EC_PUBLIC_KEY), der.object_identifier(OID_SECP384R1)
)


# --- building -------------------------------------------------------------------------------


class Extension(NamedTuple):
    """One extension: identifier (dotted), whether it is critical, its DER value."""

    oid: str
    critical: bool
    value: bytes


def name(common_name: str, serial_number: str) -> bytes:
    """A name of two RDNs: CN as UTF8String, serialNumber as PrintableString."""
    return der.sequence(
        _rdn(OID_COMMON_NAME, der.utf8_string(common_name)),
        _rdn(OID_SERIAL_NUMBER, der.printable_string(serial_number)),
    )


def _rdn(oid: str, value: bytes) -> bytes:
    return der.set_of([der.sequence(der.object_identifier(oid), value)])


def spki_p384(point: bytes) -> bytes:
    """SubjectPublicKeyInfo of a P-384 key given as 04, X, Y (97 bytes)."""
    return der.sequence(_EC_P384, der.bit_string(point))


def spki_mldsa87(public_key: bytes) -> bytes:
    """SubjectPublicKeyInfo of an ML-DSA-87 key (2592 bytes)."""
    return der.sequence(MLDSA87, der.bit_string(public_key))


def basic_constraints(path_length: int | None) -> Extension:
    """Critical; a certificate authority, with a path length unless it is None."""
    limit = b"" if path_length is None else der.integer(path_length)
    value = der.sequence(der.boolean(True), limit)
    return Extension(OID_BASIC_CONSTRAINTS, True, value)


def key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> Extension:
    """Critical; the two usages that DICE layers have."""
    bits = (0x80 if digital_signature else 0) | (0x04 if key_cert_sign else 0)
    unused = (bits & -bits).bit_length() - 1 if bits else 0
    value = der.bit_string(bytes((bits,)) if bits else b"", unused)
    return Extension(OID_KEY_USAGE, True, value)


def extended_key_usage(*purposes: str) -> Extension:
    """Not critical; key purposes in the order given."""
    return Extension(
        OID_EXTENDED_KEY_USAGE, False, der.sequence(*map(der.object_identifier, purposes))
    )


def subject_key_id(key_id: bytes) -> Extension:
    """Not critical; the subject's key identifier."""
    return Extension(OID_SUBJECT_KEY_ID, False, der.octet_string(key_id))


def authority_key_id(key_id: bytes) -> Extension:
    """Not critical; the issuer's key identifier only."""
    value = der.sequence(der.implicit(0, key_id))
    return Extension(OID_AUTHORITY_KEY_ID, False, value)


def extension_list(extensions: tuple[Extension, ...]) -> bytes:
    """A SEQUENCE of extensions, as certificates and extension requests hold it."""
    encoded = (
        der.sequence(
            der.object_identifier(extension.oid),
            der.boolean(True) if extension.critical else b"",
            der.octet_string(extension.value),
        )
        for extension in extensions
    )
    return der.sequence(*encoded)


def certificate_tbs(
    *,
    serial: bytes,
    signature_algorithm: bytes,
    issuer: bytes,
    not_before: str,
    not_after: str,
    subject: bytes,
    spki: bytes,
    extensions: tuple[Extension, ...],
) -> bytes:
    """A version 3 TBSCertificate.

    `serial` is a positive number (big-endian bytes); the times are 15 characters of
    GeneralizedTime (Latin-1); algorithm, names and key are DER already.
    """
    return der.sequence(
        der.explicit(0, der.integer(2)),
        der.integer(int.from_bytes(serial, "big")),
        signature_algorithm,
        issuer,
        der.sequence(_validity(not_before), _validity(not_after)),
        subject,
        spki,
        der.explicit(3, extension_list(extensions)),
    )


def _validity(text: str) -> bytes:
    # A bundle's dates are copied as they are, whatever their bytes: that is what the ROM does.
    return der.element(der_reader.GENERALIZED_TIME, text.encode("latin-1"))


def request_tbs(*, subject: bytes, spki: bytes, extensions: tuple[Extension, ...]) -> bytes:
    """A CertificationRequestInfo with an extension request."""
    attribute = der.sequence(
        der.object_identifier(OID_EXTENSION_REQUEST), der.set_of([extension_list(extensions)])
    )
    return der.sequence(der.integer(0), subject, spki, der.explicit(0, attribute))


def ecdsa_signature(r_s: bytes) -> bytes:
    """Ecdsa-Sig-Value of r and s (half of the bytes each)."""
    half = len(r_s) // 2
    return der.sequence(
        der.integer(int.from_bytes(r_s[:half], "big")),
        der.integer(int.from_bytes(r_s[half:], "big")),
    )


def join(tbs: bytes, signature_algorithm: bytes, signature: bytes) -> bytes:
    """A signed certificate or request from its parts; `signature` is the BIT STRING's content."""
    return der.sequence(tbs, signature_algorithm, der.bit_string(signature))


#: What stands before an uncompressed point of P-384 in its SubjectPublicKeyInfo, and the whole.
_P384_PREFIX = spki_p384(bytes(97))[:-97]
_P384_SIZE = len(_P384_PREFIX) + 97
_KEPT = 128


# --- reading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signed:
    """What a certificate and a request have in common: the three outer parts.

    `algorithm` is the identifier, `parameters` the DER after it (RSASSA-PSS has some).
    """

    tbs: bytes
    algorithm: str
    signature: bytes
    parameters: bytes = b""

    @property
    def ecdsa_r_s(self) -> tuple[int, int]:
        """The two numbers of an ECDSA signature. Raises DerError."""
        fields = der_reader.parse_one(
            self.signature, der_reader.SEQUENCE, "ECDSA signature"
        ).children()
        r = der_reader.read_integer(fields.next(der_reader.INTEGER, "r"))
        s = der_reader.read_integer(fields.next(der_reader.INTEGER, "s"))
        fields.end("ECDSA signature")
        return r, s


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate's fields. Names and the key are whole DER, to be compared byte for byte."""

    signed: Signed
    serial: int
    issuer: bytes
    not_before: str
    not_after: str
    subject: bytes
    spki: bytes
    extensions: tuple[Extension, ...]

    def extension(self, oid: str) -> Extension | None:
        """The extension with this identifier, if it is there."""
        return next((found for found in self.extensions if found.oid == oid), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A certification request's fields."""

    signed: Signed
    subject: bytes
    spki: bytes
    extensions: tuple[Extension, ...]


def split(data: bytes) -> Signed:
    """The outer parts of a certificate or request. Raises DerError."""
    if len(data) > LARGEST:
        raise der_reader.DerError(f"{len(data)} bytes; at most {LARGEST} are taken", 0)
    fields = der_reader.parse_one(data, der_reader.SEQUENCE, "certificate or request").children()
    tbs = fields.next(der_reader.SEQUENCE, "the part to be signed").encoded
    algorithm, parameters = read_algorithm(fields.next())
    signature, unused = der_reader.read_bit_string(fields.next(der_reader.BIT_STRING, "signature"))
    if unused:
        raise der_reader.DerError("the signature is not whole bytes", 0)
    fields.end("signature")
    return Signed(tbs, algorithm, signature, parameters)


def read_algorithm(element: der_reader.Element) -> tuple[str, bytes]:
    """An AlgorithmIdentifier: the identifier and its parameters' DER. Raises DerError."""
    if element.encoded == ECDSA_SHA384:
        return OID_ECDSA_SHA384, b""
    fields = element.expect(der_reader.SEQUENCE, "algorithm").children()
    oid = der_reader.read_oid(fields.next(der_reader.OID, "algorithm identifier"))
    parameters = b"" if fields.at_end() else fields.next().encoded
    fields.end("algorithm")
    return oid, parameters


def read_certificate(data: bytes) -> Certificate:
    """A version 3 certificate. Raises DerError with the offset."""
    return _read_usual(data) or read_any_certificate(data)


def _read_usual(data: bytes) -> Certificate | None:
    """A certificate in the form that most have (silicon's quick reading), None of any other."""
    parts = None if len(data) > LARGEST else certificate_parts(data, ECDSA_SHA384)
    if parts is None or len(parts[-1]) > MOST_EXTENSIONS:
        return None
    tbs, signature, serial, issuer, not_before, not_after, subject, spki, found = parts
    extensions = []
    for content, critical, value in found:
        oid, wrong = der_reader.identifier(content)
        if wrong:
            return None
        extensions.append(Extension(oid, critical, value))
    if len({extension.oid for extension in extensions}) < len(extensions):
        return None
    return Certificate(
        signed=Signed(tbs, OID_ECDSA_SHA384, signature),
        serial=int.from_bytes(serial, "big", signed=True),
        issuer=issuer,
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        spki=spki,
        extensions=tuple(extensions),
    )


def read_any_certificate(data: bytes) -> Certificate:
    """The same element by element, which finds what is wrong with one. Raises DerError."""
    signed = split(data)
    fields = der_reader.parse_one(signed.tbs, der_reader.SEQUENCE, "TBSCertificate").children()
    version = fields.next(0xA0, "version 3").children()
    if der_reader.read_integer(version.next()) != 2:
        raise der_reader.DerError("expected version 3", 0)
    serial = der_reader.read_integer(fields.next(der_reader.INTEGER, "serial number"))
    if read_algorithm(fields.next()) != (signed.algorithm, signed.parameters):
        raise der_reader.DerError("inner and outer signature algorithm differ", 0)
    issuer = fields.next(der_reader.SEQUENCE, "issuer").encoded
    validity = fields.next(der_reader.SEQUENCE, "validity").children()
    not_before, not_after = _time(validity.next()), _time(validity.next())
    validity.end("validity")
    subject = fields.next(der_reader.SEQUENCE, "subject").encoded
    spki = fields.next(der_reader.SEQUENCE, "public key").encoded
    extensions: tuple[Extension, ...] = ()
    if fields.peek() == 0xA3:
        wrapper = fields.next().children()
        extensions = _read_extensions(wrapper.next(der_reader.SEQUENCE, "extensions"))
        wrapper.end("extensions")
    fields.end("TBSCertificate")
    return Certificate(
        signed=signed,
        serial=serial,
        issuer=issuer,
        not_before=not_before,
        not_after=not_after,
        subject=subject,
        spki=spki,
        extensions=extensions,
    )


def read_request(data: bytes) -> Request:
    """A certification request. Raises DerError with the offset."""
    signed = split(data)
    fields = der_reader.parse_one(
        signed.tbs, der_reader.SEQUENCE, "CertificationRequestInfo"
    ).children()
    if der_reader.read_integer(fields.next(der_reader.INTEGER, "version")) != 0:
        raise der_reader.DerError("expected version 1 of the request", 0)
    subject = fields.next(der_reader.SEQUENCE, "subject").encoded
    spki = fields.next(der_reader.SEQUENCE, "public key").encoded
    extensions: tuple[Extension, ...] = ()
    for attribute in fields.next(0xA0, "attributes").children():
        parts = attribute.expect(der_reader.SEQUENCE, "attribute").children()
        if (
            der_reader.read_oid(parts.next(der_reader.OID, "attribute type"))
            == OID_EXTENSION_REQUEST
        ):
            values = parts.next(der_reader.SET, "attribute values").children()
            extensions = _read_extensions(values.next(der_reader.SEQUENCE, "extensions"))
    fields.end("CertificationRequestInfo")
    return Request(signed=signed, subject=subject, spki=spki, extensions=extensions)


def read_public_key(spki: bytes) -> tuple[str, bytes]:
    """The algorithm of a SubjectPublicKeyInfo and the key's bytes.

    The algorithm is the curve's identifier for an EC key, else the algorithm's. Raises DerError.
    """
    if len(spki) == _P384_SIZE and spki.startswith(_P384_PREFIX):
        return OID_SECP384R1, spki[len(_P384_PREFIX) :]
    fields = der_reader.parse_one(spki, der_reader.SEQUENCE, "SubjectPublicKeyInfo").children()
    algorithm = fields.next(der_reader.SEQUENCE, "algorithm").children()
    oid = der_reader.read_oid(algorithm.next(der_reader.OID, "algorithm"))
    if oid == OID_EC_PUBLIC_KEY:
        oid = der_reader.read_oid(algorithm.next(der_reader.OID, "named curve"))
    key, unused = der_reader.read_bit_string(fields.next(der_reader.BIT_STRING, "public key"))
    if unused:
        raise der_reader.DerError("the public key is not whole bytes", 0)
    fields.end("SubjectPublicKeyInfo")
    return oid, key


def read_name(data: bytes) -> tuple[tuple[str, str], ...]:
    """The attributes of a name as (identifier, text), in order. Raises DerError."""
    result: list[tuple[str, str]] = []
    for rdn in der_reader.parse_one(data, der_reader.SEQUENCE, "name").children():
        for attribute in rdn.expect(der_reader.SET, "RDN").children():
            parts = attribute.expect(der_reader.SEQUENCE, "attribute").children()
            oid = der_reader.read_oid(parts.next(der_reader.OID, "attribute type"))
            value = parts.next().content
            parts.end("attribute")
            if len(result) == 32:
                raise der_reader.DerError("more than 32 attributes in a name", attribute.offset)
            result.append((oid, value.decode("utf-8", "replace")))
    return tuple(result)


def _time(element: der_reader.Element) -> str:
    if element.tag not in (der_reader.UTC_TIME, der_reader.GENERALIZED_TIME):
        raise der_reader.DerError(f"expected a time, found tag {element.tag:02x}", element.offset)
    text = element.content.decode("ascii", "replace")
    if element.tag == der_reader.UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    if len(text) != 15 or not text[:14].isdigit() or not text.isascii() or text[14] != "Z":
        raise der_reader.DerError(f"malformed time {text!r}", element.offset)
    return text


def _read_extensions(outer: der_reader.Element) -> tuple[Extension, ...]:
    extensions: list[Extension] = []
    seen: set[str] = set()
    for element in outer.children():
        fields = element.expect(der_reader.SEQUENCE, "extension").children()
        oid = der_reader.read_oid(fields.next(der_reader.OID, "extension identifier"))
        critical = (
            der_reader.read_boolean(fields.next()) if fields.peek() == der_reader.BOOLEAN else False
        )
        value = fields.next(der_reader.OCTET_STRING, "extension value").content
        fields.end("extension")
        if oid in seen:
            raise der_reader.DerError(f"extension {oid} stands twice", element.offset)
        if len(extensions) == MOST_EXTENSIONS:
            raise der_reader.DerError(f"more than {MOST_EXTENSIONS} extensions", element.offset)
        seen.add(oid)
        extensions.append(Extension(oid, critical, value))
    return tuple(extensions)


# Certificates of one kind have the very same constraints and usages: each is read once.


@lru_cache(maxsize=_KEPT)
def read_basic_constraints(value: bytes) -> tuple[bool, int | None]:
    """Whether it is an authority, and its path length if it has one. Raises DerError."""
    fields = der_reader.parse_one(value, der_reader.SEQUENCE, "basic constraints").children()
    authority, limit = False, None
    if fields.peek() == der_reader.BOOLEAN:
        authority = der_reader.read_boolean(fields.next())
    if fields.peek() == der_reader.INTEGER:
        limit = der_reader.read_integer(fields.next())
    fields.end("basic constraints")
    return authority, limit


@lru_cache(maxsize=_KEPT)
def read_key_usage(value: bytes) -> tuple[bool, bool]:
    """Whether the key may sign data, and whether it may sign certificates. Raises DerError."""
    bits, _ = der_reader.read_bit_string(der_reader.parse_one(value))
    first = bits[0] if bits else 0
    return bool(first & 0x80), bool(first & 0x04)


@lru_cache(maxsize=_KEPT)
def read_extended_key_usage(value: bytes) -> tuple[str, ...]:
    """The key purposes, in order. Raises DerError."""
    outer = der_reader.parse_one(value, der_reader.SEQUENCE, "extended key usage")
    return tuple(der_reader.read_oid(element) for element in outer.children())


def read_subject_key_id(value: bytes) -> bytes:
    """The key identifier. Raises DerError."""
    return der_reader.parse_one(value, der_reader.OCTET_STRING, "key identifier").content


def read_authority_key_id(value: bytes) -> bytes | None:
    """The issuer's key identifier if it is stated. Raises DerError."""
    outer = der_reader.parse_one(value, der_reader.SEQUENCE, "authority key identifier")
    return next((element.content for element in outer.children() if element.tag == 0x80), None)
