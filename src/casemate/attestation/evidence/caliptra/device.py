"""What a device says of itself, held against each other: certificates, quote, log and token.

Checks, in order, each with its own error: the FMC certificate's MultiTcbInfo has owner, vendor and
FMC entries, and they are those that follow from the log (`casemate.formats.device_status` has the
recipes); its SVN is that of the device status; the RT certificate's TcbInfo is what PCR 2 holds;
the DPE leaf begins with the runtime's registers. `components` says what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.caliptra.layers import Layer
from casemate.attestation.evidence.caliptra.replay import Boot
from casemate.formats import device_status, dice, pcr_log
from casemate.formats.pcr_log import PCR_SIZE

OWNER_INFO, VENDOR_INFO = b"CALIPTRA_2_X_FUSE_OWNER_INFO", b"CALIPTRA_2_X_FUSE_VENDOR_INFO"
FMC_INFO, RT_INFO = b"CALIPTRA_2_X_FMC_FIRMWARE_INFO", b"CALIPTRA_2_X_RT_FIRMWARE_INFO"
STASH_REGISTER = 31


@dataclass(frozen=True, slots=True)
class Firmware:
    """One firmware layer as its certificate states it: SHA-384 and SVN (one byte)."""

    digest: bytes
    svn: int | None


@dataclass(frozen=True, slots=True)
class Node:
    """One measurement in a DPE leaf. `kind` is a firmware id or one of the runtime's own two.

    `journey` is the cumulative value (48 bytes) where the leaf shows it; `locality` who owns it.
    """

    kind: int
    current: bytes
    svn: int
    journey: bytes | None
    locality: int

    @property
    def replaced(self) -> bool:
        """Whether something else was measured here before."""
        first = pcr_log.extend(bytes(PCR_SIZE), self.current)
        return self.journey is not None and self.journey != first


def fmc_infos(layer: Layer, checks: Checklist) -> dict[bytes, Firmware]:
    """The three entries of an FMC certificate by type. Raises EvidenceError."""
    found = {info.type: info for info in layer.tcb_infos}
    checks.require(
        "fmc-tcb-info",
        layer.multiple
        and found.keys() == {OWNER_INFO, VENDOR_INFO, FMC_INFO}
        and len(found) == len(layer.tcb_infos),
        "the FMC alias certificate does not list owner, vendor and FMC in a MultiTcbInfo",
        found=", ".join(str(info.type) for info in layer.tcb_infos) or "nothing",
    )
    return {
        kind: _firmware(found[kind], layer, checks) for kind in (OWNER_INFO, VENDOR_INFO, FMC_INFO)
    }


def runtime_info(layer: Layer, checks: Checklist) -> Firmware:
    """The entry of an RT certificate. Raises EvidenceError."""
    checks.require(
        "runtime-tcb-info",
        not layer.multiple and len(layer.tcb_infos) == 1 and layer.tcb_infos[0].type == RT_INFO,
        "the RT alias certificate does not state the runtime firmware in a TcbInfo",
    )
    return _firmware(layer.tcb_infos[0], layer, checks)


def _firmware(info: dice.TcbInfo, layer: Layer, checks: Checklist) -> Firmware:
    fwids = info.fwids or ()
    if len(fwids) != 1 or fwids[0].hash_algorithm != dice.OID_SHA384 or len(fwids[0].digest) != 48:
        checks.refuse(
            f"{layer.role.slug}-digest",
            f"{layer.title} does not state one SHA-384 of {info.type!r}",
        )
    if info.svn is None:
        return Firmware(fwids[0].digest, None)
    # The templates keep the field two bytes wide by setting the upper one to 1.
    if info.svn >> 8 not in (0, 1):
        checks.refuse(f"{layer.role.slug}-svn", f"{layer.title} states the SVN {info.svn:#x}")
    return Firmware(fwids[0].digest, info.svn & 0xFF)


def leaf_nodes(layer: Layer, checks: Checklist) -> tuple[Node, ...]:
    """The measurements of a DPE leaf (or exported CDI), the root first. Raises EvidenceError."""
    nodes = []
    for position, info in enumerate(layer.tcb_infos):
        fwids, registers = info.fwids or (), info.integrity_registers or ()
        digests = registers[0].digests if len(registers) == 1 and registers[0].number == 0 else ()
        well_formed = (
            len(fwids) == 1
            and fwids[0].hash_algorithm == dice.OID_SHA384
            and len(fwids[0].digest) == 48
            and len(info.type or b"") == 4
            and len(info.vendor_info or b"") == 4
            and (not registers or (len(digests) == 1 and len(digests[0].digest) == 48))
        )
        if not well_formed:
            checks.refuse(
                f"{layer.role.slug}-tcb-info",
                f"entry {position} of the MultiTcbInfo of {layer.title} is not one of a DPE",
            )
        nodes.append(
            Node(
                kind=int.from_bytes(info.type or b"", "little"),
                current=fwids[0].digest,
                svn=info.svn or 0,
                journey=digests[0].digest if digests else None,
                locality=int.from_bytes(info.vendor_info or b"", "big"),
            )
        )
    checks.require(
        f"{layer.role.slug}-tcb-info",
        layer.multiple
        and [node.kind for node in nodes[:2]]
        == [environments.RT_REGISTERS_TYPE, environments.CONFIGURATION_TYPE]
        and all(
            node.kind not in (environments.RT_REGISTERS_TYPE, environments.CONFIGURATION_TYPE)
            for node in nodes[2:]
        ),
        f"{layer.title} does not begin with the runtime's registers and configuration",
    )
    return tuple(nodes)


def check_registers(
    nodes: Sequence[Node], runtime: Firmware, pcrs: Sequence[bytes] | None, checks: Checklist
) -> None:
    """The leaf's root node holds PCR 2, with the RT certificate's digest, and PCR 3 as journey."""
    checks.require(
        "dpe-registers",
        nodes[0].current == pcr_log.extend(bytes(PCR_SIZE), runtime.digest),
        "the DPE leaf begins with another runtime firmware than the RT certificate states",
    )
    if pcrs is not None:
        checks.require(
            "dpe-journey",
            nodes[0].journey in (None, pcrs[3]),
            "the DPE leaf's journey of the runtime firmware is not the quoted PCR 3",
        )


def check_owner(nodes: Sequence[Node], checks: Checklist) -> None:
    """Every node is the privileged user's, who owns the configuration.

    A context that was handed on holds what its owner measured, under types of their choice: its
    key does not speak for the device.
    """
    checks.require(
        "dpe-owner",
        all(node.locality == nodes[1].locality for node in nodes[2:]),
        "the DPE leaf belongs to another user than the device's privileged one",
        expected=f"locality 0x{nodes[1].locality:08X}",
        found=", ".join(sorted({f"0x{node.locality:08X}" for node in nodes[1:]})),
    )


def check_measured(boot: Boot, fmc: Mapping[bytes, Firmware], checks: Checklist) -> None:
    """The FMC certificate states what the log shows. Raises EvidenceError."""
    for kind, what, recomputed in (
        (
            OWNER_INFO,
            "owner",
            device_status.owner_info_digest(boot.owner_pk_hash, boot.status_bytes),
        ),
        (
            VENDOR_INFO,
            "vendor",
            device_status.vendor_info_digest(boot.vendor_pk_hash, boot.status_bytes),
        ),
        (FMC_INFO, "firmware", boot.fmc_digest),
    ):
        checks.equal(
            f"fmc-{what}-info",
            expected=recomputed,
            found=fmc[kind].digest,
            what=f"the {what} digest of the FMC certificate, recomputed from the PCR log",
        )
    checks.equal(
        "fmc-svn",
        expected=boot.status.cold_boot_svn,
        found=-1 if fmc[FMC_INFO].svn is None else fmc[FMC_INFO].svn or 0,
        what="the SVN of the FMC certificate against the measured device status",
    )


def check_runtime(
    runtime: Firmware, boot: Boot | None, pcrs: Sequence[bytes] | None, checks: Checklist
) -> None:
    """The RT certificate states what PCR 2 holds and the log shows. Raises EvidenceError."""
    first = pcr_log.extend(bytes(PCR_SIZE), runtime.digest)
    checks.require(
        "runtime-digest",
        (pcrs is None or pcrs[2] == first)
        and (boot is None or boot.runtime_digest in (None, runtime.digest)),
        "the RT certificate states another runtime firmware than PCR 2 holds",
    )


def stash_register(nodes: Sequence[Node]) -> bytes:
    """What PCR 31 is if these measurements were stashed in order, each once, and no others."""
    value = bytes(PCR_SIZE)
    for node in nodes:
        value = pcr_log.extend(value, node.current)
    return value
