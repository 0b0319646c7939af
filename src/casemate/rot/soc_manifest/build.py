"""Build and sign SoC manifests of both kinds.

Two pairs of keys per party: the firmware bundle's keys sign the manifest's own keys, and those sign
the list of images. So the list can change without the keys of the firmware.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.rot.bundle.signers import Algorithm, Signer, SignerError, sign_checked
from casemate.rot.errors import RotError


class ManifestBuildError(RotError):
    """Parts that do not make a manifest: which, and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two signers of one party: ECC P-384, and LMS or ML-DSA-87."""

    ecc: Signer
    pqc: Signer

    def __post_init__(self) -> None:
        if self.ecc.algorithm is not Algorithm.ECDSA_P384:
            raise SignerError(f"expected an ECDSA P-384 key, found {self.ecc.algorithm.value}")
        if self.pqc.algorithm is Algorithm.ECDSA_P384:
            raise SignerError("expected an LMS or ML-DSA-87 key, found ECDSA P-384")

    @property
    def keys(self) -> fb.PublicKeys:
        """The public keys as a manifest carries them."""
        return fb.PublicKeys(self.ecc.public_key, self.pqc.public_key.ljust(fb.PQC_KEY_SIZE, b"\0"))

    def sign(self, data: bytes) -> fb.Signatures:
        """Sign with both keys; the ECC key first, so that its failure spends no LMS leaf."""
        digest = hashlib.sha384(data).digest()
        ecc = sign_checked(self.ecc, digest)
        message = data if self.pqc.algorithm is Algorithm.MLDSA87 else digest
        pqc = sign_checked(self.pqc, message)
        return fb.Signatures(ecc, pqc.ljust(fb.PQC_SIGNATURE_SIZE, b"\0"))


@dataclass(frozen=True, slots=True)
class Party:
    """One party: the pair of its firmware bundle and the pair of the manifest."""

    firmware: Pair
    manifest: Pair

    def __post_init__(self) -> None:
        if self.firmware.pqc.algorithm is not self.manifest.pqc.algorithm:
            raise SignerError("firmware and manifest keys are of different algorithms")


def _check_entries(entries: tuple[sm.ImageMetadata, ...], slots: int) -> None:
    if not 1 <= len(entries) <= slots:
        raise ManifestBuildError(f"images: expected 1 to {slots}, found {len(entries)}")
    ids = [entry.fw_id for entry in entries]
    if twice := sorted({fw_id for fw_id in ids if ids.count(fw_id) > 1}):
        raise ManifestBuildError(f"images: the id {twice[0]:#x} is given twice")


def build(
    entries: tuple[sm.ImageMetadata, ...],
    *,
    vendor: Party,
    owner: Party,
    svn: int = 0,
    version: int = 1,
    vendor_signs_images: bool = True,
) -> bytes:
    """Build and sign a manifest of vendor and owner.

    Raises ManifestBuildError, ManifestFormatError or what a signer raises.
    """
    _check_entries(entries, sm.MAX_ENTRIES)
    if not 0 <= svn <= 128:
        raise ManifestBuildError(f"SVN: expected 0 to 128, found {svn}")
    if vendor.manifest.pqc.algorithm is not owner.manifest.pqc.algorithm:
        raise SignerError("vendor and owner sign with different post-quantum algorithms")
    manifest = sm.SocManifest(
        version=version,
        svn=svn,
        flags=sm.FLAG_VENDOR_SIGNATURE_REQUIRED if vendor_signs_images else 0,
        vendor_keys=vendor.manifest.keys,
        owner_keys=owner.manifest.keys,
        image_list=sm.encode_list(entries),
    )
    preamble = manifest.encode_preamble()
    manifest = replace(
        manifest,
        vendor_key_signatures=vendor.firmware.sign(sm.VENDOR_SIGNED.of(preamble)),
        owner_key_signatures=owner.firmware.sign(sm.OWNER_KEYS.of(preamble)),
        owner_image_signatures=owner.manifest.sign(manifest.image_list),
    )
    if vendor_signs_images:
        signatures = vendor.manifest.sign(manifest.image_list)
        manifest = replace(manifest, vendor_image_signatures=signatures)
    return manifest.encode()


def build_owner(
    entries: tuple[sm.ImageMetadata, ...], *, owner: Party, svn: int = 0, version: int = 1
) -> bytes:
    """Build and sign a manifest of an owner alone. Raises as `build`."""
    _check_entries(entries, sm.OWNER_MAX_ENTRIES)
    if not 0 <= svn <= 255:
        raise ManifestBuildError(f"SVN: expected 0 to 255, found {svn}")
    manifest = sm.OwnerManifest(
        version=version,
        svn=svn,
        owner_keys=owner.manifest.keys,
        image_list=sm.encode_list(entries, slots=sm.OWNER_MAX_ENTRIES),
    )
    signed = sm.OWNER_SIGNED.of(manifest.encode_preamble())
    return replace(
        manifest,
        owner_key_signatures=owner.firmware.sign(signed),
        owner_image_signatures=owner.manifest.sign(manifest.image_list),
    ).encode()
