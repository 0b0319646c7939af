"""A device on disk: its anchor, its fuse file and the certificates its manufacturer gave it.

DEVICE/anchor                              device secrets, mode 0600, only silicon reads it
DEVICE/fuses.json (.counter, .lock)        the fuse file
DEVICE/certificates/manufacturer_ca_*.der  the manufacturer's certificates
DEVICE/certificates/idevid_cert_*.der      the IDevID certificates
"""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

from casemate.rot.anchor import FileAnchor
from casemate.rot.boot import RootOfTrust
from casemate.rot.chain import check_chain
from casemate.rot.errors import BootError, RotError
from casemate.rot.firmware import ResetReason, VerifiedFirmware
from casemate.rot.fuse_file import FuseFile
from casemate.rot.fuses import (
    Fuses,
    IdevidAttributes,
    Lifecycle,
    PqcKeyType,
    burn,
    program_field_entropy,
)
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.manufacturer import ManufacturerCa

#: The type byte of a UEID that is a random number (RFC 9711, section 4.2.1.1).
_UEID_RANDOM = 1


class DeviceFolder:
    """The folder of one device; `manufacture` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.anchor = FileAnchor(path / "anchor")
        self.fuse_file = FuseFile(path / "fuses.json")

    def certificate(self, name: str, algorithm: Algorithm) -> bytes:
        """A certificate of the folder: `manufacturer_ca` or `idevid_cert`. Raises RotError."""
        path = self.path / "certificates" / f"{name}_{algorithm.value}.der"
        try:
            return path.read_bytes()
        except OSError as error:
            raise RotError(f"{path}: cannot be read: {error.strerror}") from None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a manufacturer is asked for; hashes are 48 bytes, zeros for none."""

    vendor_pk_hash: bytes = bytes(48)
    owner_pk_hash: bytes = bytes(48)
    lifecycle: Lifecycle = Lifecycle.PRODUCTION
    pqc_key_type: PqcKeyType = PqcKeyType.MLDSA
    #: The serial number in the UEID (16 bytes); random if None.
    serial: bytes | None = None


def manufacture(path: Path, ca: ManufacturerCa, order: Order) -> DeviceFolder:
    """Make a new device: secrets, fuses, IDevID certificates, then the lifecycle asked for.

    The steps are those of a chip: blank fuses are burnt in the manufacturing lifecycle, the device
    starts and hands out its CSR envelope, the manufacturer certifies it; a production device gets
    its field entropy last. Raises RotError and removes what it made if a step fails.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        in_use = any(path.iterdir())
    except OSError as error:
        raise RotError(f"{path}: cannot be made a device's folder: {error.strerror}") from None
    if in_use:
        raise RotError(f"{path}: not empty; a device is made in a folder of its own")
    try:
        return _manufacture(DeviceFolder(path), ca, order)
    except (RotError, OSError) as error:
        for entry in path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if isinstance(error, OSError):
            raise RotError(f"{path}: cannot be written: {error}") from None
        raise


def _manufacture(device: DeviceFolder, ca: ManufacturerCa, order: Order) -> DeviceFolder:
    device.anchor.create()
    serial = os.urandom(16) if order.serial is None else order.serial
    attributes = IdevidAttributes.build(ueid=bytes((_UEID_RANDOM,)) + serial)
    fuses = burn(
        Fuses(pqc_key_type=order.pqc_key_type),
        uds_seed=os.urandom(64),
        vendor_pk_hash=order.vendor_pk_hash,
        owner_pk_hash=order.owner_pk_hash,
        idevid_cert_attributes=attributes.raw,
        lifecycle=Lifecycle.MANUFACTURING,
    )
    crypto = device.anchor.open()
    root = RootOfTrust(crypto, _no_firmware, make_requests=True)
    root.power_on(fuses)
    envelope = root.csr_envelope
    if envelope is None:
        raise RotError("the device handed out no CSR envelope")
    issued = ca.issue_from_envelope(envelope, crypto, fuses)
    folder = device.path / "certificates"
    folder.mkdir(mode=0o755)
    for algorithm, certificate in issued.items():
        authority = ca.certificate(algorithm)
        check_chain(
            (authority, certificate, root.certificates[LayerName.LDEVID, algorithm]),
            ("manufacturer_ca", "idevid_cert", "ldevid_cert"),
        )
        (folder / f"manufacturer_ca_{algorithm.value}.der").write_bytes(authority)
        (folder / f"idevid_cert_{algorithm.value}.der").write_bytes(certificate)
    if order.lifecycle is Lifecycle.PRODUCTION:
        fuses = burn(fuses, lifecycle=Lifecycle.PRODUCTION)
        fuses = program_field_entropy(fuses, os.urandom(32))
    device.fuse_file.create(fuses)
    return device


def _no_firmware(
    bundle: bytes, fuses: Fuses, *, reason: ResetReason, cold_boot: VerifiedFirmware | None
) -> VerifiedFirmware:
    raise BootError("a device in manufacture runs no firmware")
