"""One certificate of a Caliptra chain, read once: which layer it is and what it says.

Which layer a certificate claims to be shows in its subject's common name, as Caliptra's templates
write it ("Caliptra 2.1 Ecc384 FMC Alias", "DPE Leaf"); an IDevID, which its maker may name, shows
in its key purpose. `casemate.attestation.evidence.caliptra.chain` holds each layer to its rules.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.evidence.caliptra.nodes import Node, read_nodes
from casemate.attestation.evidence.caliptra.signatures import PublicKey, read_key
from casemate.formats import dice, x509
from casemate.formats.der_reader import DerError

_NAME = re.compile(r"Caliptra [0-9]+\.[0-9]+ (?:Ecc384|MlDsa87) (IDevID|LDevID|FMC Alias|Rt Alias)")
_SUBJECT_ALTERNATIVE_NAME = "2.5.29.17"
_CRL_DISTRIBUTION_POINTS, _CERTIFICATE_POLICIES = "2.5.29.31", "2.5.29.32"
_UNDERSTOOD = frozenset(
    {
        x509.OID_SUBJECT_KEY_ID,
        x509.OID_AUTHORITY_KEY_ID,
        x509.OID_KEY_USAGE,
        x509.OID_BASIC_CONSTRAINTS,
        x509.OID_EXTENDED_KEY_USAGE,
        dice.OID_UEID,
        dice.OID_TCB_INFO,
        dice.OID_MULTI_TCB_INFO,
        _SUBJECT_ALTERNATIVE_NAME,
        _CRL_DISTRIBUTION_POINTS,
        _CERTIFICATE_POLICIES,
    }
)


class Role(enum.StrEnum):
    """The layers from the top; the value is how sentences call one."""

    AUTHORITY = "manufacturer"
    IDEVID = "IDevID"
    LDEVID = "LDevID"
    FMC = "FMC alias"
    RUNTIME = "RT alias"
    EXPORTED = "DPE exported CDI"
    LEAF = "DPE leaf"
    PARTITION = "partition"

    @property
    def slug(self) -> str:
        """How checks call one."""
        return self.value.lower().replace(" ", "-")


_BY_LABEL = {
    "IDevID": Role.IDEVID,
    "LDevID": Role.LDEVID,
    "FMC Alias": Role.FMC,
    "Rt Alias": Role.RUNTIME,
}
_BY_NAME = {"DPE Leaf": Role.LEAF, "DPE Exported CDI": Role.EXPORTED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A certificate's fields, and what its extensions say; an absent extension is None or empty.

    `digest` is SHA-256 of the certificate. `tcb_infos` are those of its MultiTcbInfo, or its one
    TcbInfo; `tcb_info_bytes` is their encoding, `multiple` says which of the two it is, and `nodes`
    are the former as a DPE's measurements.
    `named_after_key`: serialNumber and key identifier are SHA-256 of the key, as in Caliptra's
    layers. `slug` and `title` are how checks and sentences call the certificate.
    """

    der: bytes
    digest: bytes
    certificate: x509.Certificate
    key: PublicKey
    role: Role
    slug: str
    title: str
    common_name: str
    serial_number: str
    not_before: datetime
    not_after: datetime
    authority: bool
    path_length: int | None
    signs_data: bool
    signs_certificates: bool
    purposes: frozenset[str]
    key_id: bytes | None
    issuer_key_id: bytes | None
    ueid: bytes | None
    tcb_infos: tuple[dice.TcbInfo, ...]
    tcb_info_bytes: bytes
    multiple: bool
    nodes: tuple[Node, ...] | None
    unknown_critical: tuple[str, ...]
    named_after_key: bool


def read_layer(data: bytes, known: VerifiedCertificates | None = None) -> Layer:
    """Read a certificate (DER). Raises DerError, SignatureError (a key that is not taken).

    `known` recalls the TcbInfos of hosts with the same firmware: they are most of a certificate.
    """
    certificate = x509.read_certificate(data)
    found = {extension.oid: extension.value for extension in certificate.extensions}
    authority, path_length = False, None
    if (value := found.get(x509.OID_BASIC_CONSTRAINTS)) is not None:
        authority, path_length = x509.read_basic_constraints(value)
    signs_data = signs_certificates = False
    if (value := found.get(x509.OID_KEY_USAGE)) is not None:
        signs_data, signs_certificates = x509.read_key_usage(value)
    value = found.get(x509.OID_EXTENDED_KEY_USAGE)
    purposes = frozenset(() if value is None else x509.read_extended_key_usage(value))
    value = found.get(x509.OID_SUBJECT_KEY_ID)
    key_id = None if value is None else x509.read_subject_key_id(value)
    value = found.get(x509.OID_AUTHORITY_KEY_ID)
    issuer_key_id = None if value is None else x509.read_authority_key_id(value)
    value = found.get(dice.OID_UEID)
    ueid = None if value is None else dice.decode_ueid(value)
    measured = _measured(found, known)
    names = dict(x509.read_name(certificate.subject))
    common_name = names.get(x509.OID_COMMON_NAME, "")
    serial_number = names.get(x509.OID_SERIAL_NUMBER, "")
    role = _role(common_name, purposes)
    key = read_key(certificate.spki)
    digest = hashlib.sha256(key.raw).digest()
    return Layer(
        der=data,
        digest=hashlib.sha256(data).digest(),
        certificate=certificate,
        key=key,
        role=role,
        slug=role.slug,
        title=f"the {role.value} certificate",
        common_name=common_name,
        serial_number=serial_number,
        not_before=_time(certificate.not_before),
        not_after=_time(certificate.not_after),
        authority=authority,
        path_length=path_length,
        signs_data=signs_data,
        signs_certificates=signs_certificates,
        purposes=purposes,
        key_id=key_id,
        issuer_key_id=issuer_key_id,
        ueid=ueid,
        tcb_infos=measured.infos,
        tcb_info_bytes=found.get(dice.OID_MULTI_TCB_INFO, found.get(dice.OID_TCB_INFO, b"")),
        multiple=dice.OID_MULTI_TCB_INFO in found,
        nodes=measured.nodes,
        unknown_critical=tuple(
            extension.oid
            for extension in certificate.extensions
            if extension.critical and extension.oid not in _UNDERSTOOD
        ),
        named_after_key=serial_number == digest.hex().upper() and key_id == digest[:20],
    )


def _role(common_name: str, purposes: frozenset[str]) -> Role:
    if (match := _NAME.fullmatch(common_name)) is not None:
        return _BY_LABEL[match[1]]
    if (named := _BY_NAME.get(common_name)) is not None:
        return named
    if common_name.startswith("Casemate partition "):
        return Role.PARTITION
    return Role.IDEVID if dice.KP_IDENTITY_INIT in purposes else Role.AUTHORITY


class _Measured(NamedTuple):
    """What a certificate says was measured."""

    infos: tuple[dice.TcbInfo, ...] = ()
    nodes: tuple[Node, ...] | None = None


def _measured(found: dict[str, bytes], known: VerifiedCertificates | None) -> _Measured:
    several, one = found.get(dice.OID_MULTI_TCB_INFO), found.get(dice.OID_TCB_INFO)
    if several is not None and one is not None:
        raise DerError("a certificate with both TcbInfo and MultiTcbInfo", 0)
    if several is not None:
        return _read_several(several) if known is None else known.read(several, _read_several)
    if one is not None:
        return _read_one(one) if known is None else known.read(one, _read_one)
    return _Measured()


def _read_several(data: bytes) -> _Measured:
    infos = dice.decode_multi_tcb_info(data)
    return _Measured(infos, read_nodes(infos))


def _read_one(data: bytes) -> _Measured:
    return _Measured((dice.decode_tcb_info(data),))


def _time(text: str) -> datetime:
    """The time of YYYYMMDDHHMMSSZ."""
    try:
        found = datetime.fromisoformat(f"{text[:8]}T{text[8:14]}+00:00")
    except ValueError:
        found = None
    # An hour of 24 is one of ISO 8601 and no GeneralizedTime's (RFC 5280, 4.1.2.5.2).
    if found is None or text[8:10] > "23":
        raise DerError(f"malformed time {text!r}", 0)
    return found
