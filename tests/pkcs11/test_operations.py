"""Operations: lengths, phases, parts, errors. The cryptography is compared with `cryptography`."""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
from ctypes import byref, c_ulong, create_string_buffer

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.pkcs11.constants import Attribute, Class, Flag, KeyType, Mechanism, Rv
from tests.pkcs11.cryptoki import (
    CkError,
    GcmMessageParams,
    Session,
    Value,
    c_mechanism,
    c_template,
    gcm,
)

KEY = bytes(range(32))
IV = bytes(range(100, 116))
MIB = 1024 * 1024


def secret(session: Session, kind: KeyType, value: bytes, *usages: Attribute) -> int:
    """A session key with a known value."""
    template: dict[Attribute, Value] = {
        Attribute.CLASS: Class.SECRET_KEY,
        Attribute.KEY_TYPE: kind,
        Attribute.VALUE: value,
        **dict.fromkeys(usages, True),
    }
    return session.create(template)


@pytest.fixture
def aes(session: Session) -> int:
    return secret(session, KeyType.AES, KEY, Attribute.ENCRYPT, Attribute.DECRYPT)


@pytest.fixture
def mac(session: Session) -> int:
    return secret(session, KeyType.GENERIC_SECRET, KEY, Attribute.SIGN, Attribute.VERIFY)


def parts(session: Session, name: str, data: bytes, sizes: list[int]) -> bytes:
    """The output of C_<name>Update over pieces of these sizes, then the rest, and of Final."""
    output = b""
    for size in [*sizes, len(data)]:
        piece, data = data[:size], data[size:]
        buffer, length = create_string_buffer(len(piece) + 64), c_ulong(len(piece) + 64)
        session.call(f"C_{name}Update", piece, len(piece), buffer, byref(length))
        output += buffer.raw[: length.value]
    return output + session.output(f"C_{name}Final")


@pytest.mark.parametrize("size", [0, 1, 55, 64, 16 * 1024, 17 * 1024, 3 * MIB, 17 * MIB])
def test_digests_of_every_size(session: Session, size: int) -> None:
    data = os.urandom(size)
    expected = hashlib.sha256(data).digest()
    assert session.once("Digest", Mechanism.SHA256, data) == expected
    session.begin("Digest", Mechanism.SHA256)
    for begin in range(0, size, 5 * MIB + 7):
        piece = data[begin : begin + 5 * MIB + 7]
        session.call("C_DigestUpdate", piece, len(piece))
    assert session.output("C_DigestFinal") == expected


@pytest.mark.parametrize("size", [0, 64, 20_000, 17 * MIB])
def test_macs_of_every_size(session: Session, mac: int, size: int) -> None:
    data = os.urandom(size)
    expected = hmac.digest(KEY, data, "sha256")
    assert session.sign(Mechanism.SHA256_HMAC, mac, data) == expected
    session.verify(Mechanism.SHA256_HMAC, mac, data, expected)
    with pytest.raises(CkError, match="SIGNATURE_INVALID"):
        session.verify(Mechanism.SHA256_HMAC, mac, data, bytes(32))
    with pytest.raises(CkError, match="SIGNATURE_LEN_RANGE"):
        session.verify(Mechanism.SHA256_HMAC, mac, data, expected[:-1])


def reference(mode: modes.CBC | modes.CTR, data: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(KEY), mode).encryptor()
    return encryptor.update(data) + encryptor.finalize()


@pytest.mark.parametrize("size", [0, 16, 16 * 1024, 16 * 1024 + 16, 5 * MIB, 17 * MIB])
def test_cbc_of_every_size_whole_and_in_parts(session: Session, aes: int, size: int) -> None:
    data = os.urandom(size)
    expected = reference(modes.CBC(IV), data)
    for name, given, wanted in (("Encrypt", data, expected), ("Decrypt", expected, data)):
        assert session.once(name, Mechanism.AES_CBC, given, key=aes, parameter=IV) == wanted
        session.begin(name, Mechanism.AES_CBC, aes, IV)
        assert parts(session, name, given, [1, 15, 0, 4096 + 5]) == wanted


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 17 * MIB + 3])
def test_padding_grows_and_shrinks(session: Session, aes: int, size: int) -> None:
    data = os.urandom(size)
    encrypted = session.once("Encrypt", Mechanism.AES_CBC_PAD, data, key=aes, parameter=IV)
    assert len(encrypted) == (size // 16 + 1) * 16
    session.begin("Decrypt", Mechanism.AES_CBC_PAD, aes, IV)
    assert parts(session, "Decrypt", encrypted, [16, 1]) == data
    buffer, length = create_string_buffer(len(encrypted)), c_ulong(len(encrypted))
    session.begin("Decrypt", Mechanism.AES_CBC_PAD, aes, IV)
    session.call("C_Decrypt", encrypted, len(encrypted), buffer, byref(length))
    assert buffer.raw[: length.value] == data


@pytest.mark.parametrize("size", [0, 1, 4096, 40_000])
def test_gcm_is_one_piece_and_releases_nothing_early(session: Session, aes: int, size: int) -> None:
    data, iv, aad = os.urandom(size), os.urandom(12), b"header"
    expected = AESGCM(KEY).encrypt(iv, data, aad)
    for name, given, wanted in (("Encrypt", data, expected), ("Decrypt", expected, data)):
        parameter = gcm(iv, aad)
        assert session.once(name, Mechanism.AES_GCM, given, key=aes, parameter=parameter) == wanted
    session.begin("Decrypt", Mechanism.AES_GCM, aes, gcm(iv, aad))
    buffer, length = create_string_buffer(size + 64), c_ulong(size + 64)
    session.call("C_DecryptUpdate", expected, len(expected), buffer, byref(length))
    assert length.value == 0
    assert session.output("C_DecryptFinal") == data
    forged = expected[:-1] + bytes([expected[-1] ^ 1])
    session.begin("Decrypt", Mechanism.AES_GCM, aes, gcm(iv, aad))
    length.value = size + 64
    code = session.raw("C_Decrypt", forged, len(forged), buffer, byref(length))
    assert code == Rv.ENCRYPTED_DATA_INVALID
    assert buffer.raw == bytes(size + 64)


def test_input_and_output_may_be_one_buffer(session: Session, aes: int) -> None:
    data = os.urandom(4096)
    buffer, length = create_string_buffer(data, 4096), c_ulong(4096)
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.call("C_Encrypt", buffer, 4096, buffer, byref(length))
    assert buffer.raw == reference(modes.CBC(IV), data)


def test_lengths_are_told_and_consume_nothing(session: Session, mac: int) -> None:
    session.begin("Sign", Mechanism.SHA256_HMAC, mac)
    length = c_ulong(0)
    session.call("C_Sign", b"x", 1, None, byref(length))
    assert length.value == 32
    buffer = create_string_buffer(40)
    length.value = 31
    assert session.raw("C_Sign", b"x", 1, buffer, byref(length)) == Rv.BUFFER_TOO_SMALL
    assert (length.value, buffer.raw) == (32, bytes(40))
    length.value = 40
    session.call("C_Sign", b"x", 1, buffer, byref(length))
    assert buffer.raw[:32] == hmac.digest(KEY, b"x", "sha256")
    assert session.raw("C_Sign", b"x", 1, buffer, byref(length)) == Rv.OPERATION_NOT_INITIALIZED


def test_an_update_that_does_not_fit_may_be_repeated(session: Session, aes: int) -> None:
    data = os.urandom(64)
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    buffer, length = create_string_buffer(64), c_ulong(10)
    assert session.raw("C_EncryptUpdate", data, 64, buffer, byref(length)) == Rv.BUFFER_TOO_SMALL
    assert length.value == 64
    session.call("C_EncryptUpdate", data, 64, buffer, byref(length))
    assert buffer.raw == reference(modes.CBC(IV), data)
    session.output("C_EncryptFinal")


def test_calls_of_one_kind_do_not_mix_with_the_other(session: Session, aes: int) -> None:
    buffer, length = create_string_buffer(64), c_ulong(64)
    begin = (Mechanism.AES_CBC, aes, IV)
    session.begin("Encrypt", *begin)
    session.call("C_EncryptUpdate", bytes(16), 16, buffer, byref(length))
    whole = ("C_Encrypt", bytes(16), 16, buffer, byref(length))
    assert session.raw(*whole) == Rv.OPERATION_ACTIVE
    assert session.raw(*whole) == Rv.OPERATION_NOT_INITIALIZED
    session.begin("Encrypt", *begin)
    session.call("C_Encrypt", bytes(16), 16, None, byref(length))
    part = ("C_EncryptUpdate", bytes(16), 16, buffer, byref(length))
    assert session.raw(*part) == Rv.OPERATION_ACTIVE
    assert session.raw(*part) == Rv.OPERATION_NOT_INITIALIZED


@pytest.mark.parametrize("cancel", ["null", "flag"])
def test_operations_are_cancelled(session: Session, aes: int, cancel: str) -> None:
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    buffer, length = create_string_buffer(64), c_ulong(64)
    session.call("C_EncryptUpdate", bytes(16), 16, buffer, byref(length))
    with pytest.raises(CkError, match="OPERATION_ACTIVE"):
        session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    if cancel == "null":
        session.call("C_EncryptInit", None, 0)
    else:
        session.call("C_SessionCancel", 0x100)
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.call("C_SessionCancel", 0x100)


def test_operations_of_different_usages_run_side_by_side(
    session: Session, aes: int, mac: int
) -> None:
    data = os.urandom(100)
    session.begin("Encrypt", Mechanism.AES_CTR, aes, ctr(IV))
    session.begin("Digest", Mechanism.SHA256)
    session.begin("Sign", Mechanism.SHA256_HMAC, mac)
    output, length = create_string_buffer(200), c_ulong(200)
    session.call("C_EncryptUpdate", data, 100, output, byref(length))
    session.call("C_DigestUpdate", data, 100)
    session.call("C_SignUpdate", data, 100)
    assert session.output("C_SignFinal") == hmac.digest(KEY, data, "sha256")
    assert session.output("C_DigestFinal") == hashlib.sha256(data).digest()
    assert output.raw[: length.value] + session.output("C_EncryptFinal") == reference(
        modes.CTR(IV), data
    )


def ctr(block: bytes, bits: int = 128) -> bytes:
    """CK_AES_CTR_PARAMS."""
    return bits.to_bytes(8, "little") + block


@pytest.mark.parametrize("in_place", [False, True])
def test_dual_operations(session: Session, aes: int, mac: int, in_place: bool) -> None:
    data = os.urandom(96)
    encrypted = reference(modes.CBC(IV), data)
    tag = hmac.digest(KEY, data, "sha256")

    def run(function: str, given: bytes) -> bytes:
        buffer = create_string_buffer(given, len(given))
        target = buffer if in_place else create_string_buffer(len(given))
        length = c_ulong(len(given))
        session.call(function, buffer, len(given), target, byref(length))
        return target.raw[: length.value]

    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.begin("Digest", Mechanism.SHA256)
    assert run("C_DigestEncryptUpdate", data) == encrypted
    assert session.output("C_EncryptFinal") == b""
    assert session.output("C_DigestFinal") == hashlib.sha256(data).digest()

    session.begin("Decrypt", Mechanism.AES_CBC, aes, IV)
    session.begin("Digest", Mechanism.SHA256)
    assert run("C_DecryptDigestUpdate", encrypted) == data
    assert session.output("C_DecryptFinal") == b""
    assert session.output("C_DigestFinal") == hashlib.sha256(data).digest()

    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.begin("Sign", Mechanism.SHA256_HMAC, mac)
    assert run("C_SignEncryptUpdate", data) == encrypted
    session.output("C_EncryptFinal")
    assert session.output("C_SignFinal") == tag

    session.begin("Decrypt", Mechanism.AES_CBC, aes, IV)
    session.begin("Verify", Mechanism.SHA256_HMAC, mac)
    assert run("C_DecryptVerifyUpdate", encrypted) == data
    session.output("C_DecryptFinal")
    session.call("C_VerifyFinal", tag, len(tag))


def test_a_digest_is_saved_and_goes_on_in_another_session(session: Session) -> None:
    with pytest.raises(CkError, match="OPERATION_NOT_INITIALIZED"):
        session.output("C_GetOperationState")
    session.begin("Digest", Mechanism.SHA512)
    session.call("C_DigestUpdate", b"first ", 6)
    state = session.output("C_GetOperationState")
    other = session.library.open_session(session.library.slot("web"))
    other.call("C_SetOperationState", state, len(state), 0, 0)
    for one in (session, other):
        one.call("C_DigestUpdate", b"second", 6)
        assert one.output("C_DigestFinal") == hashlib.sha512(b"first second").digest()
    forged = state[:-1] + bytes([state[-1] ^ 1])
    for bad in (forged, state[:20], b"x" * 40):
        code = other.raw("C_SetOperationState", bad, len(bad), 0, 0)
        assert code == Rv.SAVED_STATE_INVALID


def test_a_keyed_operation_is_not_saved(session: Session, aes: int) -> None:
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    with pytest.raises(CkError, match="STATE_UNSAVEABLE"):
        session.output("C_GetOperationState")
    session.call("C_SessionCancel", 0x100)


def test_the_value_of_a_key_is_digested(session: Session, mac: int) -> None:
    session.begin("Digest", Mechanism.SHA256)
    session.call("C_DigestKey", mac)
    assert session.output("C_DigestFinal") == hashlib.sha256(KEY).digest()


def test_signatures_verified_by_the_functions_of_3_2(session: Session, mac: int) -> None:
    tag = hmac.digest(KEY, b"one two", "sha256")
    mechanism = c_mechanism(Mechanism.SHA256_HMAC)
    begin = ("C_VerifySignatureInit", byref(mechanism), mac, tag, len(tag))
    session.call(*begin)
    session.call("C_VerifySignature", b"one two", 7)
    session.call(*begin)
    session.call("C_VerifySignatureUpdate", b"one ", 4)
    session.call("C_VerifySignatureUpdate", b"two", 3)
    session.call("C_VerifySignatureFinal")
    session.call(*begin)
    assert session.raw("C_VerifySignature", b"one too", 7) == Rv.SIGNATURE_INVALID
    assert session.raw("C_VerifySignature", b"one", 3) == Rv.OPERATION_NOT_INITIALIZED


def test_an_init_asks_the_module_before_anything_is_sent(session: Session, aes: int) -> None:
    cases = [
        (Mechanism.AES_CBC, aes, IV[:15], Rv.MECHANISM_PARAM_INVALID),
        (Mechanism.AES_CBC, 77777, IV, Rv.KEY_HANDLE_INVALID),
        (Mechanism.RSA_PKCS_PSS, aes, bytes(24), Rv.MECHANISM_INVALID),
        (0x8000_4711, aes, None, Rv.MECHANISM_INVALID),
    ]
    for mechanism, key, parameter, expected in cases:
        with pytest.raises(CkError) as caught:
            session.begin("Encrypt", mechanism, key, parameter)
        assert caught.value.code in (expected, Rv.KEY_TYPE_INCONSISTENT)
    session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.call("C_SessionCancel", 0x100)


def test_a_changed_policy_of_a_key_is_seen_by_the_next_init(session: Session, aes: int) -> None:
    session.once("Encrypt", Mechanism.AES_CBC, bytes(16), key=aes, parameter=IV)
    session.call("C_SetAttributeValue", aes, c_template({Attribute.ENCRYPT: False}), 1)
    with pytest.raises(CkError, match="KEY_FUNCTION_NOT_PERMITTED"):
        session.begin("Encrypt", Mechanism.AES_CBC, aes, IV)
    session.destroy(aes)
    with pytest.raises(CkError, match="KEY_HANDLE_INVALID"):
        session.begin("Decrypt", Mechanism.AES_CBC, aes, IV)


class Message:
    """CK_GCM_MESSAGE_PARAMS with its buffers."""

    def __init__(self, iv: bytes, tag: bytes = bytes(16), generator: int = 0) -> None:
        self.iv = create_string_buffer(iv, len(iv))
        self.tag = create_string_buffer(tag, len(tag))
        self.parameters = GcmMessageParams(
            ctypes.addressof(self.iv),
            len(iv),
            0,
            generator,
            ctypes.addressof(self.tag),
            8 * len(tag),
        )

    def arguments(self) -> tuple[object, int]:
        return byref(self.parameters), ctypes.sizeof(self.parameters)


def encrypt_message(session: Session, message: Message, aad: bytes, data: bytes) -> bytes:
    buffer, length = create_string_buffer(max(len(data), 1)), c_ulong(len(data))
    session.call(
        "C_EncryptMessage",
        *message.arguments(),
        aad,
        len(aad),
        data,
        len(data),
        buffer,
        byref(length),
    )
    return buffer.raw[: length.value]


def test_messages_of_gcm_with_the_callers_iv(session: Session, aes: int) -> None:
    session.begin("MessageEncrypt", Mechanism.AES_GCM, aes)
    session.begin("MessageDecrypt", Mechanism.AES_GCM, aes)
    for number in range(3):
        iv, data = number.to_bytes(12, "big"), os.urandom(100 * number)
        message = Message(iv)
        encrypted = encrypt_message(session, message, b"aad", data)
        assert encrypted + message.tag.raw == AESGCM(KEY).encrypt(iv, data, b"aad")
        buffer, length = create_string_buffer(512), c_ulong(512)
        tail = (encrypted, len(encrypted), buffer, byref(length))
        session.call("C_DecryptMessage", *message.arguments(), b"aad", 3, *tail)
        assert buffer.raw[: length.value] == data
        code = session.raw("C_DecryptMessage", *message.arguments(), b"bad", 3, *tail)
        assert code == Rv.AEAD_DECRYPT_FAILED
    session.call("C_MessageEncryptFinal")
    session.call("C_MessageDecryptFinal")
    assert session.raw("C_MessageEncryptFinal") == Rv.OPERATION_NOT_INITIALIZED


def test_messages_of_gcm_with_the_modules_iv(session: Session, aes: int) -> None:
    generate = 1
    session.begin("MessageEncrypt", Mechanism.AES_GCM, aes)
    seen = set()
    for _ in range(20):
        message = Message(bytes(12), generator=generate)
        encrypted = encrypt_message(session, message, b"", b"same")
        assert AESGCM(KEY).decrypt(message.iv.raw, encrypted + message.tag.raw, b"") == b"same"
        seen.add(message.iv.raw)
    assert len(seen) == 20
    session.call("C_MessageEncryptFinal")


def test_messages_of_gcm_in_parts(session: Session, aes: int) -> None:
    iv, data, aad = os.urandom(12), os.urandom(1000), b"parts"
    expected = AESGCM(KEY).encrypt(iv, data, aad)
    message = Message(iv)
    session.begin("MessageEncrypt", Mechanism.AES_GCM, aes)
    session.call("C_EncryptMessageBegin", *message.arguments(), aad, len(aad))
    output = b""
    for begin, end, flags in ((0, 1, 0), (1, 500, 0), (500, 1000, Flag.END_OF_MESSAGE)):
        piece = data[begin:end]
        buffer, length = create_string_buffer(len(piece)), c_ulong(len(piece))
        tail = (piece, len(piece), buffer, byref(length), int(flags))
        session.call("C_EncryptMessageNext", *message.arguments(), *tail)
        output += buffer.raw[: length.value]
    assert output + message.tag.raw == expected
    session.call("C_MessageEncryptFinal")

    session.begin("MessageDecrypt", Mechanism.AES_GCM, aes)
    session.call("C_DecryptMessageBegin", *message.arguments(), aad, len(aad))
    buffer, length = create_string_buffer(1000), c_ulong(1000)
    first = (output[:300], 300, buffer, byref(length), 0)
    session.call("C_DecryptMessageNext", *message.arguments(), *first)
    assert length.value == 0
    for room, expected_code in ((999, Rv.BUFFER_TOO_SMALL), (1000, Rv.OK)):
        length.value = room
        rest = (output[300:], 700, buffer, byref(length), int(Flag.END_OF_MESSAGE))
        code = session.raw("C_DecryptMessageNext", *message.arguments(), *rest)
        assert (code, length.value) == (expected_code, 1000)
    assert buffer.raw == data
    session.call("C_MessageDecryptFinal")


def test_messages_are_signed_and_verified(session: Session, mac: int) -> None:
    session.begin("MessageSign", Mechanism.SHA256_HMAC, mac)
    session.begin("MessageVerify", Mechanism.SHA256_HMAC, mac)
    for data in (b"", b"one", os.urandom(20_000)):
        tag = session.output("C_SignMessage", None, 0, data, len(data))
        assert tag == hmac.digest(KEY, data, "sha256")
        verify = ("C_VerifyMessage", None, 0, data, len(data))
        session.call(*verify, tag, len(tag))
        assert session.raw(*verify, bytes(32), 32) == Rv.SIGNATURE_INVALID
    session.call("C_SignMessageBegin", None, 0)
    session.call("C_SignMessageNext", None, 0, b"in ", 3, None, None)
    assert session.output("C_SignMessageNext", None, 0, b"parts", 5) == hmac.digest(
        KEY, b"in parts", "sha256"
    )
    session.call("C_MessageSignFinal")
    session.call("C_MessageVerifyFinal")
