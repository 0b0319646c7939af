"""What surrounds a DPE: who issues its certificates, the chain above them, the device's names."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class SignerIdentification(enum.Enum):
    """How the CMS message around a CSR names its signer (RFC 5652, section 5.3)."""

    ISSUER_AND_SERIAL = "issuer and serial number"
    KEY_IDENTIFIER = "subject key identifier"


@dataclass(frozen=True, slots=True)
class Issuer:
    """The alias certificate, as what it issues refers to it.

    `name` is its subject, DER; `key_identifier` its subject key identifier (20 bytes);
    `issuer_name` and `serial_number` are those of the certificate itself. The validity of what it
    issues is given as YYYYMMDDHHMMSSZ.
    """

    name: bytes
    key_identifier: bytes
    issuer_name: bytes = b""
    serial_number: bytes = b""
    not_before: str = "20230101000000Z"
    not_after: str = "99991231235959Z"
    signer_identification: SignerIdentification = SignerIdentification.KEY_IDENTIFIER


@dataclass(frozen=True, slots=True)
class Platform:
    """The surroundings of one DPE instance.

    `certificate_chain` is DER certificates one after the other, the topmost first, the issuer's
    last. `ueid` is what certificates of exported CDIs name the device by, if it has a name.
    """

    issuer: Issuer
    certificate_chain: bytes
    ueid: bytes | None = None
    vendor_id: int = 0
    vendor_sku: int = 0
