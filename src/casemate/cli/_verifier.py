"""What the commands that talk to a verifier share: where it is, who asks, durations."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from casemate.attestation.client import VerifierClient, VerifierError
from casemate.attestation.errors import AttestationError, InputError
from casemate.cli._module import fail

R = TypeVar("R")
DEFAULT_URL = "http://127.0.0.1:8460"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[timedelta]):
    """A duration: a number and s, m, h or d."""

    name = "duration"

    def convert(
        self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", value)
        if match is None:
            self.fail("expected such as 90s, 5m, 24h or 30d", param, ctx)
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


class Size(click.ParamType[int]):
    """A number of bytes, with K, M, G or T for powers of 1024."""

    name = "size"

    def convert(
        self, value: str | int, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the bytes."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,12})([KMGT]?)", value)
        if match is None:
            self.fail("expected such as 500M or 10G", param, ctx)
        return int(match[1]) << (10 * " KMGT".index(match[2] or " "))


DURATION, SIZE = Duration(), Size()
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _default_folder() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/casemate-verifier")
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "casemate-verifier"


folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="CASEMATE_VERIFIER_FOLDER",
    default=_default_folder,
    help="Folder of database, events and the results' key [CASEMATE_VERIFIER_FOLDER; "
    "/var/lib/casemate-verifier for root].",
)


def talks_to_verifier(command: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options of a client, and call it with `client`; print its errors.

    With --json an error is an object on standard output, {"error": {...}}.
    """

    @click.option(
        "--url",
        envvar="CASEMATE_VERIFIER_URL",
        default=DEFAULT_URL,
        show_default=True,
        help="The verifier [CASEMATE_VERIFIER_URL].",
    )
    @click.option(
        "--token-file",
        type=_FILE,
        help="File with the bearer token [else CASEMATE_VERIFIER_TOKEN is the token].",
    )
    @click.option("--ca", type=_FILE, help="CA of the verifier's certificate (PEM).")
    @click.option("--certificate", type=_FILE, help="The client's certificate (PEM).")
    @click.option("--key", type=_FILE, help="The client's key (PEM).")
    @functools.wraps(command)
    def wrapped(
        *,
        url: str,
        token_file: Path | None,
        ca: Path | None,
        certificate: Path | None,
        key: Path | None,
        **rest: Any,
    ) -> R:
        as_json = bool(rest.get("as_json"))
        try:
            token = _token(token_file)
            with VerifierClient(
                url, token=token, ca=ca, certificate=certificate, key=key
            ) as client:
                return command(client=client, **rest)
        except VerifierError as error:
            _fail(error, as_json=as_json)
        except AttestationError as error:
            fail({"what": str(error)}, as_json=as_json)
        raise AssertionError("fail() ends the program")

    return wrapped


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("CASEMATE_VERIFIER_TOKEN") or None
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: no token can be read: {error}") from None


def _fail(error: VerifierError, *, as_json: bool) -> NoReturn:
    where = [error.where] if error.where else []
    where += [f"expected {error.expected}"] if error.expected else []
    where += [f"found {error.found}"] if error.found else []
    fields = {
        "what": str(error),
        "where": ", ".join(where),
        "advice": error.advice,
        "correlation_id": error.correlation_id,
    }
    if error.state is not None:
        fields["state"] = error.state.value
    fail({name: value for name, value in fields.items() if value}, as_json=as_json)
    raise AssertionError("fail() ends the program")


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write files by name into a new folder. Raises InputError."""
    try:
        folder.mkdir(parents=True)
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror}") from None
