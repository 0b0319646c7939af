"""The EAT of a Casemate host: accepted with all that is in it, refused for each of its faults."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from functools import cache

import pytest

from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.family import FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats.module_parts import PartName
from casemate.rot.identity import Algorithm
from casemate.rot.manufacturer import ManufacturerCa
from tests.attestation import hosts
from tests.rot.devices import firmware


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
