"""Real evidence and the verdicts that must come out, through the same path as the command line."""

from __future__ import annotations

import dataclasses
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from casemate.attestation import input as given
from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.evidence import registry
from casemate.attestation.reference import store
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from tests.attestation.real_data import data_folder

#: What the first reason must say, by case: words of the sentence in verdicts.json and of ours.
REASONS: dict[str, tuple[str, ...]] = {
    "snp-milan": ("no reference value",),
    "snp-milan-before-vcek": ("not valid before 2026-02-05",),
    "snp-milan-no-vcek": ("VCEK", "missing"),
    "snp-milan-bit": ("signature does not verify",),
    "azure-vtpm": ("no reference value",),
    "tdx-current": ("no reference value",),
    "tdx-stale-collateral": ("2025-07-19",),
    "caliptra-name-chain": ("FMC", "name"),
}


def cases() -> list[dict[str, Any]]:
    folder = os.environ.get("CASEMATE_DATA")
    if not folder:
        return []
    found: list[dict[str, Any]] = json.loads((Path(folder) / "verdicts.json").read_text())["cases"]
    return found


def read(names: list[str] | None) -> list[NamedBytes]:
    return list(given.read_files(data_folder() / name for name in names or []))


def flipped(files: list[NamedBytes], flip: dict[str, int] | None) -> list[NamedBytes]:
    if flip is None:
        return files
    data = bytearray(files[0].data)
    data[flip["byte"]] ^= 1 << flip["bit"]
    return [dataclasses.replace(files[0], data=bytes(data)), *files[1:]]


def appraise(case: dict[str, Any]) -> Verdict:
    families = registry.families()
    sorted_ = given.sort(
        evidence=flipped(read(case["evidence"]), case.get("flip")),
        endorsements=read(case["endorsements"]),
        references=read(case["references"]),
        families=families,
    )
    at = datetime.fromisoformat(case["at"])
    references = store.load(sorted_.references, signers=sorted_.signers, at=at)
    verifier = Verifier(sorted_.endorsements, references, policy.built_in(case["policy"]))
    return verifier.appraise(sorted_.pieces, at=at, nonce=None, correlation_id=case["id"])


@pytest.mark.skipif(not cases(), reason="CASEMATE_DATA is not set: real evidence is not here")
@pytest.mark.parametrize(
    "case",
    [case for case in cases() if case["state"] in set(State)],
    ids=lambda case: str(case["id"]),
)
def test_every_real_case_gets_its_state_for_its_reason(case: dict[str, Any]) -> None:
    verdict = appraise(case)
    assert verdict.state.value == case["state"], verdict.reasons
    for words in REASONS[case["id"]]:
        assert words in verdict.reasons[0], verdict.reasons


def test_a_real_signed_manifest_is_accepted_under_its_key_alone() -> None:
    case = next((case for case in cases() if case["id"] == "corim-signed"), None)
    if case is None:
        pytest.skip("CASEMATE_DATA is not set: real evidence is not here")
    at = datetime.fromisoformat(case["at"])
    sorted_ = given.sort(
        evidence=read(case["evidence"]),
        endorsements=read(case["endorsements"]),
        families=registry.families(),
    )
    assert not sorted_.pieces
    assert len(sorted_.accompanying) == len(case["evidence"])
    assert store.load(sorted_.accompanying, signers=sorted_.signers, at=at).manifests
    with pytest.raises(InputError):
        store.load(sorted_.accompanying, signers=(), at=at)
