"""Release: the gate's checks one by one, and a key that moves from partition to partition."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from casemate.attestation.appraisal.verdict import ComponentVerdict, PolicyId, Verdict
from casemate.attestation.evidence.family import Fact, FamilyName, Host
from casemate.attestation.states import State
from casemate.formats import spki
from casemate.formats.der_reader import DerError
from casemate.formats.pkcs11 import Attribute
from casemate.hsm.client import Algorithm, KeyPair, Partition, Purpose
from casemate.hsm.client.errors import ClientError
from casemate.release import gate, transfer
from casemate.release.errors import ReleaseRefusedError
from tests.running_module import RunningModule

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
NONCE = b"n" * 32


def der(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


RSA_KEY = der(rsa.generate_private_key(65537, 2048).public_key())
EC_KEY = der(ec.generate_private_key(ec.SECP384R1()).public_key())
FACTS: dict[str, Fact] = {
    "public_key": RSA_KEY,
    "certified_by": "root-of-trust",
    "generated": True,
    "imported": False,
    "unwrap": True,
    **dict.fromkeys(("encrypt", "decrypt", "sign", "verify", "wrap", "derive"), False),
}


def verdict(facts: dict[str, Fact] | None = None, **changes: Any) -> Verdict:
    component = ComponentVerdict(
        name="key",
        family=FamilyName.CALIPTRA,
        state=State.AFFIRMING,
        facts=FACTS if facts is None else facts,
    )
    made = Verdict(
        state=State.AFFIRMING,
        reasons=("every claim met its reference value",),
        components=(component,),
        at=NOW,
        policy=PolicyId("default", "1", bytes(32)),
        correlation_id="c1",
        evidence=(("token", bytes(32)),),
        references=bytes(32),
        host=Host(bytes(32), "idevid"),
        nonce=NONCE,
    )
    return made._replace(**changes)


def let_through(made: Verdict) -> gate.Recipient:
    return gate.recipient(made, nonce=NONCE, now=NOW)


def refused(made: Verdict) -> str:
    with pytest.raises(ReleaseRefusedError) as error:
        let_through(made)
    return error.value.check


def test_an_affirming_verdict_names_the_one_recipient() -> None:
    found = let_through(verdict())
    assert found.spki == RSA_KEY
    assert spki.from_attributes(found.attributes) == RSA_KEY
    assert (found.host, found.correlation_id) == ("idevid:" + "0" * 32, "c1")


@pytest.mark.parametrize("state", [state for state in State if state is not State.AFFIRMING])
def test_no_other_state_releases(state: State) -> None:
    made = verdict(state=state, reasons=("runtime firmware differs",))
    with pytest.raises(ReleaseRefusedError, match=str(state)) as error:
        let_through(made)
    assert error.value.check == "state"
    assert error.value.reasons == ("runtime firmware differs",)


def test_each_check_by_its_name() -> None:
    assert refused(verdict(host=None)) == "state"
    assert refused(verdict(nonce=None)) == "nonce"
    assert refused(verdict(nonce=b"m" * 32)) == "nonce"
    assert refused(verdict(at=NOW + timedelta(seconds=1))) == "age"
    assert refused(verdict(at=NOW - gate.DEFAULT_LONGEST - timedelta(seconds=1))) == "age"
    assert refused(verdict(components=())) == "key"
    twice = verdict().components * 2
    assert refused(verdict(components=twice)) == "key"
    assert refused(verdict(FACTS | {"public_key": b"garbage"})) == "key"
    assert refused(verdict(FACTS | {"public_key": "text"})) == "key"
    assert refused(verdict(FACTS | {"certified_by": "anchor"})) == "partition"
    assert refused(verdict(FACTS | {"imported": True})) == "origin"
    assert refused(verdict(FACTS | {"unwrap": False})) == "usage"
    small = der(rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key())
    assert refused(verdict(FACTS | {"public_key": small})) == "strength"
    assert refused(verdict(FACTS | {"public_key": EC_KEY})) == "strength"


@given(st.dictionaries(st.sampled_from(sorted(FACTS)), st.one_of(st.booleans(), st.none())))
def test_facts_that_differ_or_miss_never_open_the_gate(changes: dict[str, bool | None]) -> None:
    facts = {name: value for name, value in (FACTS | changes).items() if value is not None}
    if facts == FACTS:
        let_through(verdict(facts))
    else:
        assert refused(verdict(facts)) in ("key", "partition", "origin", "usage")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_public_key(data: bytes) -> None:
    with pytest.raises(DerError):
        spki.to_attributes(data)


# --- from vault to vault --------------------------------------------------------------------


@pytest.fixture
def web(shared_module: RunningModule) -> Iterator[Partition]:
    with shared_module.connect("web") as partition:
        yield partition


def wrapping_pair(partition: Partition) -> KeyPair:
    return partition.generate(Algorithm.RSA_2048, label="wrapping", purpose=Purpose.WRAPPING)


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.RSA_2048])
def test_a_key_moves_and_signs_where_it_went(web: Partition, algorithm: Algorithm) -> None:
    source = web.generate(algorithm, label="tls", extractable=True)
    wrapping = wrapping_pair(web)
    facts = FACTS | {"public_key": wrapping.public.public_key_info()}
    released = transfer.wrap(web, source.private, let_through(verdict(facts)))
    moved = transfer.unwrap(web, wrapping.private, released, label="moved", stored=False)
    signature = moved.private.sign(b"message")
    source.public.verify(signature, b"message")
    moved.public.verify(signature, b"message")
    assert moved.public.public_key_info() == source.public.public_key_info()
    flags = moved.private.attributes(Attribute.SENSITIVE, Attribute.EXTRACTABLE)
    assert flags == {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
    if algorithm is Algorithm.P256:
        public = serialization.load_der_public_key(released.spki)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        r, s = signature[:32], signature[32:]
        encoded = utils.encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        public.verify(encoded, b"message", ec.ECDSA(hashes.SHA256()))


def test_a_key_that_may_not_leave_stays(web: Partition) -> None:
    source = web.generate(Algorithm.P256, label="tls")
    facts = FACTS | {"public_key": wrapping_pair(web).public.public_key_info()}
    with pytest.raises(ClientError):
        transfer.wrap(web, source.private, let_through(verdict(facts)))


def test_a_flipped_bit_in_transit_is_refused(web: Partition) -> None:
    source = web.generate(Algorithm.P256, label="tls", extractable=True)
    wrapping = wrapping_pair(web)
    facts = FACTS | {"public_key": wrapping.public.public_key_info()}
    released = transfer.wrap(web, source.private, let_through(verdict(facts)))
    for position in (0, 100, 256, len(released.wrapped) - 1):
        damaged = bytearray(released.wrapped)
        damaged[position] ^= 1
        with pytest.raises(ClientError):
            transfer.unwrap(
                web,
                wrapping.private,
                dataclasses.replace(released, wrapped=bytes(damaged)),
                label="damaged",
                stored=False,
            )
