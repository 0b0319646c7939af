"""Sessions and logins."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from ctypes import byref, c_ulong
from pathlib import Path

import pytest

from tests.pkcs11.conftest import loaded
from tests.pkcs11.constants import Attribute, Class, Flag, Rv, User
from tests.pkcs11.cryptoki import CkError, Cryptoki, Session, c_template
from tests.running_module import RunningModule

SO_PIN, USER_PIN = b"so-pin-1", b"user-pin-1"


def refused(code: Rv) -> pytest.RaisesExc[CkError]:
    return pytest.raises(CkError, match=code.name)


def test_sessions_must_be_serial(library: Cryptoki) -> None:
    slot, handle = library.slot("web"), c_ulong()
    code = library.raw("C_OpenSession", slot, int(Flag.RW_SESSION), None, None, byref(handle))
    assert code == Rv.SESSION_PARALLEL_NOT_SUPPORTED


def test_a_closed_handle_is_never_valid_again(library: Cryptoki) -> None:
    slot = library.slot("web")
    old = library.open_session(slot)
    old.call("C_CloseSession")
    fresh = [library.open_session(slot) for _ in range(5)]
    assert old.handle not in [session.handle for session in fresh]
    assert old.raw("C_CloseSession") == Rv.SESSION_HANDLE_INVALID
    assert old.raw("C_GetSessionInfo", byref(c_ulong())) == Rv.SESSION_HANDLE_INVALID
    for handle in (0, 2**64 - 1, 1 << 40):
        assert library.raw("C_CloseSession", handle) == Rv.SESSION_HANDLE_INVALID


def test_closing_all_sessions_of_a_slot_leaves_the_others(library: Cryptoki) -> None:
    web = [library.open_session(library.slot("web")) for _ in range(3)]
    other = library.open_session(library.slot("db"))
    library.call("C_CloseAllSessions", library.slot("web"))
    assert all(session.raw("C_CloseSession") == Rv.SESSION_HANDLE_INVALID for session in web)
    other.call("C_CloseSession")


def test_more_sessions_than_a_chunk_of_the_table(library: Cryptoki) -> None:
    slot = library.slot("db")
    sessions = [library.open_session(slot) for _ in range(600)]
    assert len({session.handle for session in sessions}) == 600
    assert sessions[-1].info().slot == slot
    library.call("C_CloseAllSessions", slot)


def test_session_objects_end_with_their_session(library: Cryptoki) -> None:
    slot = library.slot("web")
    first, second = library.open_session(slot), library.open_session(slot)
    label = {Attribute.LABEL: b"short-lived"}
    first.create({Attribute.CLASS: Class.DATA, Attribute.VALUE: b"x", **label})
    assert len(second.find(label)) == 1
    first.call("C_CloseSession")
    assert second.find(label) == []


def test_functions_of_the_past_answer_as_the_standard_says(session: Session) -> None:
    assert session.raw("C_GetFunctionStatus") == Rv.FUNCTION_NOT_PARALLEL
    assert session.raw("C_CancelFunction") == Rv.FUNCTION_NOT_PARALLEL


def test_random_bytes_of_every_size(session: Session) -> None:
    import ctypes

    for size in (0, 1, 64, 16 * 1024, 100_001):
        buffer = ctypes.create_string_buffer(size + 1)
        session.call("C_GenerateRandom", buffer, size)
        assert buffer.raw[size] == 0
        if size >= 64:
            assert buffer.raw[:32] != buffer.raw[32:64]
    session.call("C_SeedRandom", b"seed", 4)


@pytest.fixture
def safe(guarded: RunningModule, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cryptoki]:
    """The library with the partition that needs PINs: initialised, with a user PIN."""
    with loaded(guarded, monkeypatch) as library:
        slot = library.slot("safe")
        library.call("C_InitToken", slot, SO_PIN, len(SO_PIN), b"safe".ljust(32))
        session = library.open_session(slot)
        session.login(SO_PIN, User.SO)
        session.call("C_InitPIN", USER_PIN, len(USER_PIN))
        session.call("C_Logout")
        session.call("C_CloseSession")
        yield library


def test_a_login_belongs_to_the_process(safe: Cryptoki) -> None:
    slot = safe.slot("safe")
    first, second = safe.open_session(slot), safe.open_session(slot, 0)
    template = {Attribute.CLASS: Class.DATA, Attribute.PRIVATE: True}
    with refused(Rv.USER_NOT_LOGGED_IN):
        first.create(template)
    first.login(USER_PIN)
    handle = first.create(template)
    assert second.find(template) == [handle]
    with refused(Rv.USER_ALREADY_LOGGED_IN):
        second.login(USER_PIN)
    second.call("C_Logout")
    assert first.find(template) == []


def test_a_wrong_pin_is_refused_and_the_right_one_still_taken(safe: Cryptoki) -> None:
    session = safe.open_session(safe.slot("safe"))
    with refused(Rv.PIN_INCORRECT):
        session.login(b"not-the-pin")
    session.login(USER_PIN)


def test_the_user_may_change_the_pin(safe: Cryptoki) -> None:
    session = safe.open_session(safe.slot("safe"))
    new = b"another-pin-2"
    session.login(USER_PIN)
    session.call("C_SetPIN", USER_PIN, len(USER_PIN), new, len(new))
    session.call("C_Logout")
    with refused(Rv.PIN_INCORRECT):
        session.login(USER_PIN)
    session.login(new)


def rings() -> bytes:
    """The shared memory of this process's connections."""
    content = b""
    with Path("/proc/self/maps").open() as maps, Path("/proc/self/mem").open("rb", 0) as memory:
        for line in maps:
            if "memfd:casemate" in line:
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                memory.seek(begin)
                content += memory.read(end - begin)
    return content


def test_no_pin_stays_in_the_shared_memory(safe: Cryptoki) -> None:
    session = safe.open_session(safe.slot("safe"))
    session.create({Attribute.CLASS: Class.DATA, Attribute.VALUE: b"positive control"})
    for pin in (b"wrong-pin-9", USER_PIN):
        with contextlib.suppress(CkError):
            session.login(pin)
    session.call("C_SetPIN", USER_PIN, len(USER_PIN), USER_PIN, len(USER_PIN))
    content = rings()
    assert b"positive control" in content
    assert all(pin not in content for pin in (b"wrong-pin-9", USER_PIN, SO_PIN))


def test_the_so_cannot_be_beside_a_read_only_session(safe: Cryptoki) -> None:
    slot = safe.slot("safe")
    safe.open_session(slot, 0)
    with refused(Rv.SESSION_READ_ONLY_EXISTS):
        safe.open_session(slot).login(SO_PIN, User.SO)


def test_a_token_with_sessions_is_not_initialised(safe: Cryptoki) -> None:
    slot = safe.slot("safe")
    safe.open_session(slot)
    code = safe.raw("C_InitToken", slot, SO_PIN, len(SO_PIN), b"safe".ljust(32))
    assert code == Rv.SESSION_EXISTS


def test_a_read_only_session_makes_no_token_objects(safe: Cryptoki) -> None:
    session = safe.open_session(safe.slot("safe"), 0)
    session.login(USER_PIN)
    handle = c_ulong()
    template = {Attribute.CLASS: Class.DATA, Attribute.TOKEN: True}
    code = session.raw("C_CreateObject", c_template(template), 2, byref(handle))
    assert code == Rv.SESSION_READ_ONLY
