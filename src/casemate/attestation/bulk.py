"""Evidence of many hosts: from folders or JSON lines, through the pool, into a summary.

In a folder, each folder below it is one host's files, and so is each single file; its name is the
host's here. In a file whose name ends in .jsonl, each line is one host:

    {"name": "host-1", "evidence": ["<base64>", ...], "nonce": "<hex>"}

where `nonce` may be absent. What comes along with a host's evidence (certificates, collateral) is
looked into for that host alone.
"""

from __future__ import annotations

import base64
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from casemate.attestation import input as given
from casemate.attestation.appraisal.document import document
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.collateral.wanted import for_evidence
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import Family
from casemate.attestation.pool import Request
from casemate.attestation.states import State

LONGEST_LINE = 4 * given.LARGEST_FILE
#: Hosts that the summary names for each state, and reasons that it counts.
MOST_NAMED, MOST_REASONS = 10, 1000


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of one verdict: its state, its first reason, and its document as JSON."""

    state: State
    reason: str
    line: str


@dataclass(slots=True)
class Summary:
    """Counts over all hosts. `names` are the first hosts of each state that is not affirming."""

    states: Counter[State] = field(default_factory=Counter)
    reasons: Counter[tuple[State, str]] = field(default_factory=Counter)
    names: dict[State, list[str]] = field(default_factory=dict)

    @property
    def hosts(self) -> int:
        """How many were appraised."""
        return self.states.total()

    def add(self, name: str, answer: Answer) -> None:
        """Count one host."""
        self.states[answer.state] += 1
        if answer.state is State.AFFIRMING:
            return
        key = (answer.state, answer.reason)
        if key in self.reasons or len(self.reasons) < MOST_REASONS:
            self.reasons[key] += 1
        named = self.names.setdefault(answer.state, [])
        if len(named) < MOST_NAMED:
            named.append(name)


def keep(verdict: Verdict) -> Answer:
    """The pool's `finish` of a bulk appraisal."""
    return Answer(
        verdict.state,
        verdict.reasons[0] if verdict.reasons else "",
        json.dumps(document(verdict), separators=(",", ":")),
    )


def count(paths: Sequence[Path]) -> int:
    """How many hosts there are, for a progress bar."""
    return sum(_lines(path) if _is_lines(path) else len(_entries(path)) for path in paths)


def requests(
    paths: Iterable[Path],
    *,
    families: Sequence[Family],
    at: datetime,
    nonce: bytes | None,
    collateral: Supply | None = None,
) -> Iterator[Request]:
    """One request for each host, its name as the correlation id. Raises InputError.

    `nonce` is for hosts whose line names none; `collateral` has what each one's evidence needs.
    """
    for path in paths:
        sets = _read_lines(path) if _is_lines(path) else _read_folder(path)
        for name, files, own_nonce in sets:
            sorted_ = given.sort(evidence=files, families=families)
            along = sorted_.endorsements
            if collateral is not None:
                along = along.with_(collateral.supply(for_evidence(sorted_.pieces)))
            yield Request(
                sorted_.pieces,
                at,
                nonce if own_nonce is None else own_nonce,
                name,
                None if along.is_empty else along,
            )


_Set = tuple[str, tuple[NamedBytes, ...], bytes | None]


def _is_lines(path: Path) -> bool:
    return path.suffix == ".jsonl" and path.is_file()


def _entries(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder of hosts, or JSON lines in a .jsonl file")
    return sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))


def _read_folder(path: Path) -> Iterator[_Set]:
    for entry in _entries(path):
        yield entry.name, given.read_files([entry]), None


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _read_lines(path: Path) -> Iterator[_Set]:
    with path.open("rb") as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE + 1)
            if not line:
                return
            if len(line) > LONGEST_LINE:
                raise InputError(f"{path}, line {number}: longer than {LONGEST_LINE} bytes")
            if line.strip():
                yield _read_line(line, f"{path}, line {number}")


def _read_line(line: bytes, where: str) -> _Set:
    try:
        value: Any = json.loads(line)
        name, evidence, nonce = value["name"], value["evidence"], value.get("nonce")
        if not isinstance(name, str) or not isinstance(evidence, list):
            raise TypeError("name is no text, or evidence no list")
        files = tuple(
            NamedBytes(base64.b64decode(data, validate=True), f"{name}, piece {number}")
            for number, data in enumerate(evidence, 1)
        )
        own_nonce = None if nonce is None else bytes.fromhex(nonce)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f'{where}: expected {{"name": ..., "evidence": [base64, ...], "nonce": hex}}: {error}'
        ) from None
    return name, files, own_nonce
