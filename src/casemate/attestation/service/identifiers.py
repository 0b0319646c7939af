"""Names of challenges and appraisals outside: the database's id and a number, "1a2b3c4d-17".

Numbers begin anew in a new database; with its id a name never means two things.
"""

from __future__ import annotations

import base64
import binascii
import re

from casemate.attestation.service.errors import Reason, RefusedError

_FORM = re.compile(r"([0-9a-f]{8})-([1-9][0-9]{0,17})")


def name(database: str, number: int) -> str:
    """Return the name of a number."""
    return f"{database}-{number}"


def number(database: str, text: str, *, where: str) -> int:
    """Return the number of a name; raises `RefusedError` for one of no or another database."""
    match = _FORM.fullmatch(text)
    if match is None or match[1] != database:
        raise RefusedError(
            Reason.NOT_FOUND,
            f"there is no {where} {text[:40]!r}",
            where=where,
            expected=f"{database}- and a number",
            advice=f"use the id of a {where} as the service gave it",
        )
    return int(match[2])


def cursor(place: int | str) -> str:
    """Return a page's end as clients carry it."""
    return base64.urlsafe_b64encode(str(place).encode()).decode().rstrip("=")


def place(text: str | None) -> str | None:
    """Return the place of a cursor; raises `RefusedError`."""
    if text is None:
        return None
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        raise _bad_cursor(text) from None


def number_place(text: str | None) -> int | None:
    """Return the number of a cursor; raises `RefusedError`."""
    found = place(text)
    if found is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", found) or text is None:
        raise _bad_cursor(text or "")
    return int(found)


def _bad_cursor(text: str) -> RefusedError:
    return RefusedError(
        Reason.BAD_REQUEST,
        "the cursor was not made by this service",
        where="cursor",
        found=text[:40],
        advice="take next_cursor from the page before, or leave it out for the first page",
    )
