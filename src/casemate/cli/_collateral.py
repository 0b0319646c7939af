"""What commands with collateral share: which folder, its store, and progress over long work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from casemate.attestation.collateral.sources import Sources
    from casemate.attestation.collateral.store import CollateralStore

R = TypeVar("R")
ENVIRONMENT = "CASEMATE_COLLATERAL"
folder_option = click.option(
    "--collateral",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=ENVIRONMENT,
    help=f"The collateral's folder [{ENVIRONMENT}; /var/lib/casemate/collateral for root, "
    "~/.local/share/casemate/collateral for others].",
)

_SOURCES = (
    click.option("--amd-url", help="A cache of AMD's key service [https://kdsintf.amd.com]."),
    click.option("--intel-url", help="A PCCS [https://api.trustedservices.intel.com]."),
    click.option(
        "--plain-host",
        multiple=True,
        metavar="HOST[:PORT]",
        help="A host on site that may be asked over plain HTTP.",
    ),
)


def source_options(command: Callable[..., R]) -> Callable[..., R]:
    """Add the options that say whom to ask; the command gets `amd_url`, `intel_url` and so on."""
    for option in reversed(_SOURCES):
        command = option(command)
    return command


def sources_of(amd_url: str | None, intel_url: str | None) -> Sources:
    """The vendors' services, or those that were named in their place."""
    from casemate.attestation.collateral.sources import Sources

    base = Sources()
    return Sources(
        amd=(amd_url or base.amd).rstrip("/"),
        intel=(intel_url or base.intel).rstrip("/"),
        intel_root_crl=f"{intel_url.rstrip('/')}/sgx/certification/v4/rootcacrl"
        if intel_url
        else base.intel_root_crl,
    )


def store_of(folder: Path | None) -> CollateralStore:
    """The store in a folder, or in the default one."""
    from casemate.attestation.collateral.store import CollateralStore

    return CollateralStore(folder or _default())


def _default() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/casemate/collateral")
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data else Path.home() / ".local/share"
    return base / "casemate" / "collateral"


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing on a pipe; call it with done and total."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
