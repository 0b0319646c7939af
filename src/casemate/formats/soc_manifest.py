"""The SoC manifest (authorization manifest): which images a SoC may load, by id and digest.

Source: chipsalliance/caliptra-sw, `auth-manifest/types/src/lib.rs`. A pure codec of both kinds:

- `SocManifest`, of vendor and owner: a preamble of 24,292 bytes (keys and four pairs of
  signatures), then up to 80 entries.
- `OwnerManifest`, of an owner alone: a preamble of 12,156 bytes, then 32 slots of entries, always
  all of them.

Integers are little-endian; keys and signatures are stored as in a firmware bundle (see
`casemate.formats.firmware_bundle`), but the entries' digests are stored as they are, not turned
round. The signatures over the entries run over the raw bytes of the list, filled slots or not, up
to the size of a full list: so a decoded manifest keeps those bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from casemate.formats.firmware_bundle import (
    ECC_KEY_SIZE,
    ECC_SIGNATURE_SIZE,
    PQC_KEY_SIZE,
    PQC_SIGNATURE_SIZE,
    BundleFormatError,
    PublicKeys,
    Signatures,
    Span,
)

MARKER = 0x324D5441
OWNER_MARKER = 0x4D4F574F
PREAMBLE_SIZE = 24_292
OWNER_PREAMBLE_SIZE = 12_156
MAX_ENTRIES = 80
OWNER_MAX_ENTRIES = 32
ENTRY_SIZE = 80
LIST_SIZE = 4 + MAX_ENTRIES * ENTRY_SIZE
OWNER_LIST_SIZE = 4 + OWNER_MAX_ENTRIES * ENTRY_SIZE
#: A manifest's file is padded with zeros to a multiple of this.
ALIGNMENT = 256
FLAG_VENDOR_SIGNATURE_REQUIRED = 1
UNUSED_ID = 0xFFFFFFFF
_KEYS = ECC_KEY_SIZE + PQC_KEY_SIZE
_SIGNATURES = ECC_SIGNATURE_SIZE + PQC_SIGNATURE_SIZE
_FIXED = struct.Struct("<5I")
_ENTRY = struct.Struct("<4IQQ48s")
_FLAG_IGNORE_AUTH_CHECK = 1 << 2


class ManifestFormatError(ValueError):
    """Bytes that are no manifest: the field, where it starts, what was expected and found."""

    def __init__(self, name: str, offset: int, message: str) -> None:
        super().__init__(f"{name} at offset {offset:#x}: {message}")
        self.field = name
        self.offset = offset


#: What the vendor's firmware key signs (version, SVN, flags, vendor keys), and the owner's keys.
VENDOR_SIGNED = Span(8, _FIXED.size + _KEYS)
OWNER_KEYS = Span(
    _FIXED.size + _KEYS + _SIGNATURES,
    _FIXED.size + _KEYS + _SIGNATURES + _KEYS,
)
#: What the owner's firmware key signs in an owner manifest: version, SVN, flags and keys.
OWNER_SIGNED = Span(8, _FIXED.size + _KEYS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMetadata:
    """One image: its id, its SHA-384, and where it is loaded and staged (64-bit addresses)."""

    fw_id: int
    digest: bytes
    component_id: int = UNUSED_ID
    classification: int = 0
    flags: int = 0
    load_address: int = 0
    staging_address: int = 0

    @classmethod
    def flags_of(
        cls, *, source: int = 1, ignore_auth_check: bool = False, exec_bit: int = 0
    ) -> int:
        """The flags word: image source (2 bits), ignore_auth_check, execution bit (7 bits)."""
        return (source & 3) | (_FLAG_IGNORE_AUTH_CHECK * ignore_auth_check) | (exec_bit & 0x7F) << 8

    @property
    def image_source(self) -> int:
        """Where the image comes from (1 request, 2 load address, 3 staging address)."""
        return self.flags & 3

    @property
    def ignore_auth_check(self) -> bool:
        """Whether any image at all is authorised under this id."""
        return bool(self.flags & _FLAG_IGNORE_AUTH_CHECK)

    @property
    def exec_bit(self) -> int:
        """The bit that lets the SoC execute the image."""
        return self.flags >> 8 & 0x7F

    def encode(self) -> bytes:
        """The 80 bytes as stored. Raises ManifestFormatError for a value that does not fit."""
        if len(self.digest) != 48:
            raise ManifestFormatError("digest", 0, f"expected 48 bytes, found {len(self.digest)}")
        try:
            return _ENTRY.pack(
                self.fw_id,
                self.component_id,
                self.classification,
                self.flags,
                self.load_address,
                self.staging_address,
                self.digest,
            )
        except struct.error as error:
            raise ManifestFormatError("entry", 0, str(error)) from None

    @classmethod
    def decode(cls, data: bytes) -> ImageMetadata:
        """Read 80 bytes."""
        fw_id, component, classification, flags, load, staging, digest = _ENTRY.unpack(data)
        return cls(
            fw_id=fw_id,
            component_id=component,
            classification=classification,
            flags=flags,
            load_address=load,
            staging_address=staging,
            digest=digest,
        )


_EMPTY_SLOT = ImageMetadata(fw_id=UNUSED_ID, digest=bytes(48)).encode()


def encode_list(entries: tuple[ImageMetadata, ...], *, slots: int = MAX_ENTRIES) -> bytes:
    """The list of entries with all its slots. Raises ManifestFormatError for too many."""
    if len(entries) > slots:
        raise ManifestFormatError("entries", 0, f"expected at most {slots}, found {len(entries)}")
    filled = b"".join(entry.encode() for entry in entries)
    return struct.pack("<I", len(entries)) + filled + _EMPTY_SLOT * (slots - len(entries))


def decode_list(data: bytes, offset: int, *, slots: int) -> tuple[ImageMetadata, ...]:
    """The counted entries of a list; `offset` is where the list stands in its file.

    Raises ManifestFormatError if the count is none or above `slots`, or entries are missing.
    """
    if len(data) < 4:
        raise ManifestFormatError("entry count", offset, "the manifest ends before it")
    count = int.from_bytes(data[:4], "little")
    if not 1 <= count <= slots:
        raise ManifestFormatError("entry count", offset, f"expected 1 to {slots}, found {count}")
    if len(data) < 4 + count * ENTRY_SIZE:
        raise ManifestFormatError(
            "entries",
            offset + 4,
            f"expected {count} of {ENTRY_SIZE} bytes, found {len(data) - 4} bytes",
        )
    starts = range(4, 4 + count * ENTRY_SIZE, ENTRY_SIZE)
    return tuple(ImageMetadata.decode(data[at : at + ENTRY_SIZE]) for at in starts)


_NO_KEYS = PublicKeys(bytes(ECC_KEY_SIZE), bytes(PQC_KEY_SIZE))
_NO_SIGNATURES = Signatures()


class _Reader:
    """Takes fields from the front of a preamble that is known to be long enough."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        self._at += size
        return part

    def keys(self) -> PublicKeys:
        return PublicKeys.decode(self._take(_KEYS))

    def signatures(self) -> Signatures:
        return Signatures.decode(self._take(_SIGNATURES))


def _fixed(data: bytes, size: int) -> tuple[int, int, int, int, int]:
    if len(data) < size:
        raise ManifestFormatError(
            "preamble", 0, f"expected {size} bytes, found {len(data)}: the manifest ends early"
        )
    marker, stated, version, svn, flags = _FIXED.unpack_from(data)
    return marker, stated, version, svn, flags


def _preamble(fixed: tuple[int, ...], *parts: PublicKeys | Signatures) -> bytes:
    try:
        return _FIXED.pack(*fixed) + b"".join(part.encode() for part in parts)
    except struct.error as error:
        raise ManifestFormatError("preamble", 0, str(error)) from None
    except BundleFormatError as error:
        raise ManifestFormatError(error.field, 0, str(error)) from None


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % ALIGNMENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocManifest:
    """A manifest of vendor and owner. `image_list` is the list's bytes, as signed."""

    marker: int = MARKER
    size: int = PREAMBLE_SIZE
    version: int = 1
    svn: int = 0
    flags: int = 0
    vendor_keys: PublicKeys = _NO_KEYS
    vendor_key_signatures: Signatures = _NO_SIGNATURES
    owner_keys: PublicKeys = _NO_KEYS
    owner_key_signatures: Signatures = _NO_SIGNATURES
    vendor_image_signatures: Signatures = _NO_SIGNATURES
    owner_image_signatures: Signatures = _NO_SIGNATURES
    image_list: bytes

    @property
    def vendor_signature_required(self) -> bool:
        """Whether the vendor must sign the entries as well."""
        return bool(self.flags & FLAG_VENDOR_SIGNATURE_REQUIRED)

    @property
    def entries(self) -> tuple[ImageMetadata, ...]:
        """The counted entries. Raises ManifestFormatError (see `decode_list`)."""
        return decode_list(self.image_list, PREAMBLE_SIZE, slots=MAX_ENTRIES)

    def encode_preamble(self) -> bytes:
        """The 24,292 bytes before the list."""
        return _preamble(
            (self.marker, self.size, self.version, self.svn, self.flags),
            self.vendor_keys,
            self.vendor_key_signatures,
            self.owner_keys,
            self.owner_key_signatures,
            self.vendor_image_signatures,
            self.owner_image_signatures,
        )

    def encode(self) -> bytes:
        """The manifest, padded with zeros to a multiple of 256 bytes."""
        return _aligned(self.encode_preamble() + self.image_list)

    @classmethod
    def decode(cls, data: bytes) -> SocManifest:
        """Read a manifest; the list is kept as bytes, cut to its full size.

        Raises ManifestFormatError if the preamble is cut.
        """
        marker, size, version, svn, flags = _fixed(data, PREAMBLE_SIZE)
        reader = _Reader(data, _FIXED.size)
        return cls(
            marker=marker,
            size=size,
            version=version,
            svn=svn,
            flags=flags,
            vendor_keys=reader.keys(),
            vendor_key_signatures=reader.signatures(),
            owner_keys=reader.keys(),
            owner_key_signatures=reader.signatures(),
            vendor_image_signatures=reader.signatures(),
            owner_image_signatures=reader.signatures(),
            image_list=data[PREAMBLE_SIZE : PREAMBLE_SIZE + LIST_SIZE],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerManifest:
    """A manifest of an owner alone. `image_list` has all 32 slots."""

    marker: int = OWNER_MARKER
    size: int = OWNER_PREAMBLE_SIZE
    version: int = 1
    svn: int = 0
    flags: int = 0
    owner_keys: PublicKeys = _NO_KEYS
    owner_key_signatures: Signatures = _NO_SIGNATURES
    owner_image_signatures: Signatures = _NO_SIGNATURES
    image_list: bytes

    @property
    def entries(self) -> tuple[ImageMetadata, ...]:
        """The counted entries. Raises ManifestFormatError (see `decode_list`)."""
        return decode_list(self.image_list, OWNER_PREAMBLE_SIZE, slots=OWNER_MAX_ENTRIES)

    def encode_preamble(self) -> bytes:
        """The 12,156 bytes before the list."""
        return _preamble(
            (self.marker, self.size, self.version, self.svn, self.flags),
            self.owner_keys,
            self.owner_key_signatures,
            self.owner_image_signatures,
        )

    def encode(self) -> bytes:
        """The manifest: 14,720 bytes, a size that its loader compares."""
        return self.encode_preamble() + self.image_list

    @classmethod
    def decode(cls, data: bytes) -> OwnerManifest:
        """Read a manifest. Raises ManifestFormatError if the preamble is cut."""
        marker, size, version, svn, flags = _fixed(data, OWNER_PREAMBLE_SIZE)
        reader = _Reader(data, _FIXED.size)
        return cls(
            marker=marker,
            size=size,
            version=version,
            svn=svn,
            flags=flags,
            owner_keys=reader.keys(),
            owner_key_signatures=reader.signatures(),
            owner_image_signatures=reader.signatures(),
            image_list=data[OWNER_PREAMBLE_SIZE:],
        )
