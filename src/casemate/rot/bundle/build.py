"""Build a bundle, sign it as vendor and as owner, and sign it again as another owner.

The order is the field's: the vendor builds and signs; the owner adds keys and dates and signs over
the vendor's header. What the owner adds stands outside of what the vendor signed, so a bundle can
change owners without the vendor.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.signers import Algorithm, Signer, SignerError, sign_checked
from casemate.rot.errors import RotError
from casemate.rot.fuses import PqcKeyType

_DATE = re.compile(rb"\d{14}Z")
PQC_ALGORITHMS = {PqcKeyType.LMS: Algorithm.LMS, PqcKeyType.MLDSA: Algorithm.MLDSA87}
_PQC_SLOTS = {PqcKeyType.LMS: fb.MAX_LMS_KEYS, PqcKeyType.MLDSA: fb.MAX_MLDSA_KEYS}


class BundleBuildError(RotError):
    """Parts that do not make a bundle: which, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executable:
    """An FMC or runtime: its bytes, where it is loaded and entered, its version and commit."""

    content: bytes
    load_addr: int
    entry_point: int
    version: int = 0
    revision: bytes = bytes(20)


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorKeys:
    """All of a vendor's public keys, and the index of those that sign.

    The SHA-384 of their descriptors is what a device is fused with, so all must be listed.
    """

    ecc: tuple[bytes, ...]
    pqc: tuple[bytes, ...]
    pqc_key_type: PqcKeyType
    ecc_index: int = 0
    pqc_index: int = 0

    def info(self) -> fb.VendorKeyInfo:
        """The descriptors. Raises BundleBuildError for too many keys or none, or a wrong index."""
        slots = _PQC_SLOTS.get(self.pqc_key_type, 0)
        for name, keys, index, most in (
            ("ECC", self.ecc, self.ecc_index, fb.MAX_ECC_KEYS),
            (self.pqc_key_type.name, self.pqc, self.pqc_index, slots),
        ):
            if not 1 <= len(keys) <= most:
                raise BundleBuildError(
                    f"vendor {name} keys: expected 1 to {most}, found {len(keys)}"
                )
            if not 0 <= index < len(keys):
                raise BundleBuildError(
                    f"vendor {name} key index: expected 0 to {len(keys) - 1}, found {index}"
                )
        pqc_size = fb.LMS_KEY_SIZE if self.pqc_key_type is PqcKeyType.LMS else fb.PQC_KEY_SIZE
        for name, keys, size in (
            ("ECC", self.ecc, fb.ECC_KEY_SIZE),
            (self.pqc_key_type.name, self.pqc, pqc_size),
        ):
            for key in keys:
                if len(key) != size:
                    raise BundleBuildError(
                        f"vendor {name} key: expected {size} bytes, found {len(key)}"
                    )
        return fb.VendorKeyInfo(
            fb.KeyDescriptor.of_hashes(
                tuple(_sha384(fb.swap_words(key)) for key in self.ecc), slots=fb.MAX_ECC_KEYS
            ),
            fb.KeyDescriptor.of_hashes(
                tuple(_sha384(key) for key in self.pqc),
                slots=fb.MAX_LMS_KEYS,
                kind=self.pqc_key_type,
            ),
        )

    def fuse_hash(self) -> bytes:
        """The vendor hash (48 bytes) to be fused."""
        return _sha384(self.info().encode())


def owner_fuse_hash(ecc: bytes, pqc: bytes) -> bytes:
    """The owner hash (48 bytes) to be fused: of X || Y and the raw LMS or ML-DSA key."""
    return _sha384(fb.PublicKeys(ecc, pqc).encode())


def dates(not_before: str | None, not_after: str | None) -> fb.Validity:
    """Dates for the alias certificates (`YYYYMMDDHHMMSSZ`), both or none.

    Raises BundleBuildError.
    """
    if not_before is None and not_after is None:
        return fb.Validity()
    encoded = [(value or "").encode("ascii", "replace") for value in (not_before, not_after)]
    for name, value in zip(("not before", "not after"), encoded, strict=True):
        if not _DATE.fullmatch(value):
            raise BundleBuildError(
                f"{name}: expected YYYYMMDDHHMMSSZ for both dates, found {value.decode()!r}"
            )
    if encoded[0] >= encoded[1]:
        raise BundleBuildError("the certificates would end before they begin")
    return fb.Validity(encoded[0], encoded[1])


def build(
    fmc: Executable,
    runtime: Executable,
    vendor: VendorKeys,
    *,
    svn: int,
    validity: fb.Validity | None = None,
    pl0_pauser: int | None = None,
    revision: tuple[int, int] = (0, 0),
) -> bytes:
    """Lay out an unsigned bundle. Raises BundleBuildError for parts that no device would boot."""
    entries = _toc(fmc, runtime)
    if not 0 <= svn <= 128:
        raise BundleBuildError(f"SVN: expected 0 to 128, found {svn}")
    header = fb.Header(
        revision=revision,
        vendor_ecc_index=vendor.ecc_index,
        vendor_pqc_index=vendor.pqc_index,
        flags=0 if pl0_pauser is None else fb.FLAG_PL0_PAUSER,
        pl0_pauser=pl0_pauser or 0,
        toc_digest=_sha384(entries[0].encode() + entries[1].encode()),
        svn=svn,
        vendor=validity or fb.Validity(),
    )
    manifest = fb.Manifest(
        pqc_key_type=vendor.pqc_key_type,
        vendor_key_info=vendor.info(),
        vendor_ecc_index=vendor.ecc_index,
        vendor_pqc_index=vendor.pqc_index,
        vendor_keys=fb.PublicKeys(vendor.ecc[vendor.ecc_index], vendor.pqc[vendor.pqc_index]),
        owner_keys=fb.PublicKeys(bytes(fb.ECC_KEY_SIZE), b""),
        header=header,
        fmc=entries[0],
        runtime=entries[1],
    )
    try:
        return fb.Bundle(manifest, fmc.content, runtime.content).encode()
    except fb.BundleFormatError as error:
        raise BundleBuildError(str(error)) from None


def sign_as_vendor(bundle: bytes, ecc: Signer, pqc: Signer) -> bytes:
    """Put the vendor's signatures in. Raises BundleBuildError unless the keys are the active ones.

    A signature of the owner becomes invalid only if the header changes; here it does not.
    """
    manifest = _decode(bundle)
    _check_algorithms(manifest, ecc, pqc)
    active = manifest.vendor_keys
    for name, key, signer in (
        ("ECC", active.ecc, ecc),
        ("post-quantum", active.pqc[: len(pqc.public_key)], pqc),
    ):
        if signer.public_key != key:
            raise BundleBuildError(
                f"the {name} signer's key is not the bundle's active vendor key (index "
                f"{manifest.vendor_ecc_index if name == 'ECC' else manifest.vendor_pqc_index})"
            )
    header = manifest.header.encode()[: fb.VENDOR_HEADER_SIZE]
    signatures = _signatures(header, ecc, pqc)
    return _with_manifest(bundle, replace(manifest, vendor_signatures=signatures))


def sign_as_owner(
    bundle: bytes, ecc: Signer, pqc: Signer, *, validity: fb.Validity | None = None
) -> bytes:
    """Make the signers' keys the owner's, set the owner's dates, and sign.

    Whoever owned the bundle before does so no longer; the vendor's signatures stay good.
    """
    manifest = _decode(bundle)
    _check_algorithms(manifest, ecc, pqc)
    header = replace(manifest.header, owner=validity or fb.Validity())
    signed = replace(
        manifest,
        header=header,
        owner_keys=fb.PublicKeys(ecc.public_key, pqc.public_key),
        owner_signatures=_signatures(header.encode(), ecc, pqc),
    )
    return _with_manifest(bundle, signed)


def _sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def _toc(fmc: Executable, runtime: Executable) -> tuple[fb.TocEntry, fb.TocEntry]:
    offset = fb.MANIFEST_SIZE
    entries = []
    for name, entry_id, part in (
        ("FMC", fb.FMC_ID, fmc),
        ("runtime", fb.RUNTIME_ID, runtime),
    ):
        if not part.content:
            raise BundleBuildError(f"the {name} is empty")
        end = part.load_addr + len(part.content)
        if not (fb.ICCM_START <= part.load_addr < end <= fb.ICCM_END):
            raise BundleBuildError(
                f"the {name} would be loaded to {part.load_addr:#x} to {end:#x}; the ICCM is "
                f"{fb.ICCM_START:#x} to {fb.ICCM_END:#x}"
            )
        if not fb.ICCM_START <= part.entry_point < fb.ICCM_END:
            raise BundleBuildError(
                f"the {name}'s entry point {part.entry_point:#x} lies outside of the ICCM"
            )
        if part.load_addr % 4 or part.entry_point % 4:
            raise BundleBuildError(f"the {name}'s addresses must be multiples of 4")
        entries.append(
            fb.TocEntry(
                entry_id=entry_id,
                revision=part.revision,
                version=part.version,
                load_addr=part.load_addr,
                entry_point=part.entry_point,
                offset=offset,
                size=len(part.content),
                digest=_sha384(part.content),
            )
        )
        offset += len(part.content)
    first, second = entries
    if (
        first.load_addr < second.load_addr + second.size
        and second.load_addr < first.load_addr + first.size
    ):
        raise BundleBuildError("FMC and runtime would be loaded over one another")
    return first, second


def _decode(bundle: bytes) -> fb.Manifest:
    try:
        manifest = fb.Manifest.decode(bundle)
    except fb.BundleFormatError as error:
        raise BundleBuildError(str(error)) from None
    if manifest.marker != fb.MANIFEST_MARKER:
        raise BundleBuildError("this is no firmware bundle (wrong marker)")
    if manifest.pqc_key_type not in (PqcKeyType.LMS, PqcKeyType.MLDSA):
        raise BundleBuildError(f"unknown post-quantum key type {manifest.pqc_key_type}")
    return manifest


def _check_algorithms(manifest: fb.Manifest, ecc: Signer, pqc: Signer) -> None:
    expected = PQC_ALGORITHMS[PqcKeyType(manifest.pqc_key_type)]
    for wanted, signer in ((Algorithm.ECDSA_P384, ecc), (expected, pqc)):
        if signer.algorithm is not wanted:
            raise SignerError(f"expected an {wanted.value} key, found {signer.algorithm.value}")


def _signatures(header: bytes, ecc: Signer, pqc: Signer) -> fb.Signatures:
    digest = _sha384(header)
    message = header if pqc.algorithm is Algorithm.MLDSA87 else digest
    # The ECC signer first: if it fails, no LMS leaf is spent.
    ecc_signature = sign_checked(ecc, digest)
    pqc_signature = sign_checked(pqc, message)
    return fb.Signatures(ecc_signature, pqc_signature.ljust(fb.PQC_SIGNATURE_SIZE, b"\0"))


def _with_manifest(bundle: bytes, manifest: fb.Manifest) -> bytes:
    return manifest.encode() + bundle[fb.MANIFEST_SIZE :]
