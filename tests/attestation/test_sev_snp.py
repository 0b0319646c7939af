"""SEV-SNP reports: what is authentic, what is refused for which reason, and what is missing."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Context, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.attestation.evidence.sev_snp import ROLE, SevSnp
from casemate.attestation.input import sort
from casemate.formats import sev_snp
from casemate.formats.sev_snp import Product, SigningKey
from tests.attestation import real_data
from tests.attestation.sev_snp_maker import (
    AT,
    DEBUG,
    LEVELS,
    MIGRATION_AGENT,
    Platform,
)

FAMILY = SevSnp()
PLATFORMS = {
    (2, "vcek"): Platform(),
    (3, "vcek"): Platform(),
    (4, "vcek"): Platform(Product.GENOA),
    (5, "vcek"): Platform(Product.TURIN),
    (3, "vlek"): Platform(vlek=True),
    (5, "vlek"): Platform(Product.TURIN, vlek=True),
    (3, "masked"): Platform(masked=True),
    (2, "turin"): Platform(Product.TURIN),
}


def verify(piece: Piece, context: Context) -> Verified:
    return FAMILY.verify({ROLE: (piece,)}, context)


def refused(piece: Piece, context: Context) -> str:
    """The name of the check that refused the evidence."""
    with pytest.raises(EvidenceError) as caught:
        verify(piece, context)
    return caught.value.check.name


@pytest.mark.parametrize("kind", PLATFORMS, ids=str)
def test_authentic_reports_of_every_version_and_signer(kind: tuple[int, str]) -> None:
    platform = PLATFORMS[kind]
    verified = verify(platform.evidence(version=kind[0]), platform.context())
    (component,) = verified.components
    facts = component.facts
    assert facts["report_version"] == kind[0]
    assert facts["product"] == platform.product.value
    assert facts["reported_tcb_snp"] == LEVELS["snp"]
    assert ("reported_tcb_fmc" in facts) == (platform.product is Product.TURIN)
    assert facts["signing_key"] == verified.host.kind == ("vlek" if platform.vlek else "vcek")
    assert facts["debug"] is False
    assert ("launch_mitigations" in facts) == (kind[0] >= 5)
    by_label = {measured.label: measured for measured in component.measured}
    measurement = by_label["launch measurement"].measurement
    assert measurement.values.digests[0].value == b"\x33" * 48
    level = by_label["reported TCB, microcode"].measurement.values.svn
    assert level is not None and level.value == LEVELS["microcode"]
    assert verified.valid_until == datetime(2045, 1, 1, tzinfo=UTC)


def test_the_policy_is_a_fact() -> None:
    platform = Platform()
    report = platform.evidence(policy=DEBUG | MIGRATION_AGENT, vmpl=2)
    facts = verify(report, platform.context()).components[0].facts
    assert (facts["debug"], facts["migration_agent"], facts["smt_allowed"]) == (True, True, False)
    assert (facts["vmpl"], facts["abi_major"], facts["abi_minor"]) == (2, 1, 0x37)


def test_a_report_answers_the_nonce_that_it_carries() -> None:
    platform = Platform()
    nonce = b"n" * 32
    report = platform.evidence(report_data=nonce.ljust(64, b"\0"))
    assert verify(report, platform.context(nonce=nonce)).nonce == nonce
    assert verify(report, platform.context(nonce=b"m" * 32)).nonce is None
    assert verify(report, platform.context()).nonce is None


def test_what_is_missing_is_no_fault_of_the_evidence() -> None:
    platform = Platform()
    vcek, ask, ark = platform.endorsements().certificates
    other = Platform(chip=b"\7" * 64).signer_certificate
    for certificates in ((ask, ark), (other, ask, ark)):
        with pytest.raises(InfrastructureError, match="VCEK certificate"):
            verify(platform.evidence(), platform.context(certificates=certificates))
    with pytest.raises(InfrastructureError, match=r"SEV-Milan, which issued SEV-VCEK .* missing"):
        verify(platform.evidence(), platform.context(certificates=(vcek,)))


def test_a_vcek_of_an_older_tcb_is_missing_collateral() -> None:
    platform = Platform()
    older = Platform(stated_levels={**LEVELS, "microcode": 7})
    certificates = (older.signer_certificate, *platform.endorsements().certificates[1:])
    # The key of another TCB is another key: this one did not sign the report in any form.
    report = dataclasses.replace(platform.report(), measurement=b"\x77" * 48)
    stranger = Platform(maker="b")
    with pytest.raises(InfrastructureError, match="VCEK certificate"):
        verify(Piece(stranger.sign(report)), platform.context(certificates=certificates))


def test_a_signer_that_is_not_the_reports() -> None:
    platform = Platform()
    wrong_levels = Platform(stated_levels={**LEVELS, "snp": 23})
    assert refused(wrong_levels.evidence(), wrong_levels.context()) == "reported-tcb"
    wrong_chip = Platform(stated_chip=b"\7" * 64)
    assert refused(wrong_chip.evidence(), wrong_chip.context()) == "chip-id"
    forged = Piece(Platform(maker="b").sign(platform.report()))
    assert refused(forged, platform.context()) == "signature"
    unsigned = platform.evidence(signing_key=SigningKey.NONE)
    assert refused(unsigned, platform.context()) == "signing-key"
    stated_vlek = platform.evidence(signing_key=SigningKey.VLEK)
    assert refused(stated_vlek, platform.context()) == "signing-key"
    genoa = platform.evidence(cpu=(0x19, 0x11, 0))
    assert refused(genoa, platform.context()) == "product"


def test_a_root_that_nobody_named() -> None:
    platform = Platform()
    assert refused(platform.evidence(), platform.context(anchors=())) == "anchor"
    for_tdx = dataclasses.replace(platform.ark.anchor, purposes=frozenset({"tdx"}))
    assert refused(platform.evidence(), platform.context(anchors=(for_tdx,))) == "anchor"
    for_snp = dataclasses.replace(platform.ark.anchor, purposes=frozenset({"sev-snp"}))
    verify(platform.evidence(), platform.context(anchors=(for_snp,)))
    without_root = platform.endorsements().certificates[:2]
    verify(platform.evidence(), platform.context(certificates=without_root))


def test_a_root_in_a_chain_file_is_no_anchor() -> None:
    platform = Platform()
    chain = platform.endorsements().certificates
    as_endorsement = sort(endorsements=chain, families=families()).endorsements
    assert refused(platform.evidence(), Context(at=AT, endorsements=as_endorsement)) == "anchor"
    for anchors in ([chain[2]], [NamedBytes(platform.ark.anchor.spki, "ark.pub")]):
        named = sort(endorsements=chain, anchors=anchors, families=families()).endorsements
        verify(platform.evidence(), Context(at=AT, endorsements=named))


def test_validity_at_the_time_of_appraisal() -> None:
    platform = Platform(not_before="20260205010433Z", not_after="20330205010433Z")
    early = platform.context(at=datetime(2026, 2, 5, 1, 4, 32, tzinfo=UTC))
    assert refused(platform.evidence(), early) == "not-yet-valid"
    verify(platform.evidence(), platform.context(at=datetime(2026, 2, 5, 1, 4, 33, tzinfo=UTC)))
    late = platform.context(at=datetime(2033, 2, 5, 1, 4, 34, tzinfo=UTC))
    assert refused(platform.evidence(), late) == "expired"


def test_revocation() -> None:
    platform = Platform()
    evidence = platform.evidence()

    def context(*crls: bytes, **changes: Any) -> Context:
        found = tuple(NamedBytes(crl, "crl.der") for crl in crls)
        return platform.context(revocations=found, **changes)

    clean, listing = platform.ark.revocation_list(5), platform.ark.revocation_list(0x10001)
    facts = verify(evidence, context(clean)).components[0].facts
    assert facts["revocation_checked"] is True
    assert verify(evidence, context()).components[0].facts["revocation_checked"] is False
    assert refused(evidence, context(listing)) == "revoked"

    ended = platform.ark.revocation_list(until=datetime(2026, 5, 1, tzinfo=UTC))
    with pytest.raises(InfrastructureError, match="ended on 2026-05-01"):
        verify(evidence, context(ended))
    verify(evidence, context(ended, stale_until=datetime(2026, 4, 1, tzinfo=UTC)))
    with pytest.raises(InfrastructureError, match="ended"):
        verify(evidence, context(ended, stale_until=datetime(2026, 5, 2, tzinfo=UTC)))
    ended_listing = platform.ark.revocation_list(0x10001, until=datetime(2026, 5, 1, tzinfo=UTC))
    assert refused(evidence, context(ended_listing)) == "revoked"

    with pytest.raises(InfrastructureError, match=r"no CRL of SEV-Milan"):
        verify(evidence, context(clean, require_revocation=True))
    both = (clean, platform.ask.revocation_list())
    verify(evidence, context(*both, require_revocation=True))
    forged = Platform(maker="b").ark.revocation_list()
    with pytest.raises(InfrastructureError, match="cannot be used"):
        verify(evidence, context(forged))
    with pytest.raises(InfrastructureError, match="cannot be read as a CRL"):
        verify(evidence, context(b"no CRL"))
    later = platform.ark.revocation_list(0x10001, issued=datetime(2027, 1, 1, tzinfo=UTC))
    verify(evidence, context(later))


def test_an_authority_beyond_its_limits() -> None:
    platform = Platform()
    vcek = platform.signer_certificate
    no_authority = platform.ark.issue(platform.ask.common_name, platform.ask.key)
    certificates = (vcek, NamedBytes(no_authority, "ask.der"))
    context = platform.context(certificates=certificates)
    assert refused(platform.evidence(), context) == "authority"


def test_the_cache_of_certificates_spares_the_path_and_nothing_else() -> None:
    platform = Platform()
    context = platform.context()
    verify(platform.evidence(), context)
    assert (context.certificates.hits, context.certificates.misses) == (0, 2)
    verify(platform.evidence(), context)
    assert (context.certificates.hits, context.certificates.misses) == (2, 2)
    later = dataclasses.replace(context, at=datetime(2046, 1, 1, tzinfo=UTC))
    assert refused(platform.evidence(), later) == "expired"


def test_what_a_host_brings_along_is_looked_into_beside_what_is_at_hand() -> None:
    platform = Platform()
    vcek, ask, ark = platform.endorsements().certificates
    crl = NamedBytes(platform.ark.revocation_list(), "crl.der")
    held = platform.endorsements(certificates=(ask, ark), revocations=(crl,))
    with pytest.raises(InfrastructureError, match="VCEK"):
        verify(platform.evidence(), Context(at=AT, endorsements=held))
    stranger = Platform(maker="b")
    along = Endorsements(anchors=(stranger.ark.anchor,), certificates=(vcek,))
    both = held.with_(along)
    assert both.certificates == (ask, ark, vcek) and both.anchors == held.anchors
    facts = verify(platform.evidence(), Context(at=AT, endorsements=both)).components[0].facts
    assert facts["revocation_checked"] is True
    assert held.with_(Endorsements()) is held
    twice = both.with_(Endorsements(certificates=(stranger.signer_certificate,)))
    verify(platform.evidence(), Context(at=AT, endorsements=twice))
    # What is at hand is not read again for each host that brings its own.
    assert twice.layers[0] is held and twice.layers[1] is both.layers[1]
    assert both.layers[1].anchors == ()


def test_bytes_that_are_no_report() -> None:
    platform = Platform()
    good = platform.evidence().data
    for data in (good[:-1], good + b"\0", b"", bytes(1184), b"\6" + good[1:], good[:-1] + b"\1"):
        assert refused(Piece(data), platform.context()) == "form"
    assert FAMILY.role(good) == ROLE
    assert FAMILY.role(good[:-1]) is None
    (selection,) = select([Piece(good)], [FAMILY])
    assert selection.family is FAMILY
    assert FAMILY.name in {family.name for family in families()}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(list(PLATFORMS)), st.integers(0, 8 * sev_snp.REPORT_SIZE - 1))
def test_every_bit_is_covered(kind: tuple[int, str], bit: int) -> None:
    platform = PLATFORMS[kind]
    piece = _signed_once(kind)
    (covered,) = FAMILY.covered(ROLE, piece)
    assert bit // 8 in covered
    flipped = bytearray(piece)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(EvidenceError):
        verify(Piece(bytes(flipped)), _contexts(kind, platform))


_SIGNED: dict[tuple[int, str], bytes] = {}
_CONTEXTS: dict[tuple[int, str], Context] = {}


def _signed_once(kind: tuple[int, str]) -> bytes:
    if kind not in _SIGNED:
        _SIGNED[kind] = PLATFORMS[kind].evidence(version=kind[0]).data
    return _SIGNED[kind]


def _contexts(kind: tuple[int, str], platform: Platform) -> Context:
    if kind not in _CONTEXTS:
        _CONTEXTS[kind] = platform.context()
    return _CONTEXTS[kind]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=1200))
def test_any_bytes_end_in_an_answer(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        verify(Piece(data), Context(at=AT, endorsements=Endorsements()))


@pytest.mark.parametrize("identifier", ["snp-milan", "snp-milan-before-vcek", "snp-milan-bit"])
def test_real_reports(identifier: str) -> None:
    case = real_data.case(identifier)
    endorsements = Endorsements(certificates=real_data.certificates(case["endorsements"]))
    context = Context(at=real_data.time_of(case), endorsements=endorsements)
    (piece,) = real_data.pieces(case)
    if case["state"] == "contraindicated":
        expected = {"snp-milan-before-vcek": "not-yet-valid", "snp-milan-bit": "signature"}
        assert refused(piece, context) == expected[identifier]
        return
    facts = verify(piece, context).components[0].facts
    assert (facts["product"], facts["debug"], facts["report_version"]) == ("Milan", False, 3)


def test_a_real_report_without_its_vcek() -> None:
    case = real_data.case("snp-milan-no-vcek")
    endorsements = Endorsements(certificates=real_data.certificates(case["endorsements"]))
    (piece,) = real_data.pieces(case)
    with pytest.raises(InfrastructureError, match="VCEK certificate of this report is missing"):
        verify(piece, Context(at=real_data.time_of(case), endorsements=endorsements))
