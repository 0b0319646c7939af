"""The fuses: every field the boot reads, the public test values, and the rule that they only rise.

Sources: chipsalliance/Caliptra `doc/Caliptra.md` (fuse map), chipsalliance/caliptra-sw
`api/types/src/lib.rs` (default values) and `drivers/src/fuse_bank.rs` (how fields are read).

The rule: a fuse bit goes from 0 to 1 once and never back. So revocation, SVN counters and the
lifecycle only rise, and seeds and hashes are written once, over zeros. `debug_locked` and
`subsystem_mode` are no fuses but inputs that the chip's integrator drives; they may change at any
cold reset.

Byte order: seeds and hashes are in the order of the standard that makes them (a SHA-384 digest as
its 48 bytes), not the word-swapped order of the registers.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from casemate.rot.errors import FuseError

#: Number of bits of a counter that burns one bit for each version.
SVN_BITS = 128


class Lifecycle(enum.IntEnum):
    """The lifecycle state; the values are the register's two bits."""

    UNPROVISIONED = 0
    MANUFACTURING = 1
    PRODUCTION = 3


class PqcKeyType(enum.IntEnum):
    """Which post-quantum signature the bundle carries; 0 in the fuse means: not programmed."""

    UNPROGRAMMED = 0
    MLDSA = 1
    LMS = 3


class KeyIdAlgorithm(enum.IntEnum):
    """How the IDevID's subject key identifier is made (the fuse's three bits)."""

    SHA1 = 0
    SHA256 = 1
    SHA384 = 2
    FUSE = 3
    SHA512 = 4


@dataclass(frozen=True, slots=True)
class IdevidAttributes:
    """The 96 bytes of IDevID certificate attributes, as the ROM reads them.

    Word 0 holds the two key-id algorithms (bits 0-2 ECC, 3-5 ML-DSA), words 1-5 and 6-10 the
    fused key identifiers, word 11 the UEID type, words 12-15 the UEID; the rest is reserved.
    """

    raw: bytes

    def _algorithm(self, shift: int) -> KeyIdAlgorithm:
        code = (self.raw[0] >> shift) & 7
        return KeyIdAlgorithm(code) if code in (0, 1, 2, 4) else KeyIdAlgorithm.FUSE

    @property
    def ecc_key_id_algorithm(self) -> KeyIdAlgorithm:
        """How the ECC IDevID's key identifier is made."""
        return self._algorithm(0)

    @property
    def mldsa_key_id_algorithm(self) -> KeyIdAlgorithm:
        """How the ML-DSA IDevID's key identifier is made."""
        return self._algorithm(3)

    @property
    def ecc_key_id(self) -> bytes:
        """The fused key identifier (20 bytes) for `KeyIdAlgorithm.FUSE`."""
        return self.raw[4:24]

    @property
    def mldsa_key_id(self) -> bytes:
        """The fused key identifier (20 bytes) for `KeyIdAlgorithm.FUSE`."""
        return self.raw[24:44]

    @property
    def ueid(self) -> bytes:
        """The UEID (17 bytes): the type byte, then the manufacturer's serial number."""
        return self.raw[44:45] + self.raw[48:64]

    @classmethod
    def build(
        cls,
        *,
        ueid: bytes,
        ecc_key_id_algorithm: KeyIdAlgorithm = KeyIdAlgorithm.SHA1,
        mldsa_key_id_algorithm: KeyIdAlgorithm = KeyIdAlgorithm.SHA1,
        ecc_key_id: bytes = bytes(20),
        mldsa_key_id: bytes = bytes(20),
    ) -> Self:
        """Lay the attributes out. Raises FuseError for a wrong size."""
        for name, value, size in (
            ("ueid", ueid, 17),
            ("ecc_key_id", ecc_key_id, 20),
            ("mldsa_key_id", mldsa_key_id, 20),
        ):
            if len(value) != size:
                raise FuseError(f"{name}: expected {size} bytes, found {len(value)}")
        flags = ecc_key_id_algorithm | mldsa_key_id_algorithm << 3
        raw = (
            flags.to_bytes(4, "little")
            + ecc_key_id
            + mldsa_key_id
            + ueid[:1]
            + bytes(3)
            + ueid[1:]
            + bytes(32)
        )
        return cls(raw)


def svn_fuse(svn: int) -> int:
    """The fuse value of a security version number: that many low bits set.

    Raises FuseError outside 0..128.
    """
    if not 0 <= svn <= SVN_BITS:
        raise FuseError(f"SVN: expected 0 to {SVN_BITS}, found {svn}")
    return (1 << svn) - 1


#: Sizes of the byte fields and widths in bits of the integer fields.
_BYTES = {
    "uds_seed": 64,
    "field_entropy": 32,
    "hek_seed": 32,
    "vendor_pk_hash": 48,
    "owner_pk_hash": 48,
    "idevid_cert_attributes": 96,
    "hsm_id": 16,
    "debug_unlock_token_hash": 64,
}
_BITS = {
    "ecc_revocation": 4,
    "lms_revocation": 32,
    "mldsa_revocation": 4,
    "firmware_svn_fuse": SVN_BITS,
    "soc_manifest_svn_fuse": SVN_BITS,
    "soc_manifest_max_svn": 8,
    "soc_stepping_id": 16,
}
_INPUTS = frozenset({"debug_locked", "subsystem_mode"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuses:
    """One device's fuses and the two security inputs beside them.

    The seeds are obfuscated: without the device's obfuscation key (the anchor) they are no
    secrets, but their `repr` is hidden all the same.
    """

    uds_seed: bytes = dataclasses.field(default=bytes(64), repr=False)
    field_entropy: bytes = dataclasses.field(default=bytes(32), repr=False)
    hek_seed: bytes = dataclasses.field(default=bytes(32), repr=False)
    vendor_pk_hash: bytes = bytes(48)
    owner_pk_hash: bytes = bytes(48)
    ecc_revocation: int = 0
    lms_revocation: int = 0
    mldsa_revocation: int = 0
    firmware_svn_fuse: int = 0
    anti_rollback_disable: bool = False
    soc_manifest_svn_fuse: int = 0
    soc_manifest_max_svn: int = 128
    idevid_cert_attributes: bytes = bytes(96)
    hsm_id: bytes = bytes(16)
    soc_stepping_id: int = 0
    pqc_key_type: PqcKeyType = PqcKeyType.MLDSA
    debug_unlock_token_hash: bytes = bytes(64)
    lifecycle: Lifecycle = Lifecycle.UNPROVISIONED
    debug_locked: bool = True
    subsystem_mode: bool = False

    def __post_init__(self) -> None:
        for name, size in _BYTES.items():
            value = getattr(self, name)
            if not isinstance(value, bytes):
                raise FuseError(f"{name}: expected bytes, found {type(value).__name__}")
            if len(value) != size:
                raise FuseError(f"{name}: expected {size} bytes, found {len(value)}")
        for name, bits in _BITS.items():
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int):
                raise FuseError(f"{name}: expected a number, found {type(number).__name__}")
            if not 0 <= number < 1 << bits:
                raise FuseError(f"{name}: expected {bits} bits, found {number:#x}")
        for name in ("anti_rollback_disable", "debug_locked", "subsystem_mode"):
            if not isinstance(getattr(self, name), bool):
                raise FuseError(f"{name}: expected true or false")
        for name, kind in (("pqc_key_type", PqcKeyType), ("lifecycle", Lifecycle)):
            if not isinstance(getattr(self, name), kind):
                raise FuseError(f"{name}: expected one of {', '.join(kind.__members__)}")

    @property
    def firmware_svn(self) -> int:
        """The smallest SVN of a bundle that may run (position of the highest bit set)."""
        return self.firmware_svn_fuse.bit_length()

    @property
    def soc_manifest_svn(self) -> int:
        """The smallest SVN of a SoC manifest that may be set."""
        return self.soc_manifest_svn_fuse.bit_length()

    @property
    def attributes(self) -> IdevidAttributes:
        """The IDevID certificate attributes, decoded."""
        return IdevidAttributes(self.idevid_cert_attributes)

    @property
    def ueid(self) -> bytes:
        """The device's UEID (17 bytes), as every certificate carries it."""
        return self.attributes.ueid

    @property
    def owner_pk_hash_fused(self) -> bool:
        """Whether an owner is fused (otherwise the first bundle's owner is taken)."""
        return self.owner_pk_hash != bytes(48)


def burn(fuses: Fuses, **changes: Any) -> Fuses:
    """Return the fuses after programming `changes`; only bits that are 0 can be set.

    Raises FuseError, changing nothing, if a set bit would be cleared, a seed or hash overwritten,
    or a field does not exist.
    """
    known = {field.name for field in dataclasses.fields(Fuses)}
    for name, new in changes.items():
        if name not in known:
            raise FuseError(f"no fuse is called {name}; there are: {', '.join(sorted(known))}")
        if name in _INPUTS:
            continue
        old = getattr(fuses, name)
        if name in _BYTES:
            if any(old) and old != new:
                raise FuseError(f"{name} is programmed already and can be written once only")
        elif name == "pqc_key_type":
            if old is not PqcKeyType.UNPROGRAMMED and new != old:
                raise FuseError(f"{name} is {old.name} already and can be written once only")
        elif int(old) & ~int(new):
            raise FuseError(
                f"{name} only rises: it is {int(old):#x}, asked for {int(new):#x}, which would "
                "clear a bit that is set"
            )
    return dataclasses.replace(fuses, **changes)


def program_field_entropy(fuses: Fuses, entropy: bytes) -> Fuses:
    """Return the fuses with field entropy (32 bytes, obfuscated form) programmed by the owner.

    It gives the device a new LDevID and all below; the IDevID stays. The chip allows it in the
    production lifecycle only (caliptra-sw, runtime/src/fe_programming.rs).

    Raises FuseError in another lifecycle, or if it is programmed already.
    """
    if fuses.lifecycle is not Lifecycle.PRODUCTION:
        raise FuseError(
            "field entropy can be programmed in the production lifecycle only; "
            f"this device is in {fuses.lifecycle.name.lower()}"
        )
    return burn(fuses, field_entropy=entropy)


def raise_svn(
    fuses: Fuses, *, firmware: int | None = None, soc_manifest: int | None = None
) -> Fuses:
    """Return the fuses with the smallest allowed SVN of firmware or SoC manifest raised.

    Raises FuseError if that would lower one, or for an SVN above 128.
    """
    changes: dict[str, int] = {}
    for what, now, asked, fuse in (
        ("firmware", fuses.firmware_svn, firmware, "firmware_svn_fuse"),
        ("SoC manifest", fuses.soc_manifest_svn, soc_manifest, "soc_manifest_svn_fuse"),
    ):
        if asked is None:
            continue
        if asked < now:
            raise FuseError(f"the {what} SVN only rises: it is {now}, asked for {asked}")
        changes[fuse] = getattr(fuses, fuse) | svn_fuse(asked)
    return burn(fuses, **changes)


def to_fields(fuses: Fuses) -> dict[str, Any]:
    """The fields as JSON values: bytes in hexadecimal, enums by name, the rest as it is."""
    result: dict[str, Any] = {}
    for field in dataclasses.fields(fuses):
        value = getattr(fuses, field.name)
        if isinstance(value, bytes):
            result[field.name] = value.hex()
        elif isinstance(value, enum.IntEnum):
            result[field.name] = value.name.lower()
        elif field.name.endswith("_svn_fuse"):
            result[field.name] = f"{value:032x}"
        else:
            result[field.name] = value
    return result


def from_fields(fields: Mapping[str, Any]) -> Fuses:
    """The reverse of `to_fields`: every field must be there, and no other.

    Raises FuseError with the name of the field.
    """
    known = {field.name for field in dataclasses.fields(Fuses)}
    if missing := known - fields.keys():
        raise FuseError(f"missing: {', '.join(sorted(missing))}")
    if unknown := fields.keys() - known:
        raise FuseError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
    values: dict[str, Any] = {}
    for name, value in fields.items():
        values[name] = _from_field(name, value)
    return Fuses(**values)


def _from_field(name: str, value: Any) -> Any:
    if name in _BYTES or name.endswith("_svn_fuse"):
        if not isinstance(value, str):
            raise FuseError(f"{name}: expected hexadecimal text, found {type(value).__name__}")
        try:
            raw = bytes.fromhex(value)
        except ValueError:
            raise FuseError(f"{name}: expected hexadecimal text") from None
        return raw if name in _BYTES else int.from_bytes(raw, "big")
    if name in ("lifecycle", "pqc_key_type"):
        kind: type[enum.IntEnum] = Lifecycle if name == "lifecycle" else PqcKeyType
        member = kind.__members__.get(str(value).upper())
        if member is None:
            choices = ", ".join(key.lower() for key in kind.__members__)
            raise FuseError(f"{name}: expected one of {choices}, found {value!r}")
        return member
    return value


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "big") for word in words)


#: The public test values of caliptra-sw: the fuses of the device that the golden files describe.
DEFAULT_FUSES = Fuses(
    uds_seed=bytes(range(64)),
    field_entropy=bytes(range(0x80, 0xA0)),
    debug_unlock_token_hash=_words(
        *(0x869BA8D5, 0xAD0FCF82, 0x02E56080, 0x3281DA65, 0x9812FFA2, 0xFC28C2D5, 0x154CB645),
        *(0xEE0C38EC, 0x4FD9DD8B, 0xB0BE7DEB, 0x193F6253, 0x81383A91, 0xAB40BD92, 0x0FCD9425),
        *(0x919E6372, 0x3C0BF7A8),
    ),
)

#: The obfuscation key of the public test device (in a chip it stands in the netlist).
DEFAULT_OBFUSCATION_KEY = _words(
    *(0xA0A1A2A3, 0xB0B1B2B3, 0xC0C1C2C3, 0xD0D1D2D3),
    *(0xE0E1E2E3, 0xF0F1F2F3, 0xA4A5A6A7, 0xB4B5B6B7),
)

#: The key of the IDevID CSR envelope's MAC of the public test device.
DEFAULT_CSR_MAC_KEY = _words(
    *(0x014552AD, 0x19550757, 0x50C602DD, 0x85DE4E9B, 0x815CC9EF, 0x0BA81A35, 0x7A05D7C0),
    *(0x7F5EFAEB, 0xF76DD9D2, 0x9E38197F, 0x04052537, 0x25B568F4, 0x432665F1, 0xD11D02A7),
    *(0xBFB9279F, 0xA2EB96D7),
)
