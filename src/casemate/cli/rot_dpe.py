"""`casemate rot dpe`: the runtime's DPE: what it measured, and what it certifies."""

from __future__ import annotations

import os
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._module import print_json, print_table
from casemate.cli._parameters import Hexadecimal
from casemate.cli._rot import (
    Choice,
    algorithm_option,
    boot_options,
    json_option,
    reports_rot_errors,
)
from casemate.formats.dpe import CertificateFormat
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm
from casemate.rot.runtime_dpe import RuntimeDpe, profile_of


@click.command()
@boot_options
@click.option("--stash", multiple=True, help="Measure first, as TYPE=HEX (4 characters, 48 bytes).")
@click.option(
    "--label",
    type=Hexadecimal(48),
    default="00" * 48,
    help="Which key of the default context to certify (48 bytes, hex) [zeros].",
)
@click.option("--csr", is_flag=True, help="A CSR (in CMS) instead of a certificate.")
@algorithm_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File for the DER.")
@json_option
@reports_rot_errors
def dpe(
    *,
    choice: Choice,
    stash: tuple[str, ...],
    label: bytes,
    csr: bool,
    algorithm: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show the DPE's contexts after a cold boot, and certify a leaf key."""
    root = choice.boot()
    environment = RuntimeDpe(root, random=os.urandom)
    for kind, measurement in map(_stashed, stash):
        environment.stash(measurement, metadata=kind)
    form = CertificateFormat.CSR if csr else CertificateFormat.X509
    certified = environment.certify(profile_of(Algorithm(algorithm)), label, form)
    nodes = environment.measurements()
    if out is not None:
        try:
            out.write_bytes(certified)
        except OSError as error:
            raise RotError(f"{out}: cannot be written: {error.strerror}") from None
    if as_json:
        print_json(
            {
                "algorithm": algorithm,
                "contexts": [
                    {
                        "type": _kind(node.tci_type),
                        "locality": node.locality,
                        "svn": node.svn,
                        "current": node.current.hex(),
                        "cumulative": node.cumulative.hex(),
                    }
                    for node in nodes
                ],
                "csr" if csr else "certificate": certified.hex(),
            }
        )
        return
    print_table(
        ("type", "locality", "SVN", "current", "cumulative"),
        (
            (
                _kind(node.tci_type),
                f"{node.locality:#x}",
                str(node.svn),
                node.current.hex(),
                node.cumulative.hex(),
            )
            for node in nodes
        ),
    )
    what = "CSR" if csr else "certificate"
    where = "" if out is None else f", written to {out}"
    remark = Text(f"{what} of the leaf: {len(certified)} bytes{where}", style="dim")
    Console(stderr=True, soft_wrap=True).print(remark)


def _stashed(text: str) -> tuple[bytes, bytes]:
    kind, _, digest = text.partition("=")
    try:
        measurement = bytes.fromhex(digest)
    except ValueError:
        measurement = b""
    if len(kind.encode()) != 4 or len(measurement) != 48:
        raise click.UsageError(f"--stash {text}: expected TYPE=HEX: 4 characters, 48 bytes")
    return kind.encode(), measurement


def _kind(number: int) -> str:
    """A type as text: the runtime's own are big-endian words, stashed ones bytes in order."""
    if (own := number.to_bytes(4, "big")) in (b"RTMR", b"CCIV"):
        return own.decode()
    raw = number.to_bytes(4, "little")
    return raw.decode() if raw.isalnum() else f"{number:#010x}"
