"""JSON as evidence and results need it: bounded, no duplicate names, no floats, no NaN."""

from __future__ import annotations

import json
from typing import Any, NoReturn

LARGEST = 4 * 1024 * 1024
DEEPEST = 32


class JsonError(ValueError):
    """Bytes that are no strict JSON."""


def decode(data: bytes | str) -> Any:
    """The one value that the text (UTF-8) holds. Raises JsonError."""
    if len(data) > LARGEST:
        raise JsonError(f"{len(data)} bytes; at most {LARGEST} are taken")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        value = json.loads(
            text, object_pairs_hook=_object, parse_float=_refused, parse_constant=_refused
        )
    except JsonError:
        raise
    except RecursionError:
        raise JsonError(f"nested deeper than {DEEPEST}") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    _check_depth(value, 0)
    return value


def names_of(data: bytes) -> frozenset[str]:
    """The names of the object that the text holds; none where it holds no object."""
    if data[:64].lstrip()[:1] != b"{":
        return frozenset()
    try:
        value = decode(data)
    except JsonError:
        return frozenset()
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"the name {twice!r} stands twice")
    return result


def _refused(text: str) -> NoReturn:
    raise JsonError(f"the number {text} is not taken")


def _check_depth(value: Any, depth: int) -> None:
    if depth > DEEPEST:
        raise JsonError(f"nested deeper than {DEEPEST}")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_depth(item, depth + 1)
