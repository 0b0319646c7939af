"""`casemate rot evidence` and `binding`: what a verifier is sent, and how a key joins it."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
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
from casemate.cli.rot_invoke import Number
from casemate.formats import x509
from casemate.formats.key_binding import key_binding
from casemate.formats.mailbox import MailboxFormatError
from casemate.rot import certificate_files
from casemate.rot.attester import Attester, LocalAttester, MailboxAttester
from casemate.rot.boot import RootOfTrust
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


mailbox_option = click.option(
    "--mailbox",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="CASEMATE_ROT_MAILBOX",
    help="Ask the running device at this socket of `casemate rot serve`, as PL0 "
    "[CASEMATE_ROT_MAILBOX]; --device then only names its folder.",
)
user_option = click.option(
    "--user", type=Number(), default=0, show_default=True, help="With --mailbox: the PL0 user."
)


@contextlib.contextmanager
def _attester(
    choice: Choice, mailbox: Path | None, user: int
) -> Iterator[tuple[Attester, RootOfTrust | None]]:
    """Who makes the evidence: a device behind its mailbox, or one that is booted here."""
    if mailbox is None:
        root = choice.boot(make_requests=choice.folder is None)
        yield LocalAttester(root, RuntimeDpe(root, random=os.urandom)), root
        return
    from casemate.rot.mailbox.client import MailboxClient

    try:
        with MailboxClient(mailbox, user) as client:
            yield MailboxAttester(client.run), None
    except MailboxFormatError as error:
        raise RotError(f"{mailbox}: {error}") from None
    except OSError as error:
        raise RotError(f"{mailbox}: no device answers here: {error}") from None


@click.command()
@boot_options
@mailbox_option
@user_option
@nonce_option
@click.option(
    "--key-report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A partition's key report (COSE_Sign1) to send along.",
)
@click.option(
    "--partition-chain",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The certificates (PEM) of the key that signed the key report: "
    "`casemate key attest --chain` writes them.",
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
    mailbox: Path | None,
    user: int,
    nonce: bytes,
    key_report: Path | None,
    partition_chain: Path | None,
    algorithm: str,
    out: Path | None,
    as_json: bool,
) -> None:
    """Write an EAT in the OCP profile for a verifier's nonce, signed under a DPE leaf.

    It holds the measurements, the PCR quote and log, the DICE chain and the anchor's name, and a
    key report if one is given: see `casemate rot binding` for what its report data must be.
    """
    report = None if key_report is None else _read(key_report)
    with _attester(choice, mailbox, user) as (attester, root):
        token = make_evidence(
            attester,
            nonce=nonce,
            token_id=os.urandom(16),
            algorithm=Algorithm(algorithm),
            anchor=_anchor(choice, mailbox),
            idevid_certificate=_idevid_certificate(choice, root, Algorithm(algorithm)),
            key_report=report,
            partition_chain=() if partition_chain is None else _pem_chain(partition_chain),
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
@mailbox_option
@user_option
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
    *,
    choice: Choice,
    mailbox: Path | None,
    user: int,
    nonce: bytes,
    partition: Path,
    algorithm: str,
    as_json: bool,
) -> None:
    """Show the report data that ties a partition's key report to the evidence for a nonce."""
    with _attester(choice, mailbox, user) as (attester, _):
        leaf = leaf_certificate(attester, Algorithm(algorithm))
    key = public_key_of(_read(partition), str(partition))
    data = key_binding(nonce, x509.read_certificate(leaf).spki, key)
    if as_json:
        print_json({"report_data": data.hex(), "leaf_certificate": leaf.hex()})
        return
    print_fields((("report data", data.hex()), ("nonce", nonce.hex()), ("partition", partition)))


def _anchor(choice: Choice, mailbox: Path | None) -> str:
    return "unknown" if mailbox is not None and choice.folder is None else choice.anchor.name


def _idevid_certificate(
    choice: Choice, root: RootOfTrust | None, algorithm: Algorithm
) -> bytes | None:
    if choice.folder is not None:
        return choice.folder.certificate("idevid_cert", algorithm)
    if root is None:
        return None
    files = certificate_files.manufacturer_files(root, choice.read_fuses(), None)
    return files.get(f"idevid_cert_{algorithm.value}.der")


def _pem_chain(path: Path) -> tuple[bytes, ...]:
    """The certificates (DER) of a PEM file, in its order. Raises RotError."""
    from cryptography import x509 as pyca
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        found = pyca.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise RotError(f"{path}: expected certificates in PEM: {error}") from None
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


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
