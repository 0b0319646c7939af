"""`casemate partition`: the tenants of the module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from casemate.cli._module import (
    PARTITION,
    admin,
    json_option,
    print_fields,
    print_json,
    reports_errors,
    runtime_option,
)
from casemate.cli._parameters import Group
from casemate.cli.status import render_partitions

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@click.group()
def partition() -> None:
    """Make, change and destroy partitions: one key table, one socket, one tenant each."""


def policy_options(command: Decorated) -> Decorated:
    """Add one option for each field of a policy; what is not given stays as it is."""
    options = [
        click.option("--pin-required/--no-pin-required", default=None, help="Ask for PINs."),
        click.option(
            "--legacy-test/--no-legacy-test",
            default=None,
            help="RSA-1024 and SHA-1 signatures, for outside test suites only.",
        ),
        click.option("--keys", type=int, help="Most objects [4096]."),
        click.option("--sessions", type=int, help="Most sessions [1024]."),
        click.option("--connections", type=int, help="Most connected clients [256]."),
        click.option("--mapped-bytes", type=int, help="Most shared memory in bytes [1 GiB]."),
        click.option("--workers", type=int, help="Threads that serve it; 0: silicon chooses."),
        click.option("--weight", type=int, help="Share of a busy host [100]."),
        click.option("--spin", type=int, help="Microseconds a worker waits awake, at most [200]."),
        click.option(
            "--mechanism",
            "mechanisms",
            multiple=True,
            help="Allow only this mechanism (CKM_ name or number); may be repeated.",
        ),
        click.option(
            "--access",
            type=click.Choice(["shared", "unlisted", "group", "owner"]),
            help="Who reaches its folder: all (0755), who knows the path (0711), "
            "one group (0750), the module's user (0700).",
        ),
        click.option(
            "--group", type=Group(), help="The group for --access group, by name or number."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def policy_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the policy fields that were given, as the admin socket carries them."""
    policy = {name: value for name, value in given.items() if value not in (None, ())}
    if "mechanisms" in policy:
        policy["mechanisms"] = [_mechanism(name) for name in policy["mechanisms"]]
    if "group" in policy:
        policy.setdefault("access", "group")
    return policy


def _mechanism(name: str) -> int:
    from casemate.formats.pkcs11 import Mechanism

    try:
        return int(name, 0)
    except ValueError:
        pass
    plain = name.upper().replace("-", "_").removeprefix("CKM_")
    if plain not in Mechanism.__members__:
        raise click.BadParameter(f"there is no mechanism {name!r}", param_hint="--mechanism")
    return int(Mechanism[plain])


@partition.command("create")
@click.argument("name")
@policy_options
@runtime_option
@json_option
@reports_errors
def create(name: str, runtime: Path | None, as_json: bool, **given: Any) -> None:
    """Make a partition; programs reach it at once."""
    _ask(runtime, as_json, "partition.create", name=name, policy=policy_of(given))


@partition.command("list")
@runtime_option
@json_option
@reports_errors
def list_(runtime: Path | None, as_json: bool) -> None:
    """Show every partition."""
    with admin(runtime) as module:
        found = module.call("partition.list")
    if as_json:
        print_json(found)
    else:
        render_partitions(found)


@partition.command("show")
@click.argument("name", type=PARTITION)
@runtime_option
@json_option
@reports_errors
def show(name: str, runtime: Path | None, as_json: bool) -> None:
    """Show one partition: limits, what is in use, its socket."""
    _ask(runtime, as_json, "partition.show", name=name)


@partition.command("resize")
@click.argument("name", type=PARTITION)
@policy_options
@runtime_option
@json_option
@reports_errors
def resize(name: str, runtime: Path | None, as_json: bool, **given: Any) -> None:
    """Change limits and permissions while it serves; what is not given stays."""
    _ask(runtime, as_json, "partition.set-policy", name=name, policy=policy_of(given))


@partition.command("suspend")
@click.argument("name", type=PARTITION)
@runtime_option
@json_option
@reports_errors
def suspend(name: str, runtime: Path | None, as_json: bool) -> None:
    """Have a partition refuse until it is resumed; its keys stay."""
    _ask(runtime, as_json, "partition.suspend", name=name)


@partition.command("resume")
@click.argument("name", type=PARTITION)
@runtime_option
@json_option
@reports_errors
def resume(name: str, runtime: Path | None, as_json: bool) -> None:
    """Have a suspended partition serve again."""
    _ask(runtime, as_json, "partition.resume", name=name)


@partition.command("destroy")
@click.argument("name", type=PARTITION)
@click.option("--yes", is_flag=True, help="Do not ask.")
@runtime_option
@json_option
@reports_errors
def destroy(name: str, yes: bool, runtime: Path | None, as_json: bool) -> None:
    """Destroy a partition with all its keys, for good."""
    with admin(runtime) as module:
        found = module.call("partition.show", name=name)
        if not yes:
            count = found.get("in_use", {}).get("token_objects", "unknown many")
            click.confirm(
                f"Destroy partition {name} and its stored objects ({count}) for good?", abort=True
            )
        module.call("partition.destroy", name=name)
    if as_json:
        print_json({"destroyed": name})
    else:
        click.echo(f"destroyed {name}")


def _ask(runtime: Path | None, as_json: bool, command: str, **arguments: Any) -> None:
    """Send a command that answers with the partition it is about, and show that."""
    with admin(runtime) as module:
        described = module.call(command, **arguments)
    if as_json:
        print_json(described)
        return
    policy, used = described["policy"], described.get("in_use", {})
    print_fields(
        [
            ("partition", described["name"]),
            ("id", described["id"]),
            ("state", described["state"] + _reason(described)),
            ("socket", described["socket"]),
            ("identity", described.get("identity", "-")),
            *((f"limit {name}", value) for name, value in policy.items()),
            *((f"in use {name}", value) for name, value in used.items()),
        ]
    )


def _reason(described: dict[str, Any]) -> str:
    return f": {described['reason']}" if "reason" in described else ""
