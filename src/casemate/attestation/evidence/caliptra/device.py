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
from casemate.attestation.evidence.caliptra.layers import Layer
from casemate.attestation.evidence.caliptra.nodes import Node
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
            f"{layer.slug}-digest",
            f"{layer.title} does not state one SHA-384 of {info.type!r}",
        )
    if info.svn is None:
        return Firmware(fwids[0].digest, None)
    # The templates keep the field two bytes wide by setting the upper one to 1.
    if info.svn >> 8 not in (0, 1):
        checks.refuse(f"{layer.slug}-svn", f"{layer.title} states the SVN {info.svn:#x}")
    return Firmware(fwids[0].digest, info.svn & 0xFF)


def leaf_nodes(layer: Layer, checks: Checklist) -> tuple[Node, ...]:
    """The measurements of a DPE leaf (or exported CDI), the root first. Raises EvidenceError."""
    if layer.nodes is None:
        checks.refuse(
            f"{layer.slug}-tcb-info",
            f"{layer.title} does not list the measurements of a DPE in a MultiTcbInfo: the "
            "runtime's registers, its configuration, and what was measured since",
        )
    checks.note(f"{layer.slug}-tcb-info", f"{layer.title} lists {len(layer.nodes)} measurements")
    return layer.nodes


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
