"""What every command about a root of trust shares: which device, which firmware, its errors."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._module import print_json
from casemate.cli._parameters import Hexadecimal
from casemate.rot.anchor import Anchor, PublicAnchor
from casemate.rot.boot import RootOfTrust
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.device_status import RomVersion
from casemate.rot.dpe.errors import DpeError
from casemate.rot.errors import BootError, RotError
from casemate.rot.firmware import ResetReason, VerifiedFirmware, Verifier
from casemate.rot.fuse_file import read_fuses
from casemate.rot.fuses import Fuses, PqcKeyType
from casemate.rot.identity import Algorithm

P = ParamSpec("P")
R = TypeVar("R")
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


DIGEST = Hexadecimal(48)
NONCE = Hexadecimal(32)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
algorithm_option = click.option(
    "--algorithm",
    type=click.Choice([algorithm.value for algorithm in Algorithm]),
    default="ecc",
    show_default=True,
    help="P-384 or ML-DSA-87.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which device to boot with which firmware, as the command line says it."""

    device: Path | None
    fuses: str
    bundle: Path | None
    fmc_digest: bytes | None
    rt_digest: bytes | None
    svn: int
    rom: RomVersion

    @property
    def folder(self) -> DeviceFolder | None:
        """The device's folder, unless it is a model of bare fuses."""
        return None if self.device is None else DeviceFolder(self.device)

    def read_fuses(self) -> Fuses:
        """The fuses of the device or the file. Raises FuseFileError."""
        return read_fuses(self.fuses) if self.folder is None else self.folder.fuse_file.read()

    @property
    def anchor(self) -> Anchor:
        """Where the device's secrets come from."""
        return PublicAnchor() if self.folder is None else self.folder.anchor

    @property
    def states_firmware(self) -> bool:
        """Whether firmware was named at all."""
        return (self.bundle, self.fmc_digest, self.rt_digest) != (None, None, None)

    def boot(self, *, make_requests: bool = False) -> RootOfTrust:
        """Cold boot. Raises RotError; BootError with the public code if a bundle is refused."""
        fuses = self.read_fuses()
        verify, bundle = self._firmware()
        root = RootOfTrust(self.anchor.open(), verify, rom=self.rom, make_requests=make_requests)
        root.cold_reset(fuses, bundle)
        return root

    def _firmware(self) -> tuple[Verifier, bytes]:
        if self.bundle is None:
            return self._stated, b""
        from casemate.rot.bundle.verify import verify

        try:
            return verify, self.bundle.read_bytes()
        except OSError as error:
            raise BootError(f"{self.bundle}: cannot be read: {error.strerror}") from None

    def _stated(
        self,
        bundle: bytes,
        fuses: Fuses,
        *,
        reason: ResetReason,
        cold_boot: VerifiedFirmware | None,
    ) -> VerifiedFirmware:
        """Firmware as the command line states it, for the model: nothing is verified."""
        return VerifiedFirmware(
            fmc_digest=self.fmc_digest or bytes(48),
            rt_digest=self.rt_digest or bytes(48),
            svn=self.svn,
            owner_pk_hash=fuses.owner_pk_hash,
            vendor_ecc_index=0,
            vendor_pqc_index=0,
            pqc_key_type=PqcKeyType(fuses.pqc_key_type),
        )


def boot_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that name a device and its firmware; the command gets a `choice`."""
    options = [
        click.option(
            "--device",
            type=click.Path(path_type=Path, file_okay=False),
            help="A manufactured device's folder; its secrets stay in silicon.",
        ),
        click.option(
            "--fuses",
            default="default",
            show_default=True,
            help="Fuses of the model: `default` (the public test values) or a fuse file.",
        ),
        click.option(
            "--bundle", type=click.Path(path_type=Path, dir_okay=False), help="Firmware to boot."
        ),
        click.option("--fmc-digest", type=DIGEST, help="Model only: SHA-384 of the FMC [zeros]."),
        click.option("--rt-digest", type=DIGEST, help="Model only: SHA-384 of the RT [zeros]."),
        click.option(
            "--svn",
            type=click.IntRange(0, 128),
            default=0,
            show_default=True,
            help="Model only: SVN of the firmware.",
        ),
        click.option(
            "--rom",
            type=click.Choice([version.value for version in RomVersion]),
            default="main",
            show_default=True,
            help="ROM to follow: 2.1.2 and before, or main.",
        ),
    ]

    @functools.wraps(command)
    def wrapped(
        *,
        device: Path | None,
        fuses: str,
        bundle: Path | None,
        fmc_digest: bytes | None,
        rt_digest: bytes | None,
        svn: int,
        rom: str,
        **rest: Any,
    ) -> R:
        if device is not None and fuses != "default":
            raise click.UsageError("a --device has its own fuses")
        if device is not None and bundle is None and not rest.get("mailbox"):
            raise click.UsageError("a --device boots a --bundle")
        if bundle is not None and (fmc_digest, rt_digest, svn) != (None, None, 0):
            raise click.UsageError("--bundle states digests and SVN itself")
        choice = Choice(
            device=device,
            fuses=fuses,
            bundle=bundle,
            fmc_digest=fmc_digest,
            rt_digest=rt_digest,
            svn=svn,
            rom=RomVersion(rom),
        )
        return command(choice=choice, **rest)

    decorated: Callable[..., R] = wrapped
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def reports_rot_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print the room's errors and exit with 1; with --json as {"error": {what, code}}."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (RotError, DpeError) as error:
            code = getattr(error, "code", None)
            if kwargs.get("as_json"):
                print_json({"error": {"what": str(error), "code": _code(code)}})
            else:
                console = Console(stderr=True, soft_wrap=True)
                console.print(Text.assemble(("error: ", "bold red"), str(error)))
                if code is not None:
                    console.print(Text(f"  code: {_code(code)}"))
            sys.exit(1)

    return wrapped


def _code(code: int | None) -> str | None:
    return None if code is None else f"{code:#010x}"
