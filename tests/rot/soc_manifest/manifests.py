"""SoC manifests and the parties that sign them; every key is made when the tests run."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from typing import Any

from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.rot.fuses import PqcKeyType
from casemate.rot.soc_manifest.build import Pair, Party, build, build_owner
from tests.rot.bundle.parts import ecc_signer, good, parties, pqc_signer


def digest(content: bytes) -> bytes:
    return hashlib.sha384(content).digest()


FIRMWARE = sm.ImageMetadata(
    fw_id=7,
    digest=digest(b"firmware"),
    component_id=1,
    flags=sm.ImageMetadata.flags_of(source=2, exec_bit=5),
    load_address=0x1_0000_2000,
    staging_address=0x2_0000_0000,
)
LIBRARY = sm.ImageMetadata(fw_id=3, digest=digest(b"library"))
ANYTHING = sm.ImageMetadata(
    fw_id=9, digest=bytes(48), flags=sm.ImageMetadata.flags_of(ignore_auth_check=True)
)
IMAGES = (FIRMWARE, LIBRARY, ANYTHING)
OWNED = (sm.ImageMetadata(fw_id=100, digest=digest(b"owner's own")),)


@functools.cache
def vendor(kind: PqcKeyType) -> Party:
    who = parties(kind)
    firmware = Pair(who.vendor_ecc[0], who.vendor_pqc[0])
    return Party(firmware, Pair(ecc_signer(), pqc_signer(kind)))


@functools.cache
def owner(kind: PqcKeyType) -> Party:
    who = parties(kind)
    return Party(Pair(who.owner_ecc, who.owner_pqc), Pair(ecc_signer(), pqc_signer(kind)))


@functools.cache
def manifest(kind: PqcKeyType, *, svn: int = 4, vendor_signs_images: bool = True) -> bytes:
    return build(
        IMAGES,
        vendor=vendor(kind),
        owner=owner(kind),
        svn=svn,
        vendor_signs_images=vendor_signs_images,
    )


@functools.cache
def owner_manifest(kind: PqcKeyType, *, svn: int = 4) -> bytes:
    return build_owner(OWNED, owner=owner(kind), svn=svn)


def firmware_of(kind: PqcKeyType) -> fb.Manifest:
    """The manifest of the bundle that booted."""
    return fb.Manifest.decode(good(kind))


def resign(kind: PqcKeyType, image_list: bytes, **changes: Any) -> bytes:
    """A manifest with any list and any field, signed by all parties."""
    read = replace(sm.SocManifest.decode(manifest(kind)), image_list=image_list, **changes)
    preamble = read.encode_preamble()
    read = replace(
        read,
        vendor_key_signatures=vendor(kind).firmware.sign(sm.VENDOR_SIGNED.of(preamble)),
        owner_key_signatures=owner(kind).firmware.sign(sm.OWNER_KEYS.of(preamble)),
        vendor_image_signatures=vendor(kind).manifest.sign(image_list),
        owner_image_signatures=owner(kind).manifest.sign(image_list),
    )
    return read.encode_preamble() + image_list


def resign_owner(kind: PqcKeyType, image_list: bytes, **changes: Any) -> bytes:
    """An owner manifest with any list and any field, signed."""
    read = replace(sm.OwnerManifest.decode(owner_manifest(kind)), image_list=image_list, **changes)
    signed = sm.OWNER_SIGNED.of(read.encode_preamble())
    read = replace(
        read,
        owner_key_signatures=owner(kind).firmware.sign(signed),
        owner_image_signatures=owner(kind).manifest.sign(image_list),
    )
    return read.encode_preamble() + image_list
