"""One value that is worked out, kept beside what it follows from until that is another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_V = TypeVar("_V")


class Latest(Generic[_V]):
    """The value that was made last, and of what. It changes no result; a copy begins without."""

    __slots__ = ("_made_of", "_value")

    _value: _V

    def __init__(self) -> None:
        self._made_of: object = None

    def of(self, things: tuple[object, ...], make: Callable[[], _V]) -> _V:
        """What `make` returned if it was made of equal things, or else what it returns now.

        Both things and value must be immutable. What `make` raises passes through.
        """
        if self._made_of != things:
            value = make()
            self._value, self._made_of = value, things
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return Latest, ()
