"""Reference values of a firmware release: what devices that run it will claim, from its files.

Nothing is taken from a running device: the values are recomputed from the bundle and the SoC
manifests, in the environments that `casemate.attestation.evidence.caliptra` lists. Sources of the
recipes: caliptra-sw common/src/dice.rs, runtime/src/drivers.rs, authorize_and_stash.rs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from casemate.attestation.errors import InputError
from casemate.attestation.evidence.caliptra import environments
from casemate.formats import device_status
from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.formats.corim.measurement import (
    SHA384,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
    SvnKind,
)
from casemate.formats.corim.triples import MeasurementTriple
from casemate.formats.device_status import DeviceStatus, LifecycleState

#: The runtime stashes the companion's firmware under a type of its own.
_COMPANION_ID, _COMPANION_TYPE = 2, int.from_bytes(b"MCFW", "big")


@dataclass(frozen=True, slots=True)
class DeviceState:
    """The state that devices are to be in: what the masked device status is compared with."""

    lifecycle: LifecycleState = LifecycleState.PRODUCTION
    debug_locked: bool = True


@dataclass(frozen=True, slots=True)
class ReleaseValues:
    """Reference triples of a release, and what of it no triple can speak for."""

    triples: tuple[MeasurementTriple, ...]
    left_out: tuple[str, ...]


def values_of(
    bundle: bytes,
    manifests: Sequence[bytes] = (),
    *,
    state: DeviceState | None = None,
    name: str = "bundle",
) -> ReleaseValues:
    """The values of a bundle and of SoC manifests (the owner's kind too).

    The SVN is a least one. An image of which the manifest accepts any bytes (ignore_auth_check) is
    left out: its digest is no reference. Raises InputError for files of another form.
    """
    try:
        manifest = fb.Manifest.decode(bundle)
    except fb.BundleFormatError as error:
        raise InputError(f"{name}: no firmware bundle: {error}") from None
    if manifest.marker != fb.MANIFEST_MARKER:
        raise InputError(f"{name}: no firmware bundle: its marker is {manifest.marker:#010x}")
    triples = [
        *_status(state or DeviceState()),
        _digest(
            environments.VENDOR_KEYS,
            hashlib.sha384(fb.LAYOUT["vendor_key_info"].of(bundle)).digest(),
        ),
        _digest(environments.OWNER_KEYS, hashlib.sha384(fb.OWNER_KEYS.of(bundle)).digest()),
        *_layer(environments.FMC, manifest.fmc, manifest),
        *_layer(environments.RUNTIME, manifest.runtime, manifest),
        _digest(environments.CONFIGURATION, _configuration(manifest)),
    ]
    left_out = []
    for content in manifests:
        for entry in _entries(content, name):
            if entry.ignore_auth_check:
                left_out.append(f"image {entry.fw_id:#010x}: its manifest accepts any bytes for it")
                continue
            kind = _COMPANION_TYPE if entry.fw_id == _COMPANION_ID else entry.fw_id
            triples.append(_digest(environments.of_firmware(kind), entry.digest))
    return ReleaseValues(tuple(dict.fromkeys(triples)), tuple(left_out))


def _status(state: DeviceState) -> Iterable[MeasurementTriple]:
    """Lifecycle and debug state under a mask, in both lengths that ROMs measure."""
    for subsystem_mode in (False, None):
        encoded = device_status.encode(
            DeviceStatus(
                owner_hash_in_fuses=False,
                anti_rollback_disabled=False,
                ecc_revocation=0,
                lms_revocation=0,
                mldsa_revocation=0,
                firmware_svn=0,
                soc_manifest_svn=0,
                soc_manifest_max_svn=0,
                pqc_key_type=0,
                lifecycle=state.lifecycle,
                debug_locked=state.debug_locked,
                cold_boot_svn=0,
                ecc_key_index=0,
                pqc_key_index=0,
                subsystem_mode=subsystem_mode,
            )
        )
        raw = RawValue(encoded, device_status.state_mask(encoded))
        yield _triple(environments.DEVICE_STATUS, MeasurementValues(raw_value=raw))


def _layer(
    environment: Environment, entry: fb.TocEntry, manifest: fb.Manifest
) -> Iterable[MeasurementTriple]:
    # Certificates have room for one byte of the SVN.
    least = Svn(manifest.header.svn & 0xFF, SvnKind.MINIMUM)
    values = MeasurementValues(digests=(Digest(SHA384, entry.digest),), svn=least)
    yield _triple(environment, values)


def _configuration(manifest: fb.Manifest) -> bytes:
    """SHA-384 over what the header configures, as the runtime measures it."""
    words = (
        manifest.header.pl0_pauser,
        manifest.header.flags,
        manifest.fmc.load_addr,
        manifest.fmc.entry_point,
        manifest.runtime.load_addr,
        manifest.runtime.entry_point,
    )
    return hashlib.sha384(b"".join(word.to_bytes(4, "little") for word in words)).digest()


def _entries(content: bytes, name: str) -> tuple[sm.ImageMetadata, ...]:
    owners = content[:4] == sm.OWNER_MARKER.to_bytes(4, "little")
    try:
        if owners:
            return sm.OwnerManifest.decode(content).entries
        return sm.SocManifest.decode(content).entries
    except (sm.ManifestFormatError, fb.BundleFormatError) as error:
        raise InputError(f"a SoC manifest beside {name}: {error}") from None


def _digest(environment: Environment, digest: bytes) -> MeasurementTriple:
    return _triple(environment, MeasurementValues(digests=(Digest(SHA384, digest),)))


def _triple(environment: Environment, values: MeasurementValues) -> MeasurementTriple:
    return MeasurementTriple(environment, (Measurement(values=values),))
