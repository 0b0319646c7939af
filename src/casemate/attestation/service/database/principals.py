"""Principals as they are kept: by name, found by the digest of a token or of a key."""

from __future__ import annotations

import sqlite3

from casemate.attestation.service.database.connection import (
    microseconds,
    time_of,
    time_or_none,
)
from casemate.attestation.service.principals import PrincipalRecord, Role

_COLUMNS = "name, roles, token, key, created, expires"


def put(connection: sqlite3.Connection, record: PrincipalRecord) -> None:
    """Keep a principal, in place of what stood under its name.

    Raises `sqlite3.IntegrityError` where another principal has the token or the key.
    """
    connection.execute(
        f"INSERT INTO principals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name)"
        " DO UPDATE SET roles = excluded.roles, token = excluded.token, key = excluded.key,"
        " created = excluded.created, expires = excluded.expires",
        (
            record.name,
            " ".join(sorted(record.roles)),
            record.token,
            record.key,
            microseconds(record.created),
            None if record.expires is None else microseconds(record.expires),
        ),
    )


def find(connection: sqlite3.Connection, name: str) -> PrincipalRecord | None:
    """Return a principal by name."""
    return _one(connection, "name", name)


def by_token(connection: sqlite3.Connection, digest: bytes) -> PrincipalRecord | None:
    """Return the principal whose token has this SHA-256."""
    return _one(connection, "token", digest)


def by_key(connection: sqlite3.Connection, digest: bytes) -> PrincipalRecord | None:
    """Return the principal whose certificate's SubjectPublicKeyInfo has this SHA-256."""
    return _one(connection, "key", digest)


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Forget a principal; returns whether there was one."""
    return connection.execute("DELETE FROM principals WHERE name = ?", (name,)).rowcount > 0


def page(connection: sqlite3.Connection, *, after: str, most: int) -> list[PrincipalRecord]:
    """Return up to `most` principals with names behind `after`."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM principals WHERE name > ? ORDER BY name LIMIT ?", (after, most)
    )
    return [_record(row) for row in rows]


def _one(connection: sqlite3.Connection, column: str, value: object) -> PrincipalRecord | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM principals WHERE {column} = ?", (value,)
    ).fetchone()
    return None if row is None else _record(row)


def _record(
    row: tuple[str, str, bytes | None, bytes | None, int, int | None],
) -> PrincipalRecord:
    name, roles, token, key, created, expires = row
    return PrincipalRecord(
        name=name,
        roles=frozenset(Role(role) for role in roles.split()),
        token=token,
        key=key,
        created=time_of(created),
        expires=time_or_none(expires),
    )
