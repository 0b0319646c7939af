"""The Caliptra 2.x firmware bundle: a manifest of 16,956 bytes, then FMC and runtime.

Source: chipsalliance/caliptra-sw, `image/types/src/lib.rs`. The layout is the same whether the
post-quantum signature is LMS or ML-DSA-87. A pure codec: every string of 16,956 bytes decodes to
one manifest and encodes back to the same bytes; whether a device would boot it is the question of
`casemate.rot.bundle`.

Byte order, the trap of this format: integers are little-endian. ECC coordinates, r, s and SHA-384
digests are stored as big-endian words in little-endian u32s, so every group of four bytes is
turned round; the dataclasses hold them in the order of their standards. ML-DSA and LMS keys and
signatures are stored as they are. Digests *of* the manifest run over its raw bytes.
"""

from __future__ import annotations

import array
import dataclasses
import struct
from dataclasses import dataclass

MANIFEST_MARKER = 0x324E4D43
MANIFEST_SIZE = 16_956
MAX_BUNDLE_SIZE = 256 * 1024
#: Bundles are padded with zeros to a multiple of this.
BUNDLE_ALIGNMENT = 256
KEY_DESCRIPTOR_VERSION = 1
MAX_ECC_KEYS = 4
MAX_LMS_KEYS = 32
MAX_MLDSA_KEYS = 4
TOC_ENTRIES = 2
FMC_ID = 1
RUNTIME_ID = 2
TOC_TYPE_EXECUTABLE = 1
FLAG_PL0_PAUSER = 1
#: The memory that executables are loaded into (caliptra-sw, drivers/src/memory_layout.rs).
ICCM_START = 0x4000_0000
ICCM_END = ICCM_START + 256 * 1024

DIGEST_SIZE = 48
ECC_KEY_SIZE = 96
ECC_SIGNATURE_SIZE = 96
PQC_KEY_SIZE = 2592
PQC_SIGNATURE_SIZE = 4628
MLDSA_SIGNATURE_SIZE = 4627
LMS_KEY_SIZE = 48
LMS_SIGNATURE_SIZE = 1620

VENDOR_KEY_INFO_SIZE = 1736
HEADER_SIZE = 160
#: The part of the header that the vendor signs: all before the owner's data.
VENDOR_HEADER_SIZE = 120
TOC_ENTRY_SIZE = 104
_INFO_PQC = 4 + MAX_ECC_KEYS * DIGEST_SIZE


class BundleFormatError(ValueError):
    """Bytes that are no bundle: the field, where it starts, what was expected and found."""

    def __init__(self, field: str, offset: int, message: str) -> None:
        super().__init__(f"{field} at offset {offset:#x}: {message}")
        self.field = field
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Span:
    """A range of a file: `start` and the first offset behind it, in bytes."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes the span holds."""
        return self.end - self.start

    def of(self, data: bytes) -> bytes:
        """The span's bytes in `data`."""
        return data[self.start : self.end]


def _layout() -> dict[str, Span]:
    sizes = (
        ("marker", 4),
        ("size", 4),
        ("pqc_key_type", 1),
        ("reserved", 3),
        ("vendor_key_info", VENDOR_KEY_INFO_SIZE),
        ("vendor_ecc_index", 4),
        ("vendor_ecc_key", ECC_KEY_SIZE),
        ("vendor_pqc_index", 4),
        ("vendor_pqc_key", PQC_KEY_SIZE),
        ("vendor_ecc_signature", ECC_SIGNATURE_SIZE),
        ("vendor_pqc_signature", PQC_SIGNATURE_SIZE),
        ("owner_ecc_key", ECC_KEY_SIZE),
        ("owner_pqc_key", PQC_KEY_SIZE),
        ("owner_ecc_signature", ECC_SIGNATURE_SIZE),
        ("owner_pqc_signature", PQC_SIGNATURE_SIZE),
        ("preamble_reserved", 8),
        ("header", HEADER_SIZE),
        ("fmc_entry", TOC_ENTRY_SIZE),
        ("runtime_entry", TOC_ENTRY_SIZE),
    )
    spans: dict[str, Span] = {}
    offset = 0
    for name, size in sizes:
        spans[name] = Span(offset, offset + size)
        offset += size
    return spans


#: Where each field of the manifest stands.
LAYOUT = _layout()
#: Both owner keys, padding included: what the owner hash is taken over.
OWNER_KEYS = Span(LAYOUT["owner_ecc_key"].start, LAYOUT["owner_pqc_key"].end)
TOC = Span(LAYOUT["fmc_entry"].start, LAYOUT["runtime_entry"].end)


def swap_words(data: bytes) -> bytes:
    """Turn every group of four bytes round: digests and ECC values to and from their stored form.

    Raises ValueError unless the length is a multiple of four.
    """
    words = array.array("I", data)
    words.byteswap()
    return words.tobytes()


def _require(field: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise BundleFormatError(field, 0, f"expected {size} bytes, found {len(value)}")
    return value


def _padded(field: str, value: bytes, size: int) -> bytes:
    if len(value) > size:
        raise BundleFormatError(field, 0, f"expected at most {size} bytes, found {len(value)}")
    return value.ljust(size, b"\0")


def _u32(field: str, value: int) -> int:
    if not 0 <= value < 1 << 32:
        raise BundleFormatError(field, 0, f"expected 32 bits, found {value:#x}")
    return value


@dataclass(frozen=True, slots=True)
class KeyDescriptor:
    """The hashes of one algorithm's vendor keys (SHA-384 of each key as stored).

    `kind` is the post-quantum key type (1 ML-DSA, 3 LMS), and a reserved zero for ECC. `hashes`
    has all slots, used or not: 4 for ECC, 32 for the post-quantum algorithm.
    """

    version: int
    kind: int
    hash_count: int
    hashes: tuple[bytes, ...]

    @classmethod
    def of_hashes(cls, hashes: tuple[bytes, ...], *, slots: int, kind: int = 0) -> KeyDescriptor:
        """A descriptor of the current version that holds `hashes` in its first slots."""
        if len(hashes) > slots:
            raise BundleFormatError(
                "key hashes", 0, f"expected at most {slots}, found {len(hashes)}"
            )
        filled = (*hashes, *(bytes(DIGEST_SIZE),) * (slots - len(hashes)))
        return cls(KEY_DESCRIPTOR_VERSION, kind, len(hashes), filled)

    def encode(self) -> bytes:
        """The descriptor's bytes."""
        head = struct.pack("<HBB", self.version, self.kind, self.hash_count)
        return head + swap_words(b"".join(self.hashes))

    @classmethod
    def decode(cls, data: bytes) -> KeyDescriptor:
        """Read a descriptor that fills `data`."""
        version, kind, hash_count = struct.unpack_from("<HBB", data)
        digests = swap_words(data[4:])
        slots = range(0, len(digests), DIGEST_SIZE)
        hashes = tuple(digests[at : at + DIGEST_SIZE] for at in slots)
        return cls(version, kind, hash_count, hashes)


@dataclass(frozen=True, slots=True)
class VendorKeyInfo:
    """The descriptors of all vendor keys; their SHA-384 is the vendor hash in the fuses."""

    ecc: KeyDescriptor
    pqc: KeyDescriptor

    def encode(self) -> bytes:
        """The 1,736 bytes that the vendor hash is taken over."""
        return _require(
            "vendor_key_info", self.ecc.encode() + self.pqc.encode(), VENDOR_KEY_INFO_SIZE
        )

    @classmethod
    def decode(cls, data: bytes) -> VendorKeyInfo:
        """Read both descriptors from 1,736 bytes."""
        return cls(KeyDescriptor.decode(data[:_INFO_PQC]), KeyDescriptor.decode(data[_INFO_PQC:]))


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """One party's keys: `ecc` X || Y (96 bytes), `pqc` raw, padded with zeros to 2,592 bytes."""

    ecc: bytes
    pqc: bytes

    def encode(self) -> bytes:
        """The 2,688 bytes as stored; their SHA-384 is the owner hash."""
        ecc = swap_words(_require("ECC key", self.ecc, ECC_KEY_SIZE))
        return ecc + _padded("post-quantum key", self.pqc, PQC_KEY_SIZE)

    @classmethod
    def decode(cls, data: bytes) -> PublicKeys:
        """Read both keys from 2,688 bytes."""
        return cls(swap_words(data[:ECC_KEY_SIZE]), data[ECC_KEY_SIZE:])


@dataclass(frozen=True, slots=True)
class Signatures:
    """One party's signatures: `ecc` r || s (96 bytes), `pqc` padded with zeros to 4,628 bytes."""

    ecc: bytes = bytes(ECC_SIGNATURE_SIZE)
    pqc: bytes = bytes(PQC_SIGNATURE_SIZE)

    def encode(self) -> bytes:
        """The 4,724 bytes as stored."""
        ecc = swap_words(_require("ECC signature", self.ecc, ECC_SIGNATURE_SIZE))
        return ecc + _padded("post-quantum signature", self.pqc, PQC_SIGNATURE_SIZE)

    @classmethod
    def decode(cls, data: bytes) -> Signatures:
        """Read both signatures from 4,724 bytes."""
        return cls(swap_words(data[:ECC_SIGNATURE_SIZE]), data[ECC_SIGNATURE_SIZE:])


@dataclass(frozen=True, slots=True)
class Validity:
    """Dates for the alias certificates: 15 bytes each, `YYYYMMDDHHMMSSZ` or zeros for none."""

    not_before: bytes = bytes(15)
    not_after: bytes = bytes(15)
    reserved: bytes = bytes(10)

    def encode(self) -> bytes:
        """The 40 bytes as stored."""
        return (
            _require("not_before", self.not_before, 15)
            + _require("not_after", self.not_after, 15)
            + _require("reserved", self.reserved, 10)
        )

    @classmethod
    def decode(cls, data: bytes) -> Validity:
        """Read 40 bytes."""
        return cls(data[:15], data[15:30], data[30:40])


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What is signed: the vendor signs all but `owner`, the owner signs all."""

    revision: tuple[int, int] = (0, 0)
    vendor_ecc_index: int
    vendor_pqc_index: int
    flags: int = 0
    toc_len: int = TOC_ENTRIES
    pl0_pauser: int = 0
    toc_digest: bytes
    svn: int
    vendor: Validity = Validity()
    owner: Validity = Validity()

    def encode(self) -> bytes:
        """The 160 bytes as stored."""
        numbers = (
            *self.revision,
            self.vendor_ecc_index,
            self.vendor_pqc_index,
            self.flags,
            self.toc_len,
            self.pl0_pauser,
        )
        return b"".join(
            (
                struct.pack("<7I", *(_u32("header", number) for number in numbers)),
                swap_words(_require("toc_digest", self.toc_digest, DIGEST_SIZE)),
                struct.pack("<I", _u32("svn", self.svn)),
                self.vendor.encode(),
                self.owner.encode(),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Header:
        """Read 160 bytes."""
        rev0, rev1, ecc, pqc, flags, toc_len, pauser = struct.unpack_from("<7I", data)
        return cls(
            revision=(rev0, rev1),
            vendor_ecc_index=ecc,
            vendor_pqc_index=pqc,
            flags=flags,
            toc_len=toc_len,
            pl0_pauser=pauser,
            toc_digest=swap_words(data[28:76]),
            svn=int.from_bytes(data[76:80], "little"),
            vendor=Validity.decode(data[80:120]),
            owner=Validity.decode(data[120:160]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TocEntry:
    """One executable: where it lies in the bundle, where it is loaded, and its SHA-384."""

    entry_id: int
    entry_type: int = TOC_TYPE_EXECUTABLE
    revision: bytes = bytes(20)
    version: int = 0
    reserved: tuple[int, int] = (0, 0)
    load_addr: int
    entry_point: int
    offset: int
    size: int
    digest: bytes

    @property
    def span(self) -> Span:
        """Where the executable lies in the bundle, as the entry says."""
        return Span(self.offset, self.offset + self.size)

    def encode(self) -> bytes:
        """The 104 bytes as stored."""
        numbers = (
            self.version,
            *self.reserved,
            self.load_addr,
            self.entry_point,
            self.offset,
            self.size,
        )
        return b"".join(
            (
                struct.pack("<2I", _u32("id", self.entry_id), _u32("type", self.entry_type)),
                _require("revision", self.revision, 20),
                struct.pack("<7I", *(_u32("TOC entry", number) for number in numbers)),
                swap_words(_require("digest", self.digest, DIGEST_SIZE)),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> TocEntry:
        """Read 104 bytes."""
        entry_id, entry_type = struct.unpack_from("<2I", data)
        version, rsv0, rsv1, load, entry, offset, size = struct.unpack_from("<7I", data, 28)
        return cls(
            entry_id=entry_id,
            entry_type=entry_type,
            revision=data[8:28],
            version=version,
            reserved=(rsv0, rsv1),
            load_addr=load,
            entry_point=entry,
            offset=offset,
            size=size,
            digest=swap_words(data[56:104]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest. `vendor_keys` are the active ones, chosen from `vendor_key_info` by index."""

    marker: int = MANIFEST_MARKER
    size: int = MANIFEST_SIZE
    pqc_key_type: int
    reserved: bytes = bytes(3)
    vendor_key_info: VendorKeyInfo
    vendor_ecc_index: int
    vendor_pqc_index: int
    vendor_keys: PublicKeys
    vendor_signatures: Signatures = Signatures()
    owner_keys: PublicKeys
    owner_signatures: Signatures = Signatures()
    preamble_reserved: bytes = bytes(8)
    header: Header
    fmc: TocEntry
    runtime: TocEntry

    def encode(self) -> bytes:
        """The 16,956 bytes. Raises BundleFormatError for a value that does not fit its field."""
        keys = self.vendor_keys.encode()
        return b"".join(
            (
                struct.pack("<2I", _u32("marker", self.marker), _u32("size", self.size)),
                struct.pack("<B", self.pqc_key_type),
                _require("reserved", self.reserved, 3),
                self.vendor_key_info.encode(),
                struct.pack("<I", _u32("vendor_ecc_index", self.vendor_ecc_index)),
                keys[:ECC_KEY_SIZE],
                struct.pack("<I", _u32("vendor_pqc_index", self.vendor_pqc_index)),
                keys[ECC_KEY_SIZE:],
                self.vendor_signatures.encode(),
                self.owner_keys.encode(),
                self.owner_signatures.encode(),
                _require("preamble_reserved", self.preamble_reserved, 8),
                self.header.encode(),
                self.fmc.encode(),
                self.runtime.encode(),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Read the manifest at the start of `data`; what follows it is not looked at.

        Raises BundleFormatError if `data` is shorter than a manifest.
        """
        if len(data) < MANIFEST_SIZE:
            field = next(name for name, span in LAYOUT.items() if span.end > len(data))
            raise BundleFormatError(
                field,
                LAYOUT[field].start,
                f"the manifest ends early: expected {MANIFEST_SIZE} bytes, found {len(data)}",
            )
        part = {name: span.of(data) for name, span in LAYOUT.items()}
        number = {
            name: int.from_bytes(part[name], "little")
            for name in ("marker", "size", "pqc_key_type", "vendor_ecc_index", "vendor_pqc_index")
        }
        return cls(
            **number,
            reserved=part["reserved"],
            vendor_key_info=VendorKeyInfo.decode(part["vendor_key_info"]),
            vendor_keys=PublicKeys.decode(part["vendor_ecc_key"] + part["vendor_pqc_key"]),
            vendor_signatures=Signatures.decode(
                part["vendor_ecc_signature"] + part["vendor_pqc_signature"]
            ),
            owner_keys=PublicKeys.decode(part["owner_ecc_key"] + part["owner_pqc_key"]),
            owner_signatures=Signatures.decode(
                part["owner_ecc_signature"] + part["owner_pqc_signature"]
            ),
            preamble_reserved=part["preamble_reserved"],
            header=Header.decode(part["header"]),
            fmc=TocEntry.decode(part["fmc_entry"]),
            runtime=TocEntry.decode(part["runtime_entry"]),
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest with the contents its TOC describes."""

    manifest: Manifest
    fmc: bytes
    runtime: bytes

    def encode(self) -> bytes:
        """The bundle: manifest, FMC, runtime, zeros up to a multiple of 256 bytes.

        Raises BundleFormatError if the TOC does not describe exactly that, or beyond 256 KiB.
        """
        offset = MANIFEST_SIZE
        for name, entry, content in (
            ("FMC", self.manifest.fmc, self.fmc),
            ("runtime", self.manifest.runtime, self.runtime),
        ):
            if entry.span != Span(offset, offset + len(content)):
                raise BundleFormatError(
                    f"{name} entry",
                    offset,
                    f"expected offset {offset:#x} and size {len(content)}, found "
                    f"{entry.offset:#x} and {entry.size}",
                )
            offset += len(content)
        data = self.manifest.encode() + self.fmc + self.runtime
        data += bytes(-len(data) % BUNDLE_ALIGNMENT)
        if len(data) > MAX_BUNDLE_SIZE:
            raise BundleFormatError(
                "bundle", 0, f"expected at most {MAX_BUNDLE_SIZE} bytes, found {len(data)}"
            )
        return data

    @classmethod
    def decode(cls, data: bytes) -> Bundle:
        """Read a bundle. Raises BundleFormatError if an executable lies outside of `data`."""
        manifest = Manifest.decode(data)
        for name, entry in (("FMC", manifest.fmc), ("runtime", manifest.runtime)):
            if entry.span.end > len(data):
                raise BundleFormatError(
                    name,
                    entry.offset,
                    f"expected {entry.size} bytes, but the bundle ends at {len(data):#x}",
                )
        return cls(manifest, manifest.fmc.span.of(data), manifest.runtime.span.of(data))


def replace_header(manifest: Manifest, **changes: object) -> Manifest:
    """A copy of the manifest with fields of its header changed (signatures are not renewed)."""
    header = dataclasses.replace(manifest.header, **changes)  # type: ignore[arg-type]
    return dataclasses.replace(manifest, header=header)
