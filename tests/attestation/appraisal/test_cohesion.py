"""Parts of two good hosts or two sessions, put together: every combination is refused."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from casemate.attestation.appraisal import cohesion
from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.bindings import DPE_LEAF_KEY, PARTITION_KEY, REPORT_DATA
from casemate.attestation.evidence.family import FamilyName, Host, Verified
from casemate.attestation.states import State
from casemate.formats.key_binding import key_binding
from tests.attestation import hosts
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.verifiers import appraise, host, verified, verifier

NONCE = hosts.NONCE


def leaf_of(number: int) -> bytes:
    return verified(host(number).token()).bindings[DPE_LEAF_KEY]


def vm_report(report_data: bytes, chip: bytes = bytes(range(64))) -> bytes:
    platform = Platform(chip=chip)
    return platform.evidence(report_data=report_data).data


def together(*data: bytes, nonce: bytes | None = NONCE) -> tuple[State, str]:
    """The state of pieces given as one host's, and the first reason."""
    own, vm = hosts.endorsements(), Platform().endorsements()
    both = dataclasses.replace(vm, anchors=(*own.anchors, *vm.anchors))
    verdict = appraise(*data, using=verifier(endorsements=both), nonce=nonce)
    return verdict.state, verdict.reasons[0]


def committed(number: int, nonce: bytes = NONCE) -> bytes:
    return key_binding(nonce, leaf_of(number), b"").ljust(64, b"\0")


def test_a_virtual_machine_that_commits_to_the_token_belongs_to_it() -> None:
    state, reason = together(host(1).token(), vm_report(committed(1)))
    assert state is State.WARNING, reason


@pytest.mark.parametrize(
    ("token_of", "report_of", "nonce"), [(1, 2, NONCE), (2, 1, NONCE), (1, 1, b"another nonce")]
)
def test_a_report_for_another_host_or_session_is_refused(
    token_of: int, report_of: int, nonce: bytes
) -> None:
    state, reason = together(host(token_of).token(), vm_report(committed(report_of, nonce)))
    assert state is State.CONTRAINDICATED
    assert "does not commit to this EAT" in reason


def test_a_report_that_answers_the_nonce_alone_is_not_the_tokens_either() -> None:
    state, reason = together(host(1).token(), vm_report(NONCE.ljust(64, b"\0")))
    assert state is State.CONTRAINDICATED
    assert "does not commit to this EAT" in reason


def test_two_tokens_are_no_evidence_of_one_host() -> None:
    state, _ = together(host(1).token(), host(2).token())
    assert state is State.CONTRAINDICATED


def test_a_lone_report_must_answer_the_nonce() -> None:
    state, reason = together(vm_report(NONCE.ljust(64, b"\0")))
    assert state is State.WARNING, reason
    state, reason = together(vm_report(b"\1" * 64))
    assert state is State.CONTRAINDICATED
    assert "does not answer the nonce" in reason
    state, reason = together(vm_report(b"\1" * 64), nonce=None)
    assert state is State.WARNING, reason


# --- the rules by themselves ------------------------------------------------------------------


def part(
    family: FamilyName,
    *,
    key: bytes = b"host",
    kind: str = "idevid",
    nonce: bytes | None = None,
    **bindings: bytes,
) -> Verified:
    return Verified(
        family=family,
        pieces=(),
        host=Host(hashlib.sha256(key).digest(), kind),
        components=(),
        checks=(),
        nonce=nonce,
        bindings={name.replace("_", "-"): value for name, value in bindings.items()},
    )


LEAF, PARTITION = b"leaf", b"partition"
DIGEST = key_binding(NONCE, LEAF, PARTITION)
EAT = part(FamilyName.CALIPTRA, nonce=NONCE, dpe_leaf_key=LEAF, rt_alias_key=b"alias")
KEY_REPORT = part(
    FamilyName.KEY_REPORT,
    partition_key=PARTITION,
    rt_alias_key=b"alias",
    report_data=DIGEST.ljust(128, b"\0"),
)
VM = part(FamilyName.SEV_SNP, key=b"chip", kind="vcek", report_data=DIGEST.ljust(64, b"\0"))


def test_token_key_report_and_virtual_machine_hold_together() -> None:
    assert PARTITION_KEY in KEY_REPORT.bindings
    assert REPORT_DATA in VM.bindings
    checks = cohesion.check([EAT, KEY_REPORT, VM], NONCE)
    assert all(check.passed for check in checks)
    assert sum(check.name == "freshness" for check in checks) == 3


@pytest.mark.parametrize(
    "pieces",
    [
        # Each part swapped for that of another host, partition or session.
        [part(FamilyName.CALIPTRA, nonce=NONCE, dpe_leaf_key=b"x"), KEY_REPORT, VM],
        [EAT._replace(nonce=b"another nonce"), KEY_REPORT, VM],
        [EAT, KEY_REPORT._replace(bindings={PARTITION_KEY: b"x"}), VM],
        [EAT, part(FamilyName.KEY_REPORT, rt_alias_key=b"x", report_data=DIGEST), VM],
        [EAT, KEY_REPORT._replace(host=Host(bytes(32), "idevid")), VM],
        [EAT, KEY_REPORT, VM._replace(bindings={REPORT_DATA: b"x" * 64})],
        [EAT, KEY_REPORT, VM._replace(bindings={})],
        [EAT, VM],
        [KEY_REPORT, VM],
        [KEY_REPORT],
        [VM],
    ],
)
def test_a_part_of_something_else_is_refused(pieces: list[Verified]) -> None:
    with pytest.raises(EvidenceError):
        cohesion.check(pieces, NONCE)


def test_bindings_that_differ_beyond_the_digest_are_refused() -> None:
    longer = DIGEST.ljust(64, b"\1")
    with pytest.raises(EvidenceError):
        cohesion.check([EAT, KEY_REPORT, part(FamilyName.SEV_SNP, report_data=longer)], NONCE)
