"""`casemate status`: what the module is doing."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
def status(runtime: Path | None, as_json: bool) -> None:
    """Show the module's state and its partitions; `casemate top` shows them at work.

    \b
    Exit codes: 0 operational; 1 no module answers; 4 the module runs but does not serve.
    """
    with admin(runtime) as module:
        answer = module.call("status")
    if as_json:
        print_json(answer)
    else:
        render(answer)
    if answer["state"] != "operational":
        raise SystemExit(4)


def render(answer: dict[str, Any]) -> None:
    """Print a status for people."""
    started = datetime.fromtimestamp(answer["started"], UTC)
    print_fields(
        [
            ("state", answer["state"]),
            ("process", f"{answer['pid']} (user {answer['user']}, version {answer['version']})"),
            ("since", f"{started:%Y-%m-%d %H:%M:%S} UTC ({_age(answer['started'])})"),
            ("state folder", answer["state_folder"]),
            ("sockets", answer["runtime_folder"]),
            ("sealing", answer["sealing"]),
            ("measured", answer["measured"]),
            ("rollback", answer["rollback"]),
            ("store", answer["store"]),
        ]
    )
    click.echo()
    render_partitions(answer["partitions"])


def render_partitions(partitions: list[dict[str, Any]]) -> None:
    """Print partitions as a table."""
    if not partitions:
        click.echo("no partitions; make one with: casemate partition create NAME")
        return
    print_table(
        [
            "partition",
            "state",
            "keys",
            "sessions",
            "connections",
            "operations",
            "errors",
            "queue",
            "policy",
        ],
        [_row(partition) for partition in partitions],
    )


def _row(partition: dict[str, Any]) -> list[str]:
    policy, used = partition["policy"], partition.get("in_use", {})

    def of(count: str, limit: str) -> str:
        return f"{used[count]}/{policy[limit]}" if used else "-"

    notes = [policy["access"]]
    notes += ["PIN"] if policy["pin_required"] else []
    notes += ["LEGACY-TEST (RSA-1024, SHA-1)"] if policy["legacy_test"] else []
    notes += [f"{len(policy['mechanisms'])} mechanisms"] if policy["mechanisms"] else []
    notes += [partition["reason"]] if "reason" in partition else []
    return [
        partition["name"],
        partition["state"],
        of("objects", "keys"),
        of("sessions", "sessions"),
        of("connections", "connections"),
        str(used.get("operations", "-")),
        str(used.get("errors", "-")),
        str(used["waiting"] + used["in_hand"]) if used else "-",
        ", ".join(notes),
    ]


def _age(since: float) -> str:
    seconds = int(time.time() - since)
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} seconds"
