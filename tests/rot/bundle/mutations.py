"""Random bundles, fuses and resets around the good ones: half signed again, half not.

Each draw is a pure function of its number and of the keys of the run.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.verify import verify
from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse
from tests.rot.bundle.parts import BOTH, flip, forge, fuses_for, good, make, patch

U32_EDGES = (0, 1, 2, 3, 4, 5, 31, 32, 33, 128, 129, 255, 0x7FFFFFFF, 0xFFFFFFFC, 0xFFFFFFFF)
ADDRESSES = (
    *(0, 0x3FFFFFFC, 0x40000000, 0x40000001, 0x40000002, 0x40000400, 0x40005000, 0x40005002),
    *(0x4003FFF0, 0x4003FFFC, 0x40040000, 0xFFFFFC00, 0xFFFFFFFC, 0xFFFFFFFF),
)
OFFSETS = (
    *(0, 4, 12, fb.MANIFEST_SIZE - 4, fb.MANIFEST_SIZE, fb.MANIFEST_SIZE + 4),
    *(fb.MANIFEST_SIZE + 1024, fb.MANIFEST_SIZE + 2048, 0x10000, 0x40000, 0xFFFFFC00, 0xFFFFFFFF),
)
SIZES = (0, 1, 4, 799, 800, 801, 1023, 1024, 1025, 4096, 0x40000, 0x7FFFFFFF, 0xFFFFFFFF)
LMS_TYPES = (0, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 255)


@dataclass(frozen=True)
class Draw:
    """One question: would this bundle boot with these fuses?"""

    bundle: bytes
    fuses: Fuses
    cold_boot: VerifiedFirmware | None
    dot_owner_pk_hash: bytes | None


def _forged(rng: random.Random, kind: PqcKeyType) -> bytes:
    header: dict[str, Any] = {}
    fmc: dict[str, Any] = {}
    runtime: dict[str, Any] = {}
    manifest: dict[str, Any] = {}
    for _ in range(rng.randint(1, 2)):
        match rng.randrange(9):
            case 0:
                header["svn"] = rng.choice(U32_EDGES)
            case 1:
                header["toc_len"] = rng.choice(U32_EDGES)
            case 2:
                header["vendor_ecc_index"] = manifest["vendor_ecc_index"] = rng.choice(U32_EDGES)
            case 3:
                header["vendor_pqc_index"] = manifest["vendor_pqc_index"] = rng.choice(U32_EDGES)
            case 4:
                header[rng.choice(("vendor_ecc_index", "vendor_pqc_index"))] = rng.choice(U32_EDGES)
            case 5:
                rng.choice((fmc, runtime))["load_addr"] = rng.choice(ADDRESSES)
            case 6:
                rng.choice((fmc, runtime))["entry_point"] = rng.choice(ADDRESSES)
            case 7:
                rng.choice((fmc, runtime))["offset"] = rng.choice(OFFSETS)
            case 8:
                rng.choice((fmc, runtime))["size"] = rng.choice(SIZES)
    return forge(kind, header=header, fmc=fmc, runtime=runtime, **manifest)


def _patched(rng: random.Random, kind: PqcKeyType, bundle: bytes) -> bytes:
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(tuple(fb.LAYOUT))
        span = fb.LAYOUT[name]
        at = rng.randrange(span.start, span.end)
        match rng.randrange(7):
            case 0 | 1:
                bundle = flip(bundle, at, 1 << rng.randrange(8))
            case 2:
                bundle = patch(
                    bundle, at, rng.randbytes(min(rng.choice((1, 4, 48)), span.end - at))
                )
            case 3:
                bundle = patch(bundle, span.start, bytes(span.size))
            case 4:
                bundle = patch(bundle, span.start, b"\xff" * min(span.size, 48))
            case 5:
                info = fb.LAYOUT["vendor_key_info"].start
                where = info + rng.choice((0, 1, 3, 196, 197, 198, 199))
                bundle = patch(bundle, where, bytes((rng.choice((0, 1, 2, 3, 4, 5, 32, 33, 255)),)))
            case 6:
                party = fb.LAYOUT[rng.choice(("vendor_pqc_signature", "owner_pqc_signature"))]
                where, value = rng.choice(
                    (
                        (party.start + 1256, rng.choice(LMS_TYPES)),
                        (party.start + 4, rng.choice(LMS_TYPES)),
                        (party.start, rng.choice((0, 1, 0x7FFF, 0x8000, 0xFFFFFFFF))),
                    )
                )
                bundle = patch(bundle, where, value.to_bytes(4, "big"))
    return bundle


def _fuses(rng: random.Random, bundle: bytes) -> Fuses:
    changes: dict[str, Any] = {}
    for _ in range(rng.choice((0, 0, 1, 2))):
        match rng.randrange(8):
            case 0:
                changes["lifecycle"] = rng.choice(tuple(Lifecycle))
            case 1:
                changes["ecc_revocation"] = rng.randrange(16)
            case 2:
                changes["lms_revocation"] = rng.choice((0, 1, 2, 0xFFFFFFFF, rng.getrandbits(32)))
            case 3:
                changes["mldsa_revocation"] = rng.randrange(16)
            case 4:
                changes["firmware_svn_fuse"] = svn_fuse(rng.choice((0, 4, 5, 6, 127, 128)))
            case 5:
                changes["anti_rollback_disable"] = True
            case 6:
                changes["pqc_key_type"] = rng.choice(tuple(PqcKeyType))
            case 7:
                field = rng.choice(("vendor_pk_hash", "owner_pk_hash"))
                changes[field] = rng.choice((bytes(48), rng.randbytes(48)))
    return fuses_for(bundle, **changes)


def draw(number: int) -> Draw:
    """The question of that number."""
    rng = random.Random(number)
    kind = rng.choice(BOTH)
    bundle = good(kind)
    style = rng.randrange(10)
    if style < 4:
        bundle = _forged(rng, kind)
    if style >= 3:
        bundle = _patched(rng, kind, bundle)
    if rng.randrange(12) == 0:
        bundle = bundle[: rng.randrange(fb.MANIFEST_SIZE, len(bundle))]
    elif rng.randrange(12) == 0:
        at = rng.randrange(fb.MANIFEST_SIZE, len(bundle))
        bundle = flip(bundle, at, 1 << rng.randrange(8))
    hashed = bundle if rng.randrange(2) else good(kind)
    fuses = _fuses(rng, hashed)
    cold_boot = None
    if rng.randrange(5) == 0:
        start = rng.choice((good(kind), make(kind, ecc_index=rng.randrange(4))))
        cold_boot = verify(start, fuses_for(start))
    dot = rng.choice((None, None, None, rng.randbytes(48), _owner_hash(bundle)))
    return Draw(bundle, fuses, cold_boot, dot)


def _owner_hash(bundle: bytes) -> bytes:
    return hashlib.sha384(fb.OWNER_KEYS.of(bundle)).digest()
