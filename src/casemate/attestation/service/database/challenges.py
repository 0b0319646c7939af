"""Challenges: nonces by number, issued to a principal, used once."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from casemate.attestation.service.database.connection import microseconds, time_of
from casemate.attestation.service.trust import Challenge


def issue(
    connection: sqlite3.Connection,
    *,
    value: bytes,
    principal: str,
    issued: datetime,
    expires: datetime,
) -> Challenge:
    """Keep a new challenge; numbers are never given twice."""
    number = connection.execute(
        "INSERT INTO challenges (value, principal, issued, expires) VALUES (?, ?, ?, ?)",
        (value, principal, microseconds(issued), microseconds(expires)),
    ).lastrowid
    if number is None:
        raise sqlite3.DatabaseError("a row without a number")
    return Challenge(
        number=number, value=value, principal=principal, issued=issued, expires=expires
    )


def find(connection: sqlite3.Connection, number: int) -> Challenge | None:
    """Return a challenge, None where there is none (any more)."""
    row = connection.execute(
        "SELECT value, principal, issued, expires, used FROM challenges WHERE number = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    value, principal, issued, expires, used = row
    return Challenge(
        number=number,
        value=value,
        principal=principal,
        issued=time_of(issued),
        expires=time_of(expires),
        used=used is not None,
    )


def mark_used(connection: sqlite3.Connection, number: int, at: datetime) -> None:
    """Note that the challenge was answered."""
    connection.execute(
        "UPDATE challenges SET used = ? WHERE number = ? AND used IS NULL",
        (microseconds(at), number),
    )


def prune(connection: sqlite3.Connection, before: datetime, most: int) -> int:
    """Delete up to `most` of the oldest challenges that ended before a time; returns how many.

    Challenges end in the order of their numbers, but for a changed lifetime: it stops at the first
    that has not ended.
    """
    return connection.execute(
        "DELETE FROM challenges WHERE number IN (SELECT number FROM challenges"
        " WHERE number < coalesce((SELECT min(number) FROM"
        " (SELECT number, expires FROM challenges ORDER BY number LIMIT ?) WHERE expires >= ?),"
        " 9223372036854775807) ORDER BY number LIMIT ?)",
        (most, microseconds(before), most),
    ).rowcount
