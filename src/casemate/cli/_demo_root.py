"""The first steps of the demonstration: a device is made and booted, the module authorised."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from casemate.formats.module_parts import PartName
from casemate.rot.device_folder import DeviceFolder, Order, manufacture
from casemate.rot.errors import RotError
from casemate.rot.launch import release as releases
from casemate.rot.launch.authorization import LaunchRefusedError
from casemate.rot.launch.host import Host, boot
from casemate.rot.launch.image import Installation, Part, collect, package_part
from casemate.rot.manufacturer import ManufacturerCa

R = TypeVar("R")

#: The file that an insider changes, and where: a letter of its docstring changes its case.
CHANGED_FILE = "hsm/states.py"
_CHANGED_BYTE = 3


class Teller(Protocol):
    """Does a step and says what came of it."""

    def step(self, what: str, do: Callable[[], R], *, tell: Callable[[R], str]) -> R:
        """Do one step."""


@dataclass(frozen=True, slots=True)
class MeasuredHost:
    """A booted host, the parts of its module, and what was released for it."""

    device: DeviceFolder
    host: Host
    parts: tuple[Part, ...]
    release: releases.Release
    publisher: releases.Publisher

    def start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the module from its sealed parts."""
        return self.host.start(self.parts, arguments, environment=os.environ)

    def with_changed_file(self, folder: Path) -> tuple[MeasuredHost, LaunchRefusedError]:
        """The same host, booted anew with one byte of its module's firmware changed.

        Its manifest refuses to start that: the error is the second value. Then the publisher, who
        can, signs a manifest of the changed parts, so that the host runs them after all.
        """
        shutil.copytree(
            Installation.here().package,
            folder / "casemate",
            ignore=shutil.ignore_patterns("__pycache__", "*.so"),
        )
        changed = folder / "casemate" / CHANGED_FILE
        content = bytearray(changed.read_bytes())
        content[_CHANGED_BYTE] ^= 0x20
        changed.write_bytes(content)
        parts = tuple(
            package_part(folder / "casemate") if part.name is PartName.PACKAGE else part
            for part in self.parts
        )
        refused = boot(self.device, self.release.bundle, user=releases.OPERATOR)
        try:
            refused.authorize(self.release.manifest, parts)
        except LaunchRefusedError as error:
            refusal = error
        else:
            raise RotError("the device authorised a changed file")
        manifest = self.publisher.manifest(parts)
        host = boot(self.device, self.release.bundle, user=releases.OPERATOR)
        host.authorize(manifest, parts)
        release = dataclasses.replace(self.release, manifest=manifest)
        changed_host = dataclasses.replace(self, host=host, parts=parts, release=release)
        return changed_host, refusal


def measured_host(story: Teller, folder: Path) -> MeasuredHost:
    """Manufacture a device, boot it, and have the module's parts authorised."""
    parts = story.step(
        "open and seal the module's files",
        lambda: collect(Installation.here()),
        tell=lambda parts: f"{sum(len(part.files) for part in parts)} files in {len(parts)} parts",
    )
    publisher = releases.Publisher()
    release = story.step(
        "sign a bundle and a SoC manifest",
        lambda: publisher.release(parts),
        tell=lambda made: (
            f"{len(made.bundle):,} and {len(made.manifest):,} bytes, P-384 + ML-DSA-87"
        ),
    )
    order = Order(vendor_pk_hash=release.vendor_pk_hash, owner_pk_hash=release.owner_pk_hash)
    device = story.step(
        "manufacture a device",
        lambda: manufacture(folder / "device", ManufacturerCa.generate(), order),
        tell=lambda made: f"fuses burnt, IDevID certified; secrets in a {made.anchor.name} anchor",
    )
    host = story.step(
        "boot it: ROM, FMC, runtime",
        lambda: boot(device, release.bundle, user=releases.OPERATOR),
        tell=lambda booted: "PCR0 " + booted.device.root.pcrs.values[0].hex()[:24] + "...",
    )
    story.step(
        "authorise the module's parts",
        lambda: host.authorize(release.manifest, parts),
        tell=lambda _: ", ".join(f"{part.name.value} {part.digest.hex()[:8]}" for part in parts),
    )
    return MeasuredHost(device, host, parts, release, publisher)
