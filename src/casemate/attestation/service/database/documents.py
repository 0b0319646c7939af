"""Documents: references, policies, anchors and endorsements, by kind, name and version.

An import makes a version; activation puts one version of a name in force and makes an epoch.
"""

from __future__ import annotations

import enum
import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.service.database.connection import microseconds, time_of


class Kind(enum.StrEnum):
    """What a document is."""

    REFERENCE = "reference"
    POLICY = "policy"
    ANCHOR = "anchor"
    ENDORSEMENT = "endorsement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A version of a document, without its bytes; `digest` is their SHA-256."""

    number: int
    kind: Kind
    name: str
    version: int
    digest: bytes
    size: int
    imported: datetime
    imported_by: str
    active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """A change of what is in force."""

    epoch: int
    at: datetime
    principal: str
    action: str
    kind: Kind
    name: str
    version: int


_COLUMNS = "number, kind, name, version, digest, length(data), imported, imported_by, active"


def add(
    connection: sqlite3.Connection,
    *,
    kind: Kind,
    name: str,
    data: bytes,
    at: datetime,
    principal: str,
) -> Document:
    """Keep a version, not yet in force; bytes that are a version already are that version."""
    digest = hashlib.sha256(data).digest()
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE kind = ? AND name = ? AND digest = ?",
        (kind, name, digest),
    ).fetchone()
    if row is not None:
        return _document(row)
    connection.execute(
        "INSERT INTO documents (kind, name, version, digest, data, imported, imported_by)"
        " SELECT ?1, ?2, coalesce(max(version), 0) + 1, ?3, ?4, ?5, ?6 FROM documents"
        " WHERE kind = ?1 AND name = ?2",
        (kind, name, digest, data, microseconds(at), principal),
    )
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE number = last_insert_rowid()"
    ).fetchone()
    return _document(row)


def find(
    connection: sqlite3.Connection, kind: Kind, name: str, version: int
) -> tuple[Document, bytes] | None:
    """Return a version and its bytes."""
    row = connection.execute(
        f"SELECT {_COLUMNS}, data FROM documents WHERE kind = ? AND name = ? AND version = ?",
        (kind, name, version),
    ).fetchone()
    return None if row is None else (_document(row[:-1]), row[-1])


def page(
    connection: sqlite3.Connection,
    kind: Kind,
    *,
    name: str | None = None,
    active: bool | None = None,
    after: int = 0,
    most: int = 100,
) -> list[Document]:
    """Return up to `most` versions with numbers above `after`."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE kind = :kind AND number > :after"
        " AND (:name IS NULL OR name = :name) AND (:active IS NULL OR active = :active)"
        " ORDER BY number LIMIT :most",
        {"kind": kind, "after": after, "name": name, "active": active, "most": most},
    )
    return [_document(row) for row in rows]


def in_force(connection: sqlite3.Connection, kind: Kind) -> list[tuple[Document, bytes]]:
    """Return the active versions of a kind with their bytes, by name."""
    rows = connection.execute(
        f"SELECT {_COLUMNS}, data FROM documents WHERE kind = ? AND active = 1 ORDER BY name",
        (kind,),
    )
    return [(_document(row[:-1]), row[-1]) for row in rows]


def set_active(
    connection: sqlite3.Connection,
    document: Document,
    *,
    active: bool,
    at: datetime,
    principal: str,
) -> int:
    """Put a version in force, or out of it; returns the epoch that holds now.

    Activation takes the other version of the name out of force, of a policy every other policy.
    What is so already makes no epoch.
    """
    row = connection.execute(
        "SELECT active FROM documents WHERE number = ?", (document.number,)
    ).fetchone()
    if row is None:
        raise sqlite3.DatabaseError("the document has gone")
    if bool(row[0]) == active:
        return epoch(connection)
    if active:
        connection.execute(
            "UPDATE documents SET active = 0 WHERE kind = ?1 AND active = 1"
            " AND (name = ?2 OR ?1 = 'policy')",
            (document.kind, document.name),
        )
    connection.execute(
        "UPDATE documents SET active = ? WHERE number = ?", (active, document.number)
    )
    connection.execute(
        "INSERT INTO epochs (at, principal, action, kind, name, version) VALUES (?,?,?,?,?,?)",
        (
            microseconds(at),
            principal,
            "activate" if active else "deactivate",
            document.kind,
            document.name,
            document.version,
        ),
    )
    return epoch(connection)


def epoch(connection: sqlite3.Connection) -> int:
    """Return the present epoch; 0 before the first activation."""
    return int(connection.execute("SELECT coalesce(max(epoch), 0) FROM epochs").fetchone()[0])


def epochs(connection: sqlite3.Connection, *, before: int | None, most: int) -> list[Epoch]:
    """Return up to `most` epochs below `before`, the newest first."""
    rows = connection.execute(
        "SELECT epoch, at, principal, action, kind, name, version FROM epochs"
        " WHERE ?1 IS NULL OR epoch < ?1 ORDER BY epoch DESC LIMIT ?2",
        (before, most),
    )
    return [
        Epoch(
            epoch=row[0],
            at=time_of(row[1]),
            principal=row[2],
            action=row[3],
            kind=Kind(row[4]),
            name=row[5],
            version=row[6],
        )
        for row in rows
    ]


def _document(row: tuple[int, str, str, int, bytes, int, int, str, int]) -> Document:
    number, kind, name, version, digest, size, imported, imported_by, active = row
    return Document(
        number=number,
        kind=Kind(kind),
        name=name,
        version=version,
        digest=digest,
        size=size,
        imported=time_of(imported),
        imported_by=imported_by,
        active=bool(active),
    )
