"""What collateral can be wanted: one small class for each kind, with a key that names it.

A key is printable and says all that makes the item: it names files, log lines and bundle entries.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

from casemate.attestation.evidence.family import Piece
from casemate.formats import azure_hcl, sev_snp, strict_json, tdx_quote, x509
from casemate.formats.azure_hcl import HclError
from casemate.formats.der_reader import DerError
from casemate.formats.sev_snp import Product, SevSnpError, SigningKey
from casemate.formats.strict_json import JsonError
from casemate.formats.tdx_quote import TdxQuoteError


class Kind(enum.StrEnum):
    """Kinds of collateral, as commands and bundles name them."""

    VCEK = "vcek"
    AMD_CHAIN = "amd-chain"
    AMD_CRL = "amd-crl"
    TDX = "tdx"
    CERTIFICATE = "certificate"
    CRL = "crl"
    OCSP = "ocsp"


@dataclass(frozen=True, slots=True)
class _Keyed:
    """What is named by its fields."""

    @property
    def key(self) -> str:
        """The fields in order, with slashes between: it names files, log lines and entries."""
        return "/".join(_text(getattr(self, each.name)) for each in fields(self))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, SigningKey):
        return value.name.lower()
    return str(value.value if isinstance(value, Product) else value)


@dataclass(frozen=True, slots=True)
class Vcek(_Keyed):
    """The certificate of one chip's key at one TCB version (8 bytes)."""

    kind = Kind.VCEK

    product: Product
    hardware_id: bytes
    tcb: bytes


@dataclass(frozen=True, slots=True)
class AmdChain(_Keyed):
    """The intermediate and the root that AMD publishes for a product; of VCEKs, or of VLEKs."""

    kind = Kind.AMD_CHAIN

    product: Product
    signing_key: SigningKey = SigningKey.VCEK


@dataclass(frozen=True, slots=True)
class AmdCrl(_Keyed):
    """That root's CRL."""

    kind = Kind.AMD_CRL

    product: Product
    signing_key: SigningKey = SigningKey.VCEK


@dataclass(frozen=True, slots=True)
class Tdx(_Keyed):
    """TCB info, QE identity and CRLs of a platform.

    `fmspc` has 6 bytes; `ca` is the issuer of its PCK certificate, "platform" or "processor".
    """

    kind = Kind.TDX

    fmspc: bytes
    ca: str


@dataclass(frozen=True, slots=True)
class Crl(_Keyed):
    """A CRL at a URL that a certificate names."""

    kind = Kind.CRL

    url: str


@dataclass(frozen=True, slots=True)
class Ocsp(_Keyed):
    """The status of a certificate (DER) from its issuer's (DER) responder at a URL."""

    kind = Kind.OCSP

    certificate: bytes
    issuer: bytes
    url: str

    @property
    def key(self) -> str:
        """The certificate's digest and the URL."""
        return f"{hashlib.sha256(self.certificate).hexdigest()} {self.url}"


@dataclass(frozen=True, slots=True)
class Given:
    """Something that no source has, brought as a file: by its kind and its digest."""

    kind: Kind
    digest: bytes

    @property
    def key(self) -> str:
        """The digest."""
        return self.digest.hex()


Wanted = Vcek | AmdChain | AmdCrl | Tdx | Crl | Ocsp | Given


def for_evidence(pieces: Iterable[Piece]) -> tuple[Wanted, ...]:
    """What the evidence needs, in the order in which it was found; nothing for what needs none.

    A report of version 2 does not tell its processor: every product that its chip id may be of is
    wanted, and the key service has only one of them.
    """
    found: dict[Wanted, None] = {}
    for piece in pieces:
        for wanted in _of_piece(piece.data):
            found[wanted] = None
    return tuple(found)


def _of_piece(data: bytes) -> Iterator[Wanted]:
    try:
        if len(data) == sev_snp.REPORT_SIZE:
            yield from _of_report(data)
        elif data.startswith(azure_hcl.MAGIC):
            yield from _of_report(azure_hcl.decode(data).hardware_report)
        elif tdx_quote.looks_like_quote(data):
            yield from _of_quote(data)
        elif "hcl_report" in strict_json.names_of(data):
            report = azure_hcl.decode_base64url(str(strict_json.decode(data)["hcl_report"]))
            yield from _of_report(azure_hcl.decode(report).hardware_report)
    except (SevSnpError, HclError, TdxQuoteError, JsonError, DerError):
        return


def _of_report(data: bytes) -> Iterator[Wanted]:
    report = sev_snp.decode(data)
    if report.signing_key not in (SigningKey.VCEK, SigningKey.VLEK):
        return
    key = SigningKey(report.signing_key)
    for product in _products(report):
        if key is SigningKey.VCEK and not report.chip_id_is_masked:
            hardware_id = report.chip_id[: product.hardware_id_size]
            yield Vcek(product, hardware_id, report.reported_tcb)
        yield AmdChain(product, key)
        yield AmdCrl(product, key)


def _products(report: sev_snp.Report) -> tuple[Product, ...]:
    if report.cpu is not None:
        product = sev_snp.product_of(report.cpu[0], report.cpu[1])
        return () if product is None else (product,)
    if report.chip_id_is_masked:
        return tuple(Product)
    return (Product.MILAN, Product.GENOA) if any(report.chip_id[8:]) else (Product.TURIN,)


def _of_quote(data: bytes) -> Iterator[Wanted]:
    certificate = x509.read_certificate(tdx_quote.decode(data).chain[0])
    issuer = " ".join(text for _, text in x509.read_name(certificate.issuer))
    ca = "processor" if "Processor" in issuer else "platform"
    yield Tdx(tdx_quote.read_fmspc(certificate), ca)
