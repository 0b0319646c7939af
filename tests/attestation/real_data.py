"""Real evidence for tests: found through CASEMATE_DATA, and skipped with a reason without it."""

from __future__ import annotations

import base64
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.family import Piece

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def data_folder() -> Path:
    folder = os.environ.get("CASEMATE_DATA")
    if not folder:
        pytest.skip("CASEMATE_DATA is not set: real evidence is not here")
    return Path(folder)


def case(identifier: str) -> dict[str, Any]:
    """One case of verdicts.json."""
    cases = json.loads((data_folder() / "verdicts.json").read_text())["cases"]
    found: dict[str, Any] = next(entry for entry in cases if entry["id"] == identifier)
    return found


def pieces(found: dict[str, Any]) -> tuple[Piece, ...]:
    """A case's evidence, with its bit flipped where it says so."""
    made = []
    for name in found["evidence"]:
        data = bytearray((data_folder() / name).read_bytes())
        if flip := found.get("flip"):
            data[flip["byte"]] ^= 1 << flip["bit"]
        made.append(Piece(bytes(data), name))
    return tuple(made)


def certificates(names: list[str]) -> tuple[NamedBytes, ...]:
    """Every certificate of these PEM files, as DER."""
    return tuple(
        NamedBytes(base64.b64decode(match), name)
        for name in names
        for match in _PEM.findall((data_folder() / name).read_bytes())
    )


def time_of(found: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(found["at"])
