"""Certificates and CSRs that a DPE issues for the keys of its contexts.

The leaf of CertifyKey and the CA certificate of an exported CDI differ in four things: the common
name, the constraints, the key usages, and whether the hash chain of each measurement is shown
(integrityRegisters, leaf only, and only where the instance supports recursive updates).

A CSR is signed by the key it asks for, then wrapped in a CMS SignedData (RFC 5652) signed by the
runtime's alias key, so that the CA knows where the key lives.

Sources: TCG DICE Attestation Architecture 1.1, section 6.1 (TcbInfo, Ueid); OCP Server iRoT
Profile for DPE 0.13, sections on certificates; caliptra-dpe, dpe/src/x509.rs for the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from casemate.formats import der, dice, x509
from casemate.formats.dpe import Profile
from casemate.rot.dpe.contexts import TciNode
from casemate.rot.dpe.platform import Issuer, SignerIdentification

KEY_IDENTIFIER_SIZE = 20

_OID_SIGNED_DATA = "1.2.840.113549.1.7.2"
_OID_DATA = "1.2.840.113549.1.7.1"
_OID_SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
#: The name form of DMTF device information in a subjectAltName (DSP0274).
_OID_DMTF_DEVICE_INFO = "1.3.6.1.4.1.412.274.1"
_DIGEST_ALGORITHM = der.sequence(der.object_identifier(dice.OID_SHA384))


@dataclass(frozen=True, slots=True)
class Subject:
    """What is certified: a public key, and the measurements it depends on, the root first."""

    profile: Profile
    public_key: bytes
    nodes: Sequence[TciNode]
    ueid: bytes
    is_ca: bool = False
    show_hash_chain: bool = False
    critical_dice: bool = False
    device_info: bytes | None = None

    @property
    def _digest(self) -> bytes:
        prefix = b"\x04" if self.profile is Profile.P384_SHA384 else b""
        return hashlib.sha384(prefix + self.public_key).digest()

    @property
    def serial(self) -> str:
        """The subject's serialNumber: 64 upper-case hexadecimal digits of the key's SHA-384."""
        return self._digest.hex().upper()[:64]

    @property
    def key_identifier(self) -> bytes:
        """The first 20 bytes of the key's SHA-384."""
        return self._digest[:KEY_IDENTIFIER_SIZE]

    @property
    def name(self) -> bytes:
        """The subject name, DER, both parts PrintableString."""
        parts = (
            (x509.OID_COMMON_NAME, "DPE Exported CDI" if self.is_ca else "DPE Leaf"),
            (x509.OID_SERIAL_NUMBER, self.serial),
        )
        return der.sequence(
            *(
                der.set_of([der.sequence(der.object_identifier(oid), der.printable_string(text))])
                for oid, text in parts
            )
        )

    @property
    def public_key_info(self) -> bytes:
        """The SubjectPublicKeyInfo, DER."""
        if self.profile is Profile.P384_SHA384:
            return x509.spki_p384(b"\x04" + self.public_key)
        return x509.spki_mldsa87(self.public_key)


Sign = Callable[[bytes], bytes]


def certificate(subject: Subject, issuer: Issuer, sign: Sign) -> bytes:
    """Return an X.509 certificate, DER, that `sign` (the issuer's key) signs.

    The serial number is the text of the first 20 digits of the subject's: never negative.
    """
    to_be_signed = x509.certificate_tbs(
        serial=subject.serial[:20].encode("ascii"),
        signature_algorithm=_signature_algorithm(subject.profile),
        issuer=issuer.name,
        not_before=issuer.not_before,
        not_after=issuer.not_after,
        subject=subject.name,
        spki=subject.public_key_info,
        extensions=_extensions(subject, issuer.key_identifier),
    )
    return _signed(subject.profile, to_be_signed, sign)


def signed_request(subject: Subject, issuer: Issuer, sign_own: Sign, sign_alias: Sign) -> bytes:
    """Return a CMS SignedData, DER, around a PKCS #10 request.

    `sign_own` signs with the subject's key, `sign_alias` with the issuer's. The request leaves the
    key identifiers to the CA.
    """
    information = x509.request_tbs(
        subject=subject.name,
        spki=subject.public_key_info,
        extensions=_extensions(subject, None),
    )
    request = _signed(subject.profile, information, sign_own)
    version, identifier = _signer_identifier(issuer)
    signer_info = der.sequence(
        version,
        identifier,
        _DIGEST_ALGORITHM,
        _signature_algorithm(subject.profile),
        der.octet_string(_signature(subject.profile, sign_alias(request))),
    )
    content = der.explicit(0, der.octet_string(request))
    signed_data = der.sequence(
        version,
        der.set_of([_DIGEST_ALGORITHM]),
        der.sequence(der.object_identifier(_OID_DATA), content),
        der.set_of([signer_info]),
    )
    return der.sequence(der.object_identifier(_OID_SIGNED_DATA), der.explicit(0, signed_data))


def _signed(profile: Profile, to_be_signed: bytes, sign: Sign) -> bytes:
    signature = _signature(profile, sign(to_be_signed))
    return x509.join(to_be_signed, _signature_algorithm(profile), signature)


def _signature_algorithm(profile: Profile) -> bytes:
    return x509.ECDSA_SHA384 if profile is Profile.P384_SHA384 else x509.MLDSA87


def _signature(profile: Profile, signature: bytes) -> bytes:
    """Return a signature as X.509 carries it: for ECDSA a SEQUENCE of r and s."""
    return signature if profile is Profile.ML_DSA_87 else x509.ecdsa_signature(signature)


def _signer_identifier(issuer: Issuer) -> tuple[bytes, bytes]:
    """Return the CMS version, and how the signer is named."""
    match issuer.signer_identification:
        case SignerIdentification.ISSUER_AND_SERIAL:
            name = der.sequence(issuer.issuer_name, der.unsigned(issuer.serial_number))
            return der.integer(1), name
        case SignerIdentification.KEY_IDENTIFIER:
            # The firmware puts an OCTET STRING inside [0], where RFC 5652 has its content alone;
            # a double of the firmware must do the same (docs/dpe.md).
            return der.integer(3), der.implicit(0, der.octet_string(issuer.key_identifier))


def _extensions(
    subject: Subject, issuer_key_identifier: bytes | None
) -> tuple[x509.Extension, ...]:
    dice_is_critical = subject.critical_dice
    infos = tuple(_tcb_info(node, subject.show_hash_chain) for node in subject.nodes)
    multi_tcb_info = dice.encode_multi_tcb_info(infos)
    constraints = der.sequence(der.boolean(True)) if subject.is_ca else der.sequence()
    purpose = dice.KP_ECA if subject.is_ca else dice.KP_ATTEST_LOC
    purposes = der.sequence(der.object_identifier(purpose))
    extensions = [
        x509.Extension(dice.OID_MULTI_TCB_INFO, dice_is_critical, multi_tcb_info),
        x509.Extension(dice.OID_UEID, dice_is_critical, dice.encode_ueid(subject.ueid)),
        x509.Extension(x509.OID_BASIC_CONSTRAINTS, True, constraints),
        x509.key_usage(digital_signature=True, key_cert_sign=subject.is_ca),
        x509.Extension(x509.OID_EXTENDED_KEY_USAGE, True, purposes),
    ]
    if issuer_key_identifier is not None:
        if subject.is_ca:
            extensions.append(x509.subject_key_id(subject.key_identifier))
        extensions.append(x509.authority_key_id(issuer_key_identifier))
    if subject.device_info is not None:
        extensions.append(_alternative_name(subject.device_info))
    return tuple(extensions)


def _alternative_name(device_info: bytes) -> x509.Extension:
    """Return a subjectAltName of one otherName; the device information is a UTF8String."""
    value = der.explicit(0, der.element(0x0C, device_info))
    name = der.explicit(0, der.object_identifier(_OID_DMTF_DEVICE_INFO) + value)
    return x509.Extension(_OID_SUBJECT_ALTERNATIVE_NAME, False, der.sequence(name))


def _tcb_info(node: TciNode, show_hash_chain: bool) -> dice.TcbInfo:
    """Return fwids = current value, vendorInfo = locality, type = tci_type.

    With `show_hash_chain`, integrityRegisters holds one register, number 0: the cumulative value.
    """
    register = dice.IntegrityRegister((_fwid(node.cumulative),), number=0)
    return dice.TcbInfo(
        svn=node.svn,
        fwids=(_fwid(node.current),),
        vendor_info=node.locality.to_bytes(4, "big"),
        type=node.tci_type.to_bytes(4, "little"),
        integrity_registers=(register,) if show_hash_chain else None,
    )


def _fwid(digest: bytes) -> dice.Fwid:
    return dice.Fwid(dice.OID_SHA384, digest)
