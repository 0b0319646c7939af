"""Reference values made from a release's files, against hosts that boot that very release."""

from __future__ import annotations

import dataclasses
import hashlib
from functools import lru_cache

import pytest

from casemate.attestation.appraisal.policy import built_in
from casemate.attestation.appraisal.verdict import ClaimVerdict, Comparison, Verdict
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.reference import explain, release
from casemate.attestation.reference.release import DeviceState
from casemate.attestation.reference.store import ReferenceSet, load
from casemate.attestation.verifier import Verifier
from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.formats.corim.triples import Triples
from casemate.formats.device_status import LifecycleState
from casemate.formats.module_parts import PartName
from casemate.rot.bundle.verify import verify
from casemate.rot.device_status import RomVersion
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import Lifecycle
from casemate.rot.launch.image import Part
from casemate.rot.launch.release import Publisher, Release
from casemate.rot.launch.sealed import SealedFile, seal
from tests.attestation import hosts
from tests.attestation.reference import making


@lru_cache
def parts() -> tuple[Part, ...]:
    return tuple(Part(name, (_sealed(name.value, name.value.encode()),)) for name in PartName)


def _sealed(name: str, content: bytes) -> SealedFile:
    return seal(name, content)


@lru_cache
def released() -> Release:
    return Publisher().release(parts(), svn=3)


def references(state: DeviceState | None = None) -> ReferenceSet:
    made = released()
    values = release.values_of(made.bundle, [made.manifest], state=state)
    content = making.corim(making.tag(Triples(reference=values.triples)))
    return load([making.unsigned(content)], signers=(), at=hosts.AT, take_unsigned=True)


def appraised(references: ReferenceSet, host: hosts.Host) -> Verdict:
    verifier = Verifier(hosts.endorsements(), references, built_in("default"))
    return verifier.appraise(
        [Piece(host.token(), "token")], at=hosts.AT, nonce=hosts.NONCE, correlation_id="test"
    )


def booted(**changes: object) -> hosts.Host:
    """A host of this release; `changes` are those of `hosts.boot`."""
    made = released()
    fused = {
        "vendor_pk_hash": made.vendor_pk_hash,
        "owner_pk_hash": made.owner_pk_hash,
        "lifecycle": Lifecycle.PRODUCTION,
    }
    code = verify(
        made.bundle,
        hosts.fuses(1, **fused),
        reason=ResetReason.COLD,
        cold_boot=None,
    )
    values = {"code": code, "parts": {part.name: part.digest for part in parts()}, **fused}
    return hosts.boot(1, **(values | changes))  # type: ignore[arg-type]


def claims(verdict: Verdict) -> dict[str, ClaimVerdict]:
    return {claim.label: claim for part in verdict.components for claim in part.claims}


@pytest.mark.parametrize("rom", list(RomVersion))
def test_a_host_of_the_release_meets_every_value(rom: RomVersion) -> None:
    verdict = appraised(references(), booted(rom=rom))
    found = claims(verdict)
    assert {claim.comparison for claim in found.values()} == {Comparison.MET}
    assert {part.value for part in PartName} <= found.keys()
    assert {"device status", "vendor keys", "owner keys", "FMC", "runtime firmware"} <= found.keys()


def test_a_changed_part_differs_by_name_and_nothing_else() -> None:
    changed = {part.name: part.digest for part in parts()}
    changed[PartName.SILICON] = hashlib.sha384(b"changed").digest()
    found = claims(appraised(references(), booted(parts=changed)))
    differing = [label for label, one in found.items() if one.comparison is not Comparison.MET]
    assert differing == ["silicon"]
    assert found["silicon"].expected == (f"SHA-384 {parts()[3].digest.hex()}",)
    assert found["silicon"].found == f"SHA-384 {changed[PartName.SILICON].hex()}"


def test_an_svn_below_the_least_differs_by_its_number() -> None:
    made = released()
    newer = fb.replace_header(fb.Manifest.decode(made.bundle), svn=4).encode()
    values = release.values_of(newer + made.bundle[len(newer) :], [made.manifest])
    content = making.corim(making.tag(Triples(reference=values.triples)))
    set_ = load([making.unsigned(content)], signers=(), at=hosts.AT, take_unsigned=True)
    runtime = claims(appraised(set_, booted()))["runtime firmware"]
    assert (runtime.found, runtime.expected) == ("SVN 3", ("SVN at least 4",))


def test_the_state_of_the_device_is_compared_under_its_mask() -> None:
    open_debug = booted(debug_locked=False)
    status = claims(appraised(references(), open_debug))["device status"]
    assert status.comparison is Comparison.DIFFERS
    laboratory = references(DeviceState(LifecycleState.PRODUCTION, debug_locked=False))
    status = claims(appraised(laboratory, open_debug))["device status"]
    assert status.comparison is Comparison.MET


def test_images_of_which_any_bytes_are_taken_are_no_reference() -> None:
    made = released()
    read = sm.SocManifest.decode(made.manifest)
    entries = [
        dataclasses.replace(entry, flags=sm.ImageMetadata.flags_of(ignore_auth_check=True))
        for entry in read.entries
    ]
    loose = dataclasses.replace(read, image_list=sm.encode_list(tuple(entries)))
    values = release.values_of(made.bundle, [loose.encode()])
    assert len(values.triples) == 7
    assert values.left_out[0] == "image 0x434d0001: its manifest accepts any bytes for it"


def test_the_companions_firmware_has_a_type_of_its_own() -> None:
    entry = sm.ImageMetadata(fw_id=2, digest=bytes(48))
    read = sm.SocManifest.decode(released().manifest)
    one = dataclasses.replace(read, image_list=sm.encode_list((entry,)))
    values = release.values_of(released().bundle, [one.encode()])
    assert explain.environment_text(values.triples[-1].environment) == "0x4D434657"


@pytest.mark.parametrize(
    ("bundle", "manifests", "message"),
    [
        (b"short", [], "a: no firmware bundle"),
        (bytes(20_000), [], "its marker is 0x00000000"),
        (None, [b"short"], "a SoC manifest beside a"),
    ],
)
def test_files_of_another_form_are_refused(
    bundle: bytes | None, manifests: list[bytes], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        release.values_of(bundle or released().bundle, manifests, name="a")
