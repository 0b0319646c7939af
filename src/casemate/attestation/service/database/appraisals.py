"""Appraisals: every verdict, what it did to trust, and its result.

The claims of a result are some 15 KB, most of which all hosts of a kind share. So that stands once,
as a frame, and the row has what is between (`appraisal.serialise`); claims without a frame stand in
their row, compressed.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.appraisal.serialise import filled
from casemate.attestation.service.database.connection import microseconds, time_of
from casemate.attestation.service.trust import Effect
from casemate.attestation.states import State

_COLUMNS = "number, at, principal, host, state, effect, challenge, correlation, policy, reference"
_INSERT = (
    "INSERT INTO appraisals (at, principal, host, state, effect, challenge, correlation, policy,"
    " reference, claims, envelope, frame)"
)
#: Those of all columns but the last.
_VALUES = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
_INSERT_WITH_FRAME = f"{_INSERT} SELECT {_VALUES}, number FROM frames WHERE digest = ?"
_INSERT_WHOLE = f"{_INSERT} VALUES ({_VALUES}, NULL)"
#: Numbers grow with time, but for a clock that was set back: the bounds end the search early. The
#: plus keeps SQLite from looking for the extreme by number, row by row, instead of by time.
_SINCE = "number >= (SELECT min(+number) FROM appraisals WHERE at >= :since) AND at >= :since"
_UNTIL = "number <= (SELECT max(+number) FROM appraisals WHERE at < :until) AND at < :until"
#: A verdict that does not end after this many bytes is damaged.
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Frame:
    """What many claims have in common: SHA-256 of it, and it compressed."""

    digest: bytes
    data: bytes

    @classmethod
    def of(cls, frame: bytes) -> Frame:
        """A frame as it is kept."""
        return cls(hashlib.sha256(frame).digest(), compress(frame))


@dataclass(frozen=True, slots=True)
class Kept:
    """Claims as they are kept: what is between a frame's parts, or compressed, with no frame."""

    data: bytes
    frame: Frame | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisalRow:
    """An appraisal without its verdict; `policy` and `reference` are SHA-256."""

    number: int
    at: datetime
    principal: str
    host: str | None
    state: State
    effect: Effect
    challenge: int | None
    correlation: str
    policy: bytes
    reference: bytes


def insert(
    connection: sqlite3.Connection,
    *,
    at: datetime,
    principal: str,
    host: str | None,
    state: State,
    effect: Effect,
    challenge: int | None,
    correlation: str,
    policy: bytes,
    reference: bytes,
    claims: Kept,
    envelope: bytes | None,
) -> int:
    """Keep an appraisal. Returns its number."""
    values = (
        microseconds(at),
        principal,
        host,
        str(state),
        str(effect),
        challenge,
        correlation,
        policy,
        reference,
        claims.data,
        envelope,
    )
    frame = claims.frame
    if frame is None:
        return _inserted(connection.execute(_INSERT_WHOLE, values))
    cursor = connection.execute(_INSERT_WITH_FRAME, (*values, frame.digest))
    if not cursor.rowcount:
        connection.execute(
            "INSERT INTO frames (digest, data) VALUES (?, ?)", (frame.digest, frame.data)
        )
        cursor = connection.execute(_INSERT_WITH_FRAME, (*values, frame.digest))
    return _inserted(cursor)


def _inserted(cursor: sqlite3.Cursor) -> int:
    if cursor.rowcount != 1 or cursor.lastrowid is None:
        raise sqlite3.DatabaseError("a row without a number")
    return cursor.lastrowid


def find(connection: sqlite3.Connection, number: int) -> AppraisalRow | None:
    """Return an appraisal."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM appraisals WHERE number = ?", (number,)
    ).fetchone()
    return None if row is None else _appraisal(row)


def contents(connection: sqlite3.Connection, number: int) -> tuple[bytes, bytes | None] | None:
    """Return the whole text of an appraisal's claims, and its envelope."""
    row = connection.execute(
        "SELECT claims, envelope, frame, frames.data FROM appraisals"
        " LEFT JOIN frames ON frames.number = frame WHERE appraisals.number = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    claims, envelope, frame, data = row
    if frame is None:
        return expand(claims), envelope
    if data is None:
        raise sqlite3.DatabaseError(f"a damaged verdict: its frame {frame} is missing")
    try:
        return filled(expand(data), claims), envelope
    except ValueError as error:
        raise sqlite3.DatabaseError(f"a damaged verdict: {error}") from error


def page(
    connection: sqlite3.Connection,
    *,
    host: str | None = None,
    principal: str | None = None,
    state: State | None = None,
    correlation: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    most: int = 100,
) -> list[AppraisalRow]:
    """Return up to `most` appraisals with numbers below `before`, the newest first."""
    wanted: dict[str, object] = {
        "host = :host": host,
        "principal = :principal": principal,
        "state = :state": state,
        "correlation = :correlation": correlation,
        _SINCE: since,
        _UNTIL: until,
        "number < :before": before,
    }
    given = [condition for condition, value in wanted.items() if value is not None]
    where = f" WHERE {' AND '.join(given)}" if given else ""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM appraisals{where} ORDER BY number DESC LIMIT :most",
        {
            "host": host,
            "principal": principal,
            "state": state,
            "correlation": correlation,
            "since": None if since is None else microseconds(since),
            "until": None if until is None else microseconds(until),
            "before": before,
            "most": most,
        },
    )
    return [_appraisal(row) for row in rows]


def after(connection: sqlite3.Connection, number: int, most: int) -> list[AppraisalRow]:
    """Return up to `most` appraisals with numbers above one, the oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM appraisals WHERE number > ? ORDER BY number LIMIT ?",
        (number, most),
    )
    return [_appraisal(row) for row in rows]


def last(connection: sqlite3.Connection) -> int:
    """Return the highest number that was ever given."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'appraisals'").fetchone()
    return 0 if row is None else int(row[0])


def prune(connection: sqlite3.Connection, before: datetime, most: int) -> int:
    """Delete up to `most` old appraisals, but never one that a host's trust stands on."""
    return connection.execute(
        "DELETE FROM appraisals WHERE number IN (SELECT number FROM appraisals WHERE at < ?"
        " AND (host IS NULL OR number NOT IN"
        " (SELECT appraisal FROM hosts WHERE hosts.name = appraisals.host"
        " AND appraisal IS NOT NULL)) ORDER BY at, number LIMIT ?)",
        (microseconds(before), most),
    ).rowcount


def prune_frames(connection: sqlite3.Connection) -> int:
    """Delete the frames that no appraisal has any more; returns how many."""
    return connection.execute(
        "DELETE FROM frames WHERE NOT EXISTS (SELECT 1 FROM appraisals WHERE frame = frames.number)"
    ).rowcount


def compress(data: bytes) -> bytes:
    """Return bytes as they are kept (zlib, RFC 1950)."""
    return zlib.compress(data, 6)


def expand(data: bytes, most: int = _MOST_BYTES) -> bytes:
    """Return what was compressed; raises `sqlite3.DatabaseError` for damaged bytes."""
    decompressor = zlib.decompressobj()
    try:
        found = decompressor.decompress(data, most)
    except zlib.error as error:
        raise sqlite3.DatabaseError(f"a damaged verdict: {error}") from error
    if not decompressor.eof:
        raise sqlite3.DatabaseError(f"a verdict of more than {most} bytes, or a damaged one")
    return found


def _appraisal(row: tuple[int, int, str, str | None, str, str, int | None, str, bytes,
                          bytes]) -> AppraisalRow:  # fmt: skip
    number, at, principal, host, state, effect, challenge, correlation, policy, reference = row
    return AppraisalRow(
        number=number,
        at=time_of(at),
        principal=principal,
        host=host,
        state=State(state),
        effect=Effect(effect),
        challenge=challenge,
        correlation=correlation,
        policy=policy,
        reference=reference,
    )
