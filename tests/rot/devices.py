"""Devices and firmware for the tests of the root of trust."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest

from casemate.rot.errors import BootError
from casemate.rot.firmware import ResetReason, VerifiedFirmware
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse


def golden(name: str) -> bytes:
    """A golden file of the public smoke tests, or skip."""
    if not (folder := os.environ.get("CASEMATE_DATA")):
        pytest.skip("CASEMATE_DATA is not set: the golden files are not here")
    return (Path(folder) / "caliptra" / name).read_bytes()


def firmware(
    *, fmc: bytes = b"fmc", rt: bytes = b"rt", svn: int = 5, **changes: object
) -> VerifiedFirmware:
    """Firmware that has been verified."""
    values: dict[str, object] = {
        "fmc_digest": hashlib.sha384(fmc).digest(),
        "rt_digest": hashlib.sha384(rt).digest(),
        "svn": svn,
        "owner_pk_hash": hashlib.sha384(b"owner").digest(),
        "vendor_ecc_index": 0,
        "vendor_pqc_index": 0,
        "pqc_key_type": PqcKeyType.MLDSA,
    }
    return VerifiedFirmware(**(values | changes))  # type: ignore[arg-type]


class Shelf:
    """A verifier of bundles that are names of firmware; any other bundle is refused."""

    def __init__(self, **firmware_by_name: VerifiedFirmware) -> None:
        self.firmware = firmware_by_name
        self.asked: list[tuple[ResetReason, VerifiedFirmware | None]] = []

    def __call__(
        self,
        bundle: bytes,
        fuses: Fuses,
        *,
        reason: ResetReason,
        cold_boot: VerifiedFirmware | None,
    ) -> VerifiedFirmware:
        self.asked.append((reason, cold_boot))
        try:
            return self.firmware[bundle.decode()]
        except (KeyError, UnicodeDecodeError):
            raise BootError("the bundle's marker is wrong", 0x000B_0001) from None


def random_fuses(source: random.Random) -> Fuses:
    """Fuses with every field at random."""
    return Fuses(
        uds_seed=source.randbytes(64),
        field_entropy=source.randbytes(32),
        vendor_pk_hash=source.randbytes(48),
        owner_pk_hash=source.choice((bytes(48), source.randbytes(48))),
        ecc_revocation=source.randrange(16),
        lms_revocation=source.randrange(1 << 32),
        mldsa_revocation=source.randrange(16),
        firmware_svn_fuse=svn_fuse(source.randrange(129)),
        anti_rollback_disable=source.random() < 0.5,
        soc_manifest_svn_fuse=svn_fuse(source.randrange(129)),
        soc_manifest_max_svn=source.randrange(129),
        idevid_cert_attributes=source.randbytes(96),
        pqc_key_type=source.choice((PqcKeyType.MLDSA, PqcKeyType.LMS)),
        lifecycle=source.choice(list(Lifecycle)),
        debug_locked=source.random() < 0.75,
        subsystem_mode=source.random() < 0.5,
    )


def write_anchor(path: Path, obfuscation_key: bytes, csr_mac_key: bytes) -> Path:
    """An anchor file with known secrets, to compare silicon with the model."""
    body = b"CMANCHR1" + obfuscation_key + csr_mac_key
    path.write_bytes(body + hashlib.sha384(body).digest())
    path.chmod(0o600)
    return path
