"""`casemate appraise`: evidence in, a verdict out, and an exit code that says which."""

from __future__ import annotations

import os
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from casemate.attestation.evidence.family import Quirk
from casemate.attestation.states import State
from casemate.cli._attestation import (
    NonceHex,
    Time,
    load_policy,
    load_references,
    reports_attestation_errors,
)
from casemate.cli._module import json_option, print_json

if TYPE_CHECKING:
    from casemate.attestation.collateral.supply import Supply
    from casemate.attestation.verifier import Verifier

EXIT_CODES = {
    State.AFFIRMING: 0,
    State.WARNING: 10,
    State.CONTRAINDICATED: 11,
    State.COULD_NOT_APPRAISE: 12,
}
_FILE = click.Path(path_type=Path, exists=True)
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("evidence", nargs=-1, required=True, type=_FILE)
@click.option("--endorsement", "-e", multiple=True, type=_FILE, help="Certificates, keys, CRLs.")
@click.option("--reference", "-r", multiple=True, type=_FILE, help="Reference values (CoRIM).")
@click.option("--anchor", "-a", multiple=True, type=_FILE, help="What trust ends at.")
@click.option(
    "--policy",
    "-p",
    default="default",
    show_default=True,
    help="A policy file, or default or development.",
)
@click.option("--at", type=Time(), help="Time of appraisal (RFC 3339) [now].")
@click.option("--nonce", type=NonceHex(), help="The nonce that the evidence must answer (hex).")
@click.option(
    "--quirk",
    multiple=True,
    type=click.Choice([quirk.value for quirk in Quirk]),
    help="Accept a named deviation from a standard.",
)
@click.option(
    "--collateral",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CASEMATE_COLLATERAL",
    help="A folder of `casemate collateral` [CASEMATE_COLLATERAL].",
)
@click.option(
    "--stale-until",
    type=Time(),
    help="Take collateral that ended after this time (RFC 3339) [none that ended].",
)
@click.option(
    "--require-revocation",
    is_flag=True,
    help="Every issuer of a vendor's certificate must have a CRL.",
)
@click.option("--correlation-id", help="Name of this appraisal in logs and results [random].")
@click.option(
    "--ear",
    type=click.Choice(["jwt", "cwt"]),
    help="Write the result as an EAR too: needs --sign-key and --out.",
)
@click.option("--sign-key", help="The result's P-384 key: a PEM file or a pkcs11: URI.")
@click.option(
    "--lifetime",
    type=click.IntRange(1, 86_400),
    default=300,
    show_default=True,
    help="Seconds that the EAR holds.",
)
@click.option("--out", "-o", type=_OUT, help="File for the EAR; with --bulk, for all verdicts.")
@click.option(
    "--bulk",
    is_flag=True,
    help="Many hosts: EVIDENCE are folders with an entry for each, or .jsonl files.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    default=os.cpu_count() or 1,
    help="Processes for --bulk [one for each CPU].",
)
@json_option
@reports_attestation_errors
def appraise(
    *,
    evidence: tuple[Path, ...],
    endorsement: tuple[Path, ...],
    reference: tuple[Path, ...],
    anchor: tuple[Path, ...],
    policy: str,
    at: datetime | None,
    nonce: bytes | None,
    quirk: tuple[str, ...],
    collateral: Path | None,
    stale_until: datetime | None,
    require_revocation: bool,
    correlation_id: str | None,
    ear: str | None,
    sign_key: str | None,
    lifetime: int,
    out: Path | None,
    bulk: bool,
    workers: int,
    as_json: bool,
) -> None:
    """Decide whether a host may be trusted, by its evidence.

    EVIDENCE are the files of one host; each file's kind is read from its bytes, and a folder stands
    for its files. A self-signed certificate, certificate request or public key given with
    --endorsement is an anchor that trust may end at; for SEV-SNP and TDX, whose vendors' roots are
    known, a root of another's must be named with --anchor.

    \b
    Exit codes (with --bulk, of the worst host):
       0  affirming: authentic, and everything met its reference values
      10  warning: authentic, but not affirmed (no reference values, or something to look at)
      11  contraindicated: not authentic, not readable, or not what it should be
      12  could not appraise: something that the verifier needs is missing or failed
       1  a file given cannot be used   2  the command line was wrong
    """
    from casemate.attestation import input as given
    from casemate.attestation.collateral.store import CollateralStore
    from casemate.attestation.collateral.supply import Supply
    from casemate.attestation.collateral.wanted import for_evidence
    from casemate.attestation.evidence import registry
    from casemate.attestation.verifier import Verifier

    if (ear is None) != (sign_key is None) or (ear is not None and (out is None or bulk)):
        raise click.UsageError("an EAR needs --ear, --sign-key and --out, and is of one host")
    if out is not None and ear is None and not bulk:
        raise click.UsageError("--out is for --ear or --bulk; --json prints the verdict")
    time = at or datetime.now(UTC)
    sorted_ = given.sort(
        evidence=() if bulk else given.read_files(evidence),
        endorsements=given.read_files(endorsement),
        references=given.read_files(reference),
        anchors=given.read_files(anchor),
        families=registry.families(),
        stale_until=stale_until,
        require_revocation=require_revocation,
    )
    supply = None if collateral is None else Supply(CollateralStore(collateral))
    endorsements = sorted_.endorsements
    verifier = Verifier(
        endorsements if supply is None else endorsements.with_(supply.standing()),
        load_references(sorted_, time, reference),
        load_policy(policy),
        frozenset(map(Quirk, quirk)),
    )
    if bulk:
        _appraise_many(
            evidence,
            verifier,
            at=time,
            nonce=nonce,
            workers=workers,
            out=out,
            collateral=supply,
            as_json=as_json,
        )
    verdict = verifier.appraise(
        sorted_.pieces,
        at=time,
        nonce=nonce,
        correlation_id=correlation_id or str(uuid.uuid4()),
        along=None if supply is None else supply.supply(for_evidence(sorted_.pieces)),
    )
    if ear is not None and sign_key is not None and out is not None:
        from casemate.cli import _result

        _result.write(
            verdict,
            form=ear,
            key=sign_key,
            out=out,
            lifetime=timedelta(seconds=lifetime),
            now=datetime.now(UTC),
        )
    if as_json:
        from casemate.attestation.appraisal.document import document

        print_json(document(verdict))
    else:
        from casemate.cli import _verdict

        _verdict.show(verdict)
    sys.exit(EXIT_CODES[verdict.state])


def _appraise_many(
    evidence: tuple[Path, ...],
    verifier: Verifier,
    *,
    at: datetime,
    nonce: bytes | None,
    workers: int,
    out: Path | None,
    collateral: Supply | None,
    as_json: bool,
) -> NoReturn:
    from casemate.cli import _bulk

    summary, seconds = _bulk.run(
        evidence,
        verifier,
        at=at,
        nonce=nonce,
        workers=workers,
        out=out,
        collateral=collateral,
    )
    if as_json:
        print_json(_bulk.as_json(summary, seconds))
    else:
        _bulk.show(summary, seconds)
    sys.exit(EXIT_CODES[_bulk.state_of(summary)])
