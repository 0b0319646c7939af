"""The Python API against a real module: what keys do, held to `cryptography` where that can."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casemate.formats.pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, ReturnValue
from casemate.formats.pkcs11_wire import Counter, GcmMessage, Hkdf, Oaep, Pss
from casemate.hsm.client import Algorithm, ClientError, Key, KeyPair, Partition, Purpose
from casemate.hsm.client.errors import (
    ArgumentError,
    DecryptionError,
    InvalidSignatureError,
    NotAllowedError,
)
from casemate.hsm.client.keys import secret_template
from tests.hsm.keys import SECRETS, SIGNERS, loaded, offered, pair, secret

_A = Attribute


@pytest.mark.parametrize("algorithm", SIGNERS, ids=lambda a: a.value)
def test_a_signature_fits_its_message_and_no_other(web: Partition, algorithm: Algorithm) -> None:
    made = pair(web, algorithm)
    signature = made.private.sign(b"message")
    made.public.verify(signature, b"message")
    for wrong in (b"massage", b"", b"message "):
        with pytest.raises(InvalidSignatureError):
            made.public.verify(signature, wrong)
    broken = bytes((signature[0] ^ 1,)) + signature[1:]
    with pytest.raises(InvalidSignatureError):
        made.public.verify(broken, b"message")
    with pytest.raises(InvalidSignatureError):
        made.public.verify(signature[:-1], b"message")


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521])
def test_ecdsa_is_accepted_by_another_implementation(web: Partition, algorithm: Algorithm) -> None:
    made = pair(web, algorithm)
    public = loaded(made)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    signature = made.private.sign(b"message")
    half = len(signature) // 2
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    )
    used = {Algorithm.P256: hashes.SHA256(), Algorithm.P384: hashes.SHA384()}
    public.verify(der, b"message", ec.ECDSA(used.get(algorithm, hashes.SHA512())))


def test_ed25519_is_accepted_by_another_implementation(web: Partition) -> None:
    made = pair(web, Algorithm.ED25519)
    public = loaded(made)
    assert isinstance(public, ed25519.Ed25519PublicKey)
    public.verify(made.private.sign(b"message"), b"message")


def test_rsa_signs_and_decrypts_as_another_implementation_does(web: Partition) -> None:
    made = pair(web, Algorithm.RSA_2048)
    public = loaded(made)
    assert isinstance(public, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    public.verify(made.private.sign(b"m"), b"m", pss, hashes.SHA256())
    signature = made.private.sign(b"m", mechanism=Mechanism.SHA384_RSA_PKCS)
    public.verify(signature, b"m", padding.PKCS1v15(), hashes.SHA384())
    oaep = padding.OAEP(padding.MGF1(hashes.SHA384()), hashes.SHA384(), b"label")
    parameters = Oaep(Mechanism.SHA384, label=b"label")
    assert made.private.decrypt(public.encrypt(b"hello", oaep), parameters=parameters) == b"hello"
    assert made.private.decrypt(made.public.encrypt(b"hello")) == b"hello"
    with pytest.raises(ClientError):
        made.private.sign(
            b"m", mechanism=Mechanism.SHA256_RSA_PKCS_PSS, parameters=Pss(Mechanism.SHA512)
        )


def test_a_prehashed_signature_is_the_same_kind(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    digest = hashlib.sha256(b"message").digest()
    signature = made.private.sign(digest, mechanism=Mechanism.ECDSA)
    made.public.verify(signature, b"message")


@pytest.mark.parametrize("algorithm", SECRETS, ids=lambda a: a.value)
def test_a_mac_fits_its_message_and_no_other(web: Partition, algorithm: Algorithm) -> None:
    key = secret(web, algorithm)
    key.verify(key.sign(b"message"), b"message")
    with pytest.raises(InvalidSignatureError):
        key.verify(key.sign(b"message"), b"massage")


@pytest.mark.parametrize("size", [0, 1, 16, 4096, 16384, 70000, 1 << 20])
def test_gcm_opens_what_it_sealed_and_nothing_else(web: Partition, size: int) -> None:
    key = secret(web, Algorithm.AES_256)
    message = bytes(size)
    sealed = key.encrypt(message, associated=b"context")
    assert len(sealed) == size + 28
    assert key.decrypt(sealed, associated=b"context") == message
    for wrong, associated in ((sealed, b"other"), (sealed[:-1] + b"\0", b"context")):
        if wrong == sealed and associated == b"context":
            continue
        with pytest.raises(DecryptionError):
            key.decrypt(wrong, associated=associated)
    assert key.encrypt(message) != key.encrypt(message)


def test_what_is_larger_than_a_message_goes_in_parts(web: Partition) -> None:
    big = bytes(range(256)) * (17 << 12)
    assert web.digest(big) == hashlib.sha256(big).digest()
    made = pair(web, Algorithm.P256)
    made.public.verify(made.private.sign(big), big)
    key = secret(web, Algorithm.AES_256)
    counter = Counter(bytes(16))
    sealed = key.encrypt(big, mechanism=Mechanism.AES_CTR, parameters=counter)
    assert key.decrypt(sealed, mechanism=Mechanism.AES_CTR, parameters=counter) == big
    with pytest.raises(ArgumentError, match="cut it into messages"):
        key.encrypt(big)


def test_gcm_is_opened_by_another_implementation(web: Partition) -> None:
    """The key leaves wrapped under one whose value the test knows: that is what wrapping is for."""
    outside = rsa.generate_private_key(65537, 2048)
    numbers = outside.public_key().public_numbers()
    if Mechanism.RSA_PKCS_OAEP not in web.mechanisms():
        pytest.skip("the partition does not offer RSA_PKCS_OAEP")
    wrapper = web.create(
        {
            _A.CLASS: ObjectClass.PUBLIC_KEY,
            _A.KEY_TYPE: KeyType.RSA,
            _A.MODULUS: numbers.n.to_bytes(256),
            _A.PUBLIC_EXPONENT: numbers.e.to_bytes(3),
            _A.WRAP: True,
            _A.LABEL: "outside",
        }
    )
    assert isinstance(wrapper, Key)
    key = web.generate_secret(
        offered(web, Algorithm.AES_256), label="leaves wrapped", extractable=True
    )
    wrapped = wrapper.wrap(key, mechanism=Mechanism.RSA_PKCS_OAEP, parameters=Oaep())
    value = outside.decrypt(
        wrapped, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    )
    sealed = key.encrypt(b"hello", associated=b"a")
    assert AESGCM(value).decrypt(sealed[:12], sealed[12:], b"a") == b"hello"
    given = AESGCM(value).encrypt(b"\1" * 12, b"hello", b"a")
    parameters = GcmMessage(b"\1" * 12, b"a", given[-16:])
    opened = key.decrypt(given[:-16], mechanism=Mechanism.AES_GCM, parameters=parameters)
    assert opened == b"hello"


def test_a_wrapped_key_comes_back(web: Partition) -> None:
    wrapper = web.generate_secret(
        offered(web, Algorithm.AES_256), label="wraps", purpose=Purpose.WRAPPING
    )
    key = web.generate_secret(offered(web, Algorithm.AES_128), label="travels", extractable=True)
    sealed = key.encrypt(b"before")
    wrapped = wrapper.wrap(key)
    key.destroy()
    back = wrapper.unwrap(
        wrapped,
        {
            _A.CLASS: ObjectClass.SECRET_KEY,
            _A.KEY_TYPE: KeyType.AES,
            _A.LABEL: "travelled",
            _A.DECRYPT: True,
        },
    )
    assert back.decrypt(sealed) == b"before"
    with pytest.raises(DecryptionError):
        wrapper.unwrap(
            wrapped[:-1] + b"\0", {_A.CLASS: ObjectClass.SECRET_KEY, _A.KEY_TYPE: KeyType.AES}
        )


def test_a_key_that_may_not_leave_does_not_leave(web: Partition) -> None:
    wrapper = web.generate_secret(
        offered(web, Algorithm.AES_256), label="wraps", purpose=Purpose.WRAPPING
    )
    key = secret(web, Algorithm.AES_128)
    with pytest.raises(NotAllowedError) as raised:
        wrapper.wrap(key)
    assert raised.value.result in (
        ReturnValue.KEY_UNEXTRACTABLE,
        ReturnValue.KEY_NOT_WRAPPABLE,
    )


def test_hkdf_derives_the_same_from_the_same(web: Partition) -> None:
    if Mechanism.HKDF_DERIVE not in web.mechanisms():
        pytest.skip("the partition does not offer HKDF_DERIVE")
    base = secret(web, Algorithm.SECRET_256)
    one, same, other = (
        base.derive(
            secret_template(32), mechanism=Mechanism.HKDF_DERIVE, parameters=Hkdf(info=info)
        )
        for info in (b"a", b"a", b"b")
    )
    assert one.sign(b"x") == same.sign(b"x") != other.sign(b"x")


def test_two_sides_agree_by_ecdh(web: Partition) -> None:
    if Mechanism.GENERIC_SECRET_KEY_GEN not in web.mechanisms():
        pytest.skip("the partition does not offer generic secrets")
    left, right = pair(web, Algorithm.P256), pair(web, Algorithm.P256)

    def point(made: KeyPair) -> bytes:
        public = loaded(made)
        assert isinstance(public, ec.EllipticCurvePublicKey)
        form = serialization.PublicFormat.UncompressedPoint
        return public.public_bytes(serialization.Encoding.X962, form)

    one = left.private.agree(point(right), secret_template(32))
    two = right.private.agree(point(left), secret_template(32))
    assert one.sign(b"x") == two.sign(b"x")


@pytest.mark.parametrize(
    "algorithm", [Algorithm.ML_KEM_512, Algorithm.ML_KEM_768, Algorithm.ML_KEM_1024]
)
def test_two_sides_agree_by_ml_kem(web: Partition, algorithm: Algorithm) -> None:
    if Mechanism.SHA256_HMAC not in web.mechanisms():
        pytest.skip("the partition does not offer SHA256_HMAC")
    made = pair(web, algorithm)
    ciphertext, one = made.public.encapsulate(secret_template(32))
    two = made.private.decapsulate(ciphertext, secret_template(32))
    assert one.sign(b"x") == two.sign(b"x")
