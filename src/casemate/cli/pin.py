"""`casemate pin`: the PINs of a partition that asks for them."""

from __future__ import annotations

import os
from pathlib import Path

import click

from casemate.cli._module import PARTITION, json_option, print_json, reports_errors

so_pin_option = click.option(
    "--so-pin-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the security officer's PIN [asked for].",
)
new_pin_option = click.option(
    "--new-pin-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the new user PIN [asked for, twice].",
)


@click.group()
def pin() -> None:
    """Set and change PINs; the security officer's unlocks the user's."""


def _read(path: Path | None, prompt: str, *, twice: bool = False) -> bytes:
    if path is not None:
        return path.read_bytes().rstrip(b"\r\n")
    typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True)
    return typed.encode()


def _done(name: str, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"partition": name, "done": what})
    else:
        click.echo(f"{name}: {what}")


@pin.command("init")
@click.argument("name", type=PARTITION)
@so_pin_option
@new_pin_option
@json_option
@reports_errors
def init(*, name: str, so_pin_file: Path | None, new_pin_file: Path | None, as_json: bool) -> None:
    """Set both PINs of a new partition: the security officer's, then the user's.

    On a partition that has objects it destroys them, as C_InitToken does.
    """
    from casemate.hsm.client import connect, discovery, pins

    path = discovery.find_socket(name, os.environ, os.geteuid())
    so_pin = _read(so_pin_file, "Security officer's PIN", twice=True)
    user_pin = _read(new_pin_file, "User PIN", twice=True)
    with connect(name) as partition:
        count = sum(1 for _ in partition.objects())
    if count:
        click.confirm(f"Partition {name} has {count} objects; destroy them?", abort=True, err=True)
    pins.initialise(path, label=name, so_pin=so_pin)
    with connect(name) as partition:
        pins.set_user_pin(partition, so_pin=so_pin, pin=user_pin)
    _done(name, "both PINs are set", as_json=as_json)


@pin.command("unlock")
@click.argument("name", type=PARTITION)
@so_pin_option
@new_pin_option
@json_option
@reports_errors
def unlock(
    *, name: str, so_pin_file: Path | None, new_pin_file: Path | None, as_json: bool
) -> None:
    """As the security officer set a new user PIN; keys stay."""
    from casemate.hsm.client import connect, pins

    so_pin = _read(so_pin_file, "Security officer's PIN")
    user_pin = _read(new_pin_file, "New user PIN", twice=True)
    with connect(name) as partition:
        pins.set_user_pin(partition, so_pin=so_pin, pin=user_pin)
    _done(name, "the user PIN is set", as_json=as_json)


@pin.command("change")
@click.argument("name", type=PARTITION)
@click.option(
    "--old-pin-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with the present user PIN [asked for].",
)
@new_pin_option
@json_option
@reports_errors
def change(
    *, name: str, old_pin_file: Path | None, new_pin_file: Path | None, as_json: bool
) -> None:
    """Change the user PIN."""
    from casemate.hsm.client import connect, pins

    old = _read(old_pin_file, "Present user PIN")
    new = _read(new_pin_file, "New user PIN", twice=True)
    with connect(name) as partition:
        pins.change_pin(partition, old=old, new=new)
    _done(name, "the user PIN is changed", as_json=as_json)
