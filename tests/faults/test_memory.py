"""Where key bytes stand: nowhere but in the module's own locked memory.

Each search has its positive control: a planted copy, which the same search must find. A key that
was generated inside is known to the test because it is extractable, and wrapped out under a key
that the test knows; one that is unwrapped is known because the test wrapped it.
"""

from __future__ import annotations

import os
import resource
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.keywrap import (
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)
from cryptography.hazmat.primitives.serialization import load_der_private_key

from casemate.formats.pkcs11 import Attribute, KeyType, ObjectClass
from casemate.formats.pkcs11_wire import Template
from tests.running_module import RunningModule

_A = Attribute

#: The client whose memory is searched. It says a line after each step and waits for the next.
_CLIENT = """
import sys
from pathlib import Path
from casemate.formats.pkcs11 import Attribute as A, KeyType, Mechanism, ObjectClass
from casemate.hsm.client import Algorithm, connect

def say(line):
    print(line, flush=True)

web = connect(sys.argv[1])
planted = bytes.fromhex(sys.argv[2])
for line in sys.stdin:
    step, _, argument = line.strip().partition(" ")
    if step == "generate":
        key = web.generate_secret(Algorithm.AES_256, label="made", stored=True, extractable=True)
        key.encrypt(b"some text")
        pair = web.generate(Algorithm.P256, label="pair", stored=True, extractable=True)
        pair.private.sign(b"some text")
    elif step == "unwrap":
        wrapping = web.find("wrapping")
        template = {A.CLASS: ObjectClass.SECRET_KEY, A.KEY_TYPE: KeyType.AES, A.TOKEN: True,
                    A.LABEL: "unwrapped", A.SENSITIVE: True, A.ENCRYPT: True, A.DECRYPT: True}
        wrapping.unwrap(bytes.fromhex(argument), template).encrypt(b"some text")
    say("done")
"""


def patterns(secret: bytes) -> Iterator[bytes]:
    """What a copy of the key, or of half of it, looks like: as it is, reversed, in hexadecimal."""
    for half in (secret[: len(secret) // 2], secret[len(secret) // 2 :]):
        yield from (half, half[::-1], half.hex().encode(), half.hex().upper().encode())


def occurrences(content: bytes, secret: bytes) -> int:
    return sum(content.count(pattern) for pattern in patterns(secret))


def memory_of(process: int) -> bytes:
    """Every readable byte of another process."""
    content = bytearray()
    with (
        Path(f"/proc/{process}/maps").open() as maps,
        Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory,
    ):
        for line in maps:
            span, access, *_ = line.split()
            if not access.startswith("r") or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(bound, 16) for bound in span.split("-"))
            try:
                memory.seek(start)
                while start < end:
                    piece = memory.read(min(end - start, 1 << 20))
                    if not piece:
                        break
                    content += piece
                    start += len(piece)
            except (OSError, ValueError, OverflowError):
                continue
    return bytes(content)


def files_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


class Client:
    """The searched client as a process of its own."""

    def __init__(self, module: RunningModule, planted: bytes) -> None:
        # On the command line the planted key stands in hexadecimal: the search knows that form too.
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, str(module.socket()), planted.hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def do(self, step: str) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(step.encode() + b"\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == b"done\n"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def module(short_folder: Path) -> Iterator[RunningModule]:
    """A module whose policy lets a wrapping key that was outside wrap sensitive keys: only so can
    the test learn what was generated inside."""
    running = RunningModule(short_folder, legacy_test=True).start()
    yield running
    running.kill()


@pytest.fixture
def known(module: RunningModule) -> Iterator[dict[str, bytes]]:
    """Secrets by where they came from, after a client has used them; and the client's pid."""
    wrapping, unwrapped, planted = (secrets.token_bytes(32) for _ in range(3))
    secret_template: Template = {
        _A.CLASS: ObjectClass.SECRET_KEY,
        _A.KEY_TYPE: KeyType.AES,
        _A.TOKEN: True,
        _A.LABEL: "wrapping",
        _A.VALUE: wrapping,
        _A.WRAP: True,
        _A.UNWRAP: True,
    }
    client = Client(module, planted)
    try:
        with module.connect() as web:
            web.create(secret_template)
            client.do("generate")
            client.do("unwrap " + aes_key_wrap_with_padding(wrapping, unwrapped).hex())
            outside = web.find("wrapping")
            generated = aes_key_unwrap_with_padding(wrapping, outside.wrap(web.find("made")))
            pair = web.find("pair", object_class=ObjectClass.PRIVATE_KEY)
            encoded = aes_key_unwrap_with_padding(wrapping, outside.wrap(pair))
        private = load_der_private_key(encoded, password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey)
        scalar = private.private_numbers().private_value.to_bytes(32, "big")
        yield {
            "unwrapped": unwrapped,
            "generated": generated,
            "scalar": scalar,
            "planted": planted,
            "wrapping": wrapping,
            "pid": str(client.process.pid).encode(),
        }
    finally:
        client.end()


def test_no_key_reaches_the_client(known: dict[str, bytes]) -> None:
    content = memory_of(int(known["pid"]))
    assert occurrences(content, known["planted"]) > 0, "the search finds nothing at all"
    for name in ("unwrapped", "generated", "scalar"):
        assert occurrences(content, known[name]) == 0, name


def test_no_key_reaches_the_state_folder(module: RunningModule, known: dict[str, bytes]) -> None:
    names = ("unwrapped", "generated", "scalar", "wrapping")
    for name in names:
        assert occurrences(files_below(module.base), known[name]) == 0, name
    (module.folders.state / "planted").write_bytes(b"x" * 99 + known["planted"])
    assert occurrences(files_below(module.base), known["planted"]) > 0


def test_root_does_not_find_keys_in_the_module(
    module: RunningModule, known: dict[str, bytes]
) -> None:
    with module.admin() as admin:
        memory = admin.call("doctor")["memory"]
    if memory["arena"] != "memfd_secret":
        pytest.skip("this kernel gives no memfd_secret pages: root reads all memory")
    assert module.process is not None
    try:
        content = memory_of(module.process.pid)
    except PermissionError:
        pytest.skip("needs CAP_SYS_PTRACE: without it the module's memory cannot be read at all")
    assert b"casemate" in content, "the search reads nothing"
    for name in ("unwrapped", "generated", "scalar"):
        assert occurrences(content, known[name]) == 0, name


def test_the_module_says_what_protects_its_memory(module: RunningModule) -> None:
    with module.admin() as admin:
        memory = admin.call("doctor")["memory"]
    assert memory["arena"] in ("memfd_secret", "mlock", "unlocked")
    assert memory["library_inside"]
    assert memory["dumpable"] is False
    assert memory["core_limit"] == 0
    assert memory["locked"] == (memory["unlocked_bytes"] == 0)


def test_require_locked_refuses_where_nothing_can_be_locked(short_folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root alone can take CAP_IPC_LOCK away from the module")
    starved = RunningModule(short_folder, extra=["--require-locked"])
    drop = ["setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"]
    if subprocess.run([*drop, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("setpriv cannot take capabilities away here")
    code = starved.start_in_vain([*drop, "prlimit", "--memlock=0:0"])
    assert code == 1
    assert "RLIMIT_MEMLOCK" in starved.log


@pytest.mark.parametrize("how", [signal.SIGABRT, signal.SIGSEGV])
def test_the_module_leaves_no_core(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("core"):
        pytest.skip("this host gives cores to a program, not to the folder")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        pytest.skip("the limit of core files cannot be raised for the control")
    monkeypatch.chdir(short_folder)
    try:
        control = subprocess.Popen(["sleep", "60"])
        control.send_signal(how)
        _, status = os.waitpid(control.pid, 0)
        control.returncode = -how
        if not os.WCOREDUMP(status):
            pytest.skip("a plain process leaves no core here either")
        cores = [path for path in short_folder.iterdir() if path.name.startswith("core")]
        assert cores, "the control dumped its core elsewhere"
        for path in cores:
            path.unlink()
        module = RunningModule(short_folder).start()
        assert module.process is not None
        module.process.send_signal(how)
        _, status = os.waitpid(module.process.pid, 0)
        module.process.returncode = -how
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == how
        assert not os.WCOREDUMP(status)
        assert not [path for path in short_folder.rglob("core*") if path.is_file()]
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
