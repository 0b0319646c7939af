"""`casemate mechanisms`: what a partition can do with keys."""

from __future__ import annotations

import click

from casemate.cli._module import json_option, print_json, print_table, reports_errors
from casemate.cli._partition import Where, partition_options
from casemate.formats.pkcs11 import Mechanism


@click.command()
@partition_options
@json_option
@reports_errors
def mechanisms(*, where: Where, as_json: bool) -> None:
    """List the mechanisms that the partition's policy allows, with key sizes and uses."""
    rows = []
    with where.connected() as partition:
        for number in partition.mechanisms():
            smallest, largest, uses = partition.mechanism_info(number)
            name = number.name if isinstance(number, Mechanism) else f"{number:#x}"
            rows.append(
                {
                    "mechanism": name,
                    "number": int(number),
                    "smallest": smallest,
                    "largest": largest,
                    "uses": [use.name for use in uses if use.name is not None],
                }
            )
    rows.sort(key=lambda row: str(row["mechanism"]))
    if as_json:
        print_json(rows)
        return
    print_table(
        ["mechanism", "number", "key sizes", "uses"],
        [
            [
                str(row["mechanism"]),
                f"{row['number']:#06x}",
                f"{row['smallest']}-{row['largest']}" if row["largest"] else "",
                ", ".join(use.lower().replace("_", " ") for use in _names(row["uses"])),
            ]
            for row in rows
        ],
    )


def _names(uses: object) -> list[str]:
    return [str(use) for use in uses] if isinstance(uses, list) else []
