"""`casemate pkcs11-path`: the library that programs load."""

from __future__ import annotations

from pathlib import Path

import click

import casemate
from casemate.cli._module import fail, json_option, print_json


def library() -> Path:
    """Return where libcasemate_pkcs11.so stands; it may not be built yet."""
    return Path(casemate.__file__).with_name("libcasemate_pkcs11.so")


@click.command()
@json_option
def pkcs11_path(as_json: bool) -> None:
    """Print the path of the PKCS#11 library: pkcs11-tool --module $(casemate pkcs11-path) -L."""
    path = library()
    if not path.exists():
        fail(
            {
                "code": "not-built",
                "what": "the PKCS#11 library is not there",
                "where": str(path),
                "advice": "make build, or install the wheel",
            },
            as_json=as_json,
        )
    if as_json:
        print_json({"path": str(path)})
    else:
        click.echo(path)
