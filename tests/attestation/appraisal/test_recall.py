"""What is recalled instead of worked out again never changes a verdict."""

from __future__ import annotations

import base64
import dataclasses
import itertools
import pickle
from datetime import timedelta
from typing import Any

import pytest

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.document import document
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.reference import store
from casemate.attestation.states import State
from casemate.formats import cose
from casemate.formats.cbor import Tag
from casemate.formats.corim import manifest
from casemate.formats.corim.comid import Comid
from casemate.formats.corim.manifest import Corim, Validity
from casemate.formats.corim.measurement import TAG_PKIX_KEY
from tests.attestation import hosts
from tests.attestation.references import corim_of, references_of
from tests.attestation.verifiers import appraise, good_corim, host, verified, verifier
from tests.rot.devices import firmware

HOSTS: dict[str, dict[str, Any]] = {
    "good": {"number": 1},
    "another good one": {"number": 2},
    "other firmware": {"number": 3, "code": firmware(rt=b"other")},
    "debug unlocked": {"number": 4, "debug_locked": False},
    "older": {"number": 5, "code": firmware(svn=2)},
}
POLICIES = {
    "development": policy.built_in("development"),
    "default": policy.built_in("default"),
    "host": policy.read(
        b'name = "h"\nversion = "1"\nextends = "development"\n[[clause]]\nname = "known"\n'
        b'when = \'host.kind != "idevid" || !fresh\'\nstate = "warning"\nsentence = "x"\n',
        "h",
    ),
    "svn": policy.read(
        b'name = "s"\nversion = "1"\nextends = "development"\n[[clause]]\nname = "svn"\n'
        b'when = "has(facts.svn) && facts.svn < 5"\nstate = "warning"\nsentence = "{svn}"\n',
        "s",
    ),
}


def test_verdicts_with_a_long_memory_are_those_without_any() -> None:
    tokens = {name: hosts.boot(**made).token() for name, made in HOSTS.items()}
    sets = {
        "good": references_of(good_corim()),
        "none": references_of(),
        "other": references_of(corim_of(verified(tokens["other firmware"]).components)),
    }
    memory = VerifiedCertificates()
    for _ in range(2):
        for by, references, token in itertools.product(POLICIES.values(), sets.values(), tokens):
            given: dict[str, Any] = {"policy": by, "references": references}
            remembered = appraise(tokens[token], using=verifier(certificates=memory, **given))
            fresh = appraise(tokens[token], using=verifier(**given))
            assert document(remembered) == document(fresh)


def test_a_host_that_names_another_anchor_is_not_taken_for_what_it_was() -> None:
    memory = VerifiedCertificates()
    facts = []
    for name in ("public test values", "another", None, None, "another"):
        token = host().token(anchor=name)
        remembered = appraise(token, using=verifier(certificates=memory))
        assert document(remembered) == document(appraise(token, using=verifier()))
        facts.append(remembered.components[0].facts)
    assert [found.get("anchor") for found in facts] == [
        "public test values",
        "another",
        None,
        None,
        "another",
    ]
    assert facts[2] is facts[3]


def test_a_copy_of_a_component_is_judged_for_itself() -> None:
    part = verified(host().token()).components[0]
    part.judged.of((1,), lambda: "judged")
    sent = pickle.loads(pickle.dumps(part))  # noqa: S301
    for copy in (sent, dataclasses.replace(part, name="other")):
        assert copy.judged.of((1,), lambda: "anew") == "anew"
    assert part.judged.of((1,), lambda: "anew") == "judged"


def test_a_reference_value_that_ends_is_not_recalled_beyond_its_end() -> None:
    corim = manifest.decode(good_corim())
    assert isinstance(corim, Corim)
    begin, end = hosts.AT - timedelta(hours=1), hosts.AT + timedelta(hours=1)
    limited = Corim(id="limited", tags=corim.tags, validity=Validity(begin, end))
    file = NamedBytes(manifest.encode(limited), "limited")
    references = store.load([file], signers=(), at=hosts.AT, take_unsigned=True)
    using = verifier(references=references)
    states = [
        appraise(host().token(), using=using, at=at).state
        for at in (hosts.AT, end, end + timedelta(seconds=1), begin, begin - timedelta(seconds=1))
        for _ in range(2)
    ]
    assert (
        states
        == [State.AFFIRMING] * 4 + [State.WARNING] * 2 + [State.AFFIRMING] * 2 + [State.WARNING] * 2
    )


def test_what_one_hosts_key_stands_behind_is_not_recalled_for_another() -> None:
    corim = manifest.decode(good_corim())
    assert isinstance(corim, Corim)
    (tag,) = corim.tags
    assert isinstance(tag, Comid)
    own = verified(hosts.boot(1).token()).keys
    pem = base64.b64encode(own[-1]).decode()
    owned = tuple(
        dataclasses.replace(
            triple,
            measurements=tuple(
                dataclasses.replace(one, authorized_by=(Tag(TAG_PKIX_KEY, pem),))
                for one in triple.measurements
            ),
        )
        for triple in tag.triples.reference
    )
    triples = dataclasses.replace(tag.triples, reference=owned)
    file = manifest.encode(Corim(id="own", tags=(dataclasses.replace(tag, triples=triples),)))
    using = verifier(references=references_of(file), certificates=VerifiedCertificates())
    states = [appraise(hosts.boot(number).token(), using=using).state for number in (1, 2, 1)]
    assert states[0] == states[2] == State.AFFIRMING
    assert states[1] != State.AFFIRMING


@pytest.mark.parametrize("capacity", [1, 3])
def test_a_small_memory_only_forgets(capacity: int) -> None:
    using = verifier(certificates=VerifiedCertificates(capacity=1, read_capacity=capacity))
    for number in (1, 2, 1, 2):
        assert appraise(host(number).token(), using=using).state is State.AFFIRMING


@pytest.mark.parametrize("place", range(5))
def test_a_certificate_that_ends_like_one_that_is_known_is_another(place: int) -> None:
    token = host().token()
    message, tags = cose.decode(token)
    chain = [bytearray(certificate) for certificate in message.x5chain]
    chain[place][len(chain[place]) // 2] ^= 1
    headers = {**message.unprotected, cose.X5CHAIN: [bytes(one) for one in chain]}
    changed = cose.encode(dataclasses.replace(message, unprotected=headers), tags=tags)
    memory = VerifiedCertificates()
    for _ in range(2):
        assert appraise(token, using=verifier(certificates=memory)).state is State.AFFIRMING
        remembered = appraise(changed, using=verifier(certificates=memory))
        assert remembered.state is State.CONTRAINDICATED
        assert document(remembered) == document(appraise(changed, using=verifier()))
