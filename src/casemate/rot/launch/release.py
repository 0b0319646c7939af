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


class Publisher:
    """The vendor and the owner of a host's firmware, with new keys: they sign its releases.

    A provisioning tool: its keys live in this process, for as long as the object does.
    """

    def __init__(self) -> None:
        self._vendor, self._owner = Party(_pair(), _pair()), Party(_pair(), _pair())
        self._keys = build.VendorKeys(
            ecc=(self._vendor.firmware.ecc.public_key,),
            pqc=(self._vendor.firmware.pqc.public_key,),
            pqc_key_type=PqcKeyType.MLDSA,
        )

    def release(self, parts: tuple[Part, ...], *, svn: int = 1) -> Release:
        """Sign a bundle of this root of trust and a manifest of these parts."""
        unsigned = build.build(
            _executable(("rot",), _FMC_ADDRESS, pattern="*.py"),
            _executable(("rot", "formats"), _RUNTIME_ADDRESS, pattern="**/*.py"),
            self._keys,
            svn=svn,
            pl0_pauser=OPERATOR,
        )
        vendor, owner = self._vendor.firmware, self._owner.firmware
        signed = build.sign_as_vendor(unsigned, vendor.ecc, vendor.pqc)
        return Release(
            bundle=build.sign_as_owner(signed, owner.ecc, owner.pqc),
            manifest=self.manifest(parts, svn=svn),
            vendor_pk_hash=self._keys.fuse_hash(),
            owner_pk_hash=build.owner_fuse_hash(owner.ecc.public_key, owner.pqc.public_key),
        )

    def manifest(self, parts: tuple[Part, ...], *, svn: int = 1) -> bytes:
        """Sign a SoC manifest of these parts alone."""
        return manifest_build.build(
            authorization.entries(parts), vendor=self._vendor, owner=self._owner, svn=svn
        )


def _pair() -> Pair:
    return Pair(
        EcdsaSigner(ec.generate_private_key(ec.SECP384R1())),
        MldsaSigner(mldsa.MLDSA87PrivateKey.generate()),
    )


def release(parts: tuple[Part, ...], *, svn: int = 1) -> Release:
    """Make a publisher's keys, sign a bundle and a manifest of these parts, forget the keys."""
    return Publisher().release(parts, svn=svn)


def _executable(rooms: tuple[str, ...], address: int, *, pattern: str) -> build.Executable:
    root = Path(casemate.__file__).parent
    lines = [
        f"{hashlib.sha384(path.read_bytes()).hexdigest()}  {path.relative_to(root)}\n"
        for room in rooms
        for path in sorted((root / room).glob(pattern))
    ]
    return build.Executable(content="".join(lines).encode(), load_addr=address, entry_point=address)
