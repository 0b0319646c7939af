"""The tables, and the steps from one version of them to the next (PRAGMA user_version).

- `service`: facts about this database; `id` tells it from every other, also from one that was made
  anew in its place.
- `principals`: who may ask, `token` and `key` are SHA-256.
- `challenges`: nonces, with whom they were issued to and when they were used.
- `hosts`: the standing of each host (`trust.Standing`).
- `appraisals`: every verdict: what is searched for in columns, the rest as JSON (`appraisals`).
- `frames`: what the JSON of many appraisals has in common, compressed; `digest` is SHA-256 of it.
- `documents`: references, policies, anchors and endorsements, all versions; `active` are in force.
- `epochs`: what was in force since when: one row for each change of the active documents.
- `kept`, `kept_blobs`, `blobs`: the evidence of appraisals (`evidence`).
"""

from __future__ import annotations

import secrets
import sqlite3

#: "CSMV": marks the file as a verifier's database (PRAGMA application_id).
APPLICATION_ID = 0x43534D56

_VERSION_1 = """
CREATE TABLE service (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE principals (
    name TEXT PRIMARY KEY,
    roles TEXT NOT NULL,
    token BLOB UNIQUE CHECK (length(token) = 32),
    key BLOB UNIQUE CHECK (length(key) = 32),
    created INTEGER NOT NULL,
    expires INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE challenges (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    value BLOB NOT NULL CHECK (length(value) = 32),
    principal TEXT NOT NULL,
    issued INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    used INTEGER
) STRICT;
CREATE TABLE hosts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    principal TEXT NOT NULL,
    verdict TEXT CHECK (verdict IN ('affirming', 'warning', 'contraindicated')),
    at INTEGER,
    challenge INTEGER NOT NULL DEFAULT 0,
    good_at INTEGER,
    good_until INTEGER,
    appraisal INTEGER
) STRICT;
CREATE INDEX hosts_by_trust ON hosts (verdict, number, at, good_until);
CREATE INDEX hosts_by_principal ON hosts (principal, number);
CREATE TABLE appraisals (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    host TEXT,
    state TEXT NOT NULL,
    effect TEXT NOT NULL,
    challenge INTEGER,
    correlation TEXT NOT NULL,
    policy BLOB NOT NULL,
    reference BLOB NOT NULL,
    claims BLOB NOT NULL,
    envelope BLOB
) STRICT;
CREATE INDEX appraisals_by_host ON appraisals (host, number);
CREATE INDEX appraisals_by_principal ON appraisals (principal, number);
CREATE INDEX appraisals_by_state ON appraisals (state, number);
CREATE INDEX appraisals_by_time ON appraisals (at, number);
CREATE INDEX appraisals_by_correlation ON appraisals (correlation, number);
CREATE TABLE documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL CHECK (kind IN ('reference', 'policy', 'anchor', 'endorsement')),
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    data BLOB NOT NULL,
    imported INTEGER NOT NULL,
    imported_by TEXT NOT NULL,
    active INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
    UNIQUE (kind, name, version)
) STRICT;
CREATE UNIQUE INDEX documents_active ON documents (kind, name) WHERE active = 1;
CREATE TABLE epochs (
    epoch INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL CHECK (action IN ('activate', 'deactivate')),
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL
) STRICT;
"""

#: Claims that were kept before have no frame and stay as they are.
_VERSION_2 = """
CREATE TABLE frames (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    digest BLOB NOT NULL UNIQUE CHECK (length(digest) = 32),
    data BLOB NOT NULL
) STRICT;
ALTER TABLE appraisals ADD COLUMN frame INTEGER REFERENCES frames (number);
CREATE INDEX appraisals_by_frame ON appraisals (frame) WHERE frame IS NOT NULL;
"""

_VERSION_3 = """
CREATE TABLE kept (
    appraisal INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    counted INTEGER NOT NULL CHECK (counted IN (0, 1)),
    size INTEGER NOT NULL,
    terms BLOB NOT NULL
) STRICT;
CREATE INDEX kept_by_time ON kept (at);
CREATE INDEX kept_by_use ON kept (counted, appraisal);
CREATE INDEX kept_by_size ON kept (size);
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    uses INTEGER NOT NULL,
    size INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX blobs_by_size ON blobs (size);
CREATE TABLE kept_blobs (
    appraisal INTEGER NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (appraisal, digest)
) STRICT, WITHOUT ROWID;
"""

#: The step at index n makes version n + 1 out of version n. What is published is never changed.
STEPS: tuple[str, ...] = (_VERSION_1, _VERSION_2, _VERSION_3)
SCHEMA_VERSION = len(STEPS)


class SchemaError(Exception):
    """The file is not a database of this service, or of a newer version of it."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables to the present version, one transaction a step."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
    if not empty and application != APPLICATION_ID:
        raise SchemaError("this is a database, but not one of the verifier")
    if version > SCHEMA_VERSION:
        raise SchemaError(f"it has version {version}; this program knows up to {SCHEMA_VERSION}")
    for number, step in enumerate(STEPS[version:], start=version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {step}"
            f"PRAGMA user_version = {number}; COMMIT;"
        )
    with_id = "INSERT INTO service VALUES ('id', ?) ON CONFLICT DO NOTHING"
    connection.execute(with_id, (secrets.token_hex(4),))


def database_id(connection: sqlite3.Connection) -> str:
    """Return what tells this database from every other: 8 hexadecimal digits."""
    row = connection.execute("SELECT value FROM service WHERE name = 'id'").fetchone()
    if row is None:
        raise SchemaError("the table `service` names no id")
    return str(row[0])
