"""The keys that results were and are signed with: what the JWK set shows.

A relying party may hold a result whose key has been replaced since. So the keys of before stay
published, the newest first, until an administrator withdraws one: then no result of its counts any
more with whoever reads the set. The key that signs now cannot be withdrawn.

The file is a JSON object; each key is its SubjectPublicKeyInfo (DER, base64) with the times at
which it began and ended to sign:

    {"version": 1, "keys": [{"spki": "...", "since": "...", "until": null, "withdrawn": false}]}
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from casemate.attestation.appraisal import result
from casemate.attestation.errors import InputError
from casemate.attestation.files import write_whole
from casemate.formats import strict_json
from casemate.formats.strict_json import JsonError

_VERSION = 1
#: A set that nobody ever tidies would grow with each rotation: the oldest go.
MOST_KEYS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedKey:
    """One key. `until` is None for the key that signs now."""

    spki: bytes
    since: datetime
    until: datetime | None = None
    withdrawn: bool = False

    @property
    def id(self) -> str:
        """Its name in results (`kid`)."""
        return result.key_id(self.spki)


class PublishedKeys:
    """The file of one service. It is read each time it is asked: it is small."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> tuple[PublishedKey, ...]:
        """Every key that is known, the newest first. Raises InputError: a damaged file."""
        try:
            value = strict_json.decode(self.path.read_bytes())
            if value["version"] != _VERSION:
                raise ValueError(f"version {value['version']!r:.20} is not known")
            return tuple(_key(entry) for entry in value["keys"])
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror}") from None
        except (JsonError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{self.path}: no file of published keys: {error}; put back a copy, or remove it "
                "(results of keys before this one can then not be read any more)"
            ) from None

    def shown(self) -> tuple[PublishedKey, ...]:
        """Those that stand in the JWK set. Raises InputError."""
        return tuple(key for key in self.all() if not key.withdrawn)

    def sign_with(self, spki: bytes, at: datetime) -> None:
        """Say which key signs from now on. Raises InputError: it was withdrawn, or the file."""
        keys = self.all()
        if keys and keys[0].spki == spki and not keys[0].withdrawn:
            return
        if any(key.spki == spki and key.withdrawn for key in keys):
            raise InputError(
                f"the results' key {result.key_id(spki)} was withdrawn: make another one"
            )
        ended = [replace(key, until=key.until or at) for key in keys if key.spki != spki]
        self._write((PublishedKey(spki=spki, since=at), *ended)[:MOST_KEYS])

    def withdraw(self, key_id: str) -> PublishedKey:
        """Publish a key no longer. Raises InputError: there is none, or it signs now."""
        keys = self.all()
        found = next((key for key in keys if key.id == key_id), None)
        if found is None:
            raise InputError(f"no key {key_id[:64]!r} is published: casemate verifier key list")
        if found.until is None:
            raise InputError(
                f"{key_id}: results are signed with it now: start the service with another key "
                "first (--signing-key)"
            )
        gone = replace(found, withdrawn=True)
        self._write(tuple(gone if key is found else key for key in keys))
        return gone

    def _write(self, keys: tuple[PublishedKey, ...]) -> None:
        entries = [
            {
                "spki": base64.b64encode(key.spki).decode(),
                "since": key.since.isoformat(),
                "until": None if key.until is None else key.until.isoformat(),
                "withdrawn": key.withdrawn,
            }
            for key in keys
        ]
        try:
            text = json.dumps({"version": _VERSION, "keys": entries}, indent=1)
            write_whole(self.path, text.encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {error.strerror}") from None


def _key(entry: Any) -> PublishedKey:
    try:
        spki = base64.b64decode(entry["spki"], validate=True)
    except binascii.Error as error:
        raise ValueError(f"spki is no base64: {error}") from None
    try:
        result.jwk(spki)
    except InputError as error:
        raise ValueError(str(error)) from None
    until = entry["until"]
    key = PublishedKey(
        spki=spki,
        since=datetime.fromisoformat(entry["since"]),
        until=None if until is None else datetime.fromisoformat(until),
        withdrawn=entry["withdrawn"],
    )
    if not isinstance(key.withdrawn, bool):
        raise TypeError("withdrawn is neither true nor false")
    return key
