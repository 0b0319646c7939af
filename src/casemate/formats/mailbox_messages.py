"""Bodies of the mailbox's requests and responses that have a fixed layout, and three that do not.

A body is what follows the checksum of a request, or the FIPS status of a response. Each class has
its `LAYOUT` and reads and writes exactly that many bytes. Digests and key coordinates are plain
big-endian bytes, unless a field says that it holds words.

Source: caliptra-sw, api/src/mailbox.rs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields
from typing import ClassVar, Self

from casemate.formats.mailbox import MailboxFormatError

#: The longest DPE command that INVOKE_DPE takes, in bytes.
LARGEST_DPE_COMMAND = 512
#: The longest part of a certificate that one CERTIFY_KEY_CHUNKS returns, in bytes.
LARGEST_CHUNK = 15 * 1024
#: The longest message of MLDSA87_SIGNATURE_VERIFY, in bytes.
LARGEST_MESSAGE = 4096
#: The room for data in responses of variable size; GET_PCR_LOG always sends all of it.
DATA_ROOM = 9216

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Fixed:
    """A body of one layout; subclasses have a field per item of it."""

    LAYOUT: ClassVar[struct.Struct]

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Return the body's fields; raises MailboxFormatError unless it has the right size."""
        if len(body) != cls.LAYOUT.size:
            raise MailboxFormatError(
                f"{cls.__name__}: a body of {cls.LAYOUT.size} bytes expected, got {len(body)}"
            )
        return cls(*cls.LAYOUT.unpack(body))

    def encode(self) -> bytes:
        """Return the body's bytes."""
        return self.LAYOUT.pack(*(getattr(self, item.name) for item in fields(self)))


# --- requests -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StashMeasurement(Fixed):
    """Four bytes of metadata (the TCI type), a measurement, 48 bytes of context, an SVN."""

    LAYOUT = struct.Struct("<4s48s48sI")
    metadata: bytes
    measurement: bytes
    context: bytes
    svn: int


@dataclass(frozen=True, slots=True)
class ExtendPcr(Fixed):
    """A PCR and what to extend it with."""

    LAYOUT = struct.Struct("<I48s")
    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class IncrementPcrResetCounter(Fixed):
    """A PCR."""

    LAYOUT = struct.Struct("<I")
    index: int


@dataclass(frozen=True, slots=True)
class QuotePcrs(Fixed):
    """A nonce."""

    LAYOUT = struct.Struct("<32s")
    nonce: bytes


@dataclass(frozen=True, slots=True)
class TagTci(Fixed):
    """A context handle and the tag to give to its context."""

    LAYOUT = struct.Struct("<16sI")
    handle: bytes
    tag: int


@dataclass(frozen=True, slots=True)
class GetTaggedTci(Fixed):
    """A tag."""

    LAYOUT = struct.Struct("<I")
    tag: int


@dataclass(frozen=True, slots=True)
class CertifyKeyExtended(Fixed):
    """Flags (bit 31: add the device information) and the body of a DPE CertifyKey."""

    LAYOUT = struct.Struct("<I72s")
    flags: int
    certify_key: bytes


@dataclass(frozen=True, slots=True)
class CertifyKeyExtendedMldsa(Fixed):
    """The same, with the place for a response outside of the mailbox (bit 30)."""

    LAYOUT = struct.Struct("<I12s72s")
    flags: int
    axi_response: bytes
    certify_key: bytes


@dataclass(frozen=True, slots=True)
class CertifyKeyChunks(Fixed):
    """Flags (bit 31: ML-DSA), the part of the response that is wanted, and a CertifyKey."""

    LAYOUT = struct.Struct("<IIII72s")
    flags: int
    reserved: int
    max_size: int
    offset: int
    certify_key: bytes


@dataclass(frozen=True, slots=True)
class SignWithExportedEcdsa(Fixed):
    """The handle of an exported CDI and a SHA-384 digest."""

    LAYOUT = struct.Struct("<32s48s")
    exported_cdi: bytes = field(repr=False)
    digest: bytes


@dataclass(frozen=True, slots=True)
class SignWithExportedMldsa(Fixed):
    """The handle of an exported CDI; type 0 for an external mu, 1 for a message; the data."""

    LAYOUT = struct.Struct("<32sII1024s")
    exported_cdi: bytes = field(repr=False)
    sign_type: int
    size: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RevokeExportedCdi(Fixed):
    """The handle of an exported CDI."""

    LAYOUT = struct.Struct("<32s")
    exported_cdi: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReallocateContextLimits(Fixed):
    """How many of the 64 contexts PL0 may use."""

    LAYOUT = struct.Struct("<I")
    pl0_limit: int


@dataclass(frozen=True, slots=True)
class EcdsaVerify(Fixed):
    """X, Y, r, s, and a SHA-384 digest."""

    LAYOUT = struct.Struct("<96s96s48s")
    public_key: bytes
    signature: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class LmsVerify(Fixed):
    """An LMS public key and signature in parts, and a SHA-384 digest.

    The types are u32 in the chip's order, the signature's leaf number (`q`) as well.
    """

    LAYOUT = struct.Struct("<II16s24sI1252sI360s48s")
    key_tree_type: int
    key_ots_type: int
    key_identifier: bytes
    key_digest: bytes
    q: int
    ots: bytes
    tree_type: int
    tree_path: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class InstallOwnerPkHash(Fixed):
    """An owner key hash, 48 bytes as words of the chip (each four bytes reversed)."""

    LAYOUT = struct.Struct("<48s")
    digest: bytes


@dataclass(frozen=True, slots=True)
class DeriveStableKey(Fixed):
    """1 for the root under the IDevID, 2 for that under the LDevID; 32 bytes of purpose."""

    LAYOUT = struct.Struct("<I32s")
    key_type: int
    info: bytes


@dataclass(frozen=True, slots=True)
class AttestedRequest(Fixed):
    """A layer (1 LDevID, 2 FMC alias, 3 RT alias) and a nonce."""

    LAYOUT = struct.Struct("<I32s")
    layer: int
    nonce: bytes


# --- responses ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DpeResult(Fixed):
    """The status of the DPE that took a measurement."""

    LAYOUT = struct.Struct("<I")
    status: int


@dataclass(frozen=True, slots=True)
class TaggedTci(Fixed):
    """A context's measurement."""

    LAYOUT = struct.Struct("<48s48sI")
    cumulative: bytes
    current: bytes
    svn: int


@dataclass(frozen=True, slots=True)
class ExportedSignature(Fixed):
    """X and Y, r and s."""

    LAYOUT = struct.Struct("<96s96s")
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ExportedMldsaSignature(Fixed):
    """A public key, a signature of 4627 bytes, and one byte of padding."""

    LAYOUT = struct.Struct("<2592s4627sx")
    public_key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ContextLimits(Fixed):
    """How many contexts PL0 and PL1 may use."""

    LAYOUT = struct.Struct("<II")
    pl0: int
    pl1: int


@dataclass(frozen=True, slots=True)
class FipsVersion(Fixed):
    """The module's mode, its three revisions and its name."""

    LAYOUT = struct.Struct("<4I12s")
    mode: int
    hardware_revision: int
    rom_revision: int
    firmware_revision: int
    name: bytes


@dataclass(frozen=True, slots=True)
class VerifyResult(Fixed):
    """Whether a firmware bundle would be taken."""

    LAYOUT = struct.Struct("<I")
    GOOD: ClassVar[int] = 0xDEADC0DE
    BAD: ClassVar[int] = 0x21523F21
    result: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareInfo(Fixed):
    """What runs, and under which keys. Digests are words of the chip (each four bytes reversed)."""

    LAYOUT = struct.Struct("<5I20s20s20s32s48s48s48s48sI48s7I")
    pl0_pauser: int
    svn: int
    minimum_svn: int
    cold_boot_svn: int
    attestation_disabled: int
    rom_revision: bytes = bytes(20)
    fmc_revision: bytes = bytes(20)
    runtime_revision: bytes = bytes(20)
    rom_digest: bytes = bytes(32)
    fmc_digest: bytes
    runtime_digest: bytes
    owner_key_hash: bytes
    manifest_digest: bytes
    most_recent_error: int
    vendor_key_hash: bytes
    pqc_key_type: int
    vendor_ecc_index: int
    vendor_pqc_index: int
    soc_manifest_svn: int
    soc_manifest_minimum_svn: int
    owner_manifest_svn: int
    owner_manifest_minimum_svn: int

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Return the body's fields; raises MailboxFormatError unless it has the right size."""
        if len(body) != cls.LAYOUT.size:
            raise MailboxFormatError(
                f"FirmwareInfo: {cls.LAYOUT.size} bytes expected, got {len(body)}"
            )
        names = (item.name for item in fields(cls))
        return cls(**dict(zip(names, cls.LAYOUT.unpack(body), strict=True)))


# --- bodies of variable size ----------------------------------------------------------------


def encode_sized(data: bytes) -> bytes:
    """Return a length (u32) and the data: certificates, CSRs, DPE responses, parts of logs."""
    return _LENGTH.pack(len(data)) + data


def decode_sized(body: bytes) -> bytes:
    """Return the data after its length; raises MailboxFormatError if there is less than that."""
    if len(body) < _LENGTH.size:
        raise MailboxFormatError(f"a length of 4 bytes expected, got {len(body)} bytes")
    (size,) = _LENGTH.unpack_from(body)
    data = body[_LENGTH.size :]
    if len(data) < size:
        raise MailboxFormatError(f"{size} bytes announced, {len(data)} are there")
    return data[:size]


def swap_words(data: bytes) -> bytes:
    """Return data with each four bytes reversed: how the chip keeps digests in its registers."""
    return b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
