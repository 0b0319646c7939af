"""Evidence that is kept: the bytes of appraisals, each content once, by its SHA-256.

`kept` has one row for each appraisal whose evidence is there, with the terms under which it was
appraised; `kept_blobs` says which contents it uses, `blobs` has them, compressed, with the number
of their uses. What no row uses goes with the last one that did.

A full store gives up what did nothing to anybody's trust first (forged, replayed, asked for by
relying parties), then the oldest: whoever floods it with noise does not drive out what counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.service.database import appraisals
from casemate.attestation.service.database.connection import microseconds

#: A content that does not end after this many bytes is damaged: no request is larger.
_MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """What is kept of one appraisal: contents by SHA-256, and its terms, all compressed."""

    terms: bytes
    contents: Mapping[bytes, bytes]


def keep(
    connection: sqlite3.Connection,
    kept: KeptEvidence,
    *,
    appraisal: int,
    at: datetime,
    counted: bool,
) -> None:
    """Keep an appraisal's evidence; `counted` says that its verdict changed a host's trust."""
    connection.execute(
        "INSERT INTO kept (appraisal, at, counted, size, terms) VALUES (?, ?, ?, ?, ?)",
        (appraisal, microseconds(at), counted, len(kept.terms), kept.terms),
    )
    for digest, data in kept.contents.items():
        connection.execute(
            "INSERT INTO blobs (digest, uses, size, data) VALUES (?, 1, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET uses = uses + 1",
            (digest, len(data), data),
        )
        connection.execute(
            "INSERT INTO kept_blobs (appraisal, digest) VALUES (?, ?)", (appraisal, digest)
        )


def find(connection: sqlite3.Connection, appraisal: int) -> KeptEvidence | None:
    """Return what is kept of an appraisal, no longer compressed; None: nothing."""
    row = connection.execute("SELECT terms FROM kept WHERE appraisal = ?", (appraisal,)).fetchone()
    if row is None:
        return None
    rows = connection.execute(
        "SELECT digest, data FROM kept_blobs JOIN blobs USING (digest) WHERE appraisal = ?",
        (appraisal,),
    )
    contents = {digest: appraisals.expand(data, _MOST_BYTES) for digest, data in rows}
    return KeptEvidence(appraisals.expand(row[0]), contents)


def size(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the number of appraisals whose evidence is kept, and the bytes of it all."""
    count, terms = connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM kept"
    ).fetchone()
    data = connection.execute("SELECT coalesce(sum(size), 0) FROM blobs").fetchone()[0]
    return count, terms + data


def prune(
    connection: sqlite3.Connection, before: datetime, most: int, *, without_verdict: bool = False
) -> int:
    """Delete the evidence of up to `most` appraisals that are older; returns how many.

    `without_verdict` deletes only that whose verdict is gone: it proves nothing any more.
    """
    orphaned = " AND appraisal NOT IN (SELECT number FROM appraisals)" if without_verdict else ""
    rows = connection.execute(
        f"SELECT appraisal FROM kept WHERE at < ?{orphaned} ORDER BY at LIMIT ?",
        (microseconds(before), most),
    ).fetchall()
    for (appraisal,) in rows:
        _delete(connection, appraisal)
    return len(rows)


def shrink(connection: sqlite3.Connection, limit: int, most: int) -> int:
    """Delete the evidence of up to `most` appraisals until `limit` bytes are left; how many."""
    excess = size(connection)[1] - limit
    if excess <= 0:
        return 0
    rows = connection.execute(
        "SELECT appraisal FROM kept ORDER BY counted, appraisal LIMIT ?", (most,)
    ).fetchall()
    gone = 0
    for (appraisal,) in rows:
        if excess <= 0:
            break
        excess -= _delete(connection, appraisal)
        gone += 1
    return gone


def _delete(connection: sqlite3.Connection, appraisal: int) -> int:
    """Delete the evidence of one appraisal; returns the bytes that this freed."""
    used = "(SELECT digest FROM kept_blobs WHERE appraisal = ?)"
    row = (appraisal,)
    connection.execute(f"UPDATE blobs SET uses = uses - 1 WHERE digest IN {used}", row)
    freed = connection.execute(
        f"SELECT coalesce(sum(size), 0) FROM blobs WHERE uses = 0 AND digest IN {used}", row
    ).fetchone()[0]
    connection.execute(f"DELETE FROM blobs WHERE uses = 0 AND digest IN {used}", row)
    connection.execute("DELETE FROM kept_blobs WHERE appraisal = ?", row)
    terms = connection.execute("SELECT size FROM kept WHERE appraisal = ?", row).fetchone()[0]
    connection.execute("DELETE FROM kept WHERE appraisal = ?", row)
    return int(freed + terms)
