"""`casemate-dpe-sim`: a DPE of its own on a Unix socket, for clients to be tested against.

Three console scripts share it: one takes `--profile`, two are fixed to theirs, because the public
conformance suite starts an executable without telling it which profile to speak.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import casemate

if TYPE_CHECKING:
    from casemate.formats.dpe import Profile

#: Option -> name of the feature in casemate.formats.dpe.Support, and what it is.
_FEATURES = {
    "simulation": ("SIMULATION", "contexts that certify but do not sign"),
    "recursive": ("RECURSIVE", "extending a context in place"),
    "auto-init": ("AUTO_INIT", "a default context in locality 0 from the start"),
    "rotate-context": ("ROTATE_CONTEXT", "the command RotateContextHandle"),
    "x509": ("X509", "certificates from CertifyKey"),
    "csr": ("CSR", "CSRs from CertifyKey"),
    "internal-info": ("INTERNAL_INFO", "the profile as an input of a context"),
    "internal-dice": ("INTERNAL_DICE", "the certificate chain as an input of a context"),
    "retain-parent-context": ("RETAIN_PARENT_CONTEXT", "keeping a parent when deriving"),
    "cdi-export": ("CDI_EXPORT", "exported CDIs and their certificates"),
}


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that all three scripts have."""
    for option, (_, text) in reversed(_FEATURES.items()):
        function = click.option(f"--supports-{option}", is_flag=True, help=f"Offer {text}.")(
            function
        )
    function = click.option(
        "--mark-dice-extensions-critical",
        is_flag=True,
        help="Mark MultiTcbInfo and UEID critical.",
    )(function)
    function = click.option(
        "--socket",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path("/tmp/dpe-sim.socket"),  # noqa: S108 - where the conformance suite looks
        show_default=True,
        help="Where to listen.",
    )(function)
    function = click.option("-v", "--verbose", is_flag=True, help="Log dropped connections.")(
        function
    )
    return click.version_option(casemate.__version__)(function)


def _run(profile: Profile, flags: dict[str, Any]) -> None:
    from casemate.formats.dpe import Support
    from casemate.rot.dpe import simulator

    logging.basicConfig(level=logging.INFO if flags["verbose"] else logging.ERROR)
    support = Support(0)
    for option, (name, _) in _FEATURES.items():
        if flags[f"supports_{option.replace('-', '_')}"]:
            support |= Support[name]
    instance = simulator.build(
        profile, support, critical_dice_extensions=flags["mark_dice_extensions_critical"]
    )
    try:
        simulator.serve(instance, flags["socket"])
    except OSError as error:
        raise click.ClickException(f"cannot serve on {flags['socket']}: {error}") from error


@click.command()
@click.option(
    "--profile",
    type=click.Choice(["p384", "mldsa87"]),
    default="p384",
    show_default=True,
    help="The algorithms: P-384 with SHA-384, or ML-DSA-87.",
)
@_options
def main(profile: str, **flags: Any) -> None:
    """Serve a DPE with public test secrets on a Unix socket, until SIGTERM.

    One connection is one command: locality (u32, little-endian), then the command; the answer
    comes back and the connection closes.
    """
    from casemate.formats.dpe import Profile

    _run(Profile.P384_SHA384 if profile == "p384" else Profile.ML_DSA_87, flags)


@click.command()
@_options
def main_p384(**flags: Any) -> None:
    """Serve a P-384 DPE with public test secrets on a Unix socket, until SIGTERM."""
    from casemate.formats.dpe import Profile

    _run(Profile.P384_SHA384, flags)


@click.command()
@_options
def main_mldsa87(**flags: Any) -> None:
    """Serve an ML-DSA-87 DPE with public test secrets on a Unix socket, until SIGTERM."""
    from casemate.formats.dpe import Profile

    _run(Profile.ML_DSA_87, flags)
