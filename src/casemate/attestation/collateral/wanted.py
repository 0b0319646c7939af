"""What collateral can be wanted: one small class for each kind, with a key that names it.

A key is printable and says all that makes the item: it names files, log lines and bundle entries.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

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
class Vcek:
    """The certificate of one chip's key at one TCB version (8 bytes)."""

    product: Product
    hardware_id: bytes
    tcb: bytes

    kind = Kind.VCEK

    @property
    def key(self) -> str:
        """Product, hardware id and TCB."""
        return f"{self.product.value}/{self.hardware_id.hex()}/{self.tcb.hex()}"


@dataclass(frozen=True, slots=True)
class _OfProduct:
    """What AMD publishes for a product, apart for VCEKs and for VLEKs."""

    product: Product
    signing_key: SigningKey = SigningKey.VCEK

    @property
    def key(self) -> str:
        """Product and kind of key."""
        return f"{self.product.value}/{self.signing_key.name.lower()}"


class AmdChain(_OfProduct):
    """The intermediate and the root."""

    __slots__ = ()
    kind = Kind.AMD_CHAIN


class AmdCrl(_OfProduct):
    """The root's CRL."""

    __slots__ = ()
    kind = Kind.AMD_CRL


@dataclass(frozen=True, slots=True)
class Tdx:
    """TCB info, QE identity and CRLs of a platform.

    `fmspc` has 6 bytes; `ca` is the issuer of its PCK certificate, "platform" or "processor".
    """

    fmspc: bytes
    ca: str

    kind = Kind.TDX

    @property
    def key(self) -> str:
        """FMSPC and CA."""
        return f"{self.fmspc.hex()}/{self.ca}"


@dataclass(frozen=True, slots=True)
class Crl:
    """A CRL at a URL that a certificate names."""

    url: str

    kind = Kind.CRL

    @property
    def key(self) -> str:
        """The URL."""
        return self.url


@dataclass(frozen=True, slots=True)
class Ocsp:
    """The status of a certificate (DER) from its issuer's (DER) responder at a URL."""

    certificate: bytes
    issuer: bytes
    url: str

    kind = Kind.OCSP

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
