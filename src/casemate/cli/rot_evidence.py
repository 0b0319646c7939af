"""`casemate rot evidence` and `binding`: what a verifier is sent, and how a key joins it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from casemate.cli._module import print_fields, print_json
from casemate.cli._rot import (
    Choice,
    algorithm_option,
    boot_options,
    json_option,
    reports_rot_errors,
)
from casemate.formats import x509
from casemate.formats.key_binding import key_binding
from casemate.rot import certificate_files
from casemate.rot.errors import RotError
from casemate.rot.evidence import evidence as make_evidence
from casemate.rot.evidence import leaf_certificate, public_key_of
from casemate.rot.identity import Algorithm
from casemate.rot.runtime_dpe import RuntimeDpe


class VerifierNonce(click.ParamType[bytes]):
    """A verifier's nonce: 8 to 64 bytes in hexadecimal."""

    name = "hex"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Return the bytes."""
        try:
            data = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            self.fail("expected hexadecimal digits", param, ctx)
        if not 8 <= len(data) <= 64:
            self.fail(f"expected 8 to 64 bytes, found {len(data)}", param, ctx)
        return data


nonce_option = click.option(
    "--nonce", type=VerifierNonce(), required=True, help="The verifier's nonce (hex)."
)


@click.command()
@boot_options
@nonce_option
@click.option(
    "--key-report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A partition's key report (COSE_Sign1) to send along.",
)
@algorithm_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the token [standard output, unless it is a terminal].",
)
@json_option
@reports_rot_errors
def evidence(
    *,
    choice: Choice,
    nonce: bytes,
    key_report: Path | None,
    algorithm: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write an EAT in the OCP profile for a verifier's nonce, signed under a DPE leaf.

    It holds the measurements, the PCR quote and log, the DICE chain and the anchor's name, and a
    key report if one is given: see `casemate rot binding` for what its report data must be.
    """
    chosen = Algorithm(algorithm)
    root = choice.boot(make_requests=choice.folder is None)
    files = certificate_files.manufacturer_files(root, choice.read_fuses(), choice.folder)
    token = make_evidence(
        root,
        RuntimeDpe(root, random=os.urandom),
        nonce=nonce,
        token_id=os.urandom(16),
        algorithm=chosen,
        anchor=choice.anchor.name,
        idevid_certificate=files.get(f"idevid_cert_{algorithm}.der"),
        key_report=None if key_report is None else _read(key_report),
    )
    if out is not None:
        _write(out, token)
    if as_json:
        print_json({"algorithm": algorithm, "nonce": nonce.hex(), "token": token.hex()})
    elif out is None:
        if sys.stdout.isatty():
            raise click.UsageError("the token is binary: give --out FILE or --json")
        click.echo(token, nl=False)
    else:
        remark = Text(f"{len(token)} bytes written to {out}", style="dim")
        Console(stderr=True, soft_wrap=True).print(remark)


@click.command()
@boot_options
@nonce_option
@click.option(
    "--partition",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The partition's certificate or public key (DER).",
)
@algorithm_option
@json_option
@reports_rot_errors
def binding(
    *, choice: Choice, nonce: bytes, partition: Path, algorithm: str, as_json: bool
) -> None:
    """Show the report data that ties a partition's key report to the evidence for a nonce."""
    root = choice.boot()
    leaf = leaf_certificate(RuntimeDpe(root, random=os.urandom), Algorithm(algorithm))
    key = public_key_of(_read(partition), str(partition))
    data = key_binding(nonce, x509.read_certificate(leaf).spki, key)
    if as_json:
        print_json({"report_data": data.hex(), "leaf_certificate": leaf.hex()})
        return
    print_fields((("report data", data.hex()), ("nonce", nonce.hex()), ("partition", partition)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RotError(f"{path}: cannot be read: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise RotError(f"{path}: cannot be written: {error.strerror}") from None
