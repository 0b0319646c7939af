"""`casemate policy`: show, check and test appraisal policies."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from casemate.cli._attestation import load_policy, reports_attestation_errors
from casemate.cli._module import json_option, print_fields, print_json, print_table

if TYPE_CHECKING:
    from casemate.attestation.appraisal.policy import Policy

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
#: Exit code of `lint` with remarks and of `test` with a test that fails.
EXIT_REMARKS = 3


@click.group()
def policy() -> None:
    """Show, check and test the policies that decide an appraisal.

    POLICY is a file, or the name of a built-in one: default, development.
    """


@policy.command()
@click.argument("name", metavar="POLICY")
@click.option("--source", is_flag=True, help="Print a built-in policy's file, to begin from.")
@json_option
@reports_attestation_errors
def show(*, name: str, source: bool, as_json: bool) -> None:
    """Show a policy's clauses, those of the policy that it extends first."""
    if source:
        from casemate.attestation.appraisal.policy import built_in_text

        click.echo(built_in_text(name).decode(), nl=False)
        return
    read = load_policy(name)
    if as_json:
        print_json(_document(read))
        return
    print_fields(
        (("policy", read.id.name), ("version", read.id.version), ("digest", read.id.digest.hex()))
    )
    click.echo()
    rows = [
        [
            clause.name,
            clause.state.value,
            "whole" if clause.on_whole else ", ".join(clause.components) or "every component",
            clause.condition.text,
        ]
        for clause in read.clauses
    ]
    print_table(["clause", "gives", "asked of", "when"], rows)


@policy.command()
@click.argument("name", metavar="POLICY")
@json_option
@reports_attestation_errors
def lint(*, name: str, as_json: bool) -> None:
    """Say what is probably wrong with a policy; exit code 3 if anything is."""
    from casemate.attestation.appraisal import policy_lint

    found = list(policy_lint.remarks(load_policy(name)))
    if as_json:
        print_json({"remarks": found})
    else:
        for remark in found:
            click.echo(remark)
        if not found:
            click.echo("nothing to remark")
    sys.exit(EXIT_REMARKS if found else 0)


@policy.command()
@click.argument("files", metavar="TESTS...", nargs=-1, required=True, type=_FILE)
@click.option("--policy", "name", help="The policy to test [the one that each file names].")
@json_option
@reports_attestation_errors
def test(*, files: tuple[Path, ...], name: str | None, as_json: bool) -> None:
    """Run the tests of policies in files; exit code 3 if one fails.

    A test gives facts and comparisons, and names the state that must come out: docs/policy.md.
    """
    from casemate.attestation.appraisal import policy_tests
    from casemate.attestation.errors import InputError
    from casemate.attestation.input import read_file

    rows: list[dict[str, Any]] = []
    for path in files:
        tests = policy_tests.read(read_file(path).data, str(path))
        named = name or tests.policy
        if named is None:
            raise InputError(f"{path}: names no policy: give one with --policy")
        tested = load_policy(named, beside=None if name else path.parent)
        rows += [
            {
                "file": str(path),
                "test": outcome.name,
                "passed": outcome.passed,
                "expected": outcome.expected.value,
                "found": outcome.found.value,
                "clauses": list(outcome.clauses),
            }
            for outcome in tests.run(tested)
        ]
    failed = [row for row in rows if not row["passed"]]
    if as_json:
        print_json({"tests": rows, "failed": len(failed)})
    else:
        for row in failed:
            held = ", ".join(row["clauses"]) or "no clause"
            click.echo(
                f"FAILED {row['file']}: {row['test']}: expected {row['expected']}, "
                f"found {row['found']} ({held} held)"
            )
        click.echo(f"{len(rows) - len(failed)} of {len(rows)} tests passed")
    sys.exit(EXIT_REMARKS if failed else 0)


def _document(read: Policy) -> dict[str, Any]:
    return {
        "name": read.id.name,
        "version": read.id.version,
        "digest": read.id.digest.hex(),
        "clauses": [
            {
                "name": clause.name,
                "on": "whole" if clause.on_whole else "component",
                "component": list(clause.components),
                "family": sorted(clause.families),
                "when": clause.condition.text,
                "state": clause.state.value,
                "claim": None if clause.claim is None else clause.claim.json_name,
                "sentence": clause.sentence,
            }
            for clause in read.clauses
        ],
    }
