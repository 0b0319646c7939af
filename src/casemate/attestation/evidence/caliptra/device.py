"""What a device says of itself, held against each other: certificates, quote, log and token.

Checks, in order, each with its own error: the FMC certificate's MultiTcbInfo has owner, vendor and
FMC entries, and they are those that follow from the log (`casemate.formats.device_status` has the
recipes); its SVN is that of the device status; the RT certificate's TcbInfo is what PCR 2 holds;
the DPE leaf begins with the runtime's registers. What comes out are the components and their
measurements: see the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.caliptra.chain import Chain
from casemate.attestation.evidence.caliptra.layers import Layer, Role
from casemate.attestation.evidence.caliptra.replay import Boot
from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats import device_status, dice, pcr_log
from casemate.formats.corim.measurement import (
    SHA384,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
)
from casemate.formats.module_parts import PartName
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


def check_quoted(
    boot: Boot,
    pcrs: Sequence[bytes],
    fmc: dict[bytes, Firmware],
    runtime: Firmware,
    checks: Checklist,
) -> None:
    """The certificates state what quote and log show. Raises EvidenceError."""
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
    checks.require(
        "runtime-digest",
        pcrs[2] == pcr_log.extend(bytes(PCR_SIZE), runtime.digest)
        and boot.runtime_digest in (None, runtime.digest),
        "the RT certificate states another runtime firmware than PCR 2 holds",
    )


def stash_register(nodes: Sequence[Node]) -> bytes:
    """What PCR 31 is if every stashed measurement is in the leaf, in order, once, and no other."""
    value = bytes(PCR_SIZE)
    for node in nodes[2:]:
        value = pcr_log.extend(value, node.current)
    return value


def certificate_components(
    chain: Chain, nodes: Sequence[Node], checks: Checklist
) -> tuple[Component, ...]:
    """What a chain's certificates say by themselves, without quote and log.

    `nodes` are those of its DPE certificate, checked; the layers must be there where they are.
    """
    components = [device_component(chain, None, anchor=None, facts={})]
    if (fmc := chain.layer(Role.FMC)) is not None:
        components.append(fmc_component(fmc_infos(fmc, checks)[FMC_INFO], None))
    if (layer := chain.layer(Role.RUNTIME)) is not None:
        runtime = runtime_info(layer, checks)
        if nodes:
            check_registers(nodes, runtime, None, checks)
        components.append(runtime_component(runtime, None, nodes))
    if (module := module_component(nodes, None)) is not None:
        components.append(module)
    return tuple(components)


# --- components -----------------------------------------------------------------------------


def _measured(
    label: str, environment: Environment, values: MeasurementValues, claim: TrustClaim
) -> Measured:
    return Measured(
        label=label, environment=environment, measurement=Measurement(values=values), claim=claim
    )


def _digest(value: bytes) -> tuple[Digest, ...]:
    return (Digest(SHA384, value),)


def _registers(
    pcrs: Sequence[bytes] | None, *indices: int
) -> tuple[tuple[int, tuple[Digest, ...]], ...]:
    return () if pcrs is None else tuple((index, _digest(pcrs[index])) for index in indices)


def device_component(
    chain: Chain, boot: Boot | None, *, anchor: str | None, facts: dict[str, Fact]
) -> Component:
    """The device: what is fused, its state, and the anchor that it names."""
    own: dict[str, Fact] = {
        "algorithm": chain.leaf.key.algorithm.name.lower(),
        "trust_anchor": chain.anchor.name,
        **facts,
    }
    if chain.ueid is not None:
        own["ueid"] = chain.ueid
    if anchor is not None:
        own["anchor"] = anchor
    if boot is None:
        return Component(name="device", facts=own)
    status = boot.status
    own |= {
        "lifecycle": status.lifecycle.name.lower(),
        "debug_locked": status.debug_locked,
        "anti_rollback_disabled": status.anti_rollback_disabled,
        "owner_hash_in_fuses": status.owner_hash_in_fuses,
        "firmware_svn_fuse": status.firmware_svn,
        "soc_manifest_svn_fuse": status.soc_manifest_svn,
        "soc_manifest_max_svn": status.soc_manifest_max_svn,
        "journey_explained": boot.update_resets is not None,
        "runtime_replaced": boot.runtime_replaced,
    }
    if status.subsystem_mode is not None:
        own["subsystem_mode"] = status.subsystem_mode
    if boot.update_resets is not None:
        own["update_resets"] = boot.update_resets
    measured = (
        _measured(
            "device status",
            environments.DEVICE_STATUS,
            MeasurementValues(raw_value=RawValue(boot.status_bytes)),
            TrustClaim.CONFIGURATION,
        ),
        _measured(
            "vendor keys",
            environments.VENDOR_KEYS,
            MeasurementValues(digests=_digest(boot.vendor_pk_hash)),
            TrustClaim.HARDWARE,
        ),
        _measured(
            "owner keys",
            environments.OWNER_KEYS,
            MeasurementValues(digests=_digest(boot.owner_pk_hash)),
            TrustClaim.CONFIGURATION,
        ),
    )
    return Component(name="device", measured=measured, facts=own)


def fmc_component(fmc: Firmware, pcrs: Sequence[bytes] | None) -> Component:
    """The first mutable code."""
    values = MeasurementValues(
        svn=None if fmc.svn is None else Svn(fmc.svn),
        digests=_digest(fmc.digest),
        integrity_registers=_registers(pcrs, 0, 1),
    )
    measured = _measured("FMC", environments.FMC, values, TrustClaim.EXECUTABLES)
    return Component(name="fmc", measured=(measured,), facts=_svn(fmc))


def runtime_component(
    runtime: Firmware, pcrs: Sequence[bytes] | None, nodes: Sequence[Node]
) -> Component:
    """The runtime firmware, and its configuration where a DPE leaf shows it."""
    values = MeasurementValues(
        svn=None if runtime.svn is None else Svn(runtime.svn),
        digests=_digest(runtime.digest),
        integrity_registers=_registers(pcrs, 2, 3),
    )
    measured = [_measured("runtime firmware", environments.RUNTIME, values, TrustClaim.EXECUTABLES)]
    if nodes:
        measured.append(
            _measured(
                "runtime configuration",
                environments.CONFIGURATION,
                MeasurementValues(digests=_digest(nodes[1].current)),
                TrustClaim.CONFIGURATION,
            )
        )
    return Component(name="runtime", measured=tuple(measured), facts=_svn(runtime))


def _svn(firmware: Firmware) -> dict[str, Fact]:
    return {} if firmware.svn is None else {"svn": firmware.svn}


def module_component(nodes: Sequence[Node], pcrs: Sequence[bytes] | None) -> Component | None:
    """What was stashed: the images that the SoC manifest authorised. None if there are none."""
    stashed = nodes[2:]
    if not stashed:
        return None
    facts: dict[str, Fact] = {
        "images": len(stashed),
        "replaced": any(node.replaced for node in stashed),
    }
    if pcrs is not None:
        facts["stash_register_explained"] = pcrs[STASH_REGISTER] == stash_register(nodes)
    return Component(name="module", measured=tuple(map(_image, stashed)), facts=facts)


def _image(node: Node) -> Measured:
    part = PartName.of_fw_id(node.kind)
    values = MeasurementValues(
        svn=Svn(node.svn),
        digests=_digest(node.current),
        integrity_registers=() if node.journey is None else ((0, _digest(node.journey)),),
    )
    return _measured(
        f"image 0x{node.kind:08X}" if part is None else part.value,
        environments.of_firmware(node.kind),
        values,
        TrustClaim.EXECUTABLES,
    )
