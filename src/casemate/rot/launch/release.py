"""Plays the vendor and the owner of a host: keys, a firmware bundle, a SoC manifest.

For a demonstration, a test bench or a first installation of one's own: the keys live in this
process for one release and are forgotten with it. A real release signs with `casemate bundle` and
`casemate manifest`, with keys in an HSM.

The bundle boots the root of trust itself. This one runs in Python, so its FMC and runtime are lists
of its own files with their SHA-384: what the device measures is the code that measures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, mldsa

import casemate
from casemate.rot.bundle import build
from casemate.rot.bundle.signers import EcdsaSigner, MldsaSigner
from casemate.rot.fuses import PqcKeyType
from casemate.rot.launch import authorization
from casemate.rot.launch.image import Part
from casemate.rot.soc_manifest import build as manifest_build
from casemate.rot.soc_manifest.build import Pair, Party

#: The user that may set manifests: the PL0 of the bundles made here.
OPERATOR = 0x434D
_FMC_ADDRESS, _RUNTIME_ADDRESS = 0x40000000, 0x40005000


@dataclass(frozen=True, slots=True)
class Release:
    """What a host is given: the bundle, the manifest, and the hashes to be fused (48 bytes)."""

    bundle: bytes
    manifest: bytes
    vendor_pk_hash: bytes
    owner_pk_hash: bytes


def _pair() -> Pair:
    return Pair(
        EcdsaSigner(ec.generate_private_key(ec.SECP384R1())),
        MldsaSigner(mldsa.MLDSA87PrivateKey.generate()),
    )


def release(parts: tuple[Part, ...], *, svn: int = 1) -> Release:
    """Make new keys, sign a bundle of this root of trust and a manifest of these parts."""
    vendor, owner = Party(_pair(), _pair()), Party(_pair(), _pair())
    keys = build.VendorKeys(
        ecc=(vendor.firmware.ecc.public_key,),
        pqc=(vendor.firmware.pqc.public_key,),
        pqc_key_type=PqcKeyType.MLDSA,
    )
    unsigned = build.build(
        _executable(("rot",), _FMC_ADDRESS, pattern="*.py"),
        _executable(("rot", "formats"), _RUNTIME_ADDRESS, pattern="**/*.py"),
        keys,
        svn=svn,
        pl0_pauser=OPERATOR,
    )
    signed = build.sign_as_vendor(unsigned, vendor.firmware.ecc, vendor.firmware.pqc)
    return Release(
        bundle=build.sign_as_owner(signed, owner.firmware.ecc, owner.firmware.pqc),
        manifest=manifest_build.build(
            authorization.entries(parts), vendor=vendor, owner=owner, svn=svn
        ),
        vendor_pk_hash=keys.fuse_hash(),
        owner_pk_hash=build.owner_fuse_hash(
            owner.firmware.ecc.public_key, owner.firmware.pqc.public_key
        ),
    )


def _executable(rooms: tuple[str, ...], address: int, *, pattern: str) -> build.Executable:
    root = Path(casemate.__file__).parent
    lines = [
        f"{hashlib.sha384(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for room in rooms
        for path in sorted((root / room).glob(pattern))
    ]
    return build.Executable(content="".join(lines).encode(), load_addr=address, entry_point=address)
