"""What every command inside a partition shares: which partition, which PIN, which key, files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from casemate.cli._module import PARTITION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from casemate.hsm.client import Key, Partition

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """The partition that the command line names, and where its PIN comes from."""

    name: str | None
    pin_file: Path | None

    @contextmanager
    def connected(self) -> Iterator[Partition]:
        """Connect, and log in if a PIN is given or asked for."""
        from casemate.hsm.client import connect

        with connect(self.name or _only_partition()) as partition:
            pin = self._pin()
            if pin is None and sys.stdin.isatty() and partition.info().login_required:
                pin = click.prompt("User PIN", hide_input=True, err=True).encode()
            if pin is not None:
                partition.login(pin)
            yield partition

    def _pin(self) -> bytes | None:
        if self.pin_file is not None:
            return self.pin_file.read_bytes().rstrip(b"\r\n")
        value = os.environ.get("CASEMATE_PIN")
        return value.encode() if value is not None else None


def _only_partition() -> str:
    """Return the partition where there is only one within reach; raises `UsageError`."""
    from casemate.hsm.client import discovery

    found = sorted(discovery.find_sockets(os.environ, os.geteuid()))
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.UsageError("no partition within reach; start a module with: casemate up")
    raise click.UsageError(f"name one with --partition: {', '.join(found)}")


def partition_options(command: Decorated) -> Decorated:
    """Add --partition and --pin-file; the command gets one argument, `where`."""

    def wrapped(partition: str | None, pin_file: Path | None, *args: Any, **kwargs: Any) -> Any:
        return command(*args, where=Where(partition, pin_file), **kwargs)

    wrapped.__name__ = command.__name__
    wrapped.__doc__ = command.__doc__
    if hasattr(command, "__click_params__"):
        wrapped.__click_params__ = command.__click_params__  # type: ignore[attr-defined]
    options = (
        click.option(
            "-p",
            "--partition",
            type=PARTITION,
            envvar="CASEMATE_PARTITION",
            help="The partition [CASEMATE_PARTITION; the only one within reach].",
        ),
        click.option(
            "--pin-file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="File with the user PIN [CASEMATE_PIN; asked for on a terminal].",
        ),
    )
    decorated: Any = wrapped
    for option in options:
        decorated = option(decorated)
    result: Decorated = decorated
    return result


class KeyName(click.ParamType[str]):
    """A key's label, or id:HEX; completed from the partition."""

    name = "key"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """Return the labels that begin so; nothing where the partition cannot be reached."""
        from casemate.hsm.client import ClientError, connect

        named = ctx.params.get("partition") or os.environ.get("CASEMATE_PARTITION")
        try:
            with connect(named or _only_partition()) as partition:
                labels = sorted({key.label for key in partition.all_keys() if key.label})
        except (ClientError, click.UsageError):
            return []
        return [
            click.shell_completion.CompletionItem(label)
            for label in labels
            if label.startswith(incomplete)
        ]


KEY = KeyName()


def find_key(
    partition: Partition, name: str, *, public: bool = False, to: str | None = None
) -> Key:
    """Return the key of this label or id:HEX; `public` prefers the public half of a pair.

    `to` says what a private or secret key is wanted for: a public key alone is an error then.
    """
    from casemate.formats.pkcs11 import ObjectClass
    from casemate.hsm.client.errors import LoginError, NotFoundError

    label: str | None = name
    id_: bytes | None = None
    if name.startswith("id:"):
        label = None
        try:
            id_ = bytes.fromhex(name[3:])
        except ValueError as error:
            raise click.BadParameter(f"{name!r}: after id: come hexadecimal digits") from error
    if public:
        try:
            return partition.find(label, id=id_, object_class=ObjectClass.PUBLIC_KEY)
        except NotFoundError:
            pass
    found = partition.find(label, id=id_)
    if to is not None and found.object_class == ObjectClass.PUBLIC_KEY:
        if partition.info().login_required:
            raise LoginError(
                f"to {to} takes the private key of {name!r}, which only shows after a login",
                where=f"partition {partition.name}",
                advice="give the user PIN with --pin-file or CASEMATE_PIN",
            )
        raise NotFoundError(
            f"to {to} takes a private key, and {name!r} is a public key alone",
            where=f"partition {partition.name}",
        )
    return found


def read_input(path: str) -> bytes:
    """Read a file, or standard input for "-"."""
    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise click.FileError(path, error.strerror or str(error)) from error


def write_output(path: str, data: bytes) -> None:
    """Write a file, or standard output for "-"; a terminal gets no binary bytes."""
    stream: IO[bytes] = sys.stdout.buffer
    if path != "-":
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise click.FileError(path, error.strerror or str(error)) from error
        return
    if sys.stdout.isatty() and _is_binary(data):
        raise click.UsageError("the output is binary: name a file with --out, or use --hex")
    stream.write(data)
    stream.flush()


def _is_binary(data: Iterable[int]) -> bool:
    return any(byte < 9 or 13 < byte < 32 or byte > 126 for byte in data)


input_argument = click.argument("file", default="-", metavar="[FILE]")
output_option = click.option(
    "-o", "--out", default="-", metavar="FILE", help="Where to write; standard output without."
)
