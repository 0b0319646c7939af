"""`casemate verifier reprove`: a verdict of before, made again from what was kept of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casemate.attestation.errors import InputError
from casemate.cli._attestation import reports_attestation_errors
from casemate.cli._module import json_option, print_fields, print_json, working
from casemate.cli._verifier import folder_option, write_files

if TYPE_CHECKING:
    from casemate.attestation.service.reproof import Reproof

#: Exit code where another verdict came of it.
EXIT_DIFFERS = 3


@click.command()
@click.argument("appraisal")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write evidence, collateral and the documents of then into a new folder.",
)
@folder_option
@json_option
@reports_attestation_errors
def reprove(*, appraisal: str, out: Path | None, folder: Path, as_json: bool) -> None:
    """Make the verdict of APPRAISAL again, from the bytes, the time and the policy of then.

    It reads the service's database, or a copy of it, and changes nothing; the service may run.

    \b
    Exit codes: 0 the same verdict, word for word; 3 another one; 1 it cannot be made again.
    """
    from casemate.attestation.service import identifiers, reproof
    from casemate.attestation.service.database import connection, schema
    from casemate.attestation.service.errors import RefusedError

    path = folder / "verifier.db"
    with connection.store_errors(path):
        database = connection.open_reader(path)
        try:
            name = schema.database_id(database)
            number = identifiers.number(name, appraisal, where="appraisal")
            with working("appraising again"):
                found = reproof.reprove(database, number)
            if out is not None:
                write_files(out, reproof.files_of(database, number))
        except RefusedError as error:
            raise InputError(f"{error}: {error.expected}") from None
        finally:
            database.close()
    if as_json:
        print_json(
            {
                "appraisal": appraisal,
                "holds": found.holds,
                "differences": found.differences,
                "program": found.program,
                "kept": found.kept,
                "made": found.made,
            }
        )
    else:
        _show(appraisal, found)
    sys.exit(0 if found.holds else EXIT_DIFFERS)


def _show(appraisal: str, found: Reproof) -> None:
    import casemate

    then, now = found.states
    same = "the same verdict, word for word"
    print_fields(
        [
            ("appraisal", appraisal),
            ("at", found.kept["at"]),
            ("then", f"{then.value} (by version {found.program})"),
            ("now", f"{now.value} (by version {casemate.__version__})"),
            ("result", same if found.holds else f"differs in: {', '.join(found.differences)}"),
            *(("reason then", reason) for reason in found.kept["reasons"]),
            *(("reason now", reason) for reason in ([] if found.holds else found.made["reasons"])),
        ]
    )
