"""What is kept of an appraisal so that it can be made again: its evidence, and the terms.

Contents are named by their SHA-256: a CRL that a thousand appraisals looked into is kept once. The
terms say what else decided, and refer to the rest by digest or epoch:

| field | |
|---|---|
| `program` | the version that appraised |
| `epochs` | what was in force: the documents of this epoch, or of the second while it changed |
| `nonce` | hexadecimal, null: none was asked for |
| `pieces` | name and SHA-256 of each piece, as it came |
| `along` | collateral that was looked up for it: certificates, revocations, TDX collateral |
| `standing` | SHA-256 of the packed collateral that is there for every appraisal, null: none |
| `stale_until`, `require_revocation`, `require_signed_references` | the policies |
| `absent` | what could not be had, as sentences |
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import casemate
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.evidence.family import Piece
from casemate.attestation.service.database.evidence import KeptEvidence

_VERSION = 1
_PARTS = ("certificates", "revocations", "tdx_collateral")


class KeptError(ValueError):
    """What was kept cannot be read, or is not whole; the message says what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of an appraisal, apart from its evidence and its time."""

    epochs: tuple[int, ...]
    nonce: bytes | None
    require_revocation: bool
    require_signed_references: bool
    program: str = casemate.__version__


@dataclass(frozen=True, slots=True)
class Standing:
    """The collateral that is there for every appraisal, packed and compressed once for all."""

    digest: bytes
    data: bytes

    @classmethod
    def of(cls, endorsements: Endorsements) -> Standing | None:
        """Pack it; None where there is nothing."""
        if endorsements.is_empty:
            return None
        packed = json.dumps(
            {
                part: [
                    [source.name, base64.b64encode(source.data).decode()]
                    for source in getattr(endorsements, part)
                ]
                for part in _PARTS
            },
            separators=(",", ":"),
        ).encode()
        return cls(hashlib.sha256(packed).digest(), _compress(packed))


def make(
    pieces: Sequence[Piece], along: Endorsements | None, standing: Standing | None, terms: Terms
) -> KeptEvidence:
    """What is kept of one appraisal; it compresses, so it is work for a thread."""
    contents: dict[bytes, bytes] = {}

    def name(data: bytes) -> str:
        digest = hashlib.sha256(data).digest()
        if digest not in contents:
            contents[digest] = _compress(data)
        return digest.hex()

    along = along or Endorsements()
    value = {
        "version": _VERSION,
        "program": terms.program,
        "epochs": list(terms.epochs),
        "nonce": None if terms.nonce is None else terms.nonce.hex(),
        "pieces": [[piece.name, name(piece.data)] for piece in pieces],
        "along": {
            part: [[source.name, name(source.data)] for source in getattr(along, part)]
            for part in _PARTS
        },
        "standing": None if standing is None else standing.digest.hex(),
        "stale_until": None if along.stale_until is None else along.stale_until.isoformat(),
        "require_revocation": terms.require_revocation,
        "require_signed_references": terms.require_signed_references,
        "absent": list(along.absent),
    }
    if standing is not None:
        contents[standing.digest] = standing.data
    return KeptEvidence(_compress(json.dumps(value, separators=(",", ":")).encode()), contents)


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What was appraised, and under which terms. `along` does not hold the standing collateral."""

    pieces: tuple[Piece, ...]
    along: Endorsements | None
    standing: Endorsements
    terms: Terms


def read(kept: KeptEvidence) -> Material:
    """Read what `make` made, decompressed. Raises KeptError; every digest is computed again."""
    try:
        value = json.loads(kept.terms)
        if value["version"] != _VERSION:
            raise KeptError(f"version {value['version']!r:.20} of what is kept is not known")
        stale = value["stale_until"]
        certificates, revocations, tdx = (
            _sources(value["along"][part], kept.contents) for part in _PARTS
        )
        along = Endorsements(
            certificates=certificates,
            revocations=revocations,
            tdx_collateral=tdx,
            stale_until=None if stale is None else datetime.fromisoformat(stale),
            absent=tuple(value["absent"]),
        )
        return Material(
            pieces=tuple(
                Piece(source.data, source.name)
                for source in _sources(value["pieces"], kept.contents)
            ),
            along=None if along.is_empty else along,
            standing=_unpack(value["standing"], kept.contents),
            terms=Terms(
                epochs=tuple(value["epochs"]),
                nonce=None if value["nonce"] is None else bytes.fromhex(value["nonce"]),
                require_revocation=value["require_revocation"],
                require_signed_references=value["require_signed_references"],
                program=value["program"],
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KeptError(f"what is kept of the appraisal cannot be read: {error}") from None


def _sources(
    entries: Sequence[Sequence[str]], contents: Mapping[bytes, bytes]
) -> tuple[NamedBytes, ...]:
    return tuple(NamedBytes(_content(digest, contents), name) for name, digest in entries)


def _content(digest: str, contents: Mapping[bytes, bytes]) -> bytes:
    data = contents.get(bytes.fromhex(digest))
    if data is None:
        raise KeptError(f"the content {digest} is missing")
    if hashlib.sha256(data).hexdigest() != digest:
        raise KeptError(f"the content {digest} has another digest: it was changed")
    return data


def _unpack(digest: str | None, contents: Mapping[bytes, bytes]) -> Endorsements:
    if digest is None:
        return Endorsements()
    value: Mapping[str, Any] = json.loads(_content(digest, contents))
    certificates, revocations, tdx = (
        tuple(NamedBytes(base64.b64decode(data, validate=True), name) for name, data in value[part])
        for part in _PARTS
    )
    return Endorsements(certificates=certificates, revocations=revocations, tdx_collateral=tdx)


def _compress(data: bytes) -> bytes:
    # Evidence is mostly keys and signatures: trying harder gains nothing.
    return zlib.compress(data, 1)
