"""The Python API against a real module, checked with `cryptography` where that can."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casemate.formats.pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, ReturnValue
from casemate.formats.pkcs11_wire import Counter, GcmMessage, Hkdf, Oaep, Pss
from casemate.formats.x509 import split
from casemate.hsm.client import (
    Algorithm,
    ClientError,
    Key,
    KeyPair,
    Partition,
    Purpose,
    connect_async,
    pins,
)
from casemate.hsm.client.certificates import request, self_signed
from casemate.hsm.client.errors import (
    AmbiguousError,
    ArgumentError,
    DecryptionError,
    InvalidSignatureError,
    LoginError,
    MechanismError,
    NotAllowedError,
    NotFoundError,
    QuotaError,
)
from casemate.hsm.client.keys import secret_template
from casemate.hsm.client.uri import object_uri
from tests.running_module import RunningModule

_A = Attribute
SIGNERS = [
    Algorithm.P256,
    Algorithm.P384,
    Algorithm.P521,
    Algorithm.ED25519,
    Algorithm.RSA_2048,
    Algorithm.ML_DSA_44,
    Algorithm.ML_DSA_65,
    Algorithm.ML_DSA_87,
]
SECRETS = [
    Algorithm.AES_128,
    Algorithm.AES_192,
    Algorithm.AES_256,
    Algorithm.SECRET_256,
    Algorithm.SECRET_512,
]


@pytest.fixture(scope="module")
def web(shared_module: RunningModule) -> Iterator[Partition]:
    with shared_module.connect() as partition:
        yield partition


def offered(web: Partition, algorithm: Algorithm) -> Algorithm:
    if algorithm.recipe.generate not in web.mechanisms():
        pytest.skip(f"the partition does not offer {algorithm.value}")
    return algorithm


def pair(web: Partition, algorithm: Algorithm) -> KeyPair:
    return web.generate(offered(web, algorithm), label=f"pair {algorithm.value}")


def secret(web: Partition, algorithm: Algorithm) -> Key:
    return web.generate_secret(offered(web, algorithm), label=f"secret {algorithm.value}")


def loaded(made: KeyPair) -> object:
    return serialization.load_der_public_key(made.private.public_key_info())


# --- signatures --------------------------------------------------------------------------------


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


def test_many_signatures_come_in_their_order(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    messages = [number.to_bytes(4) * (1 if number % 50 else 9000) for number in range(300)]
    for message, signature in zip(messages, made.private.sign_many(messages), strict=True):
        made.public.verify(signature, message)


def test_many_signatures_with_a_key_that_may_not_sign_are_one_error(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="derives only", template={_A.SIGN: False})
    with pytest.raises(NotAllowedError):
        made.private.sign_many([b"x"] * 100)
    assert web.random(1)


@pytest.mark.parametrize("algorithm", [Algorithm.P256, Algorithm.SECRET_256])
def test_many_verdicts_tell_which_signature_does_not_fit(
    web: Partition, algorithm: Algorithm
) -> None:
    if algorithm is Algorithm.P256:
        made = pair(web, algorithm)
        signer, verifier = made.private, made.public
    else:
        signer = verifier = secret(web, algorithm)
    messages = [number.to_bytes(4) for number in range(100)]
    signatures = signer.sign_many(messages)
    signatures[7], signatures[8] = signatures[8], signatures[7]
    signatures[50] = b"short"
    verdicts = verifier.verify_many(signatures, messages)
    assert [number for number, fits in enumerate(verdicts) if not fits] == [7, 8, 50]
    assert verifier.verify_many([], []) == []
    with pytest.raises(ArgumentError, match="99 signatures for 100 messages"):
        verifier.verify_many(signatures[1:], messages)
    with pytest.raises(ClientError):
        web.generate_secret(Algorithm.AES_256, label="no signer").verify_many(
            signatures, messages, mechanism=Mechanism.ECDSA
        )


def test_many_ciphertexts_are_those_of_one_by_one(web: Partition) -> None:
    key = web.generate_secret(Algorithm.AES_256, label="batch")
    # More than a native call takes, of every size of place in the ring.
    messages = [bytes([number % 251]) * (number * 13 % 5000) for number in range(1500)]
    messages[3], messages[1100] = bytes(200_000), bytes(16_500)
    rows = [f"row {number}".encode() for number in range(len(messages))]
    sealed = key.encrypt_many(messages, associated=rows)
    assert len({one[:12] for one in sealed}) == len(messages)
    assert key.decrypt_many(sealed, associated=rows) == messages
    assert key.decrypt(sealed[3], associated=b"row 3") == messages[3]
    assert key.decrypt(key.encrypt_many([b"x"])[0]) == b"x"
    assert key.encrypt_many([]) == key.decrypt_many([]) == []
    rows[4], rows[5] = rows[5], rows[4]
    with pytest.raises(DecryptionError, match="message 4"):
        key.decrypt_many(sealed, associated=rows)
    with pytest.raises(ArgumentError, match="message 1 has 3 bytes"):
        key.decrypt_many([sealed[0], b"abc"])
    with pytest.raises(ArgumentError, match="1 associated data for 1500 messages"):
        key.encrypt_many(messages, associated=[b"one"])


def test_many_messages_never_share_an_iv(web: Partition) -> None:
    key = web.generate_secret(Algorithm.AES_256, label="batch")
    messages, mechanism = [b"one", b"two"], Mechanism.AES_CTR
    blocks = [Counter(bytes(15) + bytes([number])) for number in range(2)]
    sealed = key.encrypt_many(messages, mechanism=mechanism, parameters=blocks)
    assert key.decrypt_many(sealed, mechanism=mechanism, parameters=blocks) == messages
    assert key.encrypt(b"two", mechanism=mechanism, parameters=blocks[1]) == sealed[1]
    for repeated in (blocks[0], [blocks[0]] * 2):
        with pytest.raises(ArgumentError, match="same IV"):
            key.encrypt_many(messages, mechanism=mechanism, parameters=repeated)
    with pytest.raises(ArgumentError, match="1 parameters for 2 messages"):
        key.encrypt_many(messages, mechanism=mechanism, parameters=blocks[:1])
    made = web.generate(Algorithm.RSA_2048, label="batch")
    assert made.private.decrypt_many(made.public.encrypt_many(messages)) == messages


def test_threads_with_many_messages_never_wait_for_each_others_places(web: Partition) -> None:
    key = web.generate_secret(Algorithm.SECRET_256, label="batch")
    # Five windows of 32 are more than the 64 places of the connection.
    messages = [number.to_bytes(4) for number in range(2000)]
    expected = key.sign_many(messages)
    results: list[bool] = []

    def work() -> None:
        results.extend(key.sign_many(messages) == expected for _ in range(5))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == [True] * 25


def test_threads_share_a_partition(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(50):
                message = f"{number} {turn}".encode()
                made.public.verify(made.private.sign(message), message)
        except ClientError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_asynchronous_programs_wait_for_many(shared_module: RunningModule) -> None:
    async def main() -> None:
        async with connect_async(str(shared_module.socket())) as web:
            made = await web.generate(Algorithm.P256, label="async")
            found = await web.find("async")
            assert found == made.private
            messages = [f"{number}".encode() for number in range(64)]
            signatures = await asyncio.gather(*(web.sign(found, m) for m in messages))
            for message, signature in zip(messages, signatures, strict=True):
                await web.run(made.public.verify, signature, message)
            assert len(await web.sign_many(found, messages)) == 64
            assert len(await web.random(20)) == 20

    asyncio.run(main())


# --- secret keys -------------------------------------------------------------------------------


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


# --- objects -----------------------------------------------------------------------------------


def test_the_value_of_a_key_is_never_told(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    told = made.private.attributes()
    assert _A.VALUE not in told
    assert told[_A.SENSITIVE] is True
    assert told[_A.NEVER_EXTRACTABLE] is True
    assert "handle=" in repr(made.private)
    assert "VALUE" not in repr(made.private)


def test_find_by_label_and_id_says_when_there_is_none_or_more_than_one(web: Partition) -> None:
    first = web.generate(Algorithm.P256, label="twin", id=b"\x71")
    web.generate(Algorithm.P256, label="twin", id=b"\x72")
    assert web.find(id=b"\x71") == first.private
    assert web.find(id=b"\x71", object_class=ObjectClass.PUBLIC_KEY) == first.public
    with pytest.raises(AmbiguousError, match="2 keys"):
        web.find("twin")
    with pytest.raises(NotFoundError, match="casemate key list"):
        web.find("nobody")


def test_labels_of_any_script_come_back(web: Partition) -> None:
    for label in ("schlüssel", "鍵", "a" * 200, " "):
        made = web.generate(Algorithm.P256, label=label)
        assert made.private.label == label
        assert web.find(label) == made.private
        made.public.destroy()
        made.private.destroy()


def test_an_object_that_is_gone_says_so(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="short-lived")
    made.private.destroy()
    for use in (lambda: made.private.sign(b"x"), made.private.destroy, made.private.attributes):
        with pytest.raises(NotFoundError):
            use()


def test_changes_and_copies(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="before")
    made.private.change({_A.LABEL: "after"})
    assert web.object(made.private.handle).label == "after"
    copied = made.private.copy({_A.LABEL: "copy"})
    assert isinstance(copied, Key)
    made.public.verify(copied.sign(b"x"), b"x")
    with pytest.raises(NotAllowedError):
        made.private.change({_A.SENSITIVE: False})


def test_many_objects_are_found_page_by_page(shared_module: RunningModule) -> None:
    with shared_module.connect("db") as db:
        for number in range(300):
            db.create(
                {
                    _A.CLASS: ObjectClass.DATA,
                    _A.LABEL: f"data-{number}",
                    _A.APPLICATION: "paging",
                    _A.VALUE: b"x" * number,
                }
            )
        found = list(db.objects({_A.APPLICATION: "paging"}))
    assert len({one.handle for one in found}) == 300


def test_the_same_label_in_two_partitions_is_two_keys(shared_module: RunningModule) -> None:
    with shared_module.connect("web") as web, shared_module.connect("db") as db:
        ours = web.generate(Algorithm.P256, label="tenant", stored=True)
        theirs = db.generate(Algorithm.P256, label="tenant", stored=True)
        assert ours.private.public_key_info() != theirs.private.public_key_info()
        signature = db.find("tenant").sign(b"x")
        with pytest.raises(InvalidSignatureError):
            ours.public.verify(signature, b"x")
        # A handle of one partition means nothing in the other, or another object of its own.
        for handle in range(1, 500):
            try:
                assert web.object(handle).partition is web
            except NotFoundError:
                continue


def test_destroying_a_partition_leaves_the_other(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.create", name="db")
    with module.connect("web") as web, module.connect("db") as db:
        key = web.generate(Algorithm.P256, label="stays", stored=True).private
        gone = db.generate(Algorithm.P256, label="goes", stored=True).private
        with module.admin() as admin:
            admin.call("partition.destroy", name="db")
        assert key.sign(b"x")
        with pytest.raises(ClientError):
            gone.change({_A.LABEL: "x"})
        assert not module.socket("db").parent.exists()


def test_a_uri_names_partition_id_and_label(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="a key;or two", id=b"\x0a\xff")
    assert object_uri(made.private) == (
        "pkcs11:token=web;id=%0A%FF;object=a%20key%3Bor%20two;type=private"
    )


# --- quotas, PINs, errors ----------------------------------------------------------------------


def test_a_full_quota_is_one_clear_error_and_destroying_helps(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.set-policy", name="web", policy={"keys": 4})
    with module.connect() as web:
        first = web.generate(Algorithm.P256, label="1", stored=True)
        web.generate(Algorithm.P256, label="2", stored=True)
        with pytest.raises(QuotaError, match="resize"):
            web.generate(Algorithm.P256, label="3", stored=True)
        first.public.destroy()
        first.private.destroy()
        web.generate(Algorithm.P256, label="3", stored=True)


def test_a_mechanism_that_the_policy_forbids_is_refused(module: RunningModule) -> None:
    with module.admin() as admin:
        allowed = [int(Mechanism.EC_KEY_PAIR_GEN), int(Mechanism.ECDSA_SHA384)]
        admin.call("partition.set-policy", name="web", policy={"mechanisms": allowed})
    with module.connect() as web:
        assert set(web.mechanisms()) == set(allowed)
        key = web.generate(Algorithm.P256, label="k").private
        assert key.sign(b"x", mechanism=Mechanism.ECDSA_SHA384)
        with pytest.raises(MechanismError):
            key.sign(b"x")


def test_a_key_of_the_wrong_kind_says_so(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    with pytest.raises(ArgumentError):
        made.private.encrypt(b"x")
    with pytest.raises(ArgumentError, match="generate_secret"):
        web.generate(Algorithm.AES_256, label="x")
    with pytest.raises(ArgumentError, match="use generate"):
        web.generate_secret(Algorithm.P256, label="x")
    with pytest.raises(NotAllowedError):
        made.public.sign(b"x")


def test_an_empty_label_and_a_huge_template_are_answered(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="")
    assert made.private.label == ""
    with pytest.raises(ClientError):
        web.generate(Algorithm.P256, label="x" * 20000)
    assert web.random(3)


def test_random_comes_in_any_size(web: Partition) -> None:
    assert len(web.random(3_000_000)) == 3_000_000
    assert web.random(32) != web.random(32)


# --- PINs --------------------------------------------------------------------------------------

SO_PIN, PIN = b"so-pin-0000", b"user-pin-1111"
#: CKF_USER_PIN_COUNT_LOW: a wrong PIN came since the last right one.
FEW_TRIES_LEFT = 0x10000


@pytest.fixture
def guarded(short_folder: Path) -> Iterator[RunningModule]:
    """A module whose partition asks for PINs that are set."""
    running = RunningModule(short_folder, pin_required=True).start()
    pins.initialise(running.socket(), label="web", so_pin=SO_PIN)
    with running.connect() as web:
        pins.set_user_pin(web, so_pin=SO_PIN, pin=PIN)
    yield running
    running.kill()


def test_a_partition_without_its_pins_says_so(short_folder: Path) -> None:
    running = RunningModule(short_folder, pin_required=True).start()
    try:
        with running.connect() as web:
            assert web.info().login_required
            with pytest.raises(LoginError):
                web.generate(Algorithm.P256, label="k", stored=True)
            with pytest.raises(LoginError):
                web.login(PIN)
    finally:
        running.kill()


def test_private_keys_need_the_pin(guarded: RunningModule) -> None:
    with guarded.connect() as web:
        web.login(PIN)
        made = web.generate(Algorithm.P256, label="k", stored=True)
        assert made.private.attributes()[_A.PRIVATE] is True
        web.logout()
        with pytest.raises(NotFoundError):
            web.find("k", object_class=ObjectClass.PRIVATE_KEY)
    with guarded.connect(pin=PIN.decode()) as web:
        assert web.find("k").sign(b"x")
    with pytest.raises(LoginError, match="wrong"):
        guarded.connect(pin="wrong")


def test_a_failed_pin_is_counted_across_a_crash(guarded: RunningModule) -> None:
    with guarded.connect() as web:
        assert not web.info().flags & FEW_TRIES_LEFT
    with pytest.raises(LoginError):
        guarded.connect(pin="wrong")
    guarded.kill()
    guarded.start()
    with guarded.connect() as web:
        assert web.info().flags & FEW_TRIES_LEFT
        web.login(PIN)
        assert not web.info().flags & FEW_TRIES_LEFT


def test_a_locked_user_pin_is_unlocked_by_the_officer(guarded: RunningModule) -> None:
    def fail() -> ReturnValue | None:
        with pytest.raises(LoginError) as raised:
            guarded.connect(pin="wrong")
        return raised.value.result

    assert [fail() for _ in range(3)] == [ReturnValue.PIN_INCORRECT] * 3
    # From here a try is delayed, longer each time: sooner or later one comes within its delay.
    assert ReturnValue.PIN_LOCKED in [fail() for _ in range(4)]
    with guarded.connect() as web:
        pins.set_user_pin(web, so_pin=SO_PIN, pin=b"unlocked")
        web.login(b"unlocked")


def test_a_changed_pin_survives_a_crash(guarded: RunningModule) -> None:
    with guarded.connect(pin=PIN.decode()) as web:
        pins.change_pin(web, old=PIN, new=b"another-pin")
    guarded.kill()
    guarded.start()
    with guarded.connect(pin="another-pin") as web:
        assert web.generate(Algorithm.P256, label="k", stored=True)
    with pytest.raises(LoginError):
        guarded.connect(pin=PIN.decode())


def test_pins_stand_nowhere_on_disk(guarded: RunningModule) -> None:
    for path in guarded.folders.state.iterdir():
        content = path.read_bytes()
        assert PIN not in content
        assert SO_PIN not in content
    assert PIN.decode() not in guarded.log


# --- keys from outside -------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["pkcs8 pem", "pkcs8 der", "traditional pem"])
def test_a_key_from_outside_works_and_is_marked_so(web: Partition, form: str) -> None:
    outside = ec.generate_private_key(ec.SECP256R1())
    encoded = outside.private_bytes(
        serialization.Encoding.DER if "der" in form else serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL
        if "traditional" in form
        else serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    made = web.import_key(encoded, label="from outside", id=b"\x42")
    signature = made.private.sign(b"message")
    half = len(signature) // 2
    der = utils.encode_dss_signature(
        int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    )
    outside.public_key().verify(der, b"message", ec.ECDSA(hashes.SHA256()))
    made.public.verify(signature, b"message")
    told = made.private.attributes()
    assert told[_A.SENSITIVE] is True
    assert told[_A.LOCAL] is False
    assert told[_A.ALWAYS_SENSITIVE] is False
    assert _A.VALUE not in told


@pytest.mark.parametrize(
    "kind", [ed25519.Ed25519PrivateKey.generate, lambda: rsa.generate_private_key(65537, 2048)]
)
def test_other_kinds_of_keys_from_outside(web: Partition, kind: Callable[[], Any]) -> None:
    outside = kind()
    encoded = outside.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = web.import_key(encoded, label="from outside")
    assert loaded(made) == outside.public_key()
    made.public.verify(made.private.sign(b"x"), b"x")


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"nothing",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"0" * 9999,
    ],
)
def test_what_is_no_key_is_refused(web: Partition, encoded: bytes) -> None:
    with pytest.raises(ArgumentError, match="PKCS #8"):
        web.import_key(encoded, label="bad")


# --- certificates ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm", [Algorithm.P256, Algorithm.P384, Algorithm.P521, Algorithm.ED25519,
                  Algorithm.RSA_2048]
)  # fmt: skip
def test_requests_and_certificates_verify_elsewhere(web: Partition, algorithm: Algorithm) -> None:
    key = pair(web, algorithm).private
    asked = x509.load_der_x509_csr(
        request(key, subject="CN=www.example.org,O=Example", names=["www.example.org", "::1"])
    )
    assert asked.is_signature_valid
    assert asked.subject.rfc4514_string() == "CN=www.example.org,O=Example"
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["www.example.org"]
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    made = x509.load_der_x509_certificate(
        self_signed(
            key,
            subject="CN=localhost",
            names=["localhost"],
            not_before=now,
            not_after=now + timedelta(days=365 * 30),
        )
    )
    made.verify_directly_issued_by(made)
    assert made.not_valid_before_utc == now
    assert made.not_valid_after_utc == now + timedelta(days=365 * 30)
    assert made.version is x509.Version.v3


@pytest.mark.parametrize(
    "algorithm", [Algorithm.ML_DSA_44, Algorithm.ML_DSA_65, Algorithm.ML_DSA_87]
)
def test_post_quantum_requests_verify_with_their_own_key(
    web: Partition, algorithm: Algorithm
) -> None:
    made = pair(web, algorithm)
    data = request(made.private, subject="CN=pq")
    parts = split(data)
    made.public.verify(parts.signature, parts.tbs)
    assert made.private.public_key_info() in data


def test_a_bad_subject_is_refused_by_name(web: Partition) -> None:
    key = pair(web, Algorithm.P256).private
    with pytest.raises(ArgumentError, match="not a name"):
        request(key, subject="www.example.org")


def test_many_go_on_when_the_module_restarts(module: RunningModule) -> None:
    with module.connect() as web:
        made = web.generate(Algorithm.P256, label="durable", stored=True)
        module.kill()
        module.start()
        messages = [number.to_bytes(4) for number in range(50)]
        signatures = made.private.sign_many(messages)
        module.kill()
        module.start()
        assert all(made.public.verify_many(signatures, messages))
