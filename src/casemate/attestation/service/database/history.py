"""What was in force at an epoch of before: the record of activations, followed from the first."""

from __future__ import annotations

import sqlite3

from casemate.attestation.service.database import documents
from casemate.attestation.service.database.documents import Document, Kind


def in_force_at(
    connection: sqlite3.Connection, kind: Kind, epoch: int
) -> list[tuple[Document, bytes]]:
    """Return the versions of a kind that were active at an epoch, with their bytes, by name.

    It follows the rules of `documents.set_active`: activation takes the name's other version out of
    force, of a policy every other policy.
    """
    active: dict[str, int] = {}
    rows = connection.execute(
        "SELECT name, action, version FROM epochs WHERE kind = ? AND epoch <= ? ORDER BY epoch",
        (kind, epoch),
    )
    for name, action, version in rows:
        if action == "deactivate":
            active.pop(name, None)
            continue
        if kind is Kind.POLICY:
            active.clear()
        active[name] = version
    found = []
    for name, version in sorted(active.items()):
        document = documents.find(connection, kind, name, version)
        if document is None:
            raise sqlite3.DatabaseError(f"{kind} {name!r}, version {version} has gone")
        found.append(document)
    return found
