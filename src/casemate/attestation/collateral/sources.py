"""Where vendors keep collateral, and what is checked before it is kept here.

Base URLs can be others' (a cache on site with the vendor's paths); what comes is checked for being
what was asked for, not for being authentic: that is verification's, each time.

Sources: AMD 57230, "VCEK certificate and KDS interface", sections 3 and 4; Intel PCS API version 4;
RFC 6960 (OCSP).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, unquote

from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from casemate.attestation.collateral.fetching import Fetcher, FetchError, Request, Response
from casemate.attestation.collateral.wanted import (
    AmdChain,
    AmdCrl,
    Crl,
    Kind,
    Ocsp,
    Tdx,
    Vcek,
    Wanted,
)
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.tdx import collateral as tdx
from casemate.attestation.x509_path import read
from casemate.formats import sev_snp
from casemate.formats.der_reader import DerError
from casemate.formats.sev_snp import SevSnpError

AMD_KEY_SERVICE = "https://kdsintf.amd.com"
INTEL_SERVICE = "https://api.trustedservices.intel.com"
INTEL_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SIGNED_JSON = re.compile(
    rb'\s*\{\s*"(tcbInfo|enclaveIdentity)"\s*:\s*(\{.*\})\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]{128})"\s*\}\s*',
    re.DOTALL,
)


class ContentError(ValueError):
    """Content that is not of its kind, or not what was asked for."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The services that are asked, by their base URLs."""

    amd: str = AMD_KEY_SERVICE
    intel: str = INTEL_SERVICE
    intel_root_crl: str = INTEL_ROOT_CRL

    def requests(self, wanted: Wanted) -> tuple[Request, ...]:
        """The requests that bring an item, in the order in which `assemble` takes the answers."""
        match wanted:
            case Vcek():
                return (Request(self._vcek(wanted)),)
            case AmdChain():
                return (Request(f"{self._amd(wanted)}/cert_chain"),)
            case AmdCrl():
                return (Request(f"{self._amd(wanted)}/crl"),)
            case Tdx():
                return self._tdx(wanted)
            case Crl():
                return (Request(wanted.url),)
            case Ocsp():
                return (_ocsp_request(wanted),)
        return ()

    def _amd(self, wanted: AmdChain | AmdCrl) -> str:
        return f"{self.amd}/{wanted.signing_key.name.lower()}/v1/{wanted.product.value}"

    def _vcek(self, wanted: Vcek) -> str:
        levels = sev_snp.split_tcb(wanted.tcb, wanted.product)
        names = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
        names["fmc"] = "fmcSPL"
        query = "&".join(f"{names[name]}={level:02}" for name, level in levels.items())
        return f"{self.amd}/vcek/v1/{wanted.product.value}/{wanted.hardware_id.hex()}?{query}"

    def _tdx(self, wanted: Tdx) -> tuple[Request, ...]:
        tdx_base = f"{self.intel}/tdx/certification/v4"
        return (
            Request(f"{tdx_base}/tcb?fmspc={wanted.fmspc.hex()}"),
            Request(f"{tdx_base}/qe/identity"),
            Request(f"{self.intel}/sgx/certification/v4/pckcrl?ca={quote(wanted.ca)}&encoding=der"),
            Request(self.intel_root_crl),
        )


def collect(wanted: Wanted, sources: Sources, fetcher: Fetcher) -> tuple[bytes, str]:
    """Fetch one item; its content and the first URL. Raises FetchError."""
    requests = sources.requests(wanted)
    if not requests:
        raise FetchError(f"{wanted.kind.value} {wanted.key}: no source has it")
    answers = [fetcher.fetch(request) for request in requests]
    url = requests[0].url
    try:
        data = assemble(wanted, answers)
        check(wanted, data)
    except ContentError as error:
        raise FetchError(f"{url}: {error}") from None
    return data, url


def assemble(wanted: Wanted, answers: list[Response]) -> bytes:
    """One item's content of its answers. Raises ContentError."""
    if not isinstance(wanted, Tdx):
        return answers[0].body
    tcb, identity, pck_crl, root_crl = answers
    info, info_signature = _signed_json(tcb.body, "tcbInfo")
    qe, qe_signature = _signed_json(identity.body, "enclaveIdentity")
    value = {
        "pck_crl_issuer_chain": _chain_header(pck_crl, "sgx-pck-crl-issuer-chain"),
        "root_ca_crl": root_crl.body.hex(),
        "pck_crl": pck_crl.body.hex(),
        "tcb_info_issuer_chain": _chain_header(
            tcb, "tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain"
        ),
        "tcb_info": info,
        "tcb_info_signature": info_signature,
        "qe_identity_issuer_chain": _chain_header(identity, "sgx-enclave-identity-issuer-chain"),
        "qe_identity": qe,
        "qe_identity_signature": qe_signature,
    }
    return json.dumps(value).encode()


def _signed_json(body: bytes, name: str) -> tuple[str, str]:
    """The signed text, byte for byte, and its signature."""
    found = _SIGNED_JSON.fullmatch(body)
    if found is None or found[1].decode() != name:
        raise ContentError(f"expected {name} with a signature")
    try:
        return found[2].decode(), found[3].decode()
    except UnicodeDecodeError:
        raise ContentError(f"{name} is not UTF-8") from None


def _chain_header(answer: Response, *names: str) -> str:
    for name in names:
        if (text := answer.headers.get(name)) is not None:
            return unquote(text)
    raise ContentError(f"the header {names[0]} is missing")


def certificates_of(data: bytes) -> tuple[bytes, ...]:
    """Certificates (DER) of DER or PEM. Raises ContentError."""
    if b"-----BEGIN" not in data:
        return (data,)
    try:
        found = tuple(
            base64.b64decode(b"".join(text.split()), validate=True) for text in _PEM.findall(data)
        )
    except binascii.Error as error:
        raise ContentError(f"malformed PEM: {error}") from None
    if not found:
        raise ContentError("there is no certificate in the PEM")
    return found


def check(wanted: Wanted, data: bytes) -> None:
    """That content is of its kind and what was wanted. Raises ContentError."""
    valid_until(wanted.kind, data)
    if isinstance(wanted, Vcek):
        _check_vcek(wanted, data)
    elif isinstance(wanted, AmdChain) and len(certificates_of(data)) < 2:
        raise ContentError("expected an intermediate and a root")
    elif isinstance(wanted, Tdx):
        found = tdx.decode(NamedBytes(data, wanted.key))
        if found.fmspc != wanted.fmspc:
            raise ContentError(f"expected FMSPC {wanted.fmspc.hex()}, found {found.fmspc.hex()}")
    elif isinstance(wanted, Ocsp):
        response = ocsp.load_der_ocsp_response(data)
        serial = pyca.load_der_x509_certificate(wanted.certificate).serial_number
        if response.serial_number != serial:
            raise ContentError("the response is about another certificate")


def _check_vcek(wanted: Vcek, data: bytes) -> None:
    try:
        signer = sev_snp.read_signer(read(NamedBytes(data, "vcek")).fields)
    except (SevSnpError, DerError) as error:
        raise ContentError(f"no VCEK certificate: {error}") from None
    found = (signer.product, signer.hardware_id, signer.tcb)
    if found != (wanted.product, wanted.hardware_id.ljust(64, b"\0"), wanted.tcb):
        raise ContentError("the certificate is of another chip or TCB")


def valid_until(kind: Kind, data: bytes) -> datetime | None:
    """When content of a kind ends: the earliest of its parts. Raises ContentError."""
    try:
        match kind:
            case Kind.VCEK | Kind.AMD_CHAIN | Kind.CERTIFICATE:
                read_all = [read(NamedBytes(der, kind.value)) for der in certificates_of(data)]
                return min(certificate.not_after for certificate in read_all)
            case Kind.AMD_CRL | Kind.CRL:
                return pyca.load_der_x509_crl(data).next_update_utc
            case Kind.TDX:
                return tdx.decode(NamedBytes(data, kind.value)).ends
            case Kind.OCSP:
                return _ocsp_end(data)
    except (DerError, ValueError, InfrastructureError) as error:
        raise ContentError(f"no {kind.value}: {error}") from None


def _ocsp_end(data: bytes) -> datetime | None:
    response = ocsp.load_der_ocsp_response(data)
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ContentError(f"the responder answered {response.response_status.name.lower()}")
    return response.next_update_utc


def _ocsp_request(wanted: Ocsp) -> Request:
    certificate = pyca.load_der_x509_certificate(wanted.certificate)
    issuer = pyca.load_der_x509_certificate(wanted.issuer)
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256())
    body = builder.build().public_bytes(Encoding.DER)
    return Request(wanted.url, body, "application/ocsp-request")
