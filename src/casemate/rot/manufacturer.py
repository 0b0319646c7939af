"""The manufacturer: a certificate authority with one key of each algorithm, which names devices.

A real one keeps its keys in an HSM and knows its chips; this one is for development, for tests and
for fleets of software roots of trust. What it issues differs from a real one in the issuer only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey

from casemate import _silicon
from casemate.formats import dice, x509
from casemate.formats.der_reader import DerError
from casemate.rot.chain import ChainError, verify_signature
from casemate.rot.crypto import RotCrypto
from casemate.rot.csr_envelope import check_mac, decode
from casemate.rot.errors import RotError
from casemate.rot.firmware import DEFAULT_NOT_AFTER, DEFAULT_NOT_BEFORE
from casemate.rot.fuses import Fuses
from casemate.rot.identity import Algorithm, idevid_key_id

_FILES = {Algorithm.ECC: "manufacturer_key_ecc.pem", Algorithm.MLDSA: "manufacturer_key_mldsa.pem"}


@dataclass(frozen=True, slots=True, repr=False)
class ManufacturerCa:
    """The two private keys of a manufacturer."""

    ecc_key: ec.EllipticCurvePrivateKey
    mldsa_key: MLDSA87PrivateKey

    @classmethod
    def generate(cls) -> ManufacturerCa:
        """A new manufacturer."""
        return cls(ec.generate_private_key(ec.SECP384R1()), MLDSA87PrivateKey.generate())

    @classmethod
    def public_test(cls) -> ManufacturerCa:
        """The manufacturer of the public test device: its keys are public, its files repeatable."""
        seed = hashlib.sha512(b"casemate public test manufacturer").digest()
        scalar = int.from_bytes(hashlib.sha384(seed).digest(), "big") >> 1
        return cls(
            ec.derive_private_key(scalar, ec.SECP384R1()),
            MLDSA87PrivateKey.from_seed_bytes(seed[:32]),
        )

    @classmethod
    def load(cls, folder: Path) -> ManufacturerCa:
        """Read both keys from a folder. Raises RotError."""
        ecc = _load(folder / _FILES[Algorithm.ECC])
        mldsa = _load(folder / _FILES[Algorithm.MLDSA])
        if not isinstance(ecc, ec.EllipticCurvePrivateKey) or ecc.curve.name != "secp384r1":
            raise RotError(f"{folder / _FILES[Algorithm.ECC]}: expected a P-384 private key")
        if not isinstance(mldsa, MLDSA87PrivateKey):
            raise RotError(f"{folder / _FILES[Algorithm.MLDSA]}: expected an ML-DSA-87 private key")
        return cls(ecc, mldsa)

    def save(self, folder: Path) -> None:
        """Write both keys (PEM, mode 0600) into a folder. Raises RotError if one is there."""
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for algorithm, key in (
                (Algorithm.ECC, self.ecc_key),
                (Algorithm.MLDSA, self.mldsa_key),
            ):
                pem = key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                path = folder / _FILES[algorithm]
                path.touch(mode=0o600, exist_ok=False)
                path.write_bytes(pem)
        except OSError as error:
            raise RotError(f"{folder}: cannot keep the manufacturer's keys: {error}") from None

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds a manufacturer's keys."""
        return any((folder / name).exists() for name in _FILES.values())

    def public_key(self, algorithm: Algorithm) -> bytes:
        """97 bytes (04, X, Y) or 2592."""
        if algorithm is Algorithm.ECC:
            return self.ecc_key.public_key().public_bytes(
                serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
            )
        return self.mldsa_key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )

    def _name(self, algorithm: Algorithm) -> bytes:
        digest = hashlib.sha256(self.public_key(algorithm)).hexdigest().upper()
        return x509.name(f"Casemate Manufacturer {algorithm.label} CA", digest)

    def _key_id(self, algorithm: Algorithm) -> bytes:
        return hashlib.sha256(self.public_key(algorithm)).digest()[:20]

    def certificate(self, algorithm: Algorithm) -> bytes:
        """The manufacturer's own certificate (DER), self-signed."""
        public = self.public_key(algorithm)
        ecc = algorithm is Algorithm.ECC
        tbs = x509.certificate_tbs(
            serial=_serial(public),
            signature_algorithm=algorithm.signature_algorithm,
            issuer=self._name(algorithm),
            not_before=DEFAULT_NOT_BEFORE,
            not_after=DEFAULT_NOT_AFTER,
            subject=self._name(algorithm),
            spki=x509.spki_p384(public) if ecc else x509.spki_mldsa87(public),
            extensions=(
                x509.basic_constraints(None),
                x509.key_usage(key_cert_sign=True),
                x509.subject_key_id(self._key_id(algorithm)),
            ),
        )
        return self._sign(algorithm, tbs)

    def issue(self, request: bytes, algorithm: Algorithm, key_id: bytes) -> bytes:
        """The IDevID certificate (DER) for a request.

        `key_id` is the subject key identifier that the fuses ask for. Raises RotError if the
        request does not parse, is not an IDevID's or not signed by its own key.
        """
        try:
            parsed = x509.read_request(request)
            verify_signature(parsed.signed, parsed.spki)
            _, public = x509.read_public_key(parsed.spki)
        except (DerError, ChainError) as error:
            raise RotError(f"{algorithm.label} request: {error}") from None
        purposes = next(
            (
                found.value
                for found in parsed.extensions
                if found.oid == x509.OID_EXTENDED_KEY_USAGE
            ),
            b"",
        )
        if purposes != x509.extended_key_usage(dice.KP_IDENTITY_INIT, dice.KP_ECA).value:
            raise RotError(f"{algorithm.label} request: its key purposes are not an IDevID's")
        tbs = x509.certificate_tbs(
            serial=_serial(public),
            signature_algorithm=algorithm.signature_algorithm,
            issuer=self._name(algorithm),
            not_before=DEFAULT_NOT_BEFORE,
            not_after=DEFAULT_NOT_AFTER,
            subject=parsed.subject,
            spki=parsed.spki,
            extensions=(
                *parsed.extensions,
                x509.subject_key_id(key_id),
                x509.authority_key_id(self._key_id(algorithm)),
            ),
        )
        return self._sign(algorithm, tbs)

    def issue_from_envelope(
        self, envelope: bytes, crypto: RotCrypto, fuses: Fuses
    ) -> dict[Algorithm, bytes]:
        """Both IDevID certificates for a device's CSR envelope, after checking its MAC.

        Raises RotError.
        """
        opened = decode(envelope)
        check_mac(opened, crypto.csr_mac)
        result: dict[Algorithm, bytes] = {}
        for algorithm, request in (
            (Algorithm.ECC, opened.ecc_csr),
            (Algorithm.MLDSA, opened.mldsa_csr),
        ):
            try:
                _, public = x509.read_public_key(x509.read_request(request).spki)
            except DerError as error:
                raise RotError(f"{algorithm.label} request: {error}") from None
            key_id = idevid_key_id(fuses, algorithm, public)
            result[algorithm] = self.issue(request, algorithm, key_id)
        return result

    def _sign(self, algorithm: Algorithm, tbs: bytes) -> bytes:
        if algorithm is Algorithm.ECC:
            signature = self.ecc_key.sign(
                tbs, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
            )
        else:
            signature = _silicon.mldsa87_sign(self.mldsa_key.private_bytes_raw(), tbs)
        return x509.join(tbs, algorithm.signature_algorithm, signature)


def _serial(public_key: bytes) -> bytes:
    digest = hashlib.sha256(public_key).digest()[:20]
    return bytes((digest[0] & 0x7F | 0x04,)) + digest[1:]


def _load(path: Path) -> object:
    try:
        return serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise RotError(f"{path}: cannot be read as a private key: {error}") from None
