"""Many operations at once against a real module: in one call, from threads, with asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest

from casemate.formats.pkcs11 import Attribute, Mechanism
from casemate.formats.pkcs11_wire import Counter
from casemate.hsm.client import Algorithm, ClientError, Partition, connect_async
from casemate.hsm.client.errors import ArgumentError, DecryptionError, NotAllowedError
from tests.hsm.keys import pair, secret
from tests.running_module import RunningModule


def test_many_signatures_come_in_their_order(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    messages = [number.to_bytes(4) * (1 if number % 50 else 9000) for number in range(300)]
    for message, signature in zip(messages, made.private.sign_many(messages), strict=True):
        made.public.verify(signature, message)


def test_many_signatures_with_a_key_that_may_not_sign_are_one_error(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="derives only", template={Attribute.SIGN: False})
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
