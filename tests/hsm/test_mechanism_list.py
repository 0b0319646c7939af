"""docs/mechanisms.md says of a partition's mechanisms what a running module says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from casemate.formats.pkcs11 import Mechanism
from casemate.hsm.client import Partition
from casemate.hsm.client.operations import Operation
from tests.running_module import RunningModule

PAGE = Path(__file__).parents[2] / "docs" / "mechanisms.md"

#: CKF_... of CK_MECHANISM_INFO that say what a mechanism is for, as the page words them.
USES = {
    0x8000: "generate",
    0x10000: "generate pair",
    0x400: "digest",
    0x800: "sign",
    0x2000: "verify",
    0x1000: "sign-recover",
    0x4000: "verify-recover",
    0x100: "encrypt",
    0x200: "decrypt",
    0x2: "encrypt messages",
    0x4: "decrypt messages",
    0x20000: "wrap",
    0x40000: "unwrap",
    0x80000: "derive",
    0x10000000: "encapsulate",
    0x20000000: "decapsulate",
}


@dataclass(frozen=True)
class Entry:
    """What the page, or the module, says of a mechanism."""

    code: int
    sizes: tuple[int, int]
    uses: frozenset[str]


@dataclass(frozen=True)
class Row:
    """A row of the page."""

    name: str
    entry: Entry
    legacy: bool


def _rows() -> Iterator[Row]:
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 7 or not cells[0].startswith("CKM_"):
            continue
        name, code, _, sizes, uses, _, notes = cells
        numbers = [int(number) for number in re.findall(r"\d+", sizes)] or [0]
        yield Row(
            name.removeprefix("CKM_"),
            Entry(int(code, 16), (numbers[0], numbers[-1]), frozenset(uses.split(", "))),
            notes.startswith("`legacy-test` only"),
        )


def _said(partition: Partition) -> dict[int, Entry]:
    found = {}
    for kind in partition.mechanisms():
        answer = partition.connection.call(
            Operation.MECHANISM_INFO, doing="ask for a mechanism", mechanism=kind
        )
        sizes = (answer.value0 & 0xFFFFFFFF, answer.value0 >> 32)
        uses = frozenset(word for flag, word in USES.items() if answer.value1 & flag)
        found[int(kind)] = Entry(int(kind), sizes, uses)
    return found


def test_the_page_names_each_mechanism_once() -> None:
    rows = list(_rows())
    assert len({row.name for row in rows}) == len({row.entry.code for row in rows}) == len(rows)
    for row in rows:
        assert Mechanism[row.name] == row.entry.code


@pytest.mark.parametrize("legacy", [False, True])
def test_the_page_and_a_module_agree(short_folder: Path, legacy: bool) -> None:
    module = RunningModule(short_folder, legacy_test=legacy).start()
    try:
        with module.connect() as partition:
            said = _said(partition)
    finally:
        module.kill()
    written = {row.entry.code: row.entry for row in _rows() if legacy or not row.legacy}
    # The policy also takes smaller RSA keys, which the page says in words.
    if legacy:
        assert said.keys() == written.keys()
    else:
        assert said == written


def test_what_the_page_refuses_is_not_served() -> None:
    served = {row.name for row in _rows()}
    text = PAGE.read_text().split("## Refused by name")[1]
    refused = [
        (name, reason)
        for names, reason in re.findall(r"^\| (CKM_.+?) \| (.+?) \|$", text, re.MULTILINE)
        for name in re.findall(r"CKM_(\S+?)(?:,|$)", names)
    ]
    assert len(refused) > 30
    for pattern, reason in refused:
        assert reason
        matcher = re.compile(pattern.replace("*", ".*"))
        hits = {name for name in served if matcher.fullmatch(name)}
        assert not hits, f"{pattern}: {hits}"
