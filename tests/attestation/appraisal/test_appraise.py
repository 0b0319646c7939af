"""Whole appraisals of evidence that the project's own root of trust makes: state and reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.verdict import Comparison
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.evidence.family import Context, FamilyName, Piece, Verified
from casemate.attestation.states import State
from casemate.attestation.trust_vector import VERIFIER_MALFUNCTION, TrustClaim
from tests.attestation import hosts
from tests.attestation.references import corim_of, references_of
from tests.attestation.verifiers import appraise, good_corim, host, verified, verifier
from tests.rot.devices import firmware


def test_a_good_host_is_affirmed_and_the_verdict_says_by_what() -> None:
    verdict = appraise(host().token())

    assert verdict.state is State.AFFIRMING, verdict.reasons
    assert verdict.host == verified(host().token()).host
    assert verdict.nonce == hosts.NONCE
    assert verdict.references == references_of(good_corim()).digest
    assert verdict.policy == policy.built_in("development").id
    claims = [claim for part in verdict.components for claim in part.claims]
    assert len(claims) == 12
    assert {claim.comparison for claim in claims} == {Comparison.MET}
    assert all(claim.reference for claim in claims)
    assert all(part.vector[TrustClaim.INSTANCE_IDENTITY] == 2 for part in verdict.components)


def test_the_default_policy_warns_of_an_anchor_that_no_hardware_guards() -> None:
    verdict = appraise(host().token(), using=verifier(by="default"))
    assert verdict.state is State.WARNING
    assert "no hardware guards the device's secret" in verdict.reasons[0]


def test_authentic_evidence_without_reference_values_is_a_warning_under_any_policy() -> None:
    lax = policy.read(b'name = "nothing"\nversion = "1"', "nothing")
    verdict = appraise(host().token(), using=verifier(references=references_of(), policy=lax))
    assert verdict.state is State.WARNING
    assert verdict.reasons == ("authentic, but nothing of it met a reference value",)


def test_another_runtime_is_named_with_what_was_expected_and_found() -> None:
    other = hosts.boot(3, code=firmware(rt=b"another runtime"))
    verdict = appraise(other.token())

    assert verdict.state is State.CONTRAINDICATED
    assert verdict.reasons[0].startswith("runtime: runtime firmware differs: expected SHA-384 ")
    runtime = next(part for part in verdict.components if part.name == "runtime")
    (claim,) = [one for one in runtime.claims if one.label == "runtime firmware"]
    assert claim.comparison is Comparison.DIFFERS
    assert claim.expected
    assert claim.found not in claim.expected
    assert runtime.vector[TrustClaim.EXECUTABLES] == 96
    assert verdict.host is not None, "the evidence is authentic: this host's trust ends"


def test_a_measured_image_that_no_reference_value_speaks_about_is_a_warning() -> None:
    known = verified(host().token()).components
    without = corim_of(
        known, wanted=lambda measured: not measured.optional and measured.label != "silicon"
    )
    verdict = appraise(host().token(), using=verifier(references=references_of(without)))
    assert verdict.state is State.WARNING
    assert "no reference value for silicon" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("fused", "state", "reason"),
    [
        ({"debug_locked": False}, State.CONTRAINDICATED, "debug is unlocked"),
        ({"anti_rollback_disable": True}, State.WARNING, "anti-rollback is disabled"),
    ],
)
def test_what_the_fuses_say_decides(fused: dict[str, Any], state: State, reason: str) -> None:
    token = hosts.boot(4, **fused).token()
    own = references_of(corim_of(verified(token).components))
    verdict = appraise(token, using=verifier(references=own))
    assert verdict.state is state
    assert reason in verdict.reasons[0]


def test_a_security_version_below_the_minimum_is_contraindicated() -> None:
    clause = """
        name = "newer"
        version = "1"
        extends = "development"
        [[clause]]
        name = "svn"
        component = ["runtime"]
        when = "has(facts.svn) && facts.svn < 6"
        state = "contraindicated"
        claim = "executables"
        sentence = "the security version is {svn}, at least 6 is asked for"
    """
    strict = policy.read(clause.encode(), "newer")
    verdict = appraise(host().token(), using=verifier(policy=strict))
    assert verdict.state is State.CONTRAINDICATED
    assert verdict.reasons == (
        "runtime: the security version is 5, at least 6 is asked for",
        *verdict.reasons[1:],
    )


def test_a_wrong_nonce_is_contraindicated_and_says_nothing_about_the_host() -> None:
    verdict = appraise(host().token(), nonce=b"another nonce")
    assert verdict.state is State.CONTRAINDICATED
    assert "nonce" in verdict.reasons[0]
    assert verdict.host is None


def test_a_missing_anchor_is_nobodys_fault_but_the_verifiers() -> None:
    verdict = appraise(host().token(), using=verifier(endorsements=Endorsements()))
    assert verdict.state is State.COULD_NOT_APPRAISE
    assert verdict.advice
    assert verdict.host is None
    (component,) = verdict.components
    assert set(component.vector.values()) == {VERIFIER_MALFUNCTION}


@pytest.mark.parametrize("data", [b"", b"\xff" * 100, None], ids=["none", "noise", "cut"])
def test_bytes_that_cannot_be_parsed_are_contraindicated(data: bytes | None) -> None:
    verdict = appraise(host().token()[:2000] if data is None else data)
    assert verdict.state is State.CONTRAINDICATED
    assert verdict.host is None


def test_no_evidence_at_all_could_not_be_appraised() -> None:
    assert appraise().state is State.COULD_NOT_APPRAISE


def test_a_forged_part_beside_good_evidence_says_nothing_about_the_good_host() -> None:
    verdict = appraise(host().token(), b"forged")
    assert verdict.state is State.CONTRAINDICATED
    assert verdict.host is None


class Failing:
    """A family with a defect, or on a host whose disk or memory fails."""

    name = FamilyName.TPM
    media_types: tuple[str | int, ...] = ()
    required = frozenset({"any"})

    def __init__(self, error: Exception) -> None:
        self.error = error

    def role(self, data: bytes) -> str | None:
        return "any"

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        raise self.error

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        return ()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (IndexError("a defect"), State.CONTRAINDICATED),
        (RecursionError(), State.CONTRAINDICATED),
        (OSError("disk"), State.COULD_NOT_APPRAISE),
        (MemoryError(), State.COULD_NOT_APPRAISE),
    ],
)
def test_a_defect_that_evidence_reaches_helps_no_attacker(error: Exception, state: State) -> None:
    verdict = appraise(b"evidence", using=verifier(families=(Failing(error),)))
    assert verdict.state is state


def test_a_flipped_bit_never_improves_the_verdict() -> None:
    token = host().token()
    using = verifier()
    for at in range(0, len(token), 97):
        changed = bytearray(token)
        changed[at] ^= 1 << (at % 8)
        verdict = appraise(bytes(changed), using=using)
        assert verdict.state is State.CONTRAINDICATED, (at, verdict.reasons)
