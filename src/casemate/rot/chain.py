"""Checks a chain of certificates as this room makes them: link by link, each check with its error.

It is for the tools (manufacture, certs). A relying party's appraisal is `casemate.attestation`.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate.formats import x509
from casemate.formats.der_reader import DerError
from casemate.rot.errors import RotError


class ChainError(RotError):
    """A certificate that its issuer does not vouch for; the message says which check failed."""


def verify_signature(signed: x509.Signed, spki: bytes) -> None:
    """Check the signature of a certificate or request with a public key (DER).

    Raises ChainError: another algorithm than ECDSA with SHA-384 on P-384 or ML-DSA-87, or a
    signature that is not the key's.
    """
    try:
        algorithm, key = x509.read_public_key(spki)
        if (signed.algorithm, algorithm) == (x509.OID_MLDSA87, x509.OID_MLDSA87):
            MLDSA87PublicKey.from_public_bytes(key).verify(signed.signature, signed.tbs)
        elif (signed.algorithm, algorithm) == (x509.OID_ECDSA_SHA384, x509.OID_SECP384R1):
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), key)
            point.verify(signed.signature, signed.tbs, ec.ECDSA(hashes.SHA384()))
        else:
            raise ChainError(
                f"signature algorithm {signed.algorithm} under a key of {algorithm}: "
                "only P-384 with SHA-384 and ML-DSA-87 are checked"
            )
    except InvalidSignature:
        raise ChainError("the signature is not by the issuer's key") from None
    except (DerError, UnsupportedAlgorithm, ValueError) as error:
        raise ChainError(f"the issuer's public key does not parse: {error}") from None


def check_chain(certificates: Sequence[bytes], names: Sequence[str]) -> None:
    """Check a chain (DER), the topmost first; `names` are for errors.

    Each certificate must be issued by the one before: by name, by key identifier, as a certificate
    authority with room in its path length, and by signature. Raises ChainError.
    """
    parsed: list[x509.Certificate] = []
    for data, name in zip(certificates, names, strict=True):
        try:
            parsed.append(x509.read_certificate(data))
        except DerError as error:
            raise ChainError(f"{name}: not a certificate: {error}") from None
    for position in range(1, len(parsed)):
        below = len(parsed) - position - 1
        try:
            _check_link(parsed[position - 1], parsed[position], below)
        except (ChainError, DerError) as error:
            raise ChainError(f"{names[position]} under {names[position - 1]}: {error}") from None


def _check_link(issuer: x509.Certificate, subject: x509.Certificate, below: int) -> None:
    """`below` is how many certificates of the chain follow the subject."""
    if subject.issuer != issuer.subject:
        raise ChainError(
            f"it names the issuer {_common_name(subject.issuer)}, which is called "
            f"{_common_name(issuer.subject)}"
        )
    constraints = issuer.extension(x509.OID_BASIC_CONSTRAINTS)
    authority, limit = (
        (False, None) if constraints is None else x509.read_basic_constraints(constraints.value)
    )
    if not authority:
        raise ChainError("the issuer is no certificate authority")
    if limit is not None and below > limit:
        raise ChainError(f"the issuer's path length {limit} allows no {below} certificates below")
    usage = issuer.extension(x509.OID_KEY_USAGE)
    if usage is not None and not x509.read_key_usage(usage.value)[1]:
        raise ChainError("the issuer's key may not sign certificates")
    authority_id = subject.extension(x509.OID_AUTHORITY_KEY_ID)
    subject_id = issuer.extension(x509.OID_SUBJECT_KEY_ID)
    if authority_id is not None and subject_id is not None:
        stated = x509.read_authority_key_id(authority_id.value)
        if stated is not None and stated != x509.read_subject_key_id(subject_id.value):
            raise ChainError("it names another key of the issuer")
    verify_signature(subject.signed, issuer.spki)


def _common_name(name: bytes) -> str:
    return dict(x509.read_name(name)).get(x509.OID_COMMON_NAME, "(without common name)")
