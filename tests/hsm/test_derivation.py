"""No base key can be read off what it derives: the rules of docs/mechanisms.md."""

from __future__ import annotations

import hashlib
import hmac
import shutil
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casemate.formats.pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from casemate.formats.pkcs11_wire import (
    Bytes,
    CounterKdf,
    Gcm,
    Hkdf,
    Number,
    Parameters,
    Template,
    Value,
    encode_template,
)
from casemate.hsm.client import Algorithm, ClientError, Key, Partition
from casemate.hsm.client.operations import Operation
from tests.running_module import RunningModule

_A, _M = Attribute, Mechanism


def _secret(partition: Partition, value: bytes, extra: Template | None = None) -> Key:
    """A sensitive key that derives, whose value the test knows."""
    made = partition.create(
        {
            _A.CLASS: ObjectClass.SECRET_KEY,
            _A.KEY_TYPE: KeyType.GENERIC_SECRET,
            _A.VALUE: value,
            _A.SENSITIVE: True,
            _A.EXTRACTABLE: True,
            _A.DERIVE: True,
            **(extra or {}),
        }
    )
    return partition.key_at(made.handle)


def _template(size: int, extra: Template | None = None) -> Template:
    return {
        _A.CLASS: ObjectClass.SECRET_KEY,
        _A.KEY_TYPE: KeyType.GENERIC_SECRET,
        _A.VALUE_LEN: size,
        **(extra or {}),
    }


def _refusal(base: Key, template: Template, mechanism: Mechanism, how: Parameters) -> str:
    with pytest.raises(ClientError) as caught:
        base.derive(template, mechanism=mechanism, parameters=how)
    return caught.value.result.name if caught.value.result else ""


@pytest.fixture(scope="module")
def by_policy() -> Iterator[dict[bool, RunningModule]]:
    """A module without the policy `legacy-test`, and one with it."""
    folders = {legacy: Path(tempfile.mkdtemp(prefix="cm-")) for legacy in (False, True)}
    modules = {
        legacy: RunningModule(folder, legacy_test=legacy).start()
        for legacy, folder in folders.items()
    }
    yield modules
    for legacy, running in modules.items():
        running.kill()
        shutil.rmtree(folders[legacy], ignore_errors=True)


FUNCTIONS: list[tuple[Mechanism, Parameters]] = [
    (_M.HKDF_DERIVE, Hkdf(info=b"x")),
    (_M.SP800_108_COUNTER_KDF, CounterKdf(label=b"x")),
]
TRANSPARENT: list[tuple[Mechanism, Parameters, int]] = [
    (_M.CONCATENATE_BASE_AND_DATA, Bytes(b"d" * 16), 48),
    (_M.CONCATENATE_DATA_AND_BASE, Bytes(b"d" * 16), 48),
    (_M.XOR_BASE_AND_DATA, Bytes(b"d" * 32), 32),
]


@pytest.mark.parametrize(("mechanism", "how"), FUNCTIONS)
def test_derived_keys_are_as_sensitive_as_their_base(
    shared_module: RunningModule, mechanism: Mechanism, how: Parameters
) -> None:
    with shared_module.connect() as partition:
        base = _secret(partition, b"b" * 32)
        derived = base.derive(_template(32), mechanism=mechanism, parameters=how)
        attributes = derived.attributes(_A.SENSITIVE, _A.ALWAYS_SENSITIVE, _A.LOCAL)
        assert attributes[_A.SENSITIVE] is True
        # The base came from outside.
        assert attributes[_A.ALWAYS_SENSITIVE] is False
        assert attributes[_A.LOCAL] is False
        open_one = _template(32, {_A.SENSITIVE: False})
        assert _refusal(base, open_one, mechanism, how) == "TEMPLATE_INCONSISTENT"


def test_a_key_that_stays_derives_keys_that_stay(shared_module: RunningModule) -> None:
    with shared_module.connect() as partition:
        base = partition.generate_secret(Algorithm.SECRET_256, label="stays")
        how = Hkdf(info=b"x")
        leaving = _template(32, {_A.EXTRACTABLE: True})
        assert _refusal(base, leaving, _M.HKDF_DERIVE, how) == "TEMPLATE_INCONSISTENT"
        derived = base.derive(_template(32), mechanism=_M.HKDF_DERIVE, parameters=how)
        found = derived.attributes(_A.EXTRACTABLE, _A.NEVER_EXTRACTABLE, _A.ALWAYS_SENSITIVE)
        assert found[_A.EXTRACTABLE] is False
        assert found[_A.NEVER_EXTRACTABLE] is True
        assert found[_A.ALWAYS_SENSITIVE] is True


@pytest.mark.parametrize(("mechanism", "how"), FUNCTIONS)
def test_no_key_is_short_enough_to_be_tried(
    shared_module: RunningModule, mechanism: Mechanism, how: Parameters
) -> None:
    with shared_module.connect() as partition:
        base = _secret(partition, b"b" * 32)
        for size in (1, 2, 8, 13):
            assert _refusal(base, _template(size), mechanism, how) == "KEY_SIZE_RANGE"
        base.derive(_template(14), mechanism=mechanism, parameters=how)
        readable = _secret(partition, b"b" * 32, {_A.SENSITIVE: False})
        readable.derive(_template(1), mechanism=mechanism, parameters=how)


@pytest.mark.parametrize(("mechanism", "how", "whole"), TRANSPARENT)
@pytest.mark.parametrize("legacy", [False, True])
def test_combined_keys_are_whole_and_stay_sensitive(
    by_policy: dict[bool, RunningModule],
    mechanism: Mechanism,
    how: Parameters,
    whole: int,
    legacy: bool,
) -> None:
    with by_policy[legacy].connect() as partition:
        base = _secret(partition, b"b" * 32)
        for size in (1, 16, whole - 1, whole + 1):
            assert _refusal(base, _template(size), mechanism, how) == "TEMPLATE_INCONSISTENT"
        open_one = _template(whole, {_A.SENSITIVE: False})
        assert _refusal(base, open_one, mechanism, how) == "TEMPLATE_INCONSISTENT"
        derived = base.derive(_template(whole), mechanism=mechanism, parameters=how)
        assert _A.VALUE not in derived.attributes(_A.VALUE)


def test_a_combined_key_is_as_sensitive_as_its_second_base(shared_module: RunningModule) -> None:
    with shared_module.connect() as partition:
        hidden = _secret(partition, b"h" * 16)
        known = _secret(partition, b"k" * 16, {_A.SENSITIVE: False})
        how = Number(hidden.handle)
        open_one = _template(32, {_A.SENSITIVE: False})
        mechanism = _M.CONCATENATE_BASE_AND_KEY
        assert _refusal(known, open_one, mechanism, how) == "TEMPLATE_INCONSISTENT"
        both = known.derive(_template(32, {_A.SIGN: True}), mechanism=mechanism, parameters=how)
        expected = hmac.digest(b"k" * 16 + b"h" * 16, b"data", hashlib.sha256)
        assert both.sign(b"data") == expected


def test_data_in_clear_need_the_keys_consent(shared_module: RunningModule) -> None:
    how = Hkdf(info=b"iv")
    data: Template = {_A.CLASS: ObjectClass.DATA, _A.VALUE_LEN: 12}
    with shared_module.connect() as partition:
        sensitive = _secret(partition, b"b" * 32)
        assert _refusal(sensitive, data, _M.HKDF_DATA, how) == "KEY_FUNCTION_NOT_PERMITTED"
        named: dict[Attribute, Value] = {_A.ALLOWED_MECHANISMS: (int(_M.HKDF_DATA),)}
        agreed = _secret(partition, b"b" * 32, named)
        answer = partition.connection.call(
            Operation.DERIVE_KEY,
            doing="derive data",
            object=agreed.handle,
            mechanism=_M.HKDF_DATA,
            parameters=how.encode(),
            data=encode_template(data),
        )
        found = partition.object(answer.value0).attributes(_A.CLASS, _A.VALUE)
        pseudorandom = hmac.digest(b"\0" * 32, b"b" * 32, hashlib.sha256)
        expected = hmac.digest(pseudorandom, b"iv\x01", hashlib.sha256)[:12]
        assert found == {_A.CLASS: ObjectClass.DATA, _A.VALUE: expected}


def test_only_one_mechanism_makes_data(shared_module: RunningModule) -> None:
    """Class data with any other mechanism would show the base key, or a shared secret."""
    data: Template = {_A.CLASS: ObjectClass.DATA}
    with shared_module.connect() as partition:
        base = _secret(partition, b"b" * 32)
        for mechanism, how, _ in TRANSPARENT:
            assert _refusal(base, data, mechanism, how) == "TEMPLATE_INCONSISTENT"
        for mechanism, function in FUNCTIONS:
            assert _refusal(base, data, mechanism, function) == "TEMPLATE_INCONSISTENT"


def _counted(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _prf(secret: bytes, label: bytes, seed: bytes, size: int) -> bytes:
    """The PRF of TLS 1.2 with SHA-256, by its definition."""
    out, step = b"", label + seed
    while len(out) < size:
        step = hmac.digest(secret, step, hashlib.sha256)
        out += hmac.digest(secret, step + label + seed, hashlib.sha256)
    return out[:size]


@pytest.mark.parametrize("stored", [False, True])
def test_tls_key_material_comes_as_four_keys_and_two_ivs(
    shared_module: RunningModule, stored: bool
) -> None:
    client, server = b"c" * 32, b"s" * 32
    parameters = struct.pack("<BQIII", 17, _M.SHA256, 256, 128, 96)
    parameters += _counted(client) + _counted(server)
    named: dict[Attribute, Value] = {
        _A.ALLOWED_MECHANISMS: (int(_M.TLS12_KEY_AND_MAC_DERIVE),),
        _A.TOKEN: stored,
    }
    template: Template = {_A.KEY_TYPE: KeyType.AES, _A.TOKEN: stored}
    with shared_module.connect() as partition:
        master = _secret(partition, b"m" * 48, named)
        answer = partition.connection.call(
            Operation.DERIVE_KEY,
            doing="derive key material",
            object=master.handle,
            mechanism=_M.TLS12_KEY_AND_MAC_DERIVE,
            parameters=parameters,
            data=encode_template(template),
        )
        block = _prf(b"m" * 48, b"key expansion", server + client, 2 * (32 + 16 + 12))
        handles = struct.unpack("<4Q", answer.output[:32])
        assert answer.value0 == 0 and len(set(handles)) == 4 and 0 not in handles
        assert answer.output[32:] == block[96:]
        keys = [partition.key_at(handle) for handle in handles]
        for key, value in zip(keys[:2], (block[:32], block[32:64]), strict=True):
            assert key.sign(b"data") == hmac.digest(value, b"data", hashlib.sha256)
        for key, value in zip(keys[2:], (block[64:80], block[80:96]), strict=True):
            expected = AESGCM(value).encrypt(b"i" * 12, b"data", b"")
            sealed = key.encrypt(b"data", mechanism=_M.AES_GCM, parameters=Gcm(b"i" * 12))
            assert sealed == expected
        for handle in (*handles, master.handle):
            partition.connection.call(Operation.DESTROY_OBJECT, doing="tidy", object=handle)


def test_the_counter_kdf_gives_further_keys_by_their_handles(
    shared_module: RunningModule,
) -> None:
    usual = CounterKdf(label=b"label", context=b"context").encode()
    further = encode_template({_A.KEY_TYPE: KeyType.AES, _A.VALUE_LEN: 16, _A.ENCRYPT: True})
    # The count of further keys is the byte behind form, PRF and the count of fields.
    several = usual[:10] + b"\x01" + usual[11:] + _counted(further)
    with shared_module.connect() as partition:
        base = _secret(partition, b"b" * 32)
        answer = partition.connection.call(
            Operation.DERIVE_KEY,
            doing="derive several keys",
            object=base.handle,
            mechanism=_M.SP800_108_COUNTER_KDF,
            parameters=several,
            data=encode_template(_template(32, {_A.SIGN: True})),
        )
        fixed = b"label\0context" + (48 * 8).to_bytes(4)
        output = b"".join(
            hmac.digest(b"b" * 32, counter.to_bytes(4) + fixed, hashlib.sha256)
            for counter in (1, 2)
        )
        first = partition.key_at(answer.value0)
        second = partition.key_at(*struct.unpack("<Q", answer.output))
        assert first.sign(b"data") == hmac.digest(output[:32], b"data", hashlib.sha256)
        sealed = second.encrypt(b"data", mechanism=_M.AES_GCM, parameters=Gcm(b"i" * 12))
        assert sealed == AESGCM(output[32:48]).encrypt(b"i" * 12, b"data", b"")
        assert second.attributes(_A.SENSITIVE)[_A.SENSITIVE] is True
