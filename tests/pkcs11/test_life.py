"""Forks, threads, and a module that goes away and comes back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from ctypes import byref, c_ulong, create_string_buffer

import pytest

from tests.pkcs11.conftest import loaded
from tests.pkcs11.constants import Attribute, Class, Flag, Mechanism, Rv
from tests.pkcs11.cryptoki import CkError, Cryptoki, Session
from tests.running_module import RunningModule

DIGEST = bytes(range(32))


def in_child(act: Callable[[], None]) -> None:
    """Run `act` in a forked child; fail if it raises there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            act()
            os.write(writing, b"good")
        except BaseException as error:
            os.write(writing, repr(error).encode()[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    said = b""
    while part := os.read(reading, 4096):
        said += part
    os.close(reading)
    os.waitpid(child, 0)
    assert said == b"good", said.decode()


def test_a_child_goes_on_with_its_parents_handles(session: Session) -> None:
    public, private = session.p256(b"inherited", token=True)

    def child() -> None:
        signature = session.sign(Mechanism.ECDSA, private, DIGEST)
        session.verify(Mechanism.ECDSA, public, DIGEST, signature)
        assert session.find({Attribute.LABEL: b"inherited", Attribute.CLASS: Class.PRIVATE_KEY})

    session.sign(Mechanism.ECDSA, private, DIGEST)
    in_child(child)
    in_child(lambda: in_child(child))
    child()
    for handle in (public, private):
        session.destroy(handle)


def test_session_objects_are_the_parents(session: Session) -> None:
    _, private = session.p256(b"mine")

    def child() -> None:
        with pytest.raises(CkError) as caught:
            session.sign(Mechanism.ECDSA, private, DIGEST)
        assert caught.value.code == Rv.KEY_HANDLE_INVALID

    in_child(child)
    session.sign(Mechanism.ECDSA, private, DIGEST)


def test_a_child_may_initialise_once(library: Cryptoki) -> None:
    def child() -> None:
        assert library.raw("C_Initialize", None) == Rv.OK
        assert library.raw("C_Initialize", None) == Rv.CRYPTOKI_ALREADY_INITIALIZED
        assert library.slots()

    in_child(child)
    assert library.raw("C_Initialize", None) == Rv.CRYPTOKI_ALREADY_INITIALIZED


def test_a_child_that_finalises_leaves_its_parent_alone(session: Session) -> None:
    _, private = session.p256()
    in_child(lambda: session.library.call("C_Finalize", None))
    session.sign(Mechanism.ECDSA, private, DIGEST)


def test_forks_while_other_threads_sign(library: Cryptoki) -> None:
    slot = library.slot("web")
    maker = library.open_session(slot)
    public, private = maker.p256(b"busy", token=True)
    stop = threading.Event()
    failures: list[BaseException] = []

    def sign() -> None:
        mine = library.open_session(slot)
        try:
            while not stop.is_set():
                mine.sign(Mechanism.ECDSA, private, DIGEST)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=sign) for _ in range(3)]
    for thread in threads:
        thread.start()

    def child() -> None:
        for _ in range(3):
            fresh = library.open_session(slot)
            signature = fresh.sign(Mechanism.ECDSA, private, DIGEST)
            fresh.verify(Mechanism.ECDSA, public, DIGEST, signature)

    for _ in range(10):
        in_child(child)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    for handle in (public, private):
        maker.destroy(handle)


def test_many_threads_share_one_session_and_have_their_own(library: Cryptoki) -> None:
    slot = library.slot("web")
    shared = library.open_session(slot)
    public, private = shared.p256()
    failures: list[BaseException] = []
    lock = threading.Lock()

    def work(own: Session) -> None:
        try:
            for _ in range(50):
                signature = own.sign(Mechanism.ECDSA, private, DIGEST)
                own.verify(Mechanism.ECDSA, public, DIGEST, signature)
                with lock:
                    shared.sign(Mechanism.ECDSA, private, DIGEST)
                own.attribute(public, Attribute.EC_POINT)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(library.open_session(slot),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_thread_with_a_small_stack_opens_sessions(library: Cryptoki) -> None:
    slot = library.slot("web")
    opened: list[Session] = []

    def work() -> None:
        # More than a chunk of the session table: it grows here.
        opened.extend(library.open_session(slot) for _ in range(300))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(opened) == 300
    library.call("C_CloseAllSessions", slot)


def test_unserialised_use_of_one_session_gives_codes_not_crashes(session: Session) -> None:
    _, private = session.p256()
    seen: set[int] = set()

    def work() -> None:
        for _ in range(200):
            buffer, length = create_string_buffer(64), c_ulong(64)
            try:
                session.begin("Sign", Mechanism.ECDSA, private)
            except CkError as error:
                seen.add(error.code)
            seen.add(session.raw("C_Sign", DIGEST, 32, buffer, byref(length)))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen <= {Rv.OK, Rv.OPERATION_ACTIVE, Rv.OPERATION_NOT_INITIALIZED}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restarted_module_is_found_again(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    with loaded(own_module, monkeypatch) as library:
        session = library.open_session(library.slot("own"))
        public, private = session.p256(b"durable", token=True)
        _, short_lived = session.p256(b"gone")
        session.begin("Sign", Mechanism.ECDSA, private)
        own_module.kill() if how == signal.SIGKILL else own_module.stop()
        own_module.start()
        # What had been begun is a whole operation in one message: it is simply sent again.
        signature = session.output("C_Sign", DIGEST, len(DIGEST))
        session.verify(Mechanism.ECDSA, public, DIGEST, signature)
        assert session.find({Attribute.LABEL: b"durable", Attribute.CLASS: Class.PRIVATE_KEY}) == [
            private
        ]
        # Nor does the old handle name what is made now.
        assert short_lived not in [session.p256()[1] for _ in range(5)]
        with pytest.raises(CkError) as caught:
            session.sign(Mechanism.ECDSA, short_lived, DIGEST)
        assert caught.value.code == Rv.KEY_HANDLE_INVALID
        assert session.info().flags & Flag.RW_SESSION


def test_threads_live_through_restarts_under_load(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(own_module, monkeypatch) as library:
        slot = library.slot("own")
        public, private = library.open_session(slot).p256(token=True)
        stop = threading.Event()
        codes: dict[int, int] = {}
        failures: list[BaseException] = []

        def work() -> None:
            mine = library.open_session(slot)
            try:
                while not stop.is_set():
                    try:
                        signature = mine.sign(Mechanism.ECDSA, private, DIGEST)
                        mine.verify(Mechanism.ECDSA, public, DIGEST, signature)
                        codes[0] = codes.get(0, 0) + 1
                    except CkError as error:
                        codes[error.code] = codes.get(error.code, 0) + 1
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(0.2)
            own_module.kill()
            own_module.start()
        before = codes[0]
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join(timeout=30)
        assert not failures
        assert not any(thread.is_alive() for thread in threads)
        assert codes[0] > before
        # A signature changes nothing: it is repeated, and no caller hears of the restart.
        assert codes.keys() == {0}


def test_without_its_module_a_call_ends_and_says_so(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CASEMATE_RECONNECT_SECONDS", "0")
    with loaded(own_module, monkeypatch) as library:
        slot = library.slot("own")
        session = library.open_session(slot)
        _, private = session.p256(token=True)
        slot_events(library)
        own_module.kill()
        begin = time.monotonic()
        with pytest.raises(CkError) as caught:
            session.sign(Mechanism.ECDSA, private, DIGEST)
        assert caught.value.code == Rv.DEVICE_REMOVED
        assert time.monotonic() - begin < 2
        assert slot_events(library) == [slot]
        assert slot not in library.slots()
        session.call("C_CloseSession")


def slot_events(library: Cryptoki) -> list[int]:
    """The slots whose events have not been told yet."""
    slots, slot = [], c_ulong()
    while library.raw("C_WaitForSlotEvent", int(Flag.DONT_BLOCK), byref(slot), None) == Rv.OK:
        slots.append(slot.value)
    return slots


def test_waiting_for_a_slot_event_ends_with_finalisation(
    own_module: RunningModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[int] = []
    with loaded(own_module, monkeypatch) as library:
        slot = c_ulong()
        slot_events(library)
        waiter = threading.Thread(
            target=lambda: results.append(library.raw("C_WaitForSlotEvent", 0, byref(slot), None))
        )
        waiter.start()
        time.sleep(0.1)
        assert waiter.is_alive()
    waiter.join(timeout=5)
    assert results == [Rv.CRYPTOKI_NOT_INITIALIZED]
