"""`casemate demo`: the product's story in a few seconds; `make run` starts it.

A device is made and booted and has the module's files authorised; the module starts from them and
makes a key. Then a relying party, a module of its own, holds a TLS key: the host shows evidence of
what it runs and of a wrapping key in its partition, the evidence is appraised against reference
values made from the very bundle and manifest, and only then the TLS key goes from partition to
partition and serves TLS 1.3. At last one byte of the module's firmware is changed, and the key
stays where it is. It prints what it did and how long each step took, and leaves nothing behind
unless --folder names a place.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from casemate.cli import _demo_module
from casemate.cli._demo_attestation import RelyingParty, attested_release
from casemate.cli._demo_root import measured_host
from casemate.cli._module import reports_errors
from casemate.cli._rot import reports_rot_errors
from casemate.cli._story import Story
from casemate.formats.pkcs11 import Attribute
from casemate.hsm.admin_client import AdminClient
from casemate.hsm.client import Algorithm, Key, KeyPair, Partition, connect
from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.folders import Folders

_SIGNATURES = 5000


@click.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Keep the folders of device and modules here [a temporary folder that is removed].",
)
@reports_errors
@reports_rot_errors
def demo(folder: Path | None) -> None:
    """Boot a device, run the module it measured, have it appraised, release a TLS key to it."""
    story = Story()
    with _folder(folder) as base:
        _tell(story, base)
    story.say(f"\nDone in {story.seconds:.1f} s. To keep a module running, type:\n")
    story.say("    casemate up --partition web")
    story.say("    pkcs11-tool --module $(casemate pkcs11-path) --list-slots     # another shell")
    if shutil.which("casemate") is None:
        story.say(f"\n(the command stands in {Path(sys.executable).parent})")


def _tell(story: Story, base: Path) -> None:
    folders = _demo_module.folders_below(base)
    host = measured_host(story, base)
    process = story.step(
        "start the module with partition web",
        lambda: _demo_module.wait(
            host.start(_demo_module.arguments(folders, "web")), folders, "web"
        ),
        tell=lambda process: f"process {process.pid}, from sealed memory, secret from the ladder",
    )
    with _demo_module.ended(process):
        _self_test(story, folders)
        path = folders.partition_socket("web")
        with story.step(
            "connect to partition web", lambda: connect(str(path)), tell=lambda _: str(path)
        ) as web:
            _use_a_key(story, web)
            with RelyingParty.started(story, base / "broker", host) as relying_party:
                attested_release(story, host, web, relying_party, base)
        story.step(
            "stop the module",
            lambda: _demo_module.stop(process),
            tell=lambda code: f"exit {code}",
        )


def _self_test(story: Story, folders: Folders) -> None:
    with AdminClient(folders.admin_socket) as module:
        tests = story.step(
            "self-tests of silicon",
            lambda: module.call("selftest")["tests"],
            tell=lambda tests: f"{len(tests)} passed",
        )
    if not all(test["passed"] for test in tests):
        raise ModuleError(Code.SELF_TEST, "a self-test failed")


def _use_a_key(story: Story, web: Partition) -> None:
    pair = story.step(
        "make a P-256 key in the partition",
        lambda: _key(web),
        tell=lambda pair: f"label signing, on disk, id {pair.private.id.hex()}",
    )
    story.step("ask for the private key's value", lambda: _refused(pair.private))
    story.step(
        f"{_SIGNATURES:,} signatures from Python, one connection",
        lambda: _sign(pair.private),
        tell=lambda rate: f"{rate:,.0f} a second",
    )


def _key(web: Partition) -> KeyPair:
    return web.generate(Algorithm.P256, label="signing", id=b"\x01", stored=True)


def _refused(key: Key) -> str:
    if Attribute.VALUE in key.attributes(Attribute.VALUE):
        raise ModuleError(Code.INTERNAL, "the partition told the value of a sensitive key")
    return "refused: it never leaves the module"


def _sign(key: Key) -> float:
    begun = time.perf_counter()
    key.sign_many([number.to_bytes(32) for number in range(_SIGNATURES)])
    return _SIGNATURES / (time.perf_counter() - begun)


@contextmanager
def _folder(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="casemate-") as made:
        yield Path(made)
