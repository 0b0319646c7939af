"""Conditions of policies: CEL expressions, checked when they are read, bounded when they run.

CEL (github.com/google/cel-spec) has no loops but over the lists that it is given, and the library
(its C++ implementation) ends at a depth of 32 and after a fixed number of steps, so a condition
cannot hang a verifier. What a condition may read stands in `VARIABLES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cel_expr_python import cel

#: Characters of one condition at most.
LONGEST = 2_000

_TEXT, _ANY = cel.Type.STRING, cel.Type.DYN
_FIELDS = cel.Type.Map(_TEXT, _ANY)
#: What a condition may read, and its type; docs/policy.md says what each holds.
VARIABLES: Mapping[str, Any] = {
    "component": _TEXT,
    "family": _TEXT,
    "facts": _FIELDS,
    "claims": cel.Type.List(_FIELDS),
    "host": _FIELDS,
    "fresh": cel.Type.BOOL,
    "forms": cel.Type.List(_TEXT),
    "components": cel.Type.List(_TEXT),
    "families": cel.Type.List(_TEXT),
    "at": cel.Type.TIMESTAMP,
}


class ConditionError(ValueError):
    """An expression that cannot be taken, or one that failed; the message says where and why."""


@cache
def _environment() -> Any:
    return cel.NewEnv(variables=VARIABLES)


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled expression of type bool; the text is kept for people."""

    text: str
    _program: Any

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Programs do not travel between processes: the text does, and is compiled there."""
        return compile_condition, (self.text,)

    def holds(self, values: Values) -> bool:
        """Whether it is true of these values. Raises ConditionError if it fails."""
        try:
            value = self._program.eval(values.activation).value()
        except RuntimeError as error:
            raise ConditionError(_readable(error)) from None
        if value is True or value is False:
            return bool(value)
        raise ConditionError(str(value).partition("[")[0].strip() or "no result")


class Values:
    """The values of one question, ready for all conditions that it is asked."""

    __slots__ = ("activation",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.activation = _environment().Activation(values)


def compile_condition(text: str) -> Condition:
    """Compile an expression. Raises ConditionError: syntax, names, types, not a bool, too long."""
    if len(text) > LONGEST:
        raise ConditionError(f"{len(text)} characters; at most {LONGEST} are taken")
    try:
        program = _environment().compile(text)
    except RuntimeError as error:
        raise ConditionError(_readable(error)) from None
    if program.return_type() not in (cel.Type.BOOL, _ANY):
        raise ConditionError(f"gives {program.return_type().name()}, expected a bool")
    return Condition(text, program)


def any_of(conditions: Iterable[Condition]) -> Condition:
    """A condition that is false exactly where each one is false.

    It is true, or fails, where one of them is true or fails: who needs to know which asks each.
    """
    # The end of the line ends a comment; pairs of pairs keep the depth small.
    texts = [f"({condition.text}\n)" for condition in conditions]
    while len(texts) > 1:
        pairs = [texts[at : at + 2] for at in range(0, len(texts), 2)]
        texts = [f"({' || '.join(pair)})" for pair in pairs]
    text = texts[0] if texts else "false"
    try:
        return Condition(text, _environment().compile(text))
    except RuntimeError:
        # Together they are too deep: then always ask each.
        return compile_condition("true")


def _readable(error: Exception) -> str:
    """The first line of the library's message, without its name for the input."""
    line = str(error).splitlines()[0].replace("<input>:", "")
    return line.partition("ERROR: ")[2] or line
