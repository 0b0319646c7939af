"""The certificates and requests of every DICE layer, in both algorithms, byte for byte.

A chain is: manufacturer CA -> IDevID -> LDevID -> FMC alias -> RT alias. Each layer is signed by
the one above with the same algorithm, so there is an ECC chain and an ML-DSA chain. What stands in
which certificate follows caliptra-sw `x509/gen/src` (version 2.1 templates) and
`common/src/dice.rs` (the two device-info digests).
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from casemate.formats import dice, x509
from casemate.rot.crypto import RotCrypto, Slot
from casemate.rot.device_status import RomVersion, owner_info_digest, vendor_info_digest
from casemate.rot.firmware import DEFAULT_NOT_AFTER, DEFAULT_NOT_BEFORE, VerifiedFirmware
from casemate.rot.fuses import Fuses, KeyIdAlgorithm
from casemate.rot.ladder import Layer


class Algorithm(enum.Enum):
    """The two signature algorithms of every layer; the value is the golden files' suffix."""

    ECC = "ecc"
    MLDSA = "mldsa"

    @property
    def signature_algorithm(self) -> bytes:
        """The DER of the AlgorithmIdentifier."""
        return x509.ECDSA_SHA384 if self is Algorithm.ECC else x509.MLDSA87

    @property
    def label(self) -> str:
        """How the templates name it in a common name."""
        return "Ecc384" if self is Algorithm.ECC else "MlDsa87"


class LayerName(enum.Enum):
    """The DICE layers; the value is the golden files' prefix."""

    IDEVID = "idevid"
    LDEVID = "ldevid"
    FMC_ALIAS = "fmc_alias"
    RT_ALIAS = "rt_alias"

    @property
    def label(self) -> str:
        """How the templates name it in a common name."""
        return {
            LayerName.IDEVID: "IDevID",
            LayerName.LDEVID: "LDevID",
            LayerName.FMC_ALIAS: "FMC Alias",
            LayerName.RT_ALIAS: "Rt Alias",
        }[self]


_PATH_LENGTH = {
    LayerName.IDEVID: 7,
    LayerName.LDEVID: 6,
    LayerName.FMC_ALIAS: 5,
    LayerName.RT_ALIAS: 4,
}
_PURPOSES = {
    LayerName.IDEVID: (dice.KP_IDENTITY_INIT, dice.KP_ECA),
    LayerName.LDEVID: (dice.KP_IDENTITY_LOC, dice.KP_ECA),
    LayerName.FMC_ALIAS: (dice.KP_ECA, dice.KP_ATTEST_LOC),
    LayerName.RT_ALIAS: (dice.KP_ECA,),
}


@dataclass(frozen=True, slots=True)
class Subject:
    """One key of one layer as certificates name it."""

    layer: LayerName
    algorithm: Algorithm
    public_key: bytes
    #: Slot of the private key; None for a subject that is only named.
    key: Slot | None
    #: Subject key identifier, 20 bytes.
    key_id: bytes

    @property
    def name(self) -> bytes:
        """The DER of the subject's name."""
        common_name = f"Caliptra 2.1 {self.algorithm.label} {self.layer.label}"
        return x509.name(common_name, hashlib.sha256(self.public_key).hexdigest().upper())

    @property
    def spki(self) -> bytes:
        """The DER of the SubjectPublicKeyInfo."""
        if self.algorithm is Algorithm.ECC:
            return x509.spki_p384(self.public_key)
        return x509.spki_mldsa87(self.public_key)

    @property
    def certificate_serial(self) -> bytes:
        """20 bytes: of the key's digest, made positive and without a leading zero."""
        digest = hashlib.sha256(self.public_key).digest()[:20]
        return bytes((digest[0] & 0x7F | 0x04,)) + digest[1:]


def subjects(name: LayerName, layer: Layer, fuses: Fuses) -> dict[Algorithm, Subject]:
    """The two keys of a layer; the IDevID's key identifiers are made as the fuses say."""
    result: dict[Algorithm, Subject] = {}
    for algorithm, public, key in (
        (Algorithm.ECC, layer.ecc_public, layer.ecc_key),
        (Algorithm.MLDSA, layer.mldsa_public, layer.mldsa_key),
    ):
        if name is LayerName.IDEVID:
            key_id = idevid_key_id(fuses, algorithm, public)
        else:
            key_id = hashlib.sha256(public).digest()[:20]
        result[algorithm] = Subject(name, algorithm, public, key, key_id)
    return result


def idevid_key_id(fuses: Fuses, algorithm: Algorithm, public_key: bytes) -> bytes:
    """The IDevID's subject key identifier (20 bytes) by the fused algorithm."""
    attributes = fuses.attributes
    if algorithm is Algorithm.ECC:
        how, fused = attributes.ecc_key_id_algorithm, attributes.ecc_key_id
    else:
        how, fused = attributes.mldsa_key_id_algorithm, attributes.mldsa_key_id
    match how:
        case KeyIdAlgorithm.SHA1:
            return hashlib.sha1(public_key, usedforsecurity=False).digest()
        case KeyIdAlgorithm.SHA256:
            return hashlib.sha256(public_key).digest()[:20]
        case KeyIdAlgorithm.SHA384:
            return hashlib.sha384(public_key).digest()[:20]
        case KeyIdAlgorithm.SHA512:
            return hashlib.sha512(public_key).digest()[:20]
        case KeyIdAlgorithm.FUSE:
            return fused


@dataclass(frozen=True, slots=True)
class Measured:
    """What the FMC and RT certificates say about the device and its firmware.

    `cold_boot` is the firmware of the last cold boot (the FMC certificate's), `current` that of
    the last cold boot or update reset (the RT certificate's).
    """

    fuses: Fuses
    rom: RomVersion
    cold_boot: VerifiedFirmware
    current: VerifiedFirmware


def _tcb_extension(layer: LayerName, measured: Measured | None) -> tuple[x509.Extension, ...]:
    if layer in (LayerName.IDEVID, LayerName.LDEVID):
        return ()
    if measured is None:
        raise ValueError(f"{layer.value}: a layer of firmware needs its measurements")
    if layer is LayerName.FMC_ALIAS:
        firmware = measured.cold_boot
        infos = (
            _info(
                b"CALIPTRA_2_X_FUSE_OWNER_INFO",
                owner_info_digest(measured.fuses, firmware, measured.rom),
            ),
            _info(
                b"CALIPTRA_2_X_FUSE_VENDOR_INFO",
                vendor_info_digest(measured.fuses, firmware, measured.rom),
            ),
            _info(b"CALIPTRA_2_X_FMC_FIRMWARE_INFO", firmware.fmc_digest, firmware.svn),
        )
        value = dice.encode_multi_tcb_info(infos)
        return (x509.Extension(dice.OID_MULTI_TCB_INFO, False, value),)
    firmware = measured.current
    info = _info(b"CALIPTRA_2_X_RT_FIRMWARE_INFO", firmware.rt_digest, firmware.svn)
    return (x509.Extension(dice.OID_TCB_INFO, False, dice.encode_tcb_info(info)),)


def _info(kind: bytes, digest: bytes, svn: int | None = None) -> dice.TcbInfo:
    # The templates have room for one byte of SVN; 0x0100 keeps the field's width at two bytes.
    return dice.TcbInfo(
        svn=None if svn is None else 0x0100 | svn & 0xFF,
        fwids=(dice.Fwid(dice.OID_SHA384, digest),),
        type=kind,
    )


def _extensions(
    subject: Subject, fuses: Fuses, measured: Measured | None
) -> tuple[x509.Extension, ...]:
    layer = subject.layer
    return (
        x509.basic_constraints(_PATH_LENGTH[layer]),
        x509.key_usage(key_cert_sign=True, digital_signature=layer is LayerName.RT_ALIAS),
        x509.Extension(dice.OID_UEID, False, dice.encode_ueid(fuses.ueid)),
        x509.extended_key_usage(*_PURPOSES[layer]),
        *_tcb_extension(layer, measured),
    )


def request_tbs(subject: Subject, fuses: Fuses, measured: Measured | None = None) -> bytes:
    """The part of a layer's request that is signed."""
    return x509.request_tbs(
        subject=subject.name,
        spki=subject.spki,
        extensions=_extensions(subject, fuses, measured),
    )


def certificate_tbs(
    subject: Subject, issuer: Subject, fuses: Fuses, measured: Measured | None = None
) -> bytes:
    """The part of a layer's certificate that its issuer (the layer above) signs."""
    not_before, not_after = DEFAULT_NOT_BEFORE, DEFAULT_NOT_AFTER
    if measured is not None and subject.layer is LayerName.FMC_ALIAS:
        not_before, not_after = measured.cold_boot.validity
    elif measured is not None and subject.layer is LayerName.RT_ALIAS:
        not_before, not_after = measured.current.validity
    return x509.certificate_tbs(
        serial=subject.certificate_serial,
        signature_algorithm=issuer.algorithm.signature_algorithm,
        issuer=issuer.name,
        not_before=not_before,
        not_after=not_after,
        subject=subject.name,
        spki=subject.spki,
        extensions=(
            *_extensions(subject, fuses, measured),
            x509.subject_key_id(subject.key_id),
            x509.authority_key_id(issuer.key_id),
        ),
    )


def sign(crypto: RotCrypto, signer: Subject, tbs: bytes) -> bytes:
    """A whole certificate or request: `tbs` signed with the signer's key."""
    if signer.key is None:
        raise ValueError(f"{signer.layer.value}: the private key is not here")
    if signer.algorithm is Algorithm.ECC:
        signature = x509.ecdsa_signature(crypto.ecc_sign(signer.key, tbs))
    else:
        signature = crypto.mldsa_sign(signer.key, tbs)
    return x509.join(tbs, signer.algorithm.signature_algorithm, signature)


def request(
    crypto: RotCrypto, subject: Subject, fuses: Fuses, measured: Measured | None = None
) -> bytes:
    """A layer's request, signed with its own key."""
    return sign(crypto, subject, request_tbs(subject, fuses, measured))


def certificate(
    crypto: RotCrypto,
    subject: Subject,
    issuer: Subject,
    fuses: Fuses,
    measured: Measured | None = None,
) -> bytes:
    """A layer's certificate, signed by the layer above."""
    return sign(crypto, issuer, certificate_tbs(subject, issuer, fuses, measured))
