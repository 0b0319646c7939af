"""What the demonstration prints: one line for each step, with its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.text import Text

R = TypeVar("R")


class Story:
    """Prints each step with its time."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._begun = time.perf_counter()

    def step(self, what: str, do: Callable[[], R], *, tell: Callable[[R], str] = str) -> R:
        """Do one step and print what it was, how long it took, and what came of it."""
        begun = time.perf_counter()
        result = do()
        took = (time.perf_counter() - begun) * 1000
        self._console.print(
            Text.assemble((f"{took:9.1f} ms  ", "cyan"), (f"{what:<44}", "bold"), " ", tell(result))
        )
        return result

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.perf_counter() - self._begun
