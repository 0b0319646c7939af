"""The key set of results: the key that signs, those before it, and none that was withdrawn."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from hypothesis import given
from hypothesis import strategies as st
from jwt import PyJWK

from casemate.attestation.appraisal import result
from casemate.attestation.client import VerifierError
from casemate.attestation.errors import InputError
from casemate.attestation.service.published_keys import MOST_KEYS, PublishedKeys
from casemate.attestation.states import State
from tests.attestation.service.running import attest, prepare, running

AT = datetime(2026, 11, 25, 12, tzinfo=UTC)


def new_key(path: Path | None = None) -> bytes:
    """A key's SubjectPublicKeyInfo; the key itself as a PEM file at `path`."""
    key = ec.generate_private_key(ec.SECP384R1())
    if path is not None:
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        path.chmod(0o600)
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def trusted(key_set: dict[str, object]) -> list[bytes]:
    """What a relying party makes of the key set."""
    keys = key_set["keys"]
    assert isinstance(keys, list)
    return [
        PyJWK.from_dict(key).key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for key in keys
    ]


def test_a_result_can_be_checked_after_its_key_was_replaced(tmp_path: Path) -> None:
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    first, second = new_key(old), new_key(new)
    folder = tmp_path / "v"
    with running(folder, signing_key=old) as service:
        prepare(service)
        with service.client("attester") as attester:
            before = attest(attester)
            assert trusted(attester.keys()) == [first]
        assert before.result is not None
    for _ in range(2):
        with running(folder, signing_key=new) as service, service.client("reader") as reader:
            keys = trusted(reader.keys())
            assert keys == [second, first]
            again = reader.appraisal(before.id).result
            assert again == before.result
            read = result.verify(before.result, trusted=keys, at=service.clock())
            assert read.state is State.AFFIRMING

    published = PublishedKeys(folder / "result-keys.json")
    with pytest.raises(InputError, match="signed with it now"):
        published.withdraw(result.key_id(second))
    published.withdraw(result.key_id(first))
    with running(folder, signing_key=new) as service, service.client("reader") as reader:
        keys = trusted(reader.keys())
        assert keys == [second]
        with pytest.raises(result.ResultError, match="no key that is trusted"):
            result.verify(before.result, trusted=keys, at=service.clock())
    with pytest.raises(InputError, match="was withdrawn"), running(folder, signing_key=old):
        pass


def test_a_damaged_file_publishes_nothing(tmp_path: Path) -> None:
    with running(tmp_path) as service, service.client("reader") as reader:
        assert len(trusted(reader.keys())) == 1
        (tmp_path / "result-keys.json").write_text('{"version": 1, "keys": [{}]}')
        with pytest.raises(VerifierError, match="no file of published keys") as caught:
            reader.keys()
        assert caught.value.state is State.COULD_NOT_APPRAISE
    with pytest.raises(InputError, match="no file of published keys"), running(tmp_path):
        pass


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_one_key_signs_and_none_is_lost(order: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        published = PublishedKeys(Path(folder) / "keys.json")
        for number, key in enumerate(order):
            published.sign_with(KEYS[key], AT + timedelta(days=number))
        found = published.all()
    assert found[0].spki == KEYS[order[-1]] and found[0].until is None
    assert {key.spki for key in found} == {KEYS[key] for key in order}
    assert len(found) == len({key.spki for key in found})
    assert all(key.until is not None and key.since <= key.until for key in found[1:])


KEYS = [new_key() for _ in range(6)]


def test_the_oldest_keys_go(tmp_path: Path) -> None:
    published = PublishedKeys(tmp_path / "keys.json")
    made = [new_key() for _ in range(MOST_KEYS + 2)]
    for number, key in enumerate(made):
        published.sign_with(key, AT + timedelta(days=number))
    assert [key.spki for key in published.all()] == made[:1:-1]
    with pytest.raises(InputError, match="no key"):
        published.withdraw(result.key_id(made[0]))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"keys": 7},
        {"keys": [{"spki": "!", "since": "2026-01-01T00:00:00Z", "until": None}]},
        {"keys": [{"spki": "AAAA", "since": "x", "until": None, "withdrawn": False}]},
    ],
)
def test_what_is_no_file_of_keys(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"version": 1, "keys": []} | change))
    with pytest.raises(InputError, match="no file of published keys"):
        PublishedKeys(path).all()
    assert load_der_public_key(KEYS[0])
