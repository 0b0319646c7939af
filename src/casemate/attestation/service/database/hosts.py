"""Hosts: the standing of each, and the lists by trust at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.service.database.connection import microseconds, time_or_none
from casemate.attestation.service.trust import Standing, TrustState
from casemate.attestation.states import State

_COLUMNS = "number, name, principal, verdict, at, challenge, good_at, good_until, appraisal"
_FIND = f"SELECT {_COLUMNS} FROM hosts WHERE name = ?"


@dataclass(frozen=True, slots=True)
class HostRow:
    """A host: its place in lists, its standing, and the number of the appraisal that stands."""

    number: int
    standing: Standing
    appraisal: int | None


#: The conditions of `trust.trust_at` as SQL; :now is the time.
_CONDITIONS = {
    TrustState.AFFIRMING: "verdict = 'affirming' AND at <= :now AND good_until > :now",
    TrustState.WARNING: "verdict = 'warning' AND at <= :now AND good_until > :now",
    TrustState.CONTRAINDICATED: "verdict = 'contraindicated'",
    TrustState.EXPIRED: "verdict IN ('affirming', 'warning')"
    " AND NOT (at <= :now AND good_until > :now)",
    TrustState.UNKNOWN: "verdict IS NULL",
}


def find(connection: sqlite3.Connection, name: str) -> HostRow | None:
    """Return a host by name."""
    row = connection.execute(_FIND, (name,)).fetchone()
    return None if row is None else _host(row)


def put(connection: sqlite3.Connection, standing: Standing, appraisal: int | None) -> None:
    """Keep a host's standing, and which appraisal gave it."""
    connection.execute(
        "INSERT INTO hosts (name, principal, verdict, at, challenge, good_at, good_until,"
        " appraisal) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET"
        " principal = excluded.principal, verdict = excluded.verdict, at = excluded.at,"
        " challenge = excluded.challenge, good_at = excluded.good_at,"
        " good_until = excluded.good_until, appraisal = excluded.appraisal",
        (
            standing.host,
            standing.principal,
            standing.verdict,
            _stored(standing.at),
            standing.challenge,
            _stored(standing.good_at),
            _stored(standing.good_until),
            appraisal,
        ),
    )


def remove(connection: sqlite3.Connection, name: str) -> bool:
    """Forget a host; returns whether there was one. Its appraisals stay."""
    return connection.execute("DELETE FROM hosts WHERE name = ?", (name,)).rowcount > 0


def page(
    connection: sqlite3.Connection,
    *,
    now: datetime,
    state: TrustState | None = None,
    principal: str | None = None,
    after: int = 0,
    most: int = 100,
) -> list[HostRow]:
    """Return up to `most` hosts with numbers above `after`, in their order."""
    conditions = ["number > :after"]
    if state is not None:
        conditions.append(_CONDITIONS[state])
    if principal is not None:
        conditions.append("principal = :principal")
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM hosts WHERE {' AND '.join(conditions)}"
        " ORDER BY number LIMIT :most",
        {"now": microseconds(now), "principal": principal, "after": after, "most": most},
    )
    return [_host(row) for row in rows]


def count(connection: sqlite3.Connection, now: datetime) -> dict[TrustState, int]:
    """Return how many hosts have each trust at a time."""
    return {
        state: connection.execute(
            f"SELECT count(*) FROM hosts WHERE {condition}", {"now": microseconds(now)}
        ).fetchone()[0]
        for state, condition in _CONDITIONS.items()
    }


def names(connection: sqlite3.Connection) -> Iterator[str]:
    """Yield the names of all hosts."""
    for row in connection.execute("SELECT name FROM hosts ORDER BY number"):
        yield row[0]


def _stored(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)


def _host(row: tuple[int, str, str, str | None, int | None, int, int | None, int | None,
                     int | None]) -> HostRow:  # fmt: skip
    number, name, principal, verdict, at, challenge, good_at, good_until, appraisal = row
    return HostRow(
        number,
        Standing(
            host=name,
            principal=principal,
            verdict=None if verdict is None else State(verdict),
            at=time_or_none(at),
            challenge=challenge,
            good_at=time_or_none(good_at),
            good_until=time_or_none(good_until),
        ),
        appraisal,
    )
