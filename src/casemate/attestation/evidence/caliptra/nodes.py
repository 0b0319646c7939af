"""The measurements in a DPE's certificate: one node for each TcbInfo of its MultiTcbInfo.

The first two are the runtime's own: its registers (RTMR: PCR 2 with PCR 3 as journey) and the
digest of its initial configuration (CCIV), which the privileged user owns. Then come those that
users had measured.

Source: caliptra-sw runtime/src/drivers.rs, caliptra-dpe dpe/src/x509.rs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.family import Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats import dice, pcr_log
from casemate.formats.corim.measurement import (
    SHA384,
    Digest,
    Measurement,
    MeasurementValues,
    Svn,
)
from casemate.formats.module_parts import PartName
from casemate.formats.pcr_log import PCR_SIZE

_OWN = (environments.RT_REGISTERS_TYPE, environments.CONFIGURATION_TYPE)


@dataclass(frozen=True, slots=True)
class Node:
    """One measurement. `kind` is a firmware id or one of the runtime's own two.

    `journey` is the cumulative value (48 bytes) where the certificate shows it, `replaced` whether
    it says that something else was measured here before; `locality` is the user who owns it.
    `measured` is the same as a measurement, made once where the certificate is read.
    """

    kind: int
    current: bytes
    svn: int
    journey: bytes | None
    replaced: bool
    locality: int
    measured: Measured


def read_nodes(infos: Sequence[dice.TcbInfo]) -> tuple[Node, ...] | None:
    """The nodes of a MultiTcbInfo, the root first; None if it is not a DPE's."""
    owner = infos[1].vendor_info if len(infos) > 1 else None
    nodes = [_node(info, own=info.vendor_info == owner) for info in infos]
    found = tuple(node for node in nodes if node is not None)
    kinds = tuple(node.kind for node in found)
    if len(found) != len(nodes) or kinds[:2] != _OWN or set(kinds[2:]) & set(_OWN):
        return None
    return found


def _node(info: dice.TcbInfo, *, own: bool) -> Node | None:
    current = _sha384(info.fwids or ())
    registers = info.integrity_registers or ()
    kind, locality = info.type or b"", info.vendor_info or b""
    if current is None or len(kind) != 4 or len(locality) != 4 or len(registers) > 1:
        return None
    journey = None
    if registers:
        journey = _sha384(registers[0].digests)
        if journey is None or registers[0].number != 0:
            return None
    number, user = int.from_bytes(kind, "little"), int.from_bytes(locality, "big")
    values = MeasurementValues(
        svn=Svn(info.svn or 0),
        digests=(Digest(SHA384, current),),
        integrity_registers=() if journey is None else ((0, (Digest(SHA384, journey),)),),
    )
    return Node(
        kind=number,
        current=current,
        svn=info.svn or 0,
        journey=journey,
        replaced=journey not in (None, pcr_log.extend(bytes(PCR_SIZE), current)),
        locality=user,
        measured=_image(number, values) if own else _context(number, user, values),
    )


def _image(kind: int, values: MeasurementValues) -> Measured:
    part = PartName.of_fw_id(kind)
    return Measured(
        label=f"image 0x{kind:08X}" if part is None else part.value,
        environment=environments.of_firmware(kind),
        measurement=Measurement(values=values),
        claim=TrustClaim.EXECUTABLES,
    )


def _context(kind: int, user: int, values: MeasurementValues) -> Measured:
    return Measured(
        label=f"type 0x{kind:08X} of user 0x{user:08X}",
        environment=environments.of_context(kind, user),
        measurement=Measurement(values=values),
        claim=TrustClaim.RUNTIME_OPAQUE,
    )


def _sha384(fwids: Sequence[dice.Fwid]) -> bytes | None:
    """The one SHA-384 that is there."""
    if len(fwids) != 1 or fwids[0].hash_algorithm != dice.OID_SHA384:
        return None
    return fwids[0].digest if len(fwids[0].digest) == PCR_SIZE else None
