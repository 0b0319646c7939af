"""Asynchronous sessions: calls in flight, taken back by C_AsyncComplete, or by nobody."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_ulong, create_string_buffer

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casemate.hsm.proxy import Proxy, listen
from tests.pkcs11.conftest import loaded
from tests.pkcs11.constants import Attribute, Class, Flag, KeyType, Mechanism, Rv
from tests.pkcs11.cryptoki import (
    LIBRARY,
    AsyncData,
    Cryptoki,
    Session,
    Template,
    c_mechanism,
    c_template,
    gcm,
)
from tests.pkcs11.test_life import in_child
from tests.running_module import RunningModule

DIGEST = bytes(range(32))
IV = bytes(range(12))
AES: Template = {
    Attribute.CLASS: Class.SECRET_KEY,
    Attribute.KEY_TYPE: KeyType.AES,
    Attribute.VALUE: bytes(32),
    Attribute.ENCRYPT: True,
    Attribute.DECRYPT: True,
}
RSA_PUBLIC: Template = {Attribute.MODULUS_BITS: 2048, Attribute.PUBLIC_EXPONENT: b"\x01\x00\x01"}


def asynchronous(library: Cryptoki, name: str = "web") -> Session:
    return library.open_session(library.slot(name), Flag.RW_SESSION | Flag.ASYNC_SESSION)


@pytest.fixture
def session(library: Cryptoki) -> Session:
    return asynchronous(library)


def ask(session: Session, name: str) -> tuple[int, AsyncData]:
    """C_AsyncComplete, once."""
    data = AsyncData()
    return session.raw("C_AsyncComplete", name.encode(), byref(data)), data


def complete(session: Session, name: str) -> tuple[int, AsyncData]:
    """C_AsyncComplete until it says something else than CKR_PENDING."""
    end = time.monotonic() + 30
    code, data = ask(session, name)
    while code == Rv.PENDING and time.monotonic() < end:
        code, data = ask(session, name)
    return code, data


def depart(session: Session, key: int, buffer: ctypes.Array[ctypes.c_char], iv: bytes) -> None:
    """Leave the encryption of the buffer's content in place (16 bytes less) in flight."""
    session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(iv))
    length = c_ulong(len(buffer))
    code = session.raw("C_Encrypt", buffer, len(buffer) - 16, buffer, byref(length))
    assert code == Rv.PENDING


@contextmanager
def halted(module: RunningModule, key: int, *sessions: Session) -> Iterator[None]:
    """Stop the module's process: what is sent stays in flight.

    Each session encrypts once before: from then on C_EncryptInit needs no answer.
    """
    for session in sessions:
        depart(session, key, create_string_buffer(16), IV)
        assert complete(session, "C_Encrypt")[0] == Rv.OK
    assert module.process is not None
    module.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, module.process.pid, os.WSTOPPED)
    try:
        yield
    finally:
        if module.process is not None:
            module.process.send_signal(signal.SIGCONT)


def test_the_token_and_the_session_say_that_they_are_asynchronous(
    library: Cryptoki, session: Session
) -> None:
    flags = library.token(library.slot("web")).flags
    assert flags & Flag.ASYNC_SESSION_SUPPORTED
    assert session.info().flags & Flag.ASYNC_SESSION


def test_a_synchronous_session_has_none_of_it(library: Cryptoki) -> None:
    plain = library.open_session(library.slot("web"))
    data, number = AsyncData(), c_ulong()
    expected = Rv.SESSION_ASYNC_NOT_SUPPORTED
    assert plain.raw("C_AsyncComplete", b"C_Sign", byref(data)) == expected
    assert plain.raw("C_AsyncGetID", b"C_Sign", byref(number)) == expected
    assert plain.raw("C_AsyncJoin", b"C_Sign", 1, None, 0) == expected


def test_sixteen_encryptions_in_flight_in_place(library: Cryptoki) -> None:
    sessions = [asynchronous(library) for _ in range(16)]
    key = sessions[0].create(AES)
    for turn in range(3):
        messages = [bytes([number, turn]) * 2048 for number in range(16)]
        buffers = [create_string_buffer(message, 4096 + 16) for message in messages]
        ivs = [bytes([turn, number]) + bytes(10) for number in range(16)]
        for one, buffer, iv in zip(sessions, buffers, ivs, strict=True):
            depart(one, key, buffer, iv)
        for one, buffer, iv, message in zip(sessions, buffers, ivs, messages, strict=True):
            code, data = complete(one, "C_Encrypt")
            assert code == Rv.OK
            assert (data.value, data.length) == (ctypes.addressof(buffer), 4112)
            assert buffer.raw == AESGCM(bytes(32)).encrypt(iv, message, b"")


def test_every_function_of_one_session_in_flight_at_once(session: Session) -> None:
    key = session.create(AES)
    with_key = AESGCM(bytes(32))
    # Made before anything is in flight: this, too, is a call that comes back later.
    public, private = p256(session)
    sealed = with_key.encrypt(IV, b"sealed", b"")
    buffers = {name: create_string_buffer(64) for name in ("Encrypt", "Decrypt", "Sign", "Digest")}
    inputs = {"Encrypt": b"plain", "Decrypt": sealed, "Sign": DIGEST, "Digest": b"abc"}
    session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(IV))
    session.begin("Decrypt", Mechanism.AES_GCM, key, gcm(IV))
    session.begin("Sign", Mechanism.ECDSA, private)
    session.begin("Digest", Mechanism.SHA256)
    for name, buffer in buffers.items():
        length = c_ulong(64)
        code = session.raw(f"C_{name}", inputs[name], len(inputs[name]), buffer, byref(length))
        assert code == Rv.PENDING
    outputs = {}
    for name, buffer in reversed(buffers.items()):
        code, data = complete(session, f"C_{name}")
        assert code == Rv.OK
        outputs[name] = buffer.raw[: data.length]
    assert outputs["Encrypt"] == with_key.encrypt(IV, b"plain", b"")
    assert outputs["Decrypt"] == b"sealed"
    assert outputs["Digest"].hex().startswith("ba7816bf")
    session.begin("Verify", Mechanism.ECDSA, public)
    assert session.raw("C_Verify", DIGEST, 32, outputs["Sign"], 64) == Rv.PENDING
    assert complete(session, "C_Verify")[0] == Rv.OK
    session.begin("Verify", Mechanism.ECDSA, public)
    assert session.raw("C_Verify", DIGEST, 32, bytes(64), 64) == Rv.PENDING
    assert complete(session, "C_Verify")[0] == Rv.SIGNATURE_INVALID


def p256(session: Session) -> tuple[int, int]:
    """A P-256 pair, made in flight."""
    public: Template = {
        Attribute.EC_PARAMS: bytes.fromhex("06082a8648ce3d030107"),
        Attribute.VERIFY: True,
    }
    assert generate_pair(session, Mechanism.EC_KEY_PAIR_GEN, public) == Rv.PENDING
    code, data = complete(session, "C_GenerateKeyPair")
    assert code == Rv.OK
    return data.object, data.additional


def generate_pair(session: Session, mechanism: int, public: Template) -> int:
    private: Template = {Attribute.SIGN: True}
    return session.raw(
        "C_GenerateKeyPair",
        byref(c_mechanism(mechanism)),
        c_template(public),
        len(public),
        c_template(private),
        len(private),
        byref(c_ulong()),
        byref(c_ulong()),
    )


def test_keys_are_made_and_unwrapped_in_flight(session: Session) -> None:
    template: Template = {
        Attribute.WRAP: True,
        Attribute.UNWRAP: True,
        Attribute.EXTRACTABLE: True,
        Attribute.VALUE_LEN: 32,
    }

    def generate() -> int:
        kind, handle = byref(c_mechanism(Mechanism.AES_KEY_GEN)), byref(c_ulong())
        code = session.raw("C_GenerateKey", kind, c_template(template), len(template), handle)
        assert code == Rv.PENDING
        code, data = complete(session, "C_GenerateKey")
        assert code == Rv.OK
        return int(data.object)

    wrapper, key = generate(), generate()
    mechanism = byref(c_mechanism(Mechanism.AES_KEY_WRAP_KWP))
    wrapped = session.output("C_WrapKey", mechanism, wrapper, key)
    inner: Template = {Attribute.CLASS: Class.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES}
    code = session.raw(
        "C_UnwrapKey",
        mechanism,
        wrapper,
        wrapped,
        len(wrapped),
        c_template(inner),
        len(inner),
        byref(c_ulong()),
    )
    assert code == Rv.PENDING
    code, data = complete(session, "C_UnwrapKey")
    assert code == Rv.OK
    assert session.attribute(data.object, Attribute.CLASS)[0] == Class.SECRET_KEY


def test_a_module_that_refuses_says_so_at_completion(session: Session) -> None:
    key = session.create(AES)
    session.begin("Decrypt", Mechanism.AES_GCM, key, gcm(IV))
    buffer, length = create_string_buffer(64), c_ulong(64)
    assert session.raw("C_Decrypt", bytes(32), 32, buffer, byref(length)) == Rv.PENDING
    code, data = complete(session, "C_Decrypt")
    assert code in (Rv.ENCRYPTED_DATA_INVALID, Rv.AEAD_DECRYPT_FAILED)
    assert data.value == ctypes.addressof(buffer)
    assert data.length == 0
    # The operation has ended.
    assert session.raw("C_AsyncComplete", b"C_Decrypt", byref(data)) == Rv.OPERATION_NOT_INITIALIZED
    session.begin("Decrypt", Mechanism.AES_GCM, key, gcm(IV))


def test_a_buffer_that_is_too_small_is_told_at_once(session: Session) -> None:
    key = session.create(AES)
    session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(IV))
    data = b"x" * 100
    for room in (0, 50, 115):
        length = c_ulong(room)
        buffer = create_string_buffer(max(room, 1))
        code = session.raw("C_Encrypt", data, len(data), buffer, byref(length))
        assert (code, length.value) == (Rv.BUFFER_TOO_SMALL, 116)
    length = c_ulong()
    assert session.raw("C_Encrypt", data, len(data), None, byref(length)) == Rv.OK
    assert length.value == 116
    buffer = create_string_buffer(116)
    assert session.raw("C_Encrypt", data, len(data), buffer, byref(length)) == Rv.PENDING
    assert complete(session, "C_Encrypt")[0] == Rv.OK
    assert buffer.raw == AESGCM(bytes(32)).encrypt(IV, data, b"")
    _, private = p256(session)
    session.begin("Sign", Mechanism.ECDSA, private)
    length = c_ulong(63)
    assert session.raw("C_Sign", DIGEST, 32, buffer, byref(length)) == Rv.BUFFER_TOO_SMALL
    assert length.value == 64
    assert session.raw("C_Sign", DIGEST, 32, buffer, byref(length)) == Rv.PENDING
    assert complete(session, "C_Sign")[0] == Rv.OK


def test_what_is_in_flight_is_active_and_undisturbed(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        session = asynchronous(library, "own")
        key = session.create(AES)
        buffer = create_string_buffer(b"message", 7 + 16)
        with halted(own_module, key, session):
            depart(session, key, buffer, IV)
            mechanism = byref(c_mechanism(Mechanism.AES_GCM, gcm(IV)))
            length = c_ulong(64)
            other = create_string_buffer(64)
            for name, arguments in (
                ("C_EncryptInit", (mechanism, key)),
                ("C_Encrypt", (b"x", 1, other, byref(length))),
                ("C_EncryptUpdate", (b"x", 1, other, byref(length))),
                ("C_EncryptFinal", (other, byref(length))),
            ):
                assert session.raw(name, *arguments) == Rv.OPERATION_ACTIVE
            for _ in range(3):
                code, data = ask(session, "C_Encrypt")
                assert (code, data.value) == (Rv.PENDING, None)
            # Not this function, no such function, no structure, a structure of a later version.
            for which, version, expected in (
                (b"C_Decrypt", 0, Rv.OPERATION_NOT_INITIALIZED),
                (b"C_Nonsense" * 9, 0, Rv.OPERATION_NOT_INITIALIZED),
                (b"C_Encrypt", 1, Rv.ARGUMENTS_BAD),
            ):
                data = AsyncData(version=version)
                assert session.raw("C_AsyncComplete", which, byref(data)) == expected
            assert session.raw("C_AsyncComplete", b"C_Encrypt", None) == Rv.ARGUMENTS_BAD
            assert session.raw("C_AsyncComplete", None, byref(data)) == Rv.ARGUMENTS_BAD
            # It does not outlive its session, so it has no identifier.
            number = c_ulong()
            assert session.raw("C_AsyncGetID", b"C_Encrypt", byref(number)) == Rv.STATE_UNSAVEABLE
            expected = Rv.OPERATION_NOT_INITIALIZED
            assert session.raw("C_AsyncGetID", b"C_Sign", byref(number)) == expected
            code = session.raw("C_AsyncJoin", b"C_Encrypt", 1, buffer, 23)
            assert code == Rv.SAVED_STATE_INVALID
        assert complete(session, "C_Encrypt")[0] == Rv.OK
        assert buffer.raw == AESGCM(bytes(32)).encrypt(IV, b"message", b"")


def test_a_cancelled_call_never_writes_its_buffer(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        session = asynchronous(library, "own")
        key = session.create(AES)
        buffers = [create_string_buffer(b"kept", 4 + 16) for _ in range(3)]
        with halted(own_module, key, session):
            depart(session, key, buffers[0], IV)
            session.call("C_SessionCancel", int(Flag.SIGN))
            assert ask(session, "C_Encrypt")[0] == Rv.PENDING
            session.call("C_SessionCancel", int(Flag.ENCRYPT))
            assert ask(session, "C_Encrypt")[0] == Rv.OPERATION_NOT_INITIALIZED
            depart(session, key, buffers[1], IV)
            session.call("C_EncryptInit", None, key)
            depart(session, key, buffers[2], IV)
        assert complete(session, "C_Encrypt")[0] == Rv.OK
        assert [buffer.raw[:4] for buffer in buffers[:2]] == [b"kept", b"kept"]
        assert buffers[2].raw == AESGCM(bytes(32)).encrypt(IV, b"kept", b"")


def test_closed_sessions_give_their_places_in_the_ring_back(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        other = asynchronous(library, "own")
        key = other.create(AES)
        # Ten times more than the ring has slots, large messages (a bulk region each) among them.
        for turn in range(40):
            sessions = [asynchronous(library, "own") for _ in range(16)]
            size = 40_000 if turn % 8 == 0 else 64
            buffers = [create_string_buffer(size) for _ in sessions[: 4 if size > 64 else 16]]
            for session, buffer in zip(sessions, buffers, strict=False):
                depart(session, key, buffer, IV)
            for session in sessions:
                session.call("C_CloseSession")
        buffer = create_string_buffer(b"after", 5 + 16)
        depart(other, key, buffer, IV)
        assert complete(other, "C_Encrypt")[0] == Rv.OK


def test_more_calls_than_the_ring_has_places(library: Cryptoki) -> None:
    sessions = [asynchronous(library) for _ in range(80)]
    key = sessions[0].create(AES)
    buffers = [create_string_buffer(b"many", 4 + 16) for _ in sessions]
    codes = []
    for session, buffer in zip(sessions, buffers, strict=True):
        session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(IV))
        codes.append(session.raw("C_Encrypt", buffer, 4, buffer, byref(c_ulong(20))))
    # Those that find no place are done before they return; nobody waits for ever.
    assert codes.count(Rv.PENDING) == 48
    assert codes.count(Rv.OK) == 32
    for session, code in zip(sessions, codes, strict=True):
        if code == Rv.PENDING:
            assert complete(session, "C_Encrypt")[0] == Rv.OK
    expected = AESGCM(bytes(32)).encrypt(IV, b"many", b"")
    assert [buffer.raw for buffer in buffers] == [expected] * 80


def test_large_messages_in_flight_leave_room_for_those_that_are_waited_for(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        sessions = [asynchronous(library, "own") for _ in range(9)]
        key = sessions[0].create(AES)
        buffers = [create_string_buffer(bytes(100_000), 100_016) for _ in sessions]
        codes = []
        for session, buffer in zip(sessions, buffers, strict=True):
            session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(IV))
            length = byref(c_ulong(100_016))
            codes.append(session.raw("C_Encrypt", buffer, 100_000, buffer, length))
        assert codes == [Rv.PENDING] * 6 + [Rv.OK] * 3
        for session in sessions[:6]:
            assert complete(session, "C_Encrypt")[0] == Rv.OK
        expected = AESGCM(bytes(32)).encrypt(IV, bytes(100_000), b"")
        assert [buffer.raw for buffer in buffers] == [expected] * 9


def test_behind_a_proxy_every_call_is_done_when_it_returns(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_module.base / "guest" / "own"
    folder.mkdir(parents=True, mode=0o700)
    proxy = Proxy(listen(folder / "hsm.sock"), own_module.socket("own"))
    thread = threading.Thread(target=proxy.run)
    thread.start()
    monkeypatch.setenv("CASEMATE_SOCKETS", str(folder.parent))
    monkeypatch.setenv("CASEMATE_RUNTIME", str(folder.parent))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own_module.base))
    with Cryptoki(LIBRARY) as library:
        session = asynchronous(library, "own")
        key = session.create(AES)
        session.begin("Encrypt", Mechanism.AES_GCM, key, gcm(IV))
        buffer = create_string_buffer(b"guest", 5 + 16)
        assert session.raw("C_Encrypt", buffer, 5, buffer, byref(c_ulong(21))) == Rv.OK
        assert buffer.raw == AESGCM(bytes(32)).encrypt(IV, b"guest", b"")
        assert ask(session, "C_Encrypt")[0] == Rv.OPERATION_NOT_INITIALIZED
    proxy.stop()
    thread.join(timeout=5)


def test_a_key_that_is_being_made_cannot_be_taken_back(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        session = asynchronous(library, "own")
        with halted(own_module, 0):
            assert generate_pair(session, Mechanism.RSA_PKCS_KEY_PAIR_GEN, RSA_PUBLIC) == Rv.PENDING
            flags = int(Flag.GENERATE_KEY_PAIR)
            assert session.raw("C_SessionCancel", flags) == Rv.OPERATION_CANCEL_FAILED
            again = generate_pair(session, Mechanism.RSA_PKCS_KEY_PAIR_GEN, RSA_PUBLIC)
            assert again == Rv.OPERATION_ACTIVE
            # Other calls of the session go on beside it.
        assert session.raw("C_GenerateRandom", create_string_buffer(8), 8) == Rv.OK
        code, data = complete(session, "C_GenerateKeyPair")
        assert code == Rv.OK
        assert session.find({Attribute.CLASS: Class.PRIVATE_KEY}) == [data.additional]


def test_a_session_that_closes_leaves_no_key_behind(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        watcher = library.open_session(library.slot("own"))
        for _ in range(3):
            session = asynchronous(library, "own")
            assert generate_pair(session, Mechanism.RSA_PKCS_KEY_PAIR_GEN, RSA_PUBLIC) == Rv.PENDING
            session.call("C_CloseSession")
        # Two workers: this pair is made after the others have been.
        for _ in range(3):
            watcher.call("C_GenerateRandom", create_string_buffer(8), 8)
        end = time.monotonic() + 20
        pair = asynchronous(library, "own")
        for _ in range(4):
            assert generate_pair(pair, Mechanism.RSA_PKCS_KEY_PAIR_GEN, RSA_PUBLIC) == Rv.PENDING
            assert complete(pair, "C_GenerateKeyPair")[0] == Rv.OK
        pair.call("C_CloseSession")
        while watcher.find({}) and time.monotonic() < end:
            time.sleep(0.05)
        assert watcher.find({}) == []


def test_a_killed_module_is_told_once_and_the_session_lives_on(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        sessions = [asynchronous(library, "own") for _ in range(4)]
        stored: Template = {**AES, Attribute.TOKEN: True}
        key = sessions[0].create(stored)
        buffers = [create_string_buffer(b"lost", 4 + 16) for _ in sessions]
        with halted(own_module, key, *sessions):
            for session, buffer in zip(sessions, buffers, strict=True):
                depart(session, key, buffer, IV)
            assert ask(sessions[0], "C_Encrypt")[0] == Rv.PENDING
            own_module.kill()
        for session, buffer in zip(sessions[:2], buffers, strict=False):
            code, data = complete(session, "C_Encrypt")
            assert (code, data.value) == (Rv.DEVICE_REMOVED, ctypes.addressof(buffer))
            assert buffer.raw[:4] == b"lost"
            assert ask(session, "C_Encrypt")[0] == Rv.OPERATION_NOT_INITIALIZED
        own_module.start()
        # A session that first does something else over its new connection is told all the same.
        sessions[2].call("C_GenerateRandom", create_string_buffer(8), 8)
        assert complete(sessions[2], "C_Encrypt")[0] == Rv.DEVICE_REMOVED
        sessions[3].call("C_CloseSession")
        for session, buffer in zip(sessions[:3], buffers, strict=False):
            depart(session, key, buffer, IV)
            assert complete(session, "C_Encrypt")[0] == Rv.OK


def test_a_forked_child_is_told_that_its_call_is_lost(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        sessions = [asynchronous(library, "own") for _ in range(3)]
        stored: Template = {**AES, Attribute.TOKEN: True}
        key = sessions[0].create(stored)
        buffers = [create_string_buffer(b"fork", 4 + 16) for _ in sessions]
        expected = AESGCM(bytes(32)).encrypt(IV, b"fork", b"")
        with halted(own_module, key, *sessions):
            for session, buffer in zip(sessions, buffers, strict=True):
                depart(session, key, buffer, IV)

            def lost() -> None:
                assert ask(sessions[0], "C_Encrypt")[0] == Rv.DEVICE_REMOVED
                sessions[1].call("C_SessionCancel", int(Flag.ENCRYPT))
                sessions[2].call("C_CloseSession")

            in_child(lost)

        def goes_on() -> None:
            assert ask(sessions[0], "C_Encrypt")[0] == Rv.DEVICE_REMOVED
            buffer = create_string_buffer(b"fork", 4 + 16)
            depart(sessions[0], key, buffer, IV)
            assert complete(sessions[0], "C_Encrypt")[0] == Rv.OK
            assert buffer.raw == expected

        in_child(goes_on)
        for session, buffer in zip(sessions, buffers, strict=True):
            assert complete(session, "C_Encrypt")[0] == Rv.OK
            assert buffer.raw == expected


def test_finalisation_with_calls_in_flight(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        session = asynchronous(library, "own")
        buffer = create_string_buffer(b"last", 4 + 16)
        depart(session, session.create(AES), buffer, IV)
        library.call("C_Finalize", None)
        assert ask(session, "C_Encrypt")[0] == Rv.CRYPTOKI_NOT_INITIALIZED
        library.call("C_Initialize", None)
        assert ask(session, "C_Encrypt")[0] == Rv.SESSION_HANDLE_INVALID
