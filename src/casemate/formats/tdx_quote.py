"""Intel TDX quotes, versions 4 and 5: header, TD report, and the chain of signatures behind it.

Integers are little-endian. Header of 48 bytes; version 5 has type and size of the body next; body:
TD report 1.0 (584 bytes) or, in version 5 only, 1.5 (648 bytes: two more fields); size of what
follows; ECDSA P-256 signature (r, s: 64 bytes) over all before the size; the attestation key (x, y:
64 bytes); certification data of type 6, that is: report of the quoting enclave (QE, 384 bytes), its
signature under the PCK certificate's key, authentication data, and certification data of type 5,
the PCK certificate's chain in PEM. Some hosts pad a quote with zeros.

Sources: Intel TDX DCAP Quoting Library API, appendix A.3 (version 4) and A.4 (version 5); layouts
checked against Phala-Network/dcap-qvl 9bffe30.
"""

from __future__ import annotations

import binascii
import re
import struct
from dataclasses import dataclass
from itertools import pairwise

from casemate.formats import der_reader, x509
from casemate.formats.der_reader import DerError

TEE_TYPE_TDX = 0x81
VERSIONS = (4, 5)
HEADER_SIZE = 48
REPORT_SIZE, REPORT_15_SIZE = 584, 648
LARGEST = 64 * 1024
ECDSA_P256 = 2
INTEL_QE = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_BODY_TYPES = {2: REPORT_SIZE, 3: REPORT_15_SIZE}
_QE_REPORT_SIZE = 384
_TYPE_PCK_CHAIN, _TYPE_QE_REPORT = 5, 6
_MOST_CERTIFICATES = 8

_HEADER = struct.Struct("<HHIHH16s20s")
_REPORT = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64s")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)

OID_SGX_EXTENSION = "1.2.840.113741.1.13.1"
_OID_FMSPC = OID_SGX_EXTENSION + ".4"


class TdxQuoteError(ValueError):
    """Bytes that are no TDX quote; the message names the field."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """A TD's attributes (64 bits): what its host and its firmware may do."""

    value: int

    def _bit(self, number: int) -> bool:
        return bool(self.value >> number & 1)

    @property
    def debug(self) -> bool:
        """Whether the host may read the TD's memory and state."""
        return self._bit(0)

    @property
    def under_debug(self) -> int:
        """All eight bits of this group: any of them makes the TD untrusted."""
        return self.value & 0xFF

    @property
    def sept_ve_disable(self) -> bool:
        """Whether accesses to pages that the host took away are fatal, not exceptions."""
        return self._bit(28)

    @property
    def migratable(self) -> bool:
        """Whether the TD may be migrated."""
        return self._bit(29)

    @property
    def protection_keys(self) -> bool:
        """Whether supervisor protection keys are on."""
        return self._bit(30)

    @property
    def key_locker(self) -> bool:
        """Whether Key Locker is on."""
        return self._bit(31)

    @property
    def performance_monitoring(self) -> bool:
        """Whether performance counters are on."""
        return self._bit(63)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A TD report. Measurements have 48 bytes, TCB versions 16; the last two are of 1.5."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    attributes: Attributes
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    mr_service_td: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A quote's parts. `chain` is the PCK certificate's chain (DER), its own first.

    `signed_size` counts the bytes that the attestation key signed; `qe_report` (384 bytes) commits
    to that key and is signed by the PCK certificate's.
    """

    version: int
    user_data: bytes
    report: TdReport
    signed_size: int
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_signature: bytes
    qe_authentication_data: bytes
    chain: tuple[bytes, ...]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.offset = 0

    def take(self, size: int, what: str) -> bytes:
        end = self.offset + size
        if end > len(self._data):
            raise TdxQuoteError(f"{what}: cut off at offset {self.offset}")
        part = self._data[self.offset : end]
        self.offset = end
        return part

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")


def looks_like_quote(data: bytes) -> bool:
    """Whether bytes begin as a TDX quote does."""
    return len(data) > HEADER_SIZE and data[1:8] == b"\0\2\0\x81\0\0\0" and data[0] <= 15


def decode(data: bytes) -> Quote:
    """A quote from its bytes; no signature is verified. Raises TdxQuoteError."""
    if len(data) > LARGEST:
        raise TdxQuoteError(f"{len(data)} bytes; at most {LARGEST} are taken")
    reader = _Reader(data)
    version, user_data = _header(reader.take(HEADER_SIZE, "header"))
    size = REPORT_SIZE
    if version == 5:
        kind, size = reader.number(2, "body type"), reader.number(4, "body size")
        if _BODY_TYPES.get(kind) != size:
            raise TdxQuoteError(f"body: type {kind} of {size} bytes is not taken")
    report = _report(reader.take(size, "TD report"))
    signed_size = reader.offset
    end = reader.number(4, "size of the signature data") + reader.offset
    signature = reader.take(64, "signature")
    key = reader.take(64, "attestation key")
    inner_end = _certification(reader, _TYPE_QE_REPORT)
    qe_report = reader.take(_QE_REPORT_SIZE, "QE report")
    qe_signature = reader.take(64, "QE report signature")
    authentication_data = reader.take(
        reader.number(2, "size of the QE authentication data"), "QE authentication data"
    )
    chain_end = _certification(reader, _TYPE_PCK_CHAIN)
    chain = _chain(reader.take(chain_end - reader.offset, "PCK chain"))
    if not reader.offset == inner_end == end:
        raise TdxQuoteError("the sizes of the signature data and of its parts differ")
    if any(data[end:]):
        raise TdxQuoteError(f"unexpected bytes after the quote at offset {end}")
    return Quote(
        version=version,
        user_data=user_data,
        report=report,
        signed_size=signed_size,
        signature=signature,
        attestation_key=key,
        qe_report=qe_report,
        qe_signature=qe_signature,
        qe_authentication_data=authentication_data,
        chain=chain,
    )


def _header(data: bytes) -> tuple[int, bytes]:
    version, key_type, tee, _, _, vendor, user_data = _HEADER.unpack(data)
    if version not in VERSIONS:
        raise TdxQuoteError(f"version: {version} is neither 4 nor 5")
    if key_type != ECDSA_P256:
        raise TdxQuoteError(f"attestation key type: expected 2 (ECDSA P-256), found {key_type}")
    if tee != TEE_TYPE_TDX:
        raise TdxQuoteError(f"TEE type: expected {TEE_TYPE_TDX:#x}, found {tee:#x}")
    if vendor != INTEL_QE:
        raise TdxQuoteError(f"QE vendor: {vendor.hex()} is not Intel's")
    return version, user_data


def _report(data: bytes) -> TdReport:
    fields = _REPORT.unpack_from(data)
    rest = data[_REPORT.size :]
    return TdReport(
        tee_tcb_svn=fields[0],
        mr_seam=fields[1],
        mr_signer_seam=fields[2],
        seam_attributes=fields[3],
        attributes=Attributes(int.from_bytes(fields[4], "little")),
        xfam=int.from_bytes(fields[5], "little"),
        mr_td=fields[6],
        mr_config_id=fields[7],
        mr_owner=fields[8],
        mr_owner_config=fields[9],
        rtmrs=(fields[10], fields[11], fields[12], fields[13]),
        report_data=fields[14],
        tee_tcb_svn_2=rest[:16] or None,
        mr_service_td=rest[16:] or None,
    )


def encode_report(report: TdReport) -> bytes:
    """The body's 584 or 648 bytes."""
    head = _REPORT.pack(
        report.tee_tcb_svn,
        report.mr_seam,
        report.mr_signer_seam,
        report.seam_attributes,
        report.attributes.value.to_bytes(8, "little"),
        report.xfam.to_bytes(8, "little"),
        report.mr_td,
        report.mr_config_id,
        report.mr_owner,
        report.mr_owner_config,
        *report.rtmrs,
        report.report_data,
    )
    return head + (report.tee_tcb_svn_2 or b"") + (report.mr_service_td or b"")


def _certification(reader: _Reader, expected: int) -> int:
    """Read the head of certification data; return the offset of its end."""
    kind = reader.number(2, "certification data type")
    size = reader.number(4, "certification data size")
    if kind != expected:
        raise TdxQuoteError(f"certification data: expected type {expected}, found {kind}")
    return reader.offset + size


def _chain(text: bytes) -> tuple[bytes, ...]:
    """Certificates from PEM. Nothing but line ends, and a final zero, may stand between them."""
    found = list(_PEM.finditer(text))
    if not 1 <= len(found) <= _MOST_CERTIFICATES:
        raise TdxQuoteError(f"PCK chain: {len(found)} certificates")
    edges = [0, *(edge for match in found for edge in match.span()), len(text)]
    between = b"".join(text[a:b] for a, b in list(pairwise(edges))[::2])
    if between.strip(b"\r\n\0"):
        raise TdxQuoteError("PCK chain: there is something between the certificates")
    chain = []
    for match in found:
        lines = b"".join(match[1].split())
        try:
            der = binascii.a2b_base64(lines, strict_mode=True)
        except binascii.Error:
            raise TdxQuoteError("PCK chain: malformed base64") from None
        if binascii.b2a_base64(der, newline=False) != lines:
            raise TdxQuoteError("PCK chain: malformed base64")
        chain.append(der)
    return tuple(chain)


def signed_part(
    version: int, report: TdReport, *, user_data: bytes = bytes(20), qe_svn: int = 0
) -> bytes:
    """Header and body: what the attestation key signs."""
    header = _HEADER.pack(version, ECDSA_P256, TEE_TYPE_TDX, qe_svn, 0, INTEL_QE, user_data)
    body = encode_report(report)
    kind = b""
    if version == 5:
        kind = struct.pack("<HI", 3 if len(body) == REPORT_15_SIZE else 2, len(body))
    return header + kind + body


def encode(quote: Quote, signed: bytes, chain_pem: bytes) -> bytes:
    """A quote's bytes from its signed part, its signatures, and its PCK chain in PEM."""
    pck = struct.pack("<HI", _TYPE_PCK_CHAIN, len(chain_pem)) + chain_pem
    authentication = quote.qe_authentication_data
    inner = (
        quote.qe_report
        + quote.qe_signature
        + struct.pack("<H", len(authentication))
        + authentication
        + pck
    )
    outer = struct.pack("<HI", _TYPE_QE_REPORT, len(inner)) + inner
    data = quote.signature + quote.attestation_key + outer
    return signed + struct.pack("<I", len(data)) + data


def covered(data: bytes) -> tuple[range, ...]:
    """Where a well-formed quote's signed bytes and signatures stand; the PEM around the chain's
    certificates and sizes are not among them."""
    quote = decode(data)
    start = quote.signed_size + 4
    qe = start + 128 + 6
    authentication = qe + _QE_REPORT_SIZE + 64 + 2
    return (
        range(quote.signed_size),
        range(start, start + 128),
        range(qe, qe + _QE_REPORT_SIZE + 64),
        range(authentication, authentication + len(quote.qe_authentication_data)),
    )


def read_fmspc(certificate: x509.Certificate) -> bytes:
    """The platform's family, model, stepping and SKU (6 bytes) of a PCK certificate.

    Raises TdxQuoteError.
    """
    found = certificate.extension(OID_SGX_EXTENSION)
    if found is None:
        raise TdxQuoteError("PCK certificate: Intel's SGX extension is missing")
    try:
        for entry in der_reader.parse_one(found.value, der_reader.SEQUENCE).children():
            fields = entry.children()
            if der_reader.read_oid(fields.next()) == _OID_FMSPC:
                value = fields.next(der_reader.OCTET_STRING, "FMSPC").content
                if len(value) == 6:
                    return value
    except DerError as error:
        raise TdxQuoteError(f"PCK certificate: SGX extension {error}") from None
    raise TdxQuoteError("PCK certificate: there is no FMSPC of 6 bytes")
