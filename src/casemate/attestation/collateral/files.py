"""Collateral that somebody brings as files: certificates, CRLs, TDX collateral, OCSP responses.

A VCEK and TDX collateral get the names under which they would have been fetched; whatever else is
there is named by its digest. Keys are anchors, not collateral, and are refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography.x509 import ocsp

from casemate.attestation import input as given
from casemate.attestation.collateral.sources import ContentError, valid_until
from casemate.attestation.collateral.store import Item
from casemate.attestation.collateral.wanted import Given, Kind, Tdx, Vcek, Wanted
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.evidence.tdx import collateral as tdx
from casemate.attestation.x509_path import common_name, read
from casemate.formats import sev_snp
from casemate.formats.der_reader import DerError
from casemate.formats.sev_snp import SevSnpError


def items_of(files: Sequence[NamedBytes], *, at: datetime) -> tuple[Item, ...]:
    """Items of files; `at` is when they were brought. Raises InputError: a file that is none."""
    return tuple(item for file in files for item in _of_file(file, at))


def _of_file(file: NamedBytes, at: datetime) -> Iterator[Item]:
    if _is_ocsp(file.data):
        yield _item(Given(Kind.OCSP, _digest(file.data)), file, at)
        return
    sorted_ = given.sort(endorsements=[file], families=())
    if sorted_.signers or len(sorted_.endorsements.anchors) > len(
        sorted_.endorsements.certificates
    ):
        raise InputError(f"{file.name}: a key is an anchor, not collateral: name it with --anchor")
    for certificate in sorted_.endorsements.certificates:
        yield _item(_certificate(certificate), certificate, at)
    for crl in sorted_.endorsements.revocations:
        yield _item(Given(Kind.CRL, _digest(crl.data)), crl, at)
    for collateral in sorted_.endorsements.tdx_collateral:
        yield _item(_tdx(collateral), collateral, at)


def _is_ocsp(data: bytes) -> bool:
    try:
        ocsp.load_der_ocsp_response(data)
    except ValueError:
        return False
    return True


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _certificate(source: NamedBytes) -> Wanted:
    try:
        signer = sev_snp.read_signer(read(source).fields)
    except (SevSnpError, DerError):
        return Given(Kind.CERTIFICATE, _digest(source.data))
    if signer.hardware_id is None:
        return Given(Kind.CERTIFICATE, _digest(source.data))
    size = signer.product.hardware_id_size
    return Vcek(signer.product, signer.hardware_id[:size], signer.tcb)


def _tdx(source: NamedBytes) -> Wanted:
    try:
        found = tdx.decode(source)
    except InfrastructureError as error:
        raise InputError(str(error)) from None
    ca = "processor" if "Processor" in common_name(found.pck_issuer) else "platform"
    return Tdx(found.fmspc, ca)


def _item(wanted: Wanted, source: NamedBytes, at: datetime) -> Item:
    try:
        end = valid_until(wanted.kind, source.data)
    except ContentError as error:
        raise InputError(f"{source.name}: {error}") from None
    return Item(
        kind=wanted.kind,
        key=wanted.key,
        data=source.data,
        fetched_at=at,
        valid_until=end,
        source=source.name,
    )
