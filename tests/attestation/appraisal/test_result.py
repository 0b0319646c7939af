"""Signed results: what a relying party reads is what the verifier said, or it is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cache

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)
from cwt import COSE, COSEKey

from casemate.attestation.appraisal import document
from casemate.attestation.appraisal import result as results
from casemate.attestation.appraisal.result import PemSigner, ResultError
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InputError
from casemate.attestation.states import State
from casemate.attestation.trust_vector import VERIFIER_MALFUNCTION
from casemate.formats import base64url, cose
from casemate.formats.ear import Tier
from tests.attestation import hosts
from tests.attestation.verifiers import appraise, host, verifier
from tests.rot.devices import firmware

LATER = hosts.AT + timedelta(seconds=10)
LIFETIME = timedelta(minutes=5)


@cache
def signer() -> PemSigner:
    key = ec.generate_private_key(ec.SECP384R1())
    return PemSigner(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "key")


@cache
def verdict_of(state: State) -> Verdict:
    if state is State.AFFIRMING:
        return appraise(host().token())
    if state is State.WARNING:
        return appraise(host().token(), using=verifier(by="default"))
    if state is State.CONTRAINDICATED:
        return appraise(hosts.boot(6, code=firmware(rt=b"other")).token())
    return appraise(host().token(), using=verifier(endorsements=Endorsements()))


def made(state: State, form: str) -> str | bytes:
    make = results.to_jwt if form == "jwt" else results.to_cwt
    return make(verdict_of(state), signer(), lifetime=LIFETIME, issuer="https://verifier.example")


@pytest.mark.parametrize("form", ["jwt", "cwt"])
@pytest.mark.parametrize("state", list(State))
def test_a_result_says_what_the_verdict_said(state: State, form: str) -> None:
    verdict = verdict_of(state)
    read = results.verify(made(state, form), trusted=[signer().spki], at=LATER)
    assert verdict.state is state
    assert read.state is state
    assert read.issuer == "https://verifier.example"
    assert read.verdict == document.document(verdict)
    assert read.ear.status is Tier(state.tier)
    assert read.ear.nonce == verdict.nonce
    assert set(read.ear.submods) == {part.name for part in verdict.components}
    for part in verdict.components:
        submodule = read.ear.submods[part.name]
        assert submodule.status is Tier(part.state.tier)
        assert dict(submodule.vector) == {int(k): v for k, v in part.vector.items()}
        assert submodule.policy_ids == (f"ni:///sha-256;{base64url.encode(verdict.policy.digest)}",)
    if state is State.COULD_NOT_APPRAISE:
        values = {v for one in read.ear.submods.values() for v in one.vector.values()}
        assert values == {VERIFIER_MALFUNCTION}


@pytest.mark.parametrize("form", ["jwt", "cwt"])
def test_other_keys_other_times_and_other_bytes_are_refused(form: str) -> None:
    token = made(State.AFFIRMING, form)
    other = ec.generate_private_key(ec.SECP384R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for trusted, at, words in (
        ([PemSigner(pem, "other").spki], LATER, "under no key"),
        ([], LATER, "under no key"),
        ([signer().spki], LATER + LIFETIME, "ended at"),
        ([signer().spki], hosts.AT - timedelta(hours=1), "in the future"),
    ):
        with pytest.raises(ResultError, match=words):
            results.verify(token, trusted=trusted, at=at)
    raw = bytearray(token.encode() if isinstance(token, str) else token)
    for at_byte in range(0, len(raw), 101):
        changed = bytearray(raw)
        changed[at_byte] ^= 4
        with pytest.raises(ResultError):
            results.verify(bytes(changed), trusted=[signer().spki], at=LATER)


def test_a_result_without_a_signature_is_none() -> None:
    token = made(State.AFFIRMING, "jwt")
    assert isinstance(token, str)
    claims = token.split(".")[1]
    header = base64url.encode(json.dumps({"alg": "none", "typ": "eat+jwt"}).encode())
    with pytest.raises(ResultError):
        results.verify(f"{header}.{claims}.", trusted=[signer().spki], at=LATER)


def test_other_libraries_read_the_tokens() -> None:
    public = load_der_public_key(signer().spki)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    claims = jwt.decode(
        made(State.AFFIRMING, "jwt"), public, algorithms=["ES384"], options={"verify_exp": False}
    )
    assert claims["ear_status"] == "affirming"
    assert claims["submods"]["runtime"]["ear_trustworthiness_vector"]["executables"] == 2

    token = made(State.AFFIRMING, "cwt")
    assert isinstance(token, bytes)
    assert token[:2] == b"\xd8\x3d", "tag 61"
    key = COSEKey.from_jwk({**results.jwk(signer().spki), "key_ops": ["verify"]})
    assert results.jwk(signer().spki)["kid"] == results.key_id(signer().spki)
    # The library knows ES384 by its older number alone, so the older form is made for it.
    older = cose.protected_header({cose.ALGORITHM: cose.ES384})
    payload = cose.decode(token)[0].payload
    signature = signer().sign(cose.to_be_signed(older, payload))
    message = cose.encode(cose.Sign1(older, payload, signature))
    assert COSE.new().decode(message, key) == payload
    assert results.verify(message, trusted=[signer().spki], at=LATER).state is State.AFFIRMING


def test_components_of_one_name_keep_their_own_submodules() -> None:
    verdict = verdict_of(State.AFFIRMING)
    twice = verdict._replace(components=(verdict.components[0], verdict.components[0]))
    read = results.verify(results.to_jwt(twice, signer()), trusted=[signer().spki], at=LATER)
    assert set(read.ear.submods) == {"device", "device'"}


@pytest.mark.parametrize(
    "pem", [b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_a_key_that_cannot_sign_results_is_refused(pem: bytes) -> None:
    with pytest.raises(InputError, match="key"):
        PemSigner(pem, "key")
    small = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(InputError, match="P-384"):
        PemSigner(small.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "key")
