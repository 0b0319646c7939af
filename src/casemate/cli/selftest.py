"""`casemate selftest` and `casemate doctor`: is the module sound, and what protects it here."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from casemate.cli._module import (
    admin,
    json_option,
    print_fields,
    print_json,
    print_table,
    reports_errors,
    runtime_option,
)


@click.command()
@runtime_option
@json_option
@reports_errors
def selftest(runtime: Path | None, as_json: bool) -> None:
    """Run silicon's self-tests now; a failure ends all service.

    \b
    Exit codes: 0 all passed; 1 the module did not answer; 3 a test failed.
    """
    with admin(runtime) as module:
        answer = module.call("selftest")
    if as_json:
        print_json(answer)
    else:
        print_table(
            ["test", "result", "us"],
            [
                [test["name"], "passed" if test["passed"] else "FAILED", str(test["micros"])]
                for test in answer["tests"]
            ],
        )
    sys.exit(0 if answer["passed"] else 3)


@click.command()
@runtime_option
@json_option
@reports_errors
def doctor(runtime: Path | None, as_json: bool) -> None:
    """Show what protects the keys on this host, and what does not."""
    with admin(runtime) as module:
        answer = module.call("doctor")
    if as_json:
        print_json(answer)
        return
    soft, _ = answer["locked_memory_limit"]
    print_fields(
        [
            *((f"memory: {name}", value) for name, value in answer["memory"].items()),
            ("core files", "off" if answer["core_limit"] == 0 else "ON: set RLIMIT_CORE to 0"),
            ("lockable memory", "no limit" if soft == -1 else f"{soft} bytes"),
            ("python", answer["python"]),
            ("isolated", "yes" if answer["isolated"] else "NO: start it with casemate up"),
            ("kernel", answer["kernel"]),
            ("sealing", answer["sealing"]),
            *((f"SHA-384: {name}", digest) for name, digest in answer["measurements"].items()),
        ]
    )
