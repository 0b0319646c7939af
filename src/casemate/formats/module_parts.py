"""The parts of the module's firmware: the names and ids under which they are measured.

A SoC manifest lists each by its firmware id with its SHA-384, the DPE keeps a node of that type
for each, and key reports list them by name.
"""

from __future__ import annotations

from enum import Enum


class PartName(Enum):
    """The parts, in the order in which they are measured; the value is the name of key reports."""

    INTERPRETER = "interpreter"
    SHARED_OBJECTS = "shared-objects"
    STANDARD_LIBRARY = "standard-library"
    SILICON = "silicon"
    PACKAGE = "package"
    PKCS11 = "pkcs11"

    @property
    def fw_id(self) -> int:
        """Its image id in the SoC manifest: 0x434D0001 and up (`CM`)."""
        return 0x434D0001 + list(PartName).index(self)

    @classmethod
    def of_fw_id(cls, fw_id: int) -> PartName | None:
        """The part with this id, if it is one of the module's."""
        index = fw_id - 0x434D0001
        parts = list(cls)
        return parts[index] if 0 <= index < len(parts) else None
