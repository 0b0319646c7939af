"""What the commands that make and check signed firmware share: types, signers, files, errors."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._module import print_json
from casemate.cli._parameters import Hexadecimal, Number32
from casemate.formats.elf_image import ElfError
from casemate.formats.firmware_bundle import MAX_BUNDLE_SIZE, BundleFormatError
from casemate.formats.soc_manifest import ManifestFormatError
from casemate.rot.bundle.signers import Signer, load_signer
from casemate.rot.errors import RotError
from casemate.rot.fuse_file import read_fuses
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse

P = ParamSpec("P")
R = TypeVar("R")

#: Exit code of a command that answers a question with no.
EXIT_REFUSED = 3


ADDRESS = Number32()
DIGEST = Hexadecimal(48)
REVISION = Hexadecimal(20)
FILE = click.Path(path_type=Path, dir_okay=False)
KEY_HELP = "a PEM file, an LMS key directory or a pkcs11: URI"
out_option = click.option("--out", type=FILE, required=True, help="File to write.")


def signer_option(flag: str, what: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """An option that names a private key."""
    return click.option(flag, metavar="KEY", help=f"Sign with {what}: {KEY_HELP}.")


def open_pair(party: str, ecc: str | None, pqc: str | None) -> tuple[Signer, Signer] | None:
    """Both signers of one party, or None if neither is named."""
    if ecc is None and pqc is None:
        return None
    if ecc is None or pqc is None:
        raise click.UsageError(
            f"a {party} signs with two keys: give --{party}-ecc-key and --{party}-pqc-key"
        )
    return open_signer(ecc), open_signer(pqc)


def open_signer(reference: str) -> Signer:
    """Open a private key, asking for a passphrase where it needs one."""

    def ask() -> bytes:
        answer: str = click.prompt(f"passphrase of {reference}", hide_input=True, err=True)
        return answer.encode()

    return load_signer(reference, passphrase=ask)


def read_file(path: Path, *, most: int = MAX_BUNDLE_SIZE + 1) -> bytes:
    """Read a file up to a bound; one byte more than is allowed shows that it is too large."""
    try:
        with path.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise RotError(f"{path}: {error.strerror}") from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as stream:
            try:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
                umask = os.umask(0)
                os.umask(umask)
                os.fchmod(stream.fileno(), 0o666 & ~umask)
                Path(stream.name).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(stream.name).unlink()
                raise
    except OSError as error:
        raise RotError(f"{path}: {error.strerror}") from None


def fuse_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say which device is asked about; the command gets `fuses`."""
    options = [
        click.option(
            "--fuses",
            "fuse_file",
            metavar="FUSES",
            help="A fuse file, a device's folder, or `default` (the public test values).",
        ),
        click.option(
            "--vendor-hash", type=DIGEST, help="Vendor hash in the fuses (SHA-384) [--fuses]."
        ),
        click.option(
            "--owner-hash", type=DIGEST, help="Owner hash in the fuses (SHA-384) [--fuses]."
        ),
        click.option(
            "--lifecycle",
            type=click.Choice([state.name.lower() for state in Lifecycle]),
            help="Lifecycle [--fuses, else production].",
        ),
        click.option(
            "--fuse-svn", type=click.IntRange(0, 128), help="Smallest SVN that boots [--fuses]."
        ),
        click.option(
            "--fuse-pqc",
            type=click.Choice(["lms", "mldsa"]),
            help="Post-quantum algorithm in the fuses [--fuses, else that of the file].",
        ),
    ]

    @functools.wraps(command)
    def wrapped(
        *,
        fuse_file: str | None,
        vendor_hash: bytes | None,
        owner_hash: bytes | None,
        lifecycle: str | None,
        fuse_svn: int | None,
        fuse_pqc: str | None,
        **rest: Any,
    ) -> R:
        changes: dict[str, Any] = {}
        if vendor_hash is not None:
            changes["vendor_pk_hash"] = vendor_hash
        if owner_hash is not None:
            changes["owner_pk_hash"] = owner_hash
        if lifecycle is not None:
            changes["lifecycle"] = Lifecycle[lifecycle.upper()]
        if fuse_svn is not None:
            changes["firmware_svn_fuse"] = svn_fuse(fuse_svn)
        if fuse_pqc is not None:
            changes["pqc_key_type"] = PqcKeyType[fuse_pqc.upper()]
        return command(fuses=DeviceFuses(fuse_file, changes), **rest)

    decorated: Callable[..., R] = wrapped
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


class DeviceFuses:
    """Fuses as the command line describes them, resolved once the file's algorithm is known."""

    def __init__(self, file: str | None, changes: dict[str, Any]) -> None:
        self._file = file
        self._changes = changes

    @property
    def given(self) -> bool:
        """Whether the command line says anything about fuses."""
        return self._file is not None or bool(self._changes)

    def resolve(self, pqc_key_type: int) -> Fuses:
        """The fuses. Raises FuseFileError, or a usage error if nothing says what is fused."""
        if self._file is not None:
            return dataclasses.replace(_read_fuses(self._file), **self._changes)
        if not self._changes:
            raise click.UsageError(
                "which device? give --fuses FILE, or --vendor-hash and --owner-hash"
            )
        known = pqc_key_type if pqc_key_type in (1, 3) else PqcKeyType.MLDSA
        defaults = {"lifecycle": Lifecycle.PRODUCTION, "pqc_key_type": PqcKeyType(known)}
        return Fuses(**(defaults | self._changes))


def _read_fuses(name: str) -> Fuses:
    if not Path(name).is_dir():
        return read_fuses(name)
    from casemate.rot.device_folder import DeviceFolder

    return DeviceFolder(Path(name)).fuse_file.read()


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print the room's errors and exit with 1; with --json as {"error": {"what": ...}}."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (RotError, BundleFormatError, ManifestFormatError, ElfError) as error:
            if kwargs.get("as_json"):
                print_json({"error": {"what": str(error)}})
            else:
                Console(stderr=True, soft_wrap=True).print(
                    Text.assemble(("error: ", "bold red"), str(error))
                )
        sys.exit(1)

    return wrapped
