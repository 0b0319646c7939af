"""A module process: its isolation, its folders, its operator's socket, its end."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from casemate.hsm.client import ClientError
from casemate.hsm.errors import Code, ModuleError
from tests.running_module import RunningModule


def loaded_libraries(module: RunningModule) -> list[str]:
    assert module.process is not None
    maps = Path(f"/proc/{module.process.pid}/maps").read_text()
    return sorted({line.split()[-1] for line in maps.splitlines() if line.endswith(".so")})


def test_the_process_loads_the_standard_library_and_casemate_only(module: RunningModule) -> None:
    import sys

    with module.admin() as admin:
        doctor = admin.call("doctor")
    foreign = set(doctor["modules"]) - set(sys.stdlib_module_names) - {"casemate", "__main__"}
    assert not {name for name in foreign if not name.startswith("_sysconfigdata")}
    assert doctor["isolated"] is True
    assert doctor["core_limit"] == 0
    ours = [path for path in loaded_libraries(module) if "site-packages" in path]
    assert not ours


def test_the_process_has_no_children_and_no_core(module: RunningModule) -> None:
    assert module.process is not None
    task = Path(f"/proc/{module.process.pid}/task/{module.process.pid}/children")
    assert task.read_text().strip() == ""
    limits = Path(f"/proc/{module.process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]


def test_what_stands_on_disk_is_for_the_module_s_user_only(module: RunningModule) -> None:
    assert module.folders.state.stat().st_mode & 0o777 == 0o700
    for path in module.folders.state.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert stat.S_IMODE(module.folders.admin_socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(module.socket().parent.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("access", "mode"), [("unlisted", 0o711), ("owner", 0o700), ("shared", 0o755)]
)
def test_the_folder_s_mode_follows_the_policy(
    module: RunningModule, access: str, mode: int
) -> None:
    with module.admin() as admin:
        admin.call("partition.set-policy", name="web", policy={"access": access})
        assert stat.S_IMODE(module.socket().parent.stat().st_mode) == mode
    module.kill()
    module.start()
    assert stat.S_IMODE(module.socket().parent.stat().st_mode) == mode


def test_status_and_partitions_survive_a_restart(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.create", name="db", policy={"keys": 9, "pin_required": False})
        admin.call("partition.suspend", name="db")
        before = admin.call("partition.list")
    assert module.stop() == 0
    assert not module.folders.admin_socket.exists()
    assert not module.socket().exists()
    folder = module.socket().parent.stat().st_ino
    module.start()
    # A container has the folder mounted: it must be the same one.
    assert module.socket().parent.stat().st_ino == folder
    with module.admin() as admin:
        after = admin.call("partition.list")
        assert [(p["name"], p["id"], p["policy"], p["state"]) for p in after] == [
            (p["name"], p["id"], p["policy"], p["state"]) for p in before
        ]
        assert {p["name"]: p["state"] for p in after} == {"db": "suspended", "web": "active"}
        admin.call("partition.resume", name="db")
    with module.connect("db") as db:
        assert len(db.random(32)) == 32


def test_two_modules_never_share_a_folder(module: RunningModule) -> None:
    second = RunningModule(module.base)
    assert second.start_in_vain() == 1
    assert "another module" in module.log
    with module.connect() as web:
        assert web.random(1)


def test_a_socket_that_a_killed_module_left_is_replaced(module: RunningModule) -> None:
    module.kill()
    assert module.socket().exists()
    module.start()
    with module.connect() as web:
        assert web.random(1)


def test_something_else_in_a_socket_s_place_is_not_removed(module: RunningModule) -> None:
    module.stop()
    module.socket().parent.mkdir(exist_ok=True)
    module.socket().write_text("precious")
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        shown = admin.call("partition.show", name="web")
    assert shown["state"] == "damaged"
    assert "socket" in shown["reason"]
    assert module.socket().read_text() == "precious"


def test_a_partition_that_cannot_listen_is_not_made(module: RunningModule) -> None:
    blocked = module.socket("db")
    blocked.parent.mkdir()
    blocked.write_text("precious")
    with module.admin() as admin:
        with pytest.raises(ModuleError, match="no socket"):
            admin.call("partition.create", name="db")
        assert [p["name"] for p in admin.call("partition.list")] == ["web"]
        blocked.unlink()
        admin.call("partition.create", name="db")
    with module.connect("db") as db:
        assert db.random(1)


@pytest.mark.parametrize(
    ("command", "arguments", "code"),
    [
        ("partition.show", {"name": "nope"}, Code.UNKNOWN_PARTITION),
        ("partition.create", {"name": "web"}, Code.PARTITION_EXISTS),
        ("partition.create", {"name": "../web"}, Code.BAD_REQUEST),
        ("partition.create", {"name": "x", "policy": {"keys": -1}}, Code.BAD_REQUEST),
        ("partition.create", {"name": "x", "colour": 1}, Code.BAD_REQUEST),
        ("partition.create", {"name": 5}, Code.BAD_REQUEST),
        ("partition.destroy", {}, Code.BAD_REQUEST),
        ("make-coffee", {}, Code.BAD_REQUEST),
        ("resume", {}, Code.WRONG_STATE),
    ],
)
def test_a_bad_command_gets_one_clear_error(
    shared_module: RunningModule, command: str, arguments: dict[str, object], code: Code
) -> None:
    with shared_module.admin() as admin:
        with pytest.raises(ModuleError) as raised:
            admin.call(command, **arguments)
        assert raised.value.code is code
        assert admin.call("status")["state"] == "operational"


@pytest.mark.parametrize(
    "line",
    [b"\n", b"{\n", b"[]\n", b'"x"\n', b'{"command": 1}\n', b"\xff\xfe\n", b"[" * 60000 + b"\n"],
)
def test_a_bad_line_is_answered_and_the_connection_goes_on(
    shared_module: RunningModule, line: bytes
) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(os.fspath(shared_module.folders.admin_socket))
        answers = raw.makefile("rb")
        raw.sendall(line)
        assert json.loads(answers.readline())["error"]["code"] == "bad-request"
        raw.sendall(b'{"command": "status"}\n')
        assert json.loads(answers.readline())["ok"] is True


def test_an_endless_line_ends_its_connection_only(shared_module: RunningModule) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(5)
        raw.connect(os.fspath(shared_module.folders.admin_socket))
        raw.sendall(b"x" * 70000)
        answers = raw.makefile("rb")
        assert "65536" in json.loads(answers.readline())["error"]["what"]
        # The module had more to read when it closed the connection: that is a reset.
        with contextlib.suppress(ConnectionResetError):
            assert answers.read() == b""
    with shared_module.admin() as admin:
        assert admin.call("status")["state"] == "operational"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_may_not_administer_even_with_the_socket_open_to_it(
    module: RunningModule,
) -> None:
    module.base.chmod(0o755)
    module.folders.runtime.chmod(0o755)
    module.folders.admin_socket.chmod(0o666)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(12345)
            os.setuid(12345)
            with module.admin() as admin:
                admin.call("status")
        except ModuleError as error:
            code = 0 if error.code is Code.NOT_PERMITTED else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def as_user(uid: int, gid: int, work: Callable[[], bool]) -> bool:
    """Do `work` in a child process of another user and group."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
            code = 0 if work() else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 1)
    return code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become other users")
def test_only_the_group_of_the_policy_reaches_the_partition(module: RunningModule) -> None:
    def reaches() -> bool:
        try:
            with module.connect() as web:
                return len(web.random(4)) == 4
        except ClientError:
            return False

    module.base.chmod(0o755)
    assert as_user(12345, 12345, reaches)
    with module.admin() as admin:
        admin.call("partition.set-policy", name="web", policy={"access": "group", "group": 12345})
    assert as_user(23456, 12345, reaches)
    assert not as_user(12345, 23456, reaches)
    with module.admin() as admin:
        admin.call("partition.set-policy", name="web", policy={"access": "owner"})
    assert not as_user(12345, 12345, reaches)
    assert reaches()


def test_there_are_at_most_64_partitions(module: RunningModule) -> None:
    with module.admin() as admin:
        for number in range(63):
            admin.call("partition.create", name=f"p{number}")
        with pytest.raises(ModuleError) as raised:
            admin.call("partition.create", name="one-more")
        assert raised.value.code is Code.TOO_MANY_PARTITIONS
    with module.connect("p62") as last:
        assert last.random(4)


def test_suspending_the_module_stops_all_and_resuming_serves_again(module: RunningModule) -> None:
    from casemate.hsm.client import Algorithm, ClientError

    with module.connect() as web:
        pair = web.generate(Algorithm.P256, label="k", stored=True)
        with module.admin() as admin:
            admin.call("suspend")
            assert admin.call("status")["state"] == "suspended"
            with pytest.raises(ClientError):
                pair.private.sign(b"x")
            with pytest.raises(ModuleError, match="suspended"):
                admin.call("partition.create", name="db")
            admin.call("resume")
        pair.public.verify(pair.private.sign(b"x"), b"x")


def test_zeroized_is_for_good(module: RunningModule) -> None:
    from casemate.hsm.client import Algorithm

    with module.connect() as web:
        web.generate(Algorithm.P256, label="k", stored=True)
    with module.admin() as admin:
        admin.call("zeroize")
        status = admin.call("status")
        assert (status["state"], status["partitions"]) == ("zeroized", [])
        with pytest.raises(ModuleError, match="zeroized"):
            admin.call("partition.create", name="web")
    assert not module.folders.sealing_secret.exists()
    module.stop()
    module.partitions = ()
    module.start()
    with module.admin() as admin:
        assert admin.call("status")["state"] == "zeroized"


def test_readiness_is_told_to_the_service_manager(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_folder / "notify"))
        manager.settimeout(10)
        os.environ["NOTIFY_SOCKET"] = str(short_folder / "notify")
        try:
            running = RunningModule(short_folder).start()
        finally:
            del os.environ["NOTIFY_SOCKET"]
        assert manager.recv(1000).startswith(b"READY=1\n")
        assert running.stop() == 0
        assert manager.recv(1000) == b"STOPPING=1"
