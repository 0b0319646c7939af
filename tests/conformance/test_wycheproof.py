"""Every file of Wycheproof in CASEMATE_DATA/wycheproof, through the API of a running module.

A valid case must succeed with the expected bytes and an invalid one must fail with an error of the
API; an acceptable one may do either, but where it succeeds the bytes must be right. What the module
refuses although it is valid stands in `REFUSED` with its reason. Cases whose fault lies in an
encoding that PKCS#11 does not carry (SubjectPublicKeyInfo, DER signatures) are judged by whoever
decodes it before the module: here pyca/cryptography.
"""

from __future__ import annotations

import json
import os
from collections import Counter as Tally
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from casemate.formats.pkcs11 import (
    CURVES,
    Attribute,
    KeyType,
    Mechanism,
    MlDsa,
    MlKem,
    ObjectClass,
)
from casemate.formats.pkcs11_wire import (
    Bytes,
    Ecdh,
    Gcm,
    Hkdf,
    Number,
    Oaep,
    Parameters,
    Pss,
    SignContext,
    Template,
    Value,
    decode_answers,
    encode_query,
    encode_template,
)
from casemate.hsm.client import ClientError, Key, Partition
from casemate.hsm.client.operations import Operation
from tests.running_module import RunningModule

_A, _M = Attribute, Mechanism
Case = dict[str, Any]


class WrongAnswerError(AssertionError):
    """The module answered, and the answer is not the expected one."""


class CallersError(Exception):
    """An encoding that never reaches the module is not well-formed."""


@dataclass(frozen=True)
class Bench:
    """A partition, and keys that live as long as one case."""

    partition: Partition

    def key(self, object_class: ObjectClass, kind: KeyType, template: Template) -> Key:
        """Create a session key that may be read and may do all that the template says."""
        secret = object_class is not ObjectClass.PUBLIC_KEY
        readable: Template = {_A.SENSITIVE: False, _A.EXTRACTABLE: True} if secret else {}
        made = self.partition.create(
            {_A.CLASS: object_class, _A.KEY_TYPE: kind, **readable, **template}
        )
        return self.partition.key_at(made.handle)

    def secret(self, kind: KeyType, value: bytes, *uses: Attribute) -> Key:
        """Create a secret key."""
        template: dict[Attribute, Value] = {_A.VALUE: value, **dict.fromkeys(uses, True)}
        return self.key(ObjectClass.SECRET_KEY, kind, template)

    def public(self, kind: KeyType, template: Template) -> Key:
        """Create a public key that verifies."""
        return self.key(ObjectClass.PUBLIC_KEY, kind, {**template, _A.VERIFY: True})

    def value_of(self, handle: int) -> bytes:
        """Return CKA_VALUE, however long, and destroy the object."""
        answer = self.partition.connection.call(
            Operation.GET_ATTRIBUTES,
            doing="read a value",
            object=handle,
            data=encode_query([_A.VALUE], capacity=14000),
        )
        self.destroy(handle)
        value = decode_answers(answer.output)[_A.VALUE]
        assert isinstance(value, bytes)
        return value

    def destroy(self, handle: int) -> None:
        """Destroy an object."""
        self.partition.connection.call(
            Operation.DESTROY_OBJECT, doing="destroy an object", object=handle
        )

    def derived(
        self, base: Key, template: Template, mechanism: Mechanism, how: Parameters
    ) -> bytes:
        """Derive and return what was derived."""
        answer = self.partition.connection.call(
            Operation.DERIVE_KEY,
            doing="derive",
            object=base.handle,
            mechanism=mechanism,
            parameters=how.encode(),
            data=encode_template(template),
        )
        return self.value_of(answer.value0)


def _hex(case: Case, name: str) -> bytes:
    return bytes.fromhex(case.get(name, ""))


def _same(got: bytes, expected: bytes) -> None:
    if got != expected:
        raise WrongAnswerError(f"got {got.hex()}, expected {expected.hex()}")


def _readable_secret(size: int) -> Template:
    return {
        _A.CLASS: ObjectClass.SECRET_KEY,
        _A.KEY_TYPE: KeyType.GENERIC_SECRET,
        _A.VALUE_LEN: size,
        _A.SENSITIVE: False,
        _A.EXTRACTABLE: True,
    }


# --- ciphers -----------------------------------------------------------------------------------


def _both_ways(
    key: Key, case: Case, mechanism: Mechanism, how: Parameters | None, tag: bytes
) -> None:
    """Decrypt first, so that an invalid case fails by its ciphertext; then encrypt."""
    ciphertext = _hex(case, "ct") + tag
    _same(key.decrypt(ciphertext, mechanism=mechanism, parameters=how), _hex(case, "msg"))
    _same(key.encrypt(_hex(case, "msg"), mechanism=mechanism, parameters=how), ciphertext)


def cbc(bench: Bench, _: Case, case: Case) -> Key:
    key = bench.secret(KeyType.AES, _hex(case, "key"), _A.ENCRYPT, _A.DECRYPT)
    _both_ways(key, case, _M.AES_CBC_PAD, Bytes(_hex(case, "iv")), b"")
    return key


def xts(bench: Bench, _: Case, case: Case) -> Key:
    key = bench.secret(KeyType.AES_XTS, _hex(case, "key"), _A.ENCRYPT, _A.DECRYPT)
    # Shorter data unit numbers are little-endian, filled with zeros.
    tweak = Bytes(_hex(case, "iv").ljust(16, b"\0"))
    _both_ways(key, case, _M.AES_XTS, tweak, b"")
    return key


def gcm(bench: Bench, group: Case, case: Case) -> Key:
    key = bench.secret(KeyType.AES, _hex(case, "key"), _A.ENCRYPT, _A.DECRYPT)
    how = Gcm(_hex(case, "iv"), _hex(case, "aad"), group["tagSize"])
    _both_ways(key, case, _M.AES_GCM, how, _hex(case, "tag"))
    return key


def _key_wrap(mechanism: Mechanism) -> Callable[[Bench, Case, Case], Key]:
    def run(bench: Bench, _: Case, case: Case) -> Key:
        uses = (_A.ENCRYPT, _A.DECRYPT, _A.UNWRAP)
        key = bench.secret(KeyType.AES, _hex(case, "key"), *uses)
        _both_ways(key, case, mechanism, None, b"")
        template = _readable_secret(len(_hex(case, "msg")))
        opened = key.unwrap(_hex(case, "ct"), template, mechanism=mechanism)
        _same(bench.value_of(opened.handle), _hex(case, "msg"))
        return key

    return run


# --- MACs and derivation -----------------------------------------------------------------------


def _mac(kind: KeyType, general: Mechanism) -> Callable[[Bench, Case, Case], Key]:
    def run(bench: Bench, group: Case, case: Case) -> Key:
        key = bench.secret(kind, _hex(case, "key"), _A.SIGN, _A.VERIFY)
        how = Number(group["tagSize"] // 8)
        key.verify(_hex(case, "tag"), _hex(case, "msg"), mechanism=general, parameters=how)
        _same(key.sign(_hex(case, "msg"), mechanism=general, parameters=how), _hex(case, "tag"))
        return key

    return run


def hkdf_sha384(bench: Bench, _: Case, case: Case) -> Key:
    key = bench.secret(KeyType.HKDF, _hex(case, "ikm"), _A.DERIVE)
    how = Hkdf(_M.SHA384, _hex(case, "salt"), _hex(case, "info"))
    data: Template = {_A.CLASS: ObjectClass.DATA, _A.VALUE_LEN: case["size"]}
    _same(bench.derived(key, data, _M.HKDF_DATA, how), _hex(case, "okm"))
    if case["size"] <= 4096:
        secret = _readable_secret(case["size"])
        _same(bench.derived(key, secret, _M.HKDF_DERIVE, how), _hex(case, "okm"))
    return key


# --- key agreement and encapsulation -----------------------------------------------------------


def _agreed(bench: Bench, template: Template, point: bytes, case: Case) -> Key:
    kind = template[_A.KEY_TYPE]
    assert isinstance(kind, KeyType)
    key = bench.key(ObjectClass.PRIVATE_KEY, kind, {**template, _A.DERIVE: True})
    secret = _readable_secret(len(_hex(case, "shared")))
    _same(bench.derived(key, secret, _M.ECDH1_DERIVE, Ecdh(point)), _hex(case, "shared"))
    return key


def _private(kind: KeyType, curve: str, value: bytes) -> Template:
    return {_A.KEY_TYPE: kind, _A.EC_PARAMS: CURVES[curve], _A.VALUE: value}


def _scalar(case: Case, size: int) -> bytes:
    """A private key of the curve's length: the files write integers, with or without zeros."""
    return int(case["private"], 16).to_bytes(size)


def ecdh_spki(bench: Bench, _: Case, case: Case) -> Key:
    try:
        public = load_der_public_key(_hex(case, "public"))
    except Exception as error:
        raise CallersError from error
    if not isinstance(public, EllipticCurvePublicKey) or public.curve.name != "secp256r1":
        raise CallersError
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return _agreed(bench, _private(KeyType.EC, "P-256", _scalar(case, 32)), point, case)


def ecdh_point(bench: Bench, _: Case, case: Case) -> Key:
    template = _private(KeyType.EC, "P-384", _scalar(case, 48))
    return _agreed(bench, template, _hex(case, "public"), case)


def x25519(bench: Bench, _: Case, case: Case) -> Key:
    template = _private(KeyType.EC_MONTGOMERY, "X25519", _hex(case, "private"))
    return _agreed(bench, template, _hex(case, "public"), case)


def mlkem_768(bench: Bench, _: Case, case: Case) -> Key:
    template: Template = {
        _A.PARAMETER_SET: int(MlKem.ML_KEM_768),
        _A.SEED: _hex(case, "seed"),
        _A.DECAPSULATE: True,
    }
    key = bench.key(ObjectClass.PRIVATE_KEY, KeyType.ML_KEM, template)
    shared = key.decapsulate(_hex(case, "c"), _readable_secret(32))
    _same(bench.value_of(shared.handle), _hex(case, "K"))
    return key


# --- signatures --------------------------------------------------------------------------------


def _octets(point: bytes) -> bytes:
    """A DER OCTET STRING, as CKA_EC_POINT holds it."""
    length = bytes((len(point),)) if len(point) < 0x80 else bytes((0x81, len(point)))
    return b"\x04" + length + point


def _ecdsa(curve: str, mechanism: Mechanism, *, der: bool) -> Callable[[Bench, Case, Case], Key]:
    size = {"P-256": 32, "P-384": 48}[curve]

    def run(bench: Bench, group: Case, case: Case) -> Key:
        signature = _hex(case, "sig")
        if der:
            try:
                r, s = decode_dss_signature(signature)
                signature = r.to_bytes(size) + s.to_bytes(size)
            except (ValueError, OverflowError) as error:
                raise CallersError from error
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        template: Template = {_A.EC_PARAMS: CURVES[curve], _A.EC_POINT: _octets(point)}
        key = bench.public(KeyType.EC, template)
        key.verify(signature, _hex(case, "msg"), mechanism=mechanism)
        return key

    return run


def ed25519(bench: Bench, group: Case, case: Case) -> Key:
    point = bytes.fromhex(group["publicKey"]["pk"])
    template: Template = {_A.EC_PARAMS: CURVES["Ed25519"], _A.EC_POINT: _octets(point)}
    key = bench.public(KeyType.EC_EDWARDS, template)
    key.verify(_hex(case, "sig"), _hex(case, "msg"), mechanism=_M.EDDSA)
    return key


def mldsa_65(bench: Bench, group: Case, case: Case) -> Key:
    template: Template = {
        _A.PARAMETER_SET: int(MlDsa.ML_DSA_65),
        _A.VALUE: bytes.fromhex(group["publicKey"]),
    }
    key = bench.public(KeyType.ML_DSA, template)
    how = SignContext(_hex(case, "ctx"))
    key.verify(_hex(case, "sig"), _hex(case, "msg"), mechanism=_M.ML_DSA, parameters=how)
    return key


def _rsa(mechanism: Mechanism, how: Parameters | None) -> Callable[[Bench, Case, Case], Key]:
    def run(bench: Bench, group: Case, case: Case) -> Key:
        numbers = group["publicKey"]
        template: Template = {
            _A.MODULUS: bytes.fromhex(numbers["modulus"]).lstrip(b"\0"),
            _A.PUBLIC_EXPONENT: bytes.fromhex(numbers["publicExponent"]),
        }
        key = bench.public(KeyType.RSA, template)
        key.verify(_hex(case, "sig"), _hex(case, "msg"), mechanism=mechanism, parameters=how)
        return key

    return run


def oaep(bench: Bench, group: Case, case: Case) -> Key:
    encoded = bytes.fromhex(group["privateKeyPkcs8"])
    pair = bench.partition.import_key(encoded, label="oaep", template={_A.DECRYPT: True})
    bench.destroy(pair.public.handle)
    how = Oaep(_M.SHA256, label=_hex(case, "label"))
    opened = pair.private.decrypt(_hex(case, "ct"), mechanism=_M.RSA_PKCS_OAEP, parameters=how)
    _same(opened, _hex(case, "msg"))
    return pair.private


RUNNERS: dict[str, Callable[[Bench, Case, Case], Key]] = {
    "aes_cbc_pkcs5_test.json": cbc,
    "aes_cmac_test.json": _mac(KeyType.AES, _M.AES_CMAC_GENERAL),
    "aes_gcm_test.json": gcm,
    "aes_kwp_test.json": _key_wrap(_M.AES_KEY_WRAP_KWP),
    "aes_wrap_test.json": _key_wrap(_M.AES_KEY_WRAP),
    "aes_xts_test.json": xts,
    "ecdh_secp256r1_test.json": ecdh_spki,
    "ecdh_secp384r1_ecpoint_test.json": ecdh_point,
    "ecdsa_secp256r1_sha256_p1363_test.json": _ecdsa("P-256", _M.ECDSA_SHA256, der=False),
    "ecdsa_secp256r1_sha256_test.json": _ecdsa("P-256", _M.ECDSA_SHA256, der=True),
    "ecdsa_secp384r1_sha384_p1363_test.json": _ecdsa("P-384", _M.ECDSA_SHA384, der=False),
    "ecdsa_secp384r1_sha384_test.json": _ecdsa("P-384", _M.ECDSA_SHA384, der=True),
    "ed25519_test.json": ed25519,
    "hkdf_sha384_test.json": hkdf_sha384,
    "hmac_sha256_test.json": _mac(KeyType.GENERIC_SECRET, _M.SHA256_HMAC_GENERAL),
    "hmac_sha384_test.json": _mac(KeyType.GENERIC_SECRET, _M.SHA384_HMAC_GENERAL),
    "mldsa_65_verify_test.json": mldsa_65,
    "mlkem_768_test.json": mlkem_768,
    "rsa_oaep_2048_sha256_mgf1sha256_test.json": oaep,
    "rsa_pss_2048_sha256_mgf1_32_test.json": _rsa(
        _M.SHA256_RSA_PKCS_PSS, Pss(_M.SHA256, salt_length=32)
    ),
    "rsa_signature_2048_sha256_test.json": _rsa(_M.SHA256_RSA_PKCS, None),
    "x25519_test.json": x25519,
}

#: Valid cases that the module refuses on purpose: file, how to tell, why.
REFUSED: tuple[tuple[str, Callable[[Case, Case], bool], str], ...] = (
    (
        "aes_xts_test.json",
        lambda group, _: group["keySize"] != 512,
        "AWS-LC has AES-256-XTS only",
    ),
    (
        "aes_wrap_test.json",
        lambda _, case: len(_hex(case, "msg")) < 16,
        "RFC 3394 wraps at least 16 bytes",
    ),
)


def _refused(file: str, group: Case, case: Case) -> bool:
    return any(name == file and tells(group, case) for name, tells, _ in REFUSED)


def _verdict(bench: Bench, file: str, group: Case, case: Case) -> str:
    try:
        key = RUNNERS[file](bench, group, case)
    except (ClientError, CallersError):
        return "refused"
    except WrongAnswerError:
        return "wrong"
    bench.destroy(key.handle)
    return "served"


def _problem(file: str, group: Case, case: Case, verdict: str) -> str | None:
    allowed = {
        "valid": {"refused"} if _refused(file, group, case) else {"served"},
        "acceptable": {"served", "refused"},
        "invalid": {"refused"},
    }[case["result"]]
    if verdict in allowed:
        return None
    return f"tcId {case['tcId']} ({case['result']}, {case.get('flags')}): {verdict}"


def _files() -> list[Path]:
    data = os.environ.get("CASEMATE_DATA")
    return sorted((Path(data) / "wycheproof").glob("*.json")) if data else []


@pytest.mark.parametrize("file", sorted(RUNNERS))
def test_every_case_of_a_file(shared_module: RunningModule, file: str) -> None:
    """All cases of one file; the test fails with the list of those that went wrong."""
    found = {path.name: path for path in _files()}
    if file not in found:
        pytest.skip("CASEMATE_DATA has no wycheproof folder with this file")
    groups = json.loads(found[file].read_text())["testGroups"]
    problems: list[str] = []
    tally: Tally[str] = Tally()
    with shared_module.connect() as partition:
        for group in groups:
            for case in group["tests"]:
                verdict = _verdict(Bench(partition), file, group, case)
                tally[f"{case['result']} {verdict}"] += 1
                problem = _problem(file, group, case, verdict)
                if problem is not None:
                    problems.append(problem)
    print(file, dict(tally))
    assert not problems, "\n".join(problems[:20])
    assert tally["valid served"] > 0


def test_every_file_has_a_runner() -> None:
    """A file that nobody runs would look like one that passes."""
    if not _files():
        pytest.skip("CASEMATE_DATA is not set, or has no wycheproof folder")
    assert {path.name for path in _files()} <= set(RUNNERS)


SMALL: dict[str, tuple[Case, Case]] = {
    # RFC 4231, test case 2 (whole); the GCM specification's test case 2; RFC 5649, section 6.
    "hmac_sha256_test.json": (
        {"tagSize": 256},
        {
            "key": "4a656665",
            "msg": "7768617420646f2079612077616e7420666f72206e6f7468696e673f",
            "tag": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        },
    ),
    "aes_gcm_test.json": (
        {"tagSize": 128},
        {
            "key": "00" * 16,
            "iv": "00" * 12,
            "msg": "00" * 16,
            "ct": "0388dace60b6a392f328c2b971b2fe78",
            "tag": "ab6e47d42cec13bdf53a67b21257bddf",
        },
    ),
    "aes_kwp_test.json": (
        {},
        {
            "key": "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8",
            "msg": "466f7250617369",
            "ct": "afbeb0f07dfbf5419200f2ccb50bb24f",
        },
    ),
}


@pytest.mark.parametrize("file", sorted(SMALL))
def test_a_small_case_always_runs(shared_module: RunningModule, file: str) -> None:
    """The runners work without the files, and one changed byte of the result is noticed."""
    group, case = SMALL[file]
    result = "tag" if "tag" in case else "ct"
    changed = {**case, result: f"{int(case[result][:2], 16) ^ 1:02x}" + case[result][2:]}
    with shared_module.connect() as partition:
        assert _verdict(Bench(partition), file, group, case) == "served"
        assert _verdict(Bench(partition), file, group, changed) == "refused"
