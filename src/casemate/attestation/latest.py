"""One value that is worked out, kept beside what it follows from until that is another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_V = TypeVar("_V")


class Latest(Generic[_V]):
    """The value that was made last, and of what. It changes no result; a copy begins without."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        # Together, so that a thread never sees one's things with another one's value.
        self._kept: tuple[object, _V] | None = None

    def of(self, things: tuple[object, ...], make: Callable[[], _V]) -> _V:
        """What `make` returned if it was made of equal things, or else what it returns now.

        Both things and value must be immutable. What `make` raises passes through.
        """
        kept = self._kept
        if kept is None or kept[0] != things:
            kept = self._kept = things, make()
        return kept[1]

    def __reduce__(self) -> tuple[Any, ...]:
        return Latest, ()
