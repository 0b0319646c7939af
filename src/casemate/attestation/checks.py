"""Checks: the straight list of things that verification looked at, each with its own outcome.

    checks = Checklist("sev-snp")
    checks.require("signature", valid, "the report's signature does not verify")
    checks.equal("chip-id", expected=vcek.chip_id, found=report.chip_id, what="chip id")

A check that fails ends verification with EvidenceError, which carries those that passed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, NoReturn

from casemate.attestation.errors import EvidenceError


class Check(NamedTuple):
    """One check: a name (lower case, words joined by dashes), its outcome, and a sentence.

    The sentence says what was found; of a failed check, what is wrong with it. `expected` and
    `found` are for people, short, and never hold a secret. A tuple, since an appraisal makes some
    fifty.
    """

    name: str
    passed: bool
    sentence: str
    expected: str | None = None
    found: str | None = None


@lru_cache(maxsize=1024)
def _passed(name: str, sentence: str) -> Check:
    """A check that passed without values: mostly the same object each time."""
    return Check(name, True, sentence or name.replace("-", " "))


class Checklist:
    """The checks of one component or one piece of evidence, in the order in which they are made."""

    def __init__(self, component: str | None = None) -> None:
        self._component = component
        self._passed: list[Check] = []

    @property
    def passed(self) -> tuple[Check, ...]:
        """All checks so far: they have all passed."""
        return tuple(self._passed)

    def require(
        self,
        name: str,
        condition: bool,
        otherwise: str,
        *,
        passed: str = "",
        expected: str | None = None,
        found: str | None = None,
    ) -> None:
        """Note a check that passed, or raise EvidenceError with the sentence `otherwise`."""
        if not condition:
            self.refuse(name, otherwise, expected=expected, found=found)
        check = _passed(name, passed)
        if expected is not None or found is not None:
            check = Check(name, True, check.sentence, expected, found)
        self._passed.append(check)

    def adopt(self, checks: tuple[Check, ...]) -> None:
        """Note checks that passed before on the same values."""
        self._passed.extend(checks)

    def note(self, name: str, sentence: str, *, expected: str | None = None) -> None:
        """Note a check that passed; the sentence says what was found."""
        if expected is None:
            self._passed.append(_passed(name, sentence))
        else:
            self._passed.append(Check(name, True, sentence, expected))

    def equal(
        self,
        name: str,
        *,
        expected: bytes | int | str,
        found: bytes | int | str,
        what: str,
        otherwise: str = "",
    ) -> None:
        """Require two values to be the same; `what` names them in the sentence.

        The sentence of a check that fails is `otherwise`, or says both.
        """
        shown = (_shown(expected), _shown(found))
        if expected != found:
            sentence = otherwise or f"{what}: expected {shown[0]}, found {shown[1]}"
            self.refuse(name, sentence, expected=shown[0], found=shown[1])
        self._passed.append(Check(name, True, f"{what} as expected", *shown))

    def refuse(
        self, name: str, sentence: str, *, expected: str | None = None, found: str | None = None
    ) -> NoReturn:
        """Raise EvidenceError for this check."""
        check = Check(name, False, sentence, expected, found)
        raise EvidenceError(check, passed=self.passed, component=self._component)


def _shown(value: bytes | int | str) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
