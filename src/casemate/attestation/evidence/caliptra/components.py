"""The components of a device, once everything it says holds together; the package has the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import device, environments
from casemate.attestation.evidence.caliptra.chain import Chain
from casemate.attestation.evidence.caliptra.device import FMC_INFO, Firmware
from casemate.attestation.evidence.caliptra.layers import Role
from casemate.attestation.evidence.caliptra.nodes import Node
from casemate.attestation.evidence.caliptra.replay import Boot
from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.corim.measurement import (
    SHA384,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What there is of a device: `nodes` of its DPE certificate, `pcrs` quoted, `boot` replayed.

    `anchor` and `facts` are what a token adds.
    """

    chain: Chain
    nodes: tuple[Node, ...] = ()
    pcrs: tuple[bytes, ...] | None = None
    boot: Boot | None = None
    anchor: str | None = None
    facts: Mapping[str, Fact] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Layers:
    """What the certificates state of the firmware, as far down as they go."""

    fmc: Mapping[bytes, Firmware]
    runtime: Firmware | None


def check(evidence: Evidence, checks: Checklist) -> Layers:
    """Hold certificates, quote and log against each other. Raises EvidenceError."""
    chain, boot, pcrs = evidence.chain, evidence.boot, evidence.pcrs
    fmc_layer, runtime_layer = chain.layer(Role.FMC), chain.layer(Role.RUNTIME)
    fmc = {} if fmc_layer is None else device.fmc_infos(fmc_layer, checks)
    runtime = None if runtime_layer is None else device.runtime_info(runtime_layer, checks)
    if fmc and boot is not None:
        device.check_measured(boot, fmc, checks)
    if runtime is not None:
        device.check_runtime(runtime, boot, pcrs, checks)
        if evidence.nodes:
            device.check_registers(evidence.nodes, runtime, pcrs, checks)
    return Layers(fmc, runtime)


def make(evidence: Evidence, layers: Layers) -> tuple[Component, ...]:
    """The components of evidence that was checked."""
    device = device_component(evidence, device_measured(evidence.boot), device_facts(evidence.boot))
    return (device, *firmware_components(evidence, layers))


def firmware_components(evidence: Evidence, layers: Layers) -> tuple[Component, ...]:
    """Those of the firmware, from the first mutable code on: equal firmware has equal ones."""
    components = []
    if FMC_INFO in layers.fmc:
        components.append(_fmc(layers.fmc[FMC_INFO], evidence.pcrs))
    if layers.runtime is not None:
        components.append(_runtime(layers.runtime, evidence))
    return (*components, *_images(evidence))


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
    evidence: Evidence, measured: tuple[Measured, ...], of_boot: Mapping[str, Fact]
) -> Component:
    """What is fused, the device's state, and the anchors: who vouches, and what it names itself.

    `measured` and `of_boot` are what the boot shows (`device_measured`, `device_facts`).
    """
    chain = evidence.chain
    facts: dict[str, Fact] = {
        "algorithm": chain.leaf.key.algorithm.name.lower(),
        "trust_anchor": chain.anchor.name,
        **evidence.facts,
    }
    if chain.ueid is not None:
        facts["ueid"] = chain.ueid.hex()
    if evidence.anchor is not None:
        facts["anchor"] = evidence.anchor
    return Component(name="device", measured=measured, facts={**facts, **of_boot})


def device_facts(boot: Boot | None) -> dict[str, Fact]:
    """The device's state as facts: hosts of one kind have the same."""
    if boot is None:
        return {}
    status = boot.status
    facts: dict[str, Fact] = {
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
        facts["subsystem_mode"] = status.subsystem_mode
    if boot.update_resets is not None:
        facts["update_resets"] = boot.update_resets
    return facts


def device_measured(boot: Boot | None) -> tuple[Measured, ...]:
    """The device's state and whose keys it takes, as its log shows them."""
    if boot is None:
        return ()
    return (
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


def _firmware(
    firmware: Firmware, pcrs: Sequence[bytes] | None, *registers: int
) -> MeasurementValues:
    return MeasurementValues(
        svn=None if firmware.svn is None else Svn(firmware.svn),
        digests=_digest(firmware.digest),
        integrity_registers=_registers(pcrs, *registers),
    )


def _svn(firmware: Firmware) -> dict[str, Fact]:
    return {} if firmware.svn is None else {"svn": firmware.svn}


def _fmc(fmc: Firmware, pcrs: Sequence[bytes] | None) -> Component:
    """The first mutable code."""
    values = _firmware(fmc, pcrs, 0, 1)
    measured = _measured("FMC", environments.FMC, values, TrustClaim.EXECUTABLES)
    return Component(name="fmc", measured=(measured,), facts=_svn(fmc))


def _runtime(runtime: Firmware, evidence: Evidence) -> Component:
    """The runtime firmware, and its configuration where a DPE certificate shows it."""
    values = _firmware(runtime, evidence.pcrs, 2, 3)
    measured = [_measured("runtime firmware", environments.RUNTIME, values, TrustClaim.EXECUTABLES)]
    if evidence.nodes:
        measured.append(
            _measured(
                "runtime configuration",
                environments.CONFIGURATION,
                MeasurementValues(digests=_digest(evidence.nodes[1].current)),
                TrustClaim.CONFIGURATION,
            )
        )
    return Component(name="runtime", measured=tuple(measured), facts=_svn(runtime))


def _images(evidence: Evidence) -> list[Component]:
    """What was stashed: the images that the SoC manifest authorised ("module").

    What users below the privileged one measured in contexts of their own is "context".
    """
    if not evidence.nodes:
        return []
    owner = evidence.nodes[1].locality
    own = [node for node in evidence.nodes[2:] if node.locality == owner]
    others = [node for node in evidence.nodes[2:] if node.locality != owner]
    found = []
    if own:
        facts: dict[str, Fact] = {
            "images": len(own),
            "replaced": any(node.replaced for node in own),
        }
        if evidence.pcrs is not None:
            facts["stash_register_explained"] = evidence.pcrs[
                device.STASH_REGISTER
            ] == device.stash_register(own)
        found.append(
            Component(name="module", measured=tuple(node.measured for node in own), facts=facts)
        )
    if others:
        found.append(Component(name="context", measured=tuple(node.measured for node in others)))
    return found
