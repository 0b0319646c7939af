"""The EAT of a Casemate host: accepted with all that is in it, refused for each of its faults."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache

import pytest

from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.family import Fact, FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats.module_parts import PartName
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion
from casemate.rot.fuses import Lifecycle
from casemate.rot.identity import Algorithm
from casemate.rot.manufacturer import ManufacturerCa
from casemate.rot.runtime_dpe import RuntimeDpe
from tests.attestation import hosts
from tests.rot.devices import Shelf, firmware


@cache
def host(number: int = 1) -> hosts.Host:
    return hosts.boot(number)


@cache
def token(number: int = 1, algorithm: Algorithm = Algorithm.ECC) -> bytes:
    return host(number).token(algorithm)


def verify(data: bytes, **changes: object) -> Verified:
    (selection,) = select([Piece(data)], families())
    return selection.family.verify(selection.pieces, hosts.context(**changes))


def refused(data: bytes, **changes: object) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        verify(data, **changes)
    return caught.value


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_good_evidence_says_what_the_device_is(algorithm: Algorithm) -> None:
    verified = verify(token(1, algorithm))
    assert verified.family is FamilyName.CALIPTRA
    assert verified.nonce == hosts.NONCE
    assert verified.forms == ("profile-oid",)
    assert verified.host.kind == "idevid"
    components = {component.name: component for component in verified.components}
    assert list(components) == ["device", "fmc", "runtime", "module"]
    facts = components["device"].facts
    assert facts["lifecycle"] == "production"
    assert facts["debug_locked"] is True
    assert facts["anchor"] == "public test values"
    assert facts["firmware_svn_fuse"] == 2
    assert facts["update_resets"] == 0
    assert facts["runtime_replaced"] is False
    code = firmware()
    by_environment = {
        measured.environment: measured.measurement.values
        for component in verified.components
        for measured in component.measured
    }
    fmc, runtime = by_environment[environments.FMC], by_environment[environments.RUNTIME]
    assert fmc.digests[0].value == code.fmc_digest
    assert runtime.digests[0].value == code.rt_digest
    assert runtime.svn is not None
    assert runtime.svn.value == code.svn
    assert [measured.label for measured in components["module"].measured] == [
        part.value for part in PartName
    ]
    for part, digest in hosts.part_digests().items():
        assert by_environment[environments.of_firmware(part.fw_id)].digests[0].value == digest
    assert components["module"].facts["stash_register_explained"] is True
    assert all(check.passed for check in verified.checks)


def test_without_any_anchor_it_is_nobodys_fault() -> None:
    from casemate.attestation.endorsements import Endorsements

    with pytest.raises(InfrastructureError, match="no anchor for Caliptra"):
        verify(token(), endorsements=Endorsements())


def test_another_nonce_is_refused() -> None:
    error = refused(token(), nonce=bytes(32))
    assert error.check.name == "nonce"
    assert (error.check.expected, error.check.found) == (bytes(32).hex(), hosts.NONCE.hex())


def test_another_manufacturer_is_refused() -> None:
    own = hosts.endorsements()
    stranger = hosts.anchor_of(ManufacturerCa.generate().certificate(Algorithm.ECC))
    error = refused(token(), endorsements=dataclasses.replace(own, anchors=(stranger,)))
    assert error.check.name == "anchor"


def test_certificates_must_be_valid_at_the_time_of_appraisal() -> None:
    error = refused(token(), at=datetime(2022, 12, 31, tzinfo=UTC))
    assert error.check.name == "idevid-validity"
    assert error.check.expected == "2023-01-01 00:00:00 to 9999-12-31 23:59:59"


# --- other states of a device ------------------------------------------------------------------


def facts(verified: Verified) -> Mapping[str, Fact]:
    return next(found for found in verified.components if found.name == "device").facts


def test_an_open_device_says_so() -> None:
    """Debug open and another lifecycle are facts, for a policy to judge: the evidence is good."""
    host = hosts.boot(4, debug_locked=False, lifecycle=Lifecycle.MANUFACTURING)
    state = facts(verify(host.token()))
    assert state["debug_locked"] is False
    assert state["debug_status"] == "enabled"
    assert state["lifecycle"] == "manufacturing"


def test_a_rom_that_measures_no_subsystem_mode() -> None:
    verified = verify(hosts.boot(5, rom=RomVersion.V2_1_2).token())
    assert "subsystem_mode" not in facts(verified)
    status = next(
        measured.measurement.values.raw_value
        for component in verified.components
        for measured in component.measured
        if measured.environment == environments.DEVICE_STATUS
    )
    assert status is not None
    assert len(status.value) == 17


def updated(*runtimes: bytes) -> Verified:
    """A host whose runtime firmware was replaced by these, one after the other."""
    shelf = Shelf(a=hosts.CODE)
    for number, content in enumerate(runtimes):
        shelf.firmware[str(number)] = firmware(rt=content, flags=1, pl0_pauser=hosts.PL0)
    root = RootOfTrust(ModelCrypto(), shelf, make_requests=True)
    fuses = hosts.fuses(6)
    root.power_on(fuses)
    assert root.csr_envelope is not None
    idevid = hosts.manufacturer().issue_from_envelope(root.csr_envelope, root.crypto, fuses)
    root.load_firmware(b"a")
    for number in range(len(runtimes)):
        root.update_reset(str(number).encode())
    dpe = RuntimeDpe(root, random=lambda size: b"r" * size)
    return verify(hosts.Host(root, dpe, idevid).token())


def test_update_resets_show_in_the_journey() -> None:
    """The log begins anew: PCR 1 counts the resets, PCR 3 says whether other firmware ran."""
    unchanged = facts(updated(b"rt"))
    assert (unchanged["update_resets"], unchanged["runtime_replaced"]) == (1, False)
    replaced = facts(updated(b"newer"))
    assert (replaced["update_resets"], replaced["runtime_replaced"]) == (1, True)
    twice = facts(updated(b"newer", b"newest"))
    assert (twice["update_resets"], twice["runtime_replaced"]) == (2, True)
    assert twice["journey_explained"] is True


def test_the_replaced_firmware_is_the_one_that_is_measured() -> None:
    verified = updated(b"newer")
    runtime = next(found for found in verified.components if found.name == "runtime")
    digests = runtime.measured[0].measurement.values.digests
    assert [digest.value for digest in digests] == [firmware(rt=b"newer").rt_digest]
