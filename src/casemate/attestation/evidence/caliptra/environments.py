"""Where Caliptra evidence is measured: the CoRIM environments; the package has the table."""

from __future__ import annotations

from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import TAG_BYTES, Environment


def of_type(name: bytes) -> Environment:
    """The environment of a TcbInfo, by its type: class-id is these bytes."""
    return Environment(class_id=Tag(TAG_BYTES, name))


def of_firmware(fw_id: int) -> Environment:
    """The environment of a stashed image, by its 32-bit firmware id (a DPE node's type)."""
    return of_type(f"0x{fw_id:08X}".encode())


def of_context(kind: int, locality: int) -> Environment:
    """The environment of what another user than the privileged one measured: type and user."""
    return of_type(f"0x{kind:08X}@0x{locality:08X}".encode())


DEVICE_STATUS = of_type(b"CALIPTRA_2_X_DEVICE_STATUS")
VENDOR_KEYS = of_type(b"CALIPTRA_2_X_VENDOR_PK_HASH")
OWNER_KEYS = of_type(b"CALIPTRA_2_X_OWNER_PK_HASH")
FMC = of_type(b"CALIPTRA_2_X_FMC_FIRMWARE_INFO")
RUNTIME = of_type(b"CALIPTRA_2_X_RT_FIRMWARE_INFO")
#: The two DPE nodes that the runtime makes by itself: its PCRs, and its initial configuration.
RT_REGISTERS_TYPE, CONFIGURATION_TYPE = (int.from_bytes(n, "big") for n in (b"RTMR", b"CCIV"))
CONFIGURATION = of_firmware(CONFIGURATION_TYPE)
