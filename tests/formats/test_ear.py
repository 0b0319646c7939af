"""EAR: round trips in JSON and CBOR, the draft's examples, older spellings, contradictions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import cbor, ear
from casemate.formats.ear import Appraisal, Ear, EarError, Tier

NONCE = st.none() | st.binary(min_size=8, max_size=64)
VECTOR = st.dictionaries(st.integers(0, 7), st.integers(-128, 127))
APPRAISAL = st.builds(
    lambda vector, policy_ids, profile, nonce: Appraisal(
        status=max(map(Tier.of, vector.values()), default=Tier.NONE),
        vector=vector,
        policy_ids=policy_ids,
        profile=profile,
        nonce=nonce,
    ),
    VECTOR,
    st.lists(st.text(max_size=5), max_size=2).map(tuple),
    st.none() | st.text(max_size=5),
    NONCE,
)
EAR = st.builds(
    Ear,
    issued_at=st.integers(0, 2**40),
    developer=st.text(max_size=5),
    build=st.text(max_size=5),
    submods=st.dictionaries(st.text(max_size=5), APPRAISAL, min_size=1, max_size=3),
    status=st.none() | st.just(Tier.CONTRAINDICATED),
    expires=st.none() | st.integers(0, 2**40),
    raw_evidence=st.none() | st.binary(max_size=9),
    nonce=NONCE,
)
EXAMPLE: dict[str, Any] = {
    "eat_profile": "tag:ietf.org,2026:rats/ear#03",
    "iat": 1666529184,
    "ear_verifier_id": {"developer": "https://veraison-project.org", "build": "vts 0.0.1"},
    "ear_raw_evidence": "NzQ3MjY5NzM2NTYzNzQK",
    "submods": {
        "PSA": {
            "ear_status": "contraindicated",
            "ear_trustworthiness_vector": {"instance-identity": 2, "executables": 96},
            "ear_appraisal_policy_ids": ["https://veraison.example/policy/1/60a0068d"],
            "ear_veraison_policy_claims": {"psa-certified": {}},
        }
    },
}
OLDER = {
    "eat_profile": "tag:github.com,2023:veraison/ear",
    "iat": 1666529184,
    "ear.verifier-id": {"developer": "https://veraison-project.org", "build": "vts 0.0.1"},
    "ear.raw-evidence": "NzQ3MjY5NzM2NTYzNzQK",
    "submods": {
        "PSA": {
            "ear.status": "contraindicated",
            "ear.trustworthiness-vector": {"instance-identity": 2, "executables": 96},
            "ear.appraisal-policy-id": "https://veraison.example/policy/1/60a0068d",
            "ear_veraison_policy_claims": {"psa-certified": {}},
        }
    },
}


@given(EAR)
def test_a_result_is_read_back_from_json_and_cbor(result: Ear) -> None:
    claims = ear.to_json(result)
    assert ear.from_json(json.loads(json.dumps(claims))) == result
    assert claims["eat_profile"] == "tag:ietf.org,2026:rats/ear#03"
    assert ear.from_cbor(ear.to_cbor(result)) == result


def test_the_example_of_the_draft_in_json_and_cbor() -> None:
    found = ear.from_json(EXAMPLE)
    assert found.submods["PSA"].vector == {0: 2, 2: 96}
    assert found.submods["PSA"].extensions == {"ear_veraison_policy_claims": {"psa-certified": {}}}
    assert ear.to_json(found) == EXAMPLE
    content = {
        265: "tag:ietf.org,2026:rats/ear#03",
        6: 1666529184,
        1004: {0: "https://veraison-project.org", 1: "vts 0.0.1"},
        1002: b"lifeboatman",
        266: {"PSA": {1000: 96, 1001: {0: 2, 2: 96, 4: 2}, 1003: ["p"], -70001: {}}},
    }
    binary = ear.from_cbor(cbor.encode(content))
    assert binary.raw_evidence == b"lifeboatman"
    assert binary.submods["PSA"].extensions == {-70001: {}}
    assert cbor.decode(ear.to_cbor(binary)) == content


def test_older_spellings_say_the_same() -> None:
    older, current = ear.from_json(OLDER), ear.from_json(EXAMPLE)
    assert older.submods == current.submods
    assert older.raw_evidence == current.raw_evidence
    assert older.profile == "tag:github.com,2023:veraison/ear"
    with pytest.raises(EarError, match="only tag:ietf"):
        ear.to_json(older)


def changed(path: str, value: Any) -> dict[str, Any]:
    claims: dict[str, Any] = json.loads(json.dumps(EXAMPLE))
    *above, last = path.split("/")
    place = claims
    for name in above:
        place = place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return claims


PSA = "submods/PSA/"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("eat_profile", "tag:other", "is not that of an EAR"),
        ("eat_profile", None, "eat_profile: is missing"),
        ("iat", 1.5, "iat: expected whole seconds"),
        ("iat", True, "iat: expected whole seconds"),
        ("exp", -1, "exp: expected whole seconds"),
        ("ear_verifier_id", {"build": "b"}, "ear_verifier_id.developer: is missing"),
        ("ear_verifier_id", [], "ear_verifier_id: expected a map"),
        ("ear.raw-evidence", "AAAA", "ear_raw_evidence: stands there in two spellings"),
        ("ear_raw_evidence", "A!", "expected base64url"),
        ("ear_raw_evidence", 5, "ear_raw_evidence: expected bytes"),
        ("eat_nonce", "AAAA", "eat_nonce: expected 8 to 64 bytes, found 3"),
        ("submods", {}, "submods: expected at least one"),
        ("submods", [], "submods: expected a map"),
        (PSA + "ear_status", None, "submods.PSA.ear_status: is missing"),
        (PSA + "ear_status", "good", "'good' is no tier"),
        (PSA + "ear_status", "affirming", "affirming although something is contraindicated"),
        (PSA + "ear_trustworthiness_vector", {"x": 2}, "no trustworthiness claim"),
        (PSA + "ear_trustworthiness_vector", {"hardware": 128}, "4 is 128"),
        (PSA + "ear_appraisal_policy_ids", [], "expected texts"),
        ("ear_status", "warning", "ear_status: warning although something is contraindicated"),
    ],
)
def test_what_is_no_result_is_refused(path: str, value: Any, message: str) -> None:
    with pytest.raises(EarError, match=message):
        ear.from_json(changed(path, value))


def test_affirming_as_a_whole_needs_every_part_appraised() -> None:
    parts = {"a": Appraisal(status=Tier.AFFIRMING), "b": Appraisal(status=Tier.NONE)}
    whole = Ear(issued_at=1, developer="d", build="b", submods=parts, status=Tier.AFFIRMING)
    with pytest.raises(EarError, match="something is not appraised"):
        ear.to_cbor(whole)


@pytest.mark.parametrize(
    ("value", "tier"),
    [
        *((value, Tier.NONE) for value in (-1, 0, 1)),
        *((value, Tier.AFFIRMING) for value in (-32, -2, 2, 31)),
        *((value, Tier.WARNING) for value in (-96, -33, 32, 95)),
        *((value, Tier.CONTRAINDICATED) for value in (-128, -97, 96, 127)),
    ],
)
def test_the_tier_of_a_claims_value(value: int, tier: Tier) -> None:
    assert Tier.of(value) is tier


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        ear.from_cbor(data)
    except EarError:
        return


def test_an_extension_cannot_take_the_place_of_a_claim() -> None:
    result = ear.from_json(EXAMPLE)
    for label in ("iat", 5):
        odd = Ear(
            issued_at=1,
            developer="d",
            build="b",
            submods=result.submods,
            extensions={label: 0},
        )
        with pytest.raises(EarError, match="extension"):
            ear.to_json(odd)
