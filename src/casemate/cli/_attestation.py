"""What the commands about attestation share: types of arguments, files, errors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from casemate.attestation.errors import AttestationError
from casemate.cli._module import fail

if TYPE_CHECKING:
    from casemate.attestation.appraisal.policy import Policy
    from casemate.attestation.input import Given
    from casemate.attestation.reference.store import ReferenceSet

P = ParamSpec("P")
R = TypeVar("R")


class Time(click.ParamType[datetime]):
    """A time in RFC 3339; without a zone it is UTC."""

    name = "time"

    def convert(
        self,
        value: str | datetime,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> datetime:
        """Return the time, with its zone."""
        if isinstance(value, datetime):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail("expected a time such as 2026-06-01T12:00:00Z", param, ctx)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


class NonceHex(click.ParamType[bytes]):
    """A nonce of 1 to 64 bytes in hexadecimal."""

    name = "hex"

    def convert(
        self, value: str | bytes, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        """Return the bytes."""
        try:
            data = value if isinstance(value, bytes) else bytes.fromhex(value)
        except ValueError:
            self.fail("expected hexadecimal digits", param, ctx)
        if not 1 <= len(data) <= 64:
            self.fail(f"expected 1 to 64 bytes, found {len(data)}", param, ctx)
        return data


def reports_attestation_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print an unusable input as what a person can act on, and exit with 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except AttestationError as error:
            advice = getattr(error, "advice", "")
            fail({"what": str(error), "advice": advice}, as_json=bool(kwargs.get("as_json")))
        raise AssertionError("fail() ends the program")

    return wrapped


def load_policy(name: str, *, beside: Path | None = None) -> Policy:
    """A built-in policy by name, else a file's, relative to `beside`. Raises InputError."""
    from casemate.attestation.appraisal import policy
    from casemate.attestation.input import read_file

    if name in policy.BUILT_IN:
        return policy.built_in(name)
    file = read_file(Path(name) if beside is None else beside / name)
    return policy.read(file.data, file.name)


def load_references(given: Given, at: datetime, folders: Iterable[Path] = ()) -> ReferenceSet:
    """The reference values that were given. Raises InputError.

    An unsigned manifest is taken from the operator's own hand, never with the evidence. `folders`
    (files among them are passed over) bring the keys that may sign what stands in them.
    """
    from casemate.attestation.reference import store
    from casemate.attestation.reference.folder import ReferenceFolder

    kept = [key for path in folders if path.is_dir() for key in ReferenceFolder(path).signers]
    named = store.load(given.references, signers=(*given.signers, *kept), at=at, take_unsigned=True)
    along = store.load(given.accompanying, signers=given.signers, at=at)
    return store.ReferenceSet((*named.manifests, *along.manifests))
