"""AMD SEV-SNP attestation reports, versions 2 to 5, and the extensions of their signers.

A report has 1184 bytes, integers little-endian; the first 672 are signed with ECDSA P-384 and
SHA-384, then come r and s (72 bytes each, little-endian) and zeros. Version 3 added the processor's
family, model and stepping, version 5 the mitigation vectors; version 4 is laid out as 3.

A TCB version has 8 bytes, one security patch level each. Milan and Genoa: boot loader, TEE, four
reserved, SNP firmware, microcode. Turin: FMC, boot loader, TEE, SNP firmware, three reserved,
microcode. The report does not say which (version 2) or says it by the processor; the signer's
certificate does by its product name.

Sources: AMD 56860 (SEV-SNP firmware ABI), section "ATTESTATION_REPORT"; AMD 57230 (VCEK certificate
and KDS interface), table "x.509v3 extensions"; layouts checked against virtee/sev 9cf2adb and
google/go-sev-guest af1c107.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.formats import der_reader
from casemate.formats.der_reader import DerError
from casemate.formats.x509 import Certificate

REPORT_SIZE = 0x4A0
SIGNED_SIZE = 0x2A0
VERSIONS = (2, 3, 4, 5)
ECDSA_P384_SHA384 = 1

#: r and s: 72 bytes each, of which a P-384 number fills 48.
_NUMBER_SIZE, _NUMBER_USED = 72, 48

_EXTENSIONS = "1.3.6.1.4.1.3704.1"
OID_PRODUCT_NAME = f"{_EXTENSIONS}.2"
OID_HARDWARE_ID = f"{_EXTENSIONS}.4"
OID_CSP_ID = f"{_EXTENSIONS}.5"
#: Security patch levels by name: arcs under 1.3.6.1.4.1.3704.1.3.
SPL_ARCS: Mapping[str, int] = {"fmc": 9, "bootloader": 1, "tee": 2, "snp": 3, "microcode": 8}

_HEAD = struct.Struct("<IIQ16s16sII8sQII64s48s32s48s48s32s32s8s3B21s64s8s")
_TAIL = struct.Struct("<3BB3BB8sQQ152s")
_REPORTED_TCB, _CHIP_ID = 0x180, 0x1A0


class SevSnpError(ValueError):
    """Bytes that are no report or no signer's extensions; the message names the field."""


class SigningKey(enum.IntEnum):
    """Which key signed a report."""

    VCEK = 0
    VLEK = 1
    NONE = 7


class Product(enum.Enum):
    """A processor line; `value` is the name that certificates and the key service use."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"

    @property
    def tcb_fields(self) -> tuple[str | None, ...]:
        """What the eight bytes of a TCB version are; None is reserved."""
        if self is Product.TURIN:
            return ("fmc", "bootloader", "tee", "snp", None, None, None, "microcode")
        return ("bootloader", "tee", None, None, None, None, "snp", "microcode")

    @property
    def hardware_id_size(self) -> int:
        """Bytes of a chip's identifier; zeros follow it in the report's 64."""
        return 8 if self is Product.TURIN else 64


def product_of(family: int, model: int) -> Product | None:
    """The product of a CPUID family and model (extended ones added), None if unknown."""
    if family == 0x19:
        if model <= 0x0F:
            return Product.MILAN
        # Bergamo and Siena (A0 to AF) are certified as Genoa.
        if 0x10 <= model <= 0x1F or 0xA0 <= model <= 0xAF:
            return Product.GENOA
    if family == 0x1A and model <= 0x11:
        return Product.TURIN
    return None


def split_tcb(tcb: bytes, product: Product) -> dict[str, int]:
    """The security patch levels of a TCB version (8 bytes) by name."""
    return {name: level for name, level in zip(product.tcb_fields, tcb, strict=True) if name}


def join_tcb(levels: Mapping[str, int], product: Product) -> bytes:
    """A TCB version (8 bytes); levels that are not given are 0."""
    return bytes(levels.get(name, 0) if name else 0 for name in product.tcb_fields)


@dataclass(frozen=True, slots=True)
class Policy:
    """A guest's policy: the conditions under which the firmware runs it (64 bits)."""

    value: int

    def _bit(self, number: int) -> bool:
        return bool(self.value >> number & 1)

    @property
    def abi(self) -> tuple[int, int]:
        """The least version of the firmware's interface: major, minor."""
        return self.value >> 8 & 0xFF, self.value & 0xFF

    @property
    def smt_allowed(self) -> bool:
        """Whether simultaneous multi-threading may be on."""
        return self._bit(16)

    @property
    def migration_agent_allowed(self) -> bool:
        """Whether a migration agent may be bound to the guest."""
        return self._bit(18)

    @property
    def debug_allowed(self) -> bool:
        """Whether the host may decrypt the guest's memory."""
        return self._bit(19)

    @property
    def single_socket(self) -> bool:
        """Whether the guest runs on one socket only."""
        return self._bit(20)

    @property
    def cxl_allowed(self) -> bool:
        """Whether CXL devices or memory may be populated."""
        return self._bit(21)

    @property
    def requires_aes_256_xts(self) -> bool:
        """Whether memory must be encrypted with AES-256-XTS."""
        return self._bit(22)

    @property
    def requires_rapl_disabled(self) -> bool:
        """Whether running average power limits must be off."""
        return self._bit(23)

    @property
    def requires_ciphertext_hiding(self) -> bool:
        """Whether ciphertext in DRAM must be hidden from the host."""
        return self._bit(24)


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """The platform's configuration (64 bits)."""

    value: int

    def _bit(self, number: int) -> bool:
        return bool(self.value >> number & 1)

    @property
    def smt_enabled(self) -> bool:
        """Whether simultaneous multi-threading is on."""
        return self._bit(0)

    @property
    def tsme_enabled(self) -> bool:
        """Whether transparent memory encryption is on."""
        return self._bit(1)

    @property
    def ecc_enabled(self) -> bool:
        """Whether memory corrects errors."""
        return self._bit(2)

    @property
    def rapl_disabled(self) -> bool:
        """Whether running average power limits are off."""
        return self._bit(3)

    @property
    def ciphertext_hiding(self) -> bool:
        """Whether ciphertext in DRAM is hidden from the host."""
        return self._bit(4)

    @property
    def alias_check_complete(self) -> bool:
        """Whether memory was checked for aliases since the last reset."""
        return self._bit(5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report's fields. TCB versions are 8 bytes, firmware versions (major, minor, build).

    `cpu` is family, model, stepping from version 3 on, the mitigation vectors stand from 5 on.
    `signature` is r and s, 48 bytes each, big-endian.
    """

    version: int
    guest_svn: int
    policy: Policy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform_info: PlatformInfo
    author_key_enabled: bool
    mask_chip_key: bool
    signing_key: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpu: tuple[int, int, int] | None
    chip_id: bytes
    committed_tcb: bytes
    current_version: tuple[int, int, int]
    committed_version: tuple[int, int, int]
    launch_tcb: bytes
    launch_mitigations: int | None = None
    current_mitigations: int | None = None
    signature: bytes = bytes(2 * _NUMBER_USED)

    @property
    def chip_id_is_masked(self) -> bool:
        """Whether the platform hides which chip it is: all 64 bytes are zero."""
        return not any(self.chip_id)


def decode(data: bytes) -> Report:
    """A report from its bytes; nothing is verified but the form. Raises SevSnpError."""
    if len(data) != REPORT_SIZE:
        raise SevSnpError(f"a report has {REPORT_SIZE} bytes; found {len(data)}")
    head = _HEAD.unpack_from(data)
    tail = _TAIL.unpack_from(data, _HEAD.size)
    version, keys = head[0], head[9]
    if version not in VERSIONS:
        raise SevSnpError(f"version: {version} is not one of {', '.join(map(str, VERSIONS))}")
    if head[6] != ECDSA_P384_SHA384:
        raise SevSnpError(f"signature algorithm: expected 1 (ECDSA P-384), found {head[6]}")
    if any(data[SIGNED_SIZE + 2 * _NUMBER_SIZE :]):
        raise SevSnpError("signature: the bytes after s are not zero")
    current, committed = tail[0:3], tail[4:7]
    return Report(
        version=version,
        guest_svn=head[1],
        policy=Policy(head[2]),
        family_id=head[3],
        image_id=head[4],
        vmpl=head[5],
        signature_algorithm=head[6],
        current_tcb=head[7],
        platform_info=PlatformInfo(head[8]),
        author_key_enabled=bool(keys & 1),
        mask_chip_key=bool(keys & 2),
        signing_key=keys >> 2 & 7,
        report_data=head[11],
        measurement=head[12],
        host_data=head[13],
        id_key_digest=head[14],
        author_key_digest=head[15],
        report_id=head[16],
        report_id_ma=head[17],
        reported_tcb=head[18],
        cpu=(head[19], head[20], head[21]) if version >= 3 else None,
        chip_id=head[23],
        committed_tcb=head[24],
        current_version=(current[2], current[1], current[0]),
        committed_version=(committed[2], committed[1], committed[0]),
        launch_tcb=tail[8],
        launch_mitigations=tail[9] if version >= 5 else None,
        current_mitigations=tail[10] if version >= 5 else None,
        signature=_read_number(data, SIGNED_SIZE, "r")
        + _read_number(data, SIGNED_SIZE + _NUMBER_SIZE, "s"),
    )


def _read_number(data: bytes, offset: int, name: str) -> bytes:
    number = data[offset : offset + _NUMBER_SIZE]
    if any(number[_NUMBER_USED:]):
        raise SevSnpError(f"signature: {name} has more than {8 * _NUMBER_USED} bits")
    return number[:_NUMBER_USED][::-1]


def encode_signed_part(report: Report) -> bytes:
    """The 672 bytes that are signed."""
    family, model, stepping = report.cpu or (0, 0, 0)
    keys = report.author_key_enabled | report.mask_chip_key << 1 | report.signing_key << 2
    head = _HEAD.pack(
        report.version,
        report.guest_svn,
        report.policy.value,
        report.family_id,
        report.image_id,
        report.vmpl,
        report.signature_algorithm,
        report.current_tcb,
        report.platform_info.value,
        keys,
        0,
        report.report_data,
        report.measurement,
        report.host_data,
        report.id_key_digest,
        report.author_key_digest,
        report.report_id,
        report.report_id_ma,
        report.reported_tcb,
        family,
        model,
        stepping,
        b"",
        report.chip_id,
        report.committed_tcb,
    )
    tail = _TAIL.pack(
        *report.current_version[::-1],
        0,
        *report.committed_version[::-1],
        0,
        report.launch_tcb,
        report.launch_mitigations or 0,
        report.current_mitigations or 0,
        b"",
    )
    return head + tail


def encode(report: Report) -> bytes:
    """A report's 1184 bytes."""
    r, s = report.signature[:_NUMBER_USED], report.signature[_NUMBER_USED:]
    numbers = (number[::-1].ljust(_NUMBER_SIZE, b"\0") for number in (r, s))
    return (encode_signed_part(report) + b"".join(numbers)).ljust(REPORT_SIZE, b"\0")


def replace_identity(signed_part: bytes, *, chip_id: bytes, reported_tcb: bytes) -> bytes:
    """The signed part as it would be of another chip (64 bytes) at another reported TCB."""
    changed = bytearray(signed_part)
    changed[_CHIP_ID : _CHIP_ID + 64] = chip_id
    changed[_REPORTED_TCB : _REPORTED_TCB + 8] = reported_tcb
    return bytes(changed)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerExtensions:
    """What AMD states in the certificate of a VCEK (a chip's) or VLEK (a provider's).

    `hardware_id` is padded to the report's 64 bytes, None in a VLEK; `csp_id` the provider's name,
    None in a VCEK. `tcb` is laid out as in reports of this product.
    """

    product: Product
    tcb: bytes
    hardware_id: bytes | None
    csp_id: str | None

    @property
    def signing_key(self) -> SigningKey:
        """Which of the two it is."""
        return SigningKey.VLEK if self.hardware_id is None else SigningKey.VCEK


def is_signer(certificate: Certificate) -> bool:
    """Whether a certificate has AMD's product name extension."""
    return certificate.extension(OID_PRODUCT_NAME) is not None


def read_signer(certificate: Certificate) -> SignerExtensions:
    """The extensions of a VCEK's or VLEK's certificate. Raises SevSnpError."""
    try:
        return _read_signer(certificate)
    except DerError as error:
        raise SevSnpError(f"a signer's extension {error}") from None


def _read_signer(certificate: Certificate) -> SignerExtensions:
    name = _ia5_string(_extension(certificate, OID_PRODUCT_NAME))
    try:
        # A VCEK names the stepping too: "Milan-B0".
        product = Product(name.partition("-")[0])
    except ValueError:
        raise SevSnpError(f"product name: {name!r} is not known") from None
    levels = {}
    for level, arc in SPL_ARCS.items():
        if level not in product.tcb_fields:
            continue
        value = _extension(certificate, f"{_EXTENSIONS}.3.{arc}")
        levels[level] = der_reader.read_integer(der_reader.parse_one(value))
        if not 0 <= levels[level] <= 0xFF:
            raise SevSnpError(f"security patch level {level}: {levels[level]} is not one byte")
    hardware_id = csp_id = None
    if (found := certificate.extension(OID_HARDWARE_ID)) is not None:
        hardware_id = _hardware_id(found.value, product.hardware_id_size).ljust(64, b"\0")
    if (found := certificate.extension(OID_CSP_ID)) is not None:
        csp_id = _ia5_string(found.value)
    if (hardware_id is None) == (csp_id is None):
        raise SevSnpError("expected a hardware id (VCEK) or a provider's id (VLEK), and one only")
    return SignerExtensions(
        product=product, tcb=join_tcb(levels, product), hardware_id=hardware_id, csp_id=csp_id
    )


def _extension(certificate: Certificate, oid: str) -> bytes:
    if (found := certificate.extension(oid)) is None:
        raise SevSnpError(f"extension {oid} is missing")
    return found.value


def _ia5_string(value: bytes) -> str:
    element = der_reader.parse_one(value, 0x16, "IA5String")
    try:
        return element.content.decode("ascii")
    except UnicodeDecodeError:
        raise DerError("IA5String is not ASCII", element.offset) from None


def _hardware_id(value: bytes, size: int) -> bytes:
    # The key service writes the bare bytes; its specification says OCTET STRING.
    if len(value) != size:
        value = der_reader.parse_one(value, der_reader.OCTET_STRING, "hardware id").content
    if len(value) != size:
        raise SevSnpError(f"hardware id: expected {size} bytes, found {len(value)}")
    return value
