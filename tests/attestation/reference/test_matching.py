"""Claims against reference values: met, different, without reference, and who the attester is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.attestation.appraisal.verdict import ClaimVerdict, Comparison
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.family import Component, Measured
from casemate.attestation.reference.comparison import satisfies
from casemate.attestation.reference.matching import compare
from casemate.attestation.reference.store import ReferenceSet, load
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.cbor import Tag
from casemate.formats.corim.manifest import Validity
from casemate.formats.corim.measurement import (
    Digest,
    Environment,
    Flag,
    Measurement,
    MeasurementValues,
    Version,
)
from casemate.formats.corim.triples import (
    ConditionalTriple,
    KeyTriple,
    MeasurementTriple,
    SeriesItem,
    SeriesTriple,
    Triples,
)
from tests.attestation.reference import making
from tests.attestation.reference.making import NOW, claim, component, environment, triple, values

MET, DIFFERS, NONE = Comparison.MET, Comparison.DIFFERS, Comparison.NO_REFERENCE


def verdicts(
    references: ReferenceSet, *measured: Measured, keys: Sequence[bytes] = ()
) -> tuple[ClaimVerdict, ...]:
    return compare([component(*measured)], references, at=NOW, keys=keys).claims["host"]


def outcome(references: ReferenceSet, *measured: Measured) -> list[Comparison]:
    return [verdict.comparison for verdict in verdicts(references, *measured)]


def keyed(key: int | str | None, number: int) -> Measurement:
    return Measurement(key=key, values=values(number))


def test_a_met_claim_names_what_met_it() -> None:
    (verdict,) = verdicts(making.references(triple(values(1, svn=3))), claim(values(1, svn=3)))
    digest = (1).to_bytes(48, "big").hex()
    assert verdict == ClaimVerdict(
        label="firmware",
        found=f"SHA-384 {digest}, SVN 3",
        comparison=MET,
        claim=TrustClaim.EXECUTABLES,
        reference="tag (a.corim), reference 0",
        expected=(f"SHA-384 {digest}, SVN 3",),
    )


def test_a_differing_claim_shows_what_differs_from_the_closest_values() -> None:
    references = making.references(
        triple(values(1, svn=5, least=True)), triple(values(2, svn=9, least=True))
    )
    (verdict,) = verdicts(references, claim(values(2, svn=8)))
    assert (verdict.comparison, verdict.found) == (DIFFERS, "SVN 8")
    assert verdict.expected == ("SVN at least 9", "SVN at least 5")
    assert verdict.reference == "tag (a.corim), reference 1"


def test_at_most_eight_expected_values_are_shown() -> None:
    references = making.references(*(triple(values(number)) for number in range(1, 20)))
    (verdict,) = verdicts(references, claim(values(99)))
    assert len(verdict.expected) == 8
    assert all(text.startswith("SHA-384 ") for text in verdict.expected)


def test_without_reference_values_a_claim_says_so_and_an_optional_one_nothing() -> None:
    assert outcome(making.references(), claim(values(1))) == [NONE]
    assert outcome(making.references(), claim(values(1), optional=True)) == []
    other = making.references(triple(values(1), at=environment("other")))
    assert outcome(other, claim(values(1))) == [NONE]
    wrong = making.references(triple(values(2)))
    assert outcome(wrong, claim(values(1), optional=True)) == [DIFFERS]


def test_triples_are_alternatives_and_another_measurement_key_is_another_claim() -> None:
    references = making.references(triple(keyed("a", 1)), triple(keyed("a", 2)))
    assert outcome(references, claim(keyed("a", 2))) == [MET]
    assert outcome(references, claim(keyed("b", 2))) == [NONE]
    assert outcome(references, claim(values(2))) == [NONE]


def test_an_environment_is_covered_by_what_a_reference_says_of_it() -> None:
    whole = Environment(class_id=Tag(560, b"c"), vendor="v", model="m", index=1)
    for part, expected in (
        (Environment(class_id=Tag(560, b"c")), MET),
        (Environment(vendor="v", model="m"), MET),
        (Environment(index=1), MET),
        (Environment(class_id=Tag(560, b"c"), layer=0), NONE),
        (Environment(class_id=Tag(111, b"c")), NONE),
        (Environment(vendor="v", instance=Tag(560, b"i")), NONE),
    ):
        references = making.references(triple(values(1), at=part))
        assert outcome(references, claim(values(1), at=whole)) == [expected], part


# --- triples of several measurements ----------------------------------------------------------


def test_a_triple_is_met_as_a_whole_or_not_at_all() -> None:
    references = making.references(
        triple(keyed("a", 1), keyed("b", 1)), triple(keyed("a", 2), keyed("b", 2))
    )
    assert outcome(references, claim(keyed("a", 2)), claim(keyed("b", 2))) == [MET, MET]
    # Half of one and half of another is neither.
    mixed = verdicts(references, claim(keyed("a", 1)), claim(keyed("b", 2)))
    assert [verdict.comparison for verdict in mixed] == [MET, DIFFERS]
    assert mixed[1].expected[0].endswith("1") or mixed[1].expected


def test_what_the_closest_triple_asks_for_and_nobody_claims_differs() -> None:
    references = making.references(triple(keyed("a", 1), keyed("b", 1)))
    found = verdicts(references, claim(keyed("a", 1)))
    assert [(verdict.label, verdict.found, verdict.comparison) for verdict in found] == [
        ("firmware: measurement b", "nothing", DIFFERS),
        ("firmware", values_text(1), MET),
    ]


def values_text(number: int) -> str:
    return f"SHA-384 {number.to_bytes(48, 'big').hex()}"


def test_a_whole_match_elsewhere_does_not_excuse_half_of_a_triple() -> None:
    references = making.references(
        triple(keyed("a", 1), keyed("b", 1), keyed("c", 1)), triple(keyed("b", 2))
    )
    found = outcome(references, claim(keyed("a", 1)), claim(keyed("b", 2)), claim(keyed("c", 1)))
    assert found == [DIFFERS, MET, DIFFERS]


# --- authority --------------------------------------------------------------------------------


def pem(spki: bytes) -> str:
    body = base64.b64encode(spki).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"


def test_a_reference_can_demand_who_stands_behind_the_claim() -> None:
    key = making.spki()
    by_key = Measurement(values=values(1), authorized_by=(Tag(554, pem(key)),))
    by_name = Measurement(values=values(1), authorized_by=(Tag(560, b"key 1"),))
    references = making.references(triple(by_key))
    assert references.index.depends_on_keys
    assert not making.references(triple(values(1))).index.depends_on_keys
    assert verdicts(references, claim(values(1)), keys=[key])[0].comparison is MET
    (verdict,) = verdicts(references, claim(values(1)))
    assert verdict.comparison is DIFFERS
    assert verdict.found.endswith("by another authority")
    assert outcome(making.references(triple(by_name)), claim(by_name)) == [MET]
    assert outcome(making.references(triple(by_name)), claim(values(1))) == [DIFFERS]


@pytest.mark.parametrize("kind", ["identity", "attest_key"])
def test_keys_that_were_endorsed_are_among_those_of_the_evidence(kind: str) -> None:
    key, other = making.spki(), making.spki(making.OTHER_KEY)
    shown = (
        Tag(554, pem(key)),
        Tag(554, base64.b64encode(key).decode()),
        Tag(557, Digest(7, hashlib.sha384(key).digest())),
    )
    for endorsed in shown:
        endorsing = (KeyTriple(environment(), (endorsed,)),)
        triples = (
            Triples(identity=endorsing) if kind == "identity" else Triples(attest_key=endorsing)
        )
        references = making.references(content=triples)
        (_, met) = verdicts(references, claim(values(1)), keys=[other, key])
        assert (met.comparison, met.claim) == (MET, TrustClaim.INSTANCE_IDENTITY)
        (_, differs) = verdicts(references, claim(values(1)), keys=[other])
        assert differs.comparison is DIFFERS
        assert differs.expected
        (_, nobody) = verdicts(references, claim(values(1)))
        assert nobody.comparison is DIFFERS
        elsewhere = claim(values(1), at=environment("elsewhere"))
        assert outcome(references, elsewhere) == [NONE]


def test_key_triples_can_ask_for_a_measurement_first() -> None:
    triples = Triples(identity=(KeyTriple(environment(), (Tag(554, "k"),), element="a"),))
    references = making.references(content=triples)
    assert outcome(references, claim(keyed("b", 1))) == [NONE]
    assert outcome(references, claim(keyed("a", 1))) == [NONE, DIFFERS]


# --- time --------------------------------------------------------------------------------------


def test_references_that_ended_are_no_references_and_a_note_says_so() -> None:
    file = making.unsigned(
        making.corim(
            making.tag([triple(values(1))]),
            validity=Validity(None, NOW),
        )
    )
    references = load([file], signers=(), at=NOW, take_unsigned=True)
    measured = [component(claim(values(1)))]
    assert compare(measured, references, at=NOW).claims["host"][0].comparison is MET
    later = compare(measured, references, at=NOW + timedelta(days=1))
    assert later.claims["host"][0].comparison is NONE
    assert later.notes == (
        "the reference values tag (a.corim) are not valid after 2026-06-01 00:00",
    )


def test_a_replaced_tag_is_worth_a_note_only_where_nothing_else_met_the_claim() -> None:
    files = [
        making.unsigned(making.corim(making.tag([triple(values(number))], version=number)), name)
        for number, name in ((1, "old.corim"), (2, "new.corim"))
    ]
    references = load(files, signers=(), at=NOW, take_unsigned=True)
    met = compare([component(claim(values(2)))], references, at=NOW)
    assert (met.claims["host"][0].comparison, met.notes) == (MET, ())
    old = compare([component(claim(values(1)))], references, at=NOW)
    assert old.claims["host"][0].comparison is DIFFERS
    assert old.notes == ("the reference values tag v1 (old.corim) are replaced by tag v2",)


# --- endorsed values ---------------------------------------------------------------------------


def facts(triples: Triples, *measured: Measured) -> dict[str, object]:
    references = making.references(content=triples)
    found = compare([component(*measured)], references, at=NOW).facts
    return dict(found.get("host", {}))


SECURE = MeasurementTriple(
    environment(),
    (
        Measurement(
            values=MeasurementValues(version=Version("1.0"), flags=((Flag.IS_SECURE, True),))
        ),
    ),
)


def test_endorsed_values_become_facts_of_the_environment_they_are_about() -> None:
    triples = Triples(endorsed=(SECURE,))
    expected = {"endorsed_version": "1.0", "endorsed_is_secure": True}
    assert facts(triples, claim(values(1))) == expected
    assert facts(triples, claim(values(1), at=environment("other"))) == {}


def test_conditional_endorsements_hold_where_all_conditions_are_met() -> None:
    conditions = (triple(values(1)), triple(values(2), at=environment("other")))
    triples = Triples(conditional=(ConditionalTriple(conditions, (SECURE,)),))
    one, other = claim(values(1)), claim(values(2), at=environment("other"))
    assert facts(triples, one, other)["endorsed_version"] == "1.0"
    assert facts(triples, one) == {}
    assert facts(triples, one, claim(values(3), at=environment("other"))) == {}


def test_of_a_series_the_first_item_that_is_met_counts() -> None:
    def item(svn: int, version: str) -> SeriesItem:
        addition = MeasurementValues(name=version)
        return SeriesItem(
            (Measurement(values=values(None, svn=svn, least=True)),),
            (Measurement(values=addition),),
        )

    series = SeriesTriple(environment(), (), (item(5, "new"), item(2, "old")))
    triples = Triples(series=(series,))
    assert facts(triples, claim(values(1, svn=7))) == {"endorsed_name": "new"}
    assert facts(triples, claim(values(1, svn=3))) == {"endorsed_name": "old"}
    assert facts(triples, claim(values(1, svn=1))) == {}
    with_claims = SeriesTriple(environment(), (Measurement(values=values(1)),), (item(2, "old"),))
    assert facts(Triples(series=(with_claims,)), claim(values(1, svn=3)))
    assert facts(Triples(series=(with_claims,)), claim(values(2, svn=3))) == {}


def test_endorsements_can_rest_on_endorsements() -> None:
    first = MeasurementTriple(environment(), (Measurement(values=MeasurementValues(name="x")),))
    second = ConditionalTriple((first,), (SECURE,))
    third = ConditionalTriple(
        (MeasurementTriple(environment(), SECURE.measurements),),
        (
            MeasurementTriple(
                environment(), (Measurement(key="Final Part", values=values(None, svn=1)),)
            ),
        ),
    )
    triples = Triples(endorsed=(first,), conditional=(third, second))
    assert facts(triples, claim(values(1))) == {
        "endorsed_name": "x",
        "endorsed_version": "1.0",
        "endorsed_is_secure": True,
        "endorsed_final_part_svn": 1,
    }


def test_a_condition_can_demand_that_a_signer_of_references_confirms_it() -> None:
    key = (Tag(554, pem(making.spki())),)
    condition = MeasurementTriple(
        environment(), (Measurement(values=values(1), authorized_by=key),)
    )
    triples = Triples(
        reference=(triple(values(1)),),
        conditional=(ConditionalTriple((condition,), (SECURE,)),),
    )
    content = making.corim(making.tag(triples))
    named = [NamedBytes(making.spki(), "signer")]
    by_signer = load([making.signed(content)], signers=named, at=NOW)
    measured = [component(claim(values(1)))]
    assert compare(measured, by_signer, at=NOW).facts["host"]["endorsed_version"] == "1.0"
    unsigned = load([making.unsigned(content)], signers=(), at=NOW, take_unsigned=True)
    assert compare(measured, unsigned, at=NOW).facts == {}


# --- against a plain search --------------------------------------------------------------------

NAMES = st.sampled_from(["x", "y"])
KEYS = st.sampled_from([None, 1, "k"])
SMALL = st.builds(
    lambda number, svn, least: values(number, svn=svn, least=least),
    st.integers(1, 3),
    st.none() | st.integers(1, 3),
    st.booleans(),
)
CONDITION = st.builds(lambda key, found: Measurement(key=key, values=found), KEYS, SMALL)
ENVIRONMENTS = st.builds(
    lambda class_id, vendor: Environment(
        class_id=None if class_id is None else Tag(560, class_id.encode()), vendor=vendor
    ),
    st.none() | NAMES,
    st.none() | NAMES,
).filter(lambda found: found != Environment())
TRIPLE = st.builds(
    MeasurementTriple, ENVIRONMENTS, st.lists(CONDITION, min_size=1, max_size=3).map(tuple)
)
CLAIM = st.builds(
    lambda key, number, svn, class_id, vendor: claim(
        Measurement(key=key, values=values(number, svn=svn)),
        at=Environment(class_id=Tag(560, class_id.encode()), vendor=vendor),
    ),
    KEYS,
    st.integers(1, 3),
    st.none() | st.integers(1, 3),
    NAMES,
    NAMES,
)


def plainly_met(
    measured: Measured, others: Sequence[Measured], triples: Sequence[MeasurementTriple]
) -> bool:
    def meets(condition: Measurement, one: Measured) -> bool:
        return condition.key == one.measurement.key and satisfies(
            condition.values, one.measurement.values
        )

    together = [one for one in others if one.environment == measured.environment]
    return any(
        each.environment.covers(measured.environment)
        and any(meets(condition, measured) for condition in each.measurements)
        and all(any(meets(condition, one) for one in together) for condition in each.measurements)
        for each in triples
    )


@given(st.lists(TRIPLE, max_size=6), st.lists(CLAIM, min_size=1, max_size=5))
def test_the_index_finds_what_a_plain_search_finds_and_no_environment_passes_by_halves(
    triples: list[MeasurementTriple], claims: list[Measured]
) -> None:
    references = making.references(*triples) if triples else ReferenceSet()
    parts = [Component(name=str(number), measured=(one,)) for number, one in enumerate(claims)]
    found = compare(parts, references, at=NOW).claims
    for number, one in enumerate(claims):
        states = [verdict.comparison for verdict in found[str(number)]]
        if plainly_met(one, claims, triples):
            assert states == [MET]
            continue
        # Not met as a whole: something in this environment is told to differ or to be unknown.
        same = [
            verdict.comparison
            for place, other in enumerate(claims)
            if other.environment == one.environment
            for verdict in found[str(place)]
        ]
        assert set(same) - {MET}
        if MET not in states:
            assert states
