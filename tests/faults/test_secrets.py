"""Key bytes stay inside: they stand in no client's memory, no file, no core dump.

The test learns the values of keys by a way that is allowed (extractable, wrapped under a key whose
private half the test holds), and then looks for them where they must not be. A planted value shows
that the search finds what is there.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from casemate.formats.pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from casemate.formats.pkcs11_wire import Oaep
from casemate.hsm.client import Algorithm, Key, Partition
from tests.running_module import RunningModule

#: A client in a process of its own: it makes and uses keys, then waits to be looked at. It never
#: holds the key that could unwrap one. Its arguments: socket, modulus in hexadecimal.
CLIENT = """
import sys, time
import casemate
from casemate.formats.pkcs11 import Attribute as A, KeyType, Mechanism, ObjectClass
from casemate.formats.pkcs11_wire import Oaep
from casemate.hsm.client import Algorithm
web = casemate.connect(sys.argv[1])
key = web.generate_secret(Algorithm.AES_256, label="scanned", stored=True, extractable=True)
wrapper = web.create({A.CLASS: ObjectClass.PUBLIC_KEY, A.KEY_TYPE: KeyType.RSA, A.WRAP: True,
    A.MODULUS: bytes.fromhex(sys.argv[2]), A.PUBLIC_EXPONENT: b"\\1\\0\\1"})
wrapped = wrapper.wrap(key, mechanism=Mechanism.RSA_PKCS_OAEP, parameters=Oaep())
sealed = [key.encrypt(bytes(size)) for size in (16, 4096, 100000)]
assert key.decrypt(sealed[1]) == bytes(4096)
planted = bytes.fromhex("c0ffee") * 10
print(wrapped.hex(), flush=True)
sys.stdin.read()
"""
PLANTED = bytes.fromhex("c0ffee") * 10


def memory_of(process: int) -> Iterator[bytes]:
    """Yield the readable mappings of a process, the shared ones of its ring included."""
    with Path(f"/proc/{process}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) r", line)
            if match is None:
                continue
            start, end = (int(part, 16) for part in match.groups())
            try:
                memory.seek(start)
                yield memory.read(end - start)
            except (OSError, OverflowError):
                continue  # [vvar] and the like


@pytest.fixture
def outside() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def require(web: Partition, *mechanisms: Mechanism) -> None:
    if missing := set(mechanisms) - set(web.mechanisms()):
        pytest.skip(f"the partition does not offer {missing}")


def opened(outside: rsa.RSAPrivateKey, wrapped: bytes) -> bytes:
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    return outside.decrypt(wrapped, oaep)


def test_a_key_s_bytes_stand_neither_in_a_client_s_memory_nor_on_disk(
    module: RunningModule, outside: rsa.RSAPrivateKey
) -> None:
    with module.connect() as web:
        require(web, Mechanism.RSA_PKCS_OAEP, Mechanism.AES_GCM)
    modulus = outside.public_key().public_numbers().n.to_bytes(256).hex()
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(module.socket()), modulus],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert client.stdout is not None
        value = opened(outside, bytes.fromhex(client.stdout.readline().decode()))
        assert len(value) == 32
        try:
            mappings = list(memory_of(client.pid))
        except PermissionError:
            pytest.skip("this host does not let a process read its child's memory")
    finally:
        client.kill()
        client.communicate()
    assert any(PLANTED in mapping for mapping in mappings), "the search must find what is there"
    assert not any(value in mapping for mapping in mappings)
    assert not any(value[:16] in mapping or value[16:] in mapping for mapping in mappings)
    for path in module.folders.state.iterdir():
        content = path.read_bytes()
        assert value not in content, path
        assert value[:16] not in content, path


def test_the_search_on_disk_finds_what_is_there(module: RunningModule) -> None:
    (module.folders.state / "planted").write_bytes(b"xx" + PLANTED)
    assert any(PLANTED in path.read_bytes() for path in module.folders.state.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every process's memory")
def test_the_module_s_memory_is_closed_to_its_own_user(module: RunningModule) -> None:
    assert module.process is not None
    with pytest.raises(PermissionError):
        Path(f"/proc/{module.process.pid}/mem").read_bytes()


def test_the_module_leaves_no_core_when_it_crashes(module: RunningModule) -> None:
    assert module.process is not None
    module.process.send_signal(signal.SIGSEGV)
    _, status = os.waitpid(module.process.pid, 0)
    module.process = None
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)


def test_master_keys_of_the_module_are_not_readable_even_by_root(
    module: RunningModule, outside: rsa.RSAPrivateKey
) -> None:
    """Where memfd_secret holds the arena, /proc/PID/mem cannot show it."""
    with module.admin() as admin:
        arena = admin.call("doctor")["memory"].get("arena")
    if arena != "memfd_secret":
        pytest.skip(f"the arena is {arena} on this host")
    if os.geteuid() != 0:
        pytest.skip("only root may try to read the module's memory")
    secret = module.folders.sealing_secret.read_bytes()
    assert module.process is not None
    mappings = list(memory_of(module.process.pid))
    assert mappings
    assert not any(secret in mapping for mapping in mappings)


def wrapping_key(web: Partition, outside: rsa.RSAPrivateKey) -> Key:
    made = web.create(
        {
            Attribute.CLASS: ObjectClass.PUBLIC_KEY,
            Attribute.KEY_TYPE: KeyType.RSA,
            Attribute.WRAP: True,
            Attribute.MODULUS: outside.public_key().public_numbers().n.to_bytes(256),
            Attribute.PUBLIC_EXPONENT: b"\x01\x00\x01",
        }
    )
    assert isinstance(made, Key)
    return made


def test_a_stored_key_s_bytes_are_not_on_disk_after_changes_and_deletion(
    module: RunningModule, outside: rsa.RSAPrivateKey
) -> None:
    with module.connect() as web:
        require(web, Mechanism.RSA_PKCS_OAEP, Mechanism.AES_KEY_GEN)
        key = web.generate_secret(Algorithm.AES_256, label="k", stored=True, extractable=True)
        wrapped = wrapping_key(web, outside).wrap(
            key, mechanism=Mechanism.RSA_PKCS_OAEP, parameters=Oaep()
        )
        value = opened(outside, wrapped)
        key.change({Attribute.LABEL: "changed"})
        key.destroy()
    module.stop()
    for path in module.folders.state.iterdir():
        assert value[:16] not in path.read_bytes(), path
