"""What a bundle says about itself, for people and for programs; nothing here is verified."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.coverage import Uncovered, uncovered
from casemate.rot.fuses import Fuses, PqcKeyType


@dataclass(frozen=True, slots=True)
class Inspection:
    """A bundle's fields, the two hashes that fuses would need, and what nothing covers."""

    manifest: fb.Manifest
    size: int
    vendor_hash: bytes
    owner_hash: bytes
    vendor_signed: bool
    owner_signed: bool
    uncovered: tuple[Uncovered, ...]

    @property
    def pqc_name(self) -> str:
        """The name of the bundle's post-quantum algorithm, or its number if unknown."""
        kind = self.manifest.pqc_key_type
        return {PqcKeyType.MLDSA: "ML-DSA-87", PqcKeyType.LMS: "LMS"}.get(
            PqcKeyType(kind) if kind in (1, 3) else PqcKeyType.UNPROGRAMMED, f"unknown ({kind})"
        )

    def lms_leaf(self, party: str) -> int | None:
        """The leaf that a party's LMS signature used up; None without one."""
        signed = self.vendor_signed if party == "vendor" else self.owner_signed
        if not signed or self.manifest.pqc_key_type != PqcKeyType.LMS:
            return None
        vendor, owner = self.manifest.vendor_signatures, self.manifest.owner_signatures
        return int.from_bytes((vendor if party == "vendor" else owner).pqc[:4], "big")

    def to_json(self) -> dict[str, object]:
        """The inspection as JSON values; bytes in hexadecimal."""
        manifest, header = self.manifest, self.manifest.header
        return {
            "size": self.size,
            "marker": f"{manifest.marker:#010x}",
            "manifest_size": manifest.size,
            "pqc_key_type": self.pqc_name,
            "svn": header.svn,
            "vendor": {
                "hash": self.vendor_hash.hex(),
                "signed": self.vendor_signed,
                "lms_leaf": self.lms_leaf("vendor"),
                "ecc_index": manifest.vendor_ecc_index,
                "ecc_keys": _hashes(manifest.vendor_key_info.ecc),
                "ecc_key": manifest.vendor_keys.ecc.hex(),
                "pqc_index": manifest.vendor_pqc_index,
                "pqc_keys": _hashes(manifest.vendor_key_info.pqc),
                **_validity(header.vendor),
            },
            "owner": {
                "hash": self.owner_hash.hex(),
                "signed": self.owner_signed,
                "lms_leaf": self.lms_leaf("owner"),
                "ecc_key": manifest.owner_keys.ecc.hex(),
                **_validity(header.owner),
            },
            "header": {
                "revision": list(header.revision),
                "flags": header.flags,
                "pl0_pauser": header.pl0_pauser if header.flags & fb.FLAG_PL0_PAUSER else None,
                "toc_entries": header.toc_len,
                "toc_digest": header.toc_digest.hex(),
            },
            "fmc": _entry(manifest.fmc),
            "runtime": _entry(manifest.runtime),
            "uncovered": [
                {
                    "start": each.span.start,
                    "end": each.span.end,
                    "field": each.field,
                    "why": each.why,
                }
                for each in self.uncovered
            ],
        }


def date_text(value: bytes) -> str | None:
    """A date of the bundle as text, or None where it is not set."""
    return value.decode("ascii", "replace") if any(value) else None


def _hashes(descriptor: fb.KeyDescriptor) -> list[str]:
    return [each.hex() for each in descriptor.hashes[: descriptor.hash_count]]


def _validity(validity: fb.Validity) -> dict[str, str | None]:
    return {
        "not_before": date_text(validity.not_before),
        "not_after": date_text(validity.not_after),
    }


def _entry(entry: fb.TocEntry) -> dict[str, object]:
    return {
        "offset": entry.offset,
        "size": entry.size,
        "load_addr": f"{entry.load_addr:#010x}",
        "entry_point": f"{entry.entry_point:#010x}",
        "version": entry.version,
        "revision": entry.revision.hex(),
        "digest": entry.digest.hex(),
    }


def inspect(bundle: bytes, fuses: Fuses | None = None) -> Inspection:
    """Read a bundle. Raises BundleFormatError if it is shorter than a manifest."""
    manifest = fb.Manifest.decode(bundle)
    return Inspection(
        manifest,
        len(bundle),
        hashlib.sha384(fb.LAYOUT["vendor_key_info"].of(bundle)).digest(),
        hashlib.sha384(fb.OWNER_KEYS.of(bundle)).digest(),
        any(manifest.vendor_signatures.ecc),
        any(manifest.owner_signatures.ecc),
        uncovered(bundle, fuses),
    )
