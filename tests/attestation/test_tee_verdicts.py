"""Confidential VMs and TPMs, from evidence to verdict: with reference values and without."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.verdict import Comparison, Verdict
from casemate.attestation.endorsements import Endorsements, TrustAnchor
from casemate.attestation.evidence.family import Component, Context, Measured, Piece
from casemate.attestation.evidence.registry import families, select
from casemate.attestation.reference.store import ReferenceSet
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from casemate.formats.corim.measurement import Measurement, Svn, SvnKind
from tests.attestation import tdx_maker
from tests.attestation.references import corim_of, references_of
from tests.attestation.sev_snp_maker import AT, DEBUG, LEVELS, Platform
from tests.attestation.test_azure_snp_vtpm import GOOD as AZURE
from tests.attestation.test_tpm import TPMS
from tests.attestation.test_tpm import evidence as tpm_evidence

NONCE = b"n" * 32
REPORT_DATA = NONCE.ljust(64, b"\0")


@dataclass(frozen=True)
class Case:
    """One family: good evidence that answers the nonce, and what it is verified with."""

    pieces: Callable[[], list[Piece]]
    endorsements: Callable[[], Endorsements]

    def components(self) -> tuple[Component, ...]:
        (selection,) = select(self.pieces(), families())
        context = Context(at=tdx_maker.AT, endorsements=self.endorsements())
        return selection.family.verify(selection.pieces, context).components

    def appraise(self, references: ReferenceSet, nonce: bytes = NONCE) -> Verdict:
        verifier = Verifier(self.endorsements(), references, policy.built_in("default"))
        return verifier.appraise(self.pieces(), at=tdx_maker.AT, nonce=nonce, correlation_id="test")


def _tpm_endorsements() -> Endorsements:
    return Endorsements(anchors=(TrustAnchor(TPMS["rsa"].spki, "ak"),))


SNP, TDX = Platform(), tdx_maker.TdxPlatform()
CASES = {
    "sev-snp": Case(lambda: [SNP.evidence(report_data=REPORT_DATA)], SNP.endorsements),
    "sev-snp, version 5": Case(
        lambda: [SNP.evidence(report_data=REPORT_DATA, version=5)], SNP.endorsements
    ),
    "tdx": Case(lambda: [TDX.evidence(report_data=REPORT_DATA)], TDX.endorsements),
    "tpm": Case(lambda: tpm_evidence(TPMS["rsa"], NONCE), _tpm_endorsements),
    "azure": Case(lambda: AZURE.evidence(NONCE), AZURE.platform.endorsements),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_affirming_with_reference_values_and_never_without(case: Case) -> None:
    good = references_of(corim_of(case.components()))
    verdict = case.appraise(good)
    assert verdict.state is State.AFFIRMING, verdict.reasons
    assert verdict.nonce == NONCE
    assert case.appraise(references_of()).state is State.WARNING
    wrong = case.appraise(good, b"another nonce")
    assert wrong.state is State.CONTRAINDICATED and "nonce" in wrong.reasons[0]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_measurement_can_have_a_reference_value(case: Case) -> None:
    everything = references_of(corim_of(case.components(), wanted=lambda measured: True))
    verdict = case.appraise(everything)
    assert verdict.state is State.AFFIRMING, verdict.reasons
    claims = [claim for component in verdict.components for claim in component.claims]
    assert {claim.comparison for claim in claims} == {Comparison.MET}
    assert len(claims) == sum(len(component.measured) for component in case.components())


def _changed(
    components: tuple[Component, ...], change: Callable[[Measured], Measurement | None]
) -> ReferenceSet:
    """References for those measurements alone that `change` returns."""
    made = []
    for component in components:
        kept = [
            dataclasses.replace(measured, measurement=wanted, optional=False)
            for measured in component.measured
            if (wanted := change(measured)) is not None
        ]
        made.append(dataclasses.replace(component, measured=tuple(kept)))
    return references_of(corim_of(made))


@pytest.mark.parametrize(
    ("case", "label"),
    [
        ("sev-snp", "launch measurement"),
        ("tdx", "TD measurement"),
        ("tpm", "PCR 4, boot loader"),
        ("azure", "PCR 4, boot loader"),
    ],
)
def test_another_measurement_is_named(case: str, label: str) -> None:
    def change(measured: Measured) -> Measurement | None:
        if measured.optional:
            return None
        if measured.label != label:
            return measured.measurement
        values = measured.measurement.values
        digests = tuple(
            dataclasses.replace(digest, value=b"\xee" * len(digest.value))
            for digest in values.digests
        )
        changed = dataclasses.replace(values, digests=digests)
        return dataclasses.replace(measured.measurement, values=changed)

    verdict = CASES[case].appraise(_changed(CASES[case].components(), change))
    assert verdict.state is State.CONTRAINDICATED
    differing = [
        claim
        for component in verdict.components
        for claim in component.claims
        if claim.comparison is Comparison.DIFFERS
    ]
    assert [claim.label for claim in differing] == [label]
    assert "ee" * 8 in differing[0].expected[0]


@pytest.mark.parametrize(("minimum", "state"), [(24, State.AFFIRMING), (25, State.CONTRAINDICATED)])
def test_a_security_version_below_the_minimum(minimum: int, state: State) -> None:
    assert LEVELS["snp"] == 24

    def change(measured: Measured) -> Measurement | None:
        if measured.label == "launch measurement":
            return measured.measurement
        if measured.measurement.key != "reported-tcb/snp":
            return None
        svn = Svn(minimum, SvnKind.MINIMUM)
        values = dataclasses.replace(measured.measurement.values, svn=svn)
        return dataclasses.replace(measured.measurement, values=values)

    case = CASES["sev-snp"]
    verdict = case.appraise(_changed(case.components(), change))
    assert verdict.state is state, verdict.reasons


def test_debug_is_contraindicated_whatever_else_is_good() -> None:
    snp = Case(
        lambda: [SNP.evidence(report_data=REPORT_DATA, policy=DEBUG)], CASES["sev-snp"].endorsements
    )
    verdict = snp.appraise(references_of(corim_of(snp.components())))
    assert verdict.state is State.CONTRAINDICATED
    assert any("debug" in reason for reason in verdict.reasons)
    tdx = Case(
        lambda: [TDX.evidence(report_data=REPORT_DATA, attributes=tdx_maker.DEBUG)],
        CASES["tdx"].endorsements,
    )
    verdict = tdx.appraise(references_of(corim_of(CASES["tdx"].components())))
    assert verdict.state is State.CONTRAINDICATED
    assert any("Debug mode" in reason for reason in verdict.reasons)


def test_an_old_platform_is_looked_at() -> None:
    old = tdx_maker.TdxPlatform(status="OutOfDate")
    case = Case(lambda: [old.evidence(report_data=REPORT_DATA)], old.endorsements)
    verdict = case.appraise(references_of(corim_of(case.components())))
    assert verdict.state is State.WARNING
    assert any("OutOfDate" in reason for reason in verdict.reasons)


def test_reports_of_two_platforms_are_no_one_host() -> None:
    other = Platform(chip=b"\7" * 64)
    pieces = [SNP.evidence(report_data=REPORT_DATA), TDX.evidence(report_data=REPORT_DATA)]
    anchors = (SNP.ark.anchor, TDX.anchor)
    certificates = SNP.endorsements().certificates + other.endorsements().certificates
    endorsements = Endorsements(
        anchors=anchors, certificates=certificates, tdx_collateral=(TDX.collateral(),)
    )
    verifier = Verifier(endorsements, references_of(), policy.built_in("default"))
    verdict = verifier.appraise(pieces, at=tdx_maker.AT, nonce=NONCE, correlation_id="test")
    assert verdict.state is State.CONTRAINDICATED
    two = [SNP.evidence(report_data=REPORT_DATA), other.evidence(report_data=REPORT_DATA)]
    verdict = verifier.appraise(two, at=AT, nonce=NONCE, correlation_id="test")
    assert verdict.state is State.CONTRAINDICATED
