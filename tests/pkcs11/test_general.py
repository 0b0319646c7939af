"""The library as a whole: interfaces, initialisation, slots."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from ctypes import POINTER, byref, c_ulong, c_void_p
from pathlib import Path

import pytest

from tests.pkcs11.constants import Flag, Rv
from tests.pkcs11.cryptoki import (
    LIBRARY,
    CkError,
    Cryptoki,
    Info,
    Interface,
    SlotInfo,
    Version,
    function_names,
)
from tests.running_module import RunningModule

SIZES = {(2, 40): 68, (3, 0): 92, (3, 2): 104}


def interfaces() -> list[Interface]:
    library = ctypes.CDLL(str(LIBRARY))
    count = c_ulong()
    assert library.C_GetInterfaceList(None, byref(count)) == Rv.OK
    too_few = c_ulong(count.value - 1)
    array = (Interface * count.value)()
    assert library.C_GetInterfaceList(array, byref(too_few)) == Rv.BUFFER_TOO_SMALL
    assert too_few.value == count.value
    assert library.C_GetInterfaceList(array, byref(count)) == Rv.OK
    return list(array)


def test_every_function_of_every_list_is_there() -> None:
    seen = {}
    for interface in interfaces():
        assert interface.name == b"PKCS 11"
        version = interface.functions.contents
        size = SIZES[version.major, version.minor]
        address = ctypes.addressof(version)
        functions = (c_void_p * (size + 1)).from_address(address)[1:]
        assert all(functions)
        seen[version.major, version.minor] = functions
    assert seen.keys() == SIZES.keys()
    assert len(function_names()) == SIZES[3, 2]
    # One function of a name, whatever list it is called through.
    assert seen[3, 2][: SIZES[3, 0]] == seen[3, 0]
    assert seen[3, 0][: SIZES[2, 40]] == seen[2, 40]


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        (None, None, (3, 2)),
        (b"PKCS 11", None, (3, 2)),
        (b"PKCS 11", (3, 0), (3, 0)),
        (b"PKCS 11", (2, 40), (2, 40)),
        (b"PKCS 11", (9, 9), None),
        (b"Vendor", None, None),
    ],
)
def test_an_interface_is_found_by_name_and_version(
    name: bytes | None, version: tuple[int, int] | None, expected: tuple[int, int] | None
) -> None:
    library = ctypes.CDLL(str(LIBRARY))
    found = POINTER(Interface)()
    wanted = byref(Version(*version)) if version else None
    code = library.C_GetInterface(name, wanted, byref(found), c_ulong(0))
    if expected is None:
        assert code == Rv.FUNCTION_FAILED
    else:
        got = found.contents.functions.contents
        assert (code, (got.major, got.minor)) == (Rv.OK, expected)


def test_only_the_three_entry_points_leave_the_library() -> None:
    listing = subprocess.run(
        ["nm", "-D", "--defined-only", str(LIBRARY)], capture_output=True, check=True, text=True
    )
    names = {line.split()[-1] for line in listing.stdout.splitlines()}
    assert names == {"C_GetFunctionList", "C_GetInterface", "C_GetInterfaceList"}


def test_the_library_links_no_cryptography() -> None:
    linked = subprocess.run(
        ["nm", "-a", str(LIBRARY)], capture_output=True, check=True, text=True
    ).stdout
    assert "C_GetFunctionList" in linked
    for sign in ("EVP_", "aws_lc", "SHA256_", "AES_encrypt"):
        assert sign not in linked


def test_nothing_works_before_initialisation() -> None:
    library = Cryptoki(LIBRARY)
    allowed = {"C_Initialize", "C_GetFunctionList", "C_GetInterfaceList", "C_GetInterface"}
    zeros = [0] * 10
    for name in function_names():
        if name not in allowed and name != "C_Finalize":
            assert library.raw(name, *zeros) == Rv.CRYPTOKI_NOT_INITIALIZED, name
    assert library.raw("C_Finalize", None) == Rv.CRYPTOKI_NOT_INITIALIZED


def test_initialisation_happens_once(library: Cryptoki) -> None:
    assert library.raw("C_Initialize", None) == Rv.CRYPTOKI_ALREADY_INITIALIZED
    assert library.raw("C_Finalize", c_void_p(1)) == Rv.ARGUMENTS_BAD


@pytest.mark.parametrize(
    ("pointers", "reserved", "expected"),
    [
        ([1, 1, 1, 1], 0, Rv.OK),
        ([0, 0, 0, 0], 0, Rv.OK),
        ([1, 0, 0, 0], 0, Rv.ARGUMENTS_BAD),
        ([0, 0, 0, 0], 1, Rv.ARGUMENTS_BAD),
    ],
)
def test_initialisation_arguments(pointers: list[int], reserved: int, expected: Rv) -> None:
    library = Cryptoki(LIBRARY)
    arguments = (c_ulong * 6)(*pointers, 0, reserved)
    assert library.raw("C_Initialize", arguments) == expected
    if expected == Rv.OK:
        library.call("C_Finalize", None)


def test_the_library_says_what_it_is(library: Cryptoki) -> None:
    info = Info()
    library.call("C_GetInfo", byref(info))
    assert (info.cryptoki.major, info.cryptoki.minor) == (3, 2)
    assert info.manufacturer.decode().strip() == "Casemate"


def test_slots_are_the_partitions_by_name(library: Cryptoki, module: RunningModule) -> None:
    names = []
    for slot in library.slots():
        info = SlotInfo()
        library.call("C_GetSlotInfo", slot, byref(info))
        assert info.flags == Flag.TOKEN_PRESENT
        names.append(info.description.decode().strip())
    assert names == [f"Casemate partition {name}" for name in module.partitions]
    labels = [library.token(slot).label.decode().strip() for slot in library.slots()]
    assert labels == list(module.partitions)


def test_unknown_slots_are_refused(library: Cryptoki) -> None:
    for name in ("C_GetSlotInfo", "C_GetTokenInfo"):
        assert library.raw(name, 4711, None) == Rv.SLOT_ID_INVALID
    with pytest.raises(CkError) as caught:
        library.open_session(4711)
    assert caught.value.code == Rv.SLOT_ID_INVALID


def test_a_dead_socket_is_a_slot_without_token(library: Cryptoki, module: RunningModule) -> None:
    folder = module.folders.runtime / "dead"
    folder.mkdir(mode=0o700)
    program = "import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    socket = folder / "hsm.sock"
    subprocess.run(["python3", "-c", program, str(socket)], check=True)
    try:
        assert set(library.slots(present=False)) > set(library.slots())
        dead = max(library.slots(present=False))
        assert library.raw("C_GetTokenInfo", dead, byref(Info())) == Rv.TOKEN_NOT_PRESENT
        with pytest.raises(CkError) as caught:
            library.open_session(dead)
        assert caught.value.code == Rv.TOKEN_NOT_PRESENT
    finally:
        socket.unlink()
        folder.rmdir()


def test_no_slot_event_is_waited_for(library: Cryptoki) -> None:
    slot, flags = c_ulong(), int(Flag.DONT_BLOCK)
    # What other tests did to sockets is told first, once for each slot.
    slots = 1 + max(library.slots(present=False))
    told = [library.raw("C_WaitForSlotEvent", flags, byref(slot), None) for _ in range(slots + 1)]
    assert told[-1] == Rv.NO_EVENT
    assert library.raw("C_WaitForSlotEvent", flags, None, None) == Rv.ARGUMENTS_BAD


def test_a_socket_in_a_folder_that_others_may_write_is_no_slot(
    module: RunningModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    impostor = tmp_path / "impostor"
    impostor.mkdir()
    impostor.chmod(0o777)
    (impostor / "hsm.sock").hardlink_to(module.socket("web"))
    monkeypatch.setenv("CASEMATE_SOCKETS", str(impostor))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    finder = "import sys; sys.path[:0] = sys.argv[1:2]\n" + (
        "from pathlib import Path\n"
        "from tests.pkcs11.cryptoki import Cryptoki\n"
        "with Cryptoki(Path(sys.argv[2])) as library: print(len(library.slots(present=False)))"
    )
    root = Path(__file__).parents[2]
    for mode, expected in ((0o777, "0"), (0o700, "1")):
        impostor.chmod(mode)
        found = subprocess.run(
            [sys.executable, "-c", finder, str(root), str(LIBRARY)],
            capture_output=True,
            check=True,
            text=True,
        )
        assert found.stdout.strip() == expected
