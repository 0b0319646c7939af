"""Key reports: in a token, beside one, and alone; each fault with its own reason."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.serialization import load_der_public_key

from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence import bindings
from casemate.attestation.evidence.family import Component, FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import x509
from casemate.formats.key_binding import key_binding
from casemate.rot.identity import Algorithm
from tests.attestation import hosts, partitions


@cache
def host(number: int = 1) -> hosts.Host:
    return hosts.boot(number)


@cache
def partition(number: int = 1, name: str = "web") -> partitions.Partition:
    return host(number).partition(name)


def verify(*pieces: bytes, **changes: Any) -> Verified:
    (selection,) = select([Piece(data) for data in pieces], families())
    return selection.family.verify(selection.pieces, hosts.context(**changes))


def refused(*pieces: bytes, **changes: Any) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(*pieces, **changes)
    return caught.value.check.name


def key_of(verified: Verified) -> Component:
    return next(component for component in verified.components if component.name == "key")


def bound() -> bytes:
    own = partition()
    return own.report(key_binding(hosts.NONCE, host().leaf_key(), own.spki))


def test_a_key_in_a_token_with_what_its_report_says() -> None:
    verified = verify(host().token_with_key(partition()))
    assert verified.family is FamilyName.CALIPTRA
    key = key_of(verified)
    assert key.facts["kind"] == "p-256"
    assert key.facts["partition"] == "web"
    assert key.facts["certified_by"] == "root-of-trust"
    assert key.facts["generated"] is True
    assert key.facts["imported"] is False
    assert [name for name in ("sign", "wrap", "unwrap", "derive") if key.facts[name]] == ["sign"]
    spki = key.facts["public_key"]
    assert isinstance(spki, bytes)
    load_der_public_key(spki)
    assert {measured.label for measured in key.measured} == partitions.measurements().keys()
    module = next(found for found in verified.components if found.name == "module")
    assert {measured.environment for measured in key.measured} < {
        measured.environment for measured in module.measured
    }
    assert verified.bindings[bindings.PARTITION_KEY] == partition().spki


def test_a_report_may_come_beside_the_token() -> None:
    chain = b"".join(partition().chain)
    verified = verify(chain, host().token(), bound())
    assert verified.family is FamilyName.CALIPTRA
    assert key_of(verified).facts["partition"] == "web"
    assert len(verified.pieces) == 3


def test_a_report_alone_answers_the_nonce() -> None:
    own = partition()
    chain = b"".join((*own.chain, host().idevid[Algorithm.ECC]))
    verified = verify(own.report(hosts.NONCE), chain)
    assert verified.family is FamilyName.KEY_REPORT
    assert [component.name for component in verified.components] == [
        "device",
        "fmc",
        "runtime",
        "module",
        "key",
    ]
    assert verified.host == verify(host().token()).host
    assert refused(own.report(bytes(32)), chain) == "nonce"
    assert refused(own.report(hosts.NONCE + b"x"), chain) == "key-report-data"
    # The module does not know the IDevID's certificate: an endorsement may bring it.
    module_chain = b"".join(own.chain)
    assert refused(own.report(hosts.NONCE), module_chain) == "anchor"
    endorsed = hosts.endorsed(host().idevid[Algorithm.ECC])
    assert (
        verify(own.report(hosts.NONCE), module_chain, endorsements=endorsed).host == verified.host
    )


def test_a_report_without_its_partition_s_certificates_cannot_be_judged() -> None:
    with pytest.raises(InfrastructureError, match="certificates of the partition"):
        verify(partition().report(hosts.NONCE))
    assert refused(host().token(), bound()) == "partition-chain"
    assert refused(host().token(), b"".join(partition().chain)) == "key-report"


def test_version_1_is_the_azure_layout() -> None:
    own = partition()
    endorsed = hosts.endorsed(host().idevid[Algorithm.ECC])
    report = own.report(hosts.NONCE, version=1)
    key = key_of(verify(report, b"".join(own.chain), endorsements=endorsed))
    assert key.facts["version"] == 1
    assert key.measured == ()


def test_a_partition_that_vouches_for_itself_counts_only_where_it_is_named() -> None:
    own = partitions.certified("lonely", None)
    report, (certificate,) = own.report(hosts.NONCE), own.chain
    assert refused(report, certificate) == "anchor"
    anchor = hosts.anchor_of(certificate)
    named = dataclasses.replace(hosts.endorsements(), anchors=(anchor,))
    verified = verify(report, certificate, endorsements=named)
    assert verified.host.kind == "partition"
    assert key_of(verified).facts["certified_by"] == "anchor"
    # Within a token only a device's word counts.
    token = host().token_with_key(own)
    assert refused(token) == "partition-chain"


def test_faults_of_a_report_have_names() -> None:
    own = partition()
    binding = key_binding(hosts.NONCE, host().leaf_key(), own.spki)

    def with_report(report: bytes) -> str:
        return refused(host().token(key_report=report, partition_chain=own.chain))

    def changed(**changes: Any) -> str:
        return with_report(own.report(binding, **changes))

    assert changed(flags=0b101) == "key-report-flags"
    assert changed(flags=1 << 10) == "key-report"
    assert changed(version=3) == "key-report"
    assert changed(key=cbor2.dumps({1: 4, -1: b"secret"})) == "key-report"
    assert changed(measured={"silicon": bytes(48)}) == "key-report-measurements"
    assert changed(measured={"unknown": bytes(48)}) == "key-report-measurements"
    assert with_report(own.report(binding + b"\1")) == "key-report-data"
    assert with_report(own.report(hosts.NONCE)) == "key-report-binding"
    other = partition(1, "db")
    assert with_report(other.report(binding)) == "key-report-signature"
    stranger = dataclasses.replace(own, id=other.id)
    assert with_report(stranger.report(binding)) == "key-report-partition"
    assert with_report(own.report(binding)[:-1] + b"\0") == "key-report-signature"


def test_a_partition_of_another_boot_or_device_does_not_fit() -> None:
    mine, theirs = partition(), partition(2)
    token = host().token_with_key(theirs)
    assert refused(token) == "partition-device"
    # The certificates between them are the token's own: then the CDI hangs on another key.
    above = mine.chain[2:]
    mixed = host().token(
        key_report=theirs.report(key_binding(hosts.NONCE, host().leaf_key(), theirs.spki)),
        partition_chain=(*theirs.chain[:2], *above),
    )
    assert refused(mixed) == "dpe-exported-cdi-signature"
    mixed = host().token(
        key_report=theirs.report(key_binding(hosts.NONCE, host().leaf_key(), theirs.spki)),
        partition_chain=(theirs.chain[0], *mine.chain[1:]),
    )
    assert refused(mixed) == "partition-signature"


def test_the_ml_dsa_token_has_another_rt_alias_key_than_the_partition() -> None:
    own = partition()
    leaf = host().leaf_key(Algorithm.MLDSA)
    token = host().token(
        Algorithm.MLDSA,
        key_report=own.report(key_binding(hosts.NONCE, leaf, own.spki)),
        partition_chain=own.chain,
    )
    assert refused(token) == "partition-device"


def test_a_partition_certified_before_a_part_was_replaced() -> None:
    fresh = hosts.boot(3)
    own = fresh.partition()
    before = fresh.dpe.measurements()
    fresh.dpe.stash(b"late" * 12, metadata=b"late")
    assert len(fresh.dpe.measurements()) == len(before) + 1
    # What is measured later stands in the token's leaf alone.
    verified = verify(fresh.token_with_key(own))
    module = next(found for found in verified.components if found.name == "module")
    assert len(module.measured) == len(own_parts()) + 1


def own_parts() -> dict[Any, bytes]:
    return hosts.part_digests()


def test_the_certificate_s_key_is_the_one_that_was_certified() -> None:
    assert x509.read_certificate(partition().chain[0]).spki == partition().spki
