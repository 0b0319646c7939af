"""Makes an appraisal again, from what was kept of it, and says whether the verdict is the same.

The evidence, its collateral, the time and the nonce are those that were kept; policy, references,
anchors and endorsements are the documents that were in force then, found by their epoch, and held
against the digests that the verdict names. The same program makes the same verdict of them, word
for word. A newer program may word it otherwise or know more checks: then the differences show.

What a worker met (it was ended from outside, nobody could sign) is not in the evidence, and cannot
be made again; such verdicts are could-not-appraise.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.document import document
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InputError
from casemate.attestation.pool import Pool, Request
from casemate.attestation.service import keeping
from casemate.attestation.service.database import appraisals, evidence, history
from casemate.attestation.service.database.appraisals import AppraisalRow
from casemate.attestation.service.database.documents import Kind
from casemate.attestation.service.events import document_of
from casemate.attestation.service.inputs import DEFAULT_POLICY, InForce, Inputs
from casemate.attestation.service.keeping import KeptError, Material
from casemate.attestation.states import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproof:
    """Both verdicts as documents. `differences` names the fields that are not the same."""

    row: AppraisalRow
    kept: Mapping[str, Any]
    made: Mapping[str, Any]
    program: str
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the very same verdict came of it."""
        return not self.differences

    @property
    def states(self) -> tuple[State, State]:
        """The state of then, and the one that came of it now."""
        return State(self.kept["state"]), State(self.made["state"])


@dataclass(frozen=True, slots=True)
class _Found:
    """An appraisal of before: its row, its verdict as a document, its evidence as it is kept."""

    row: AppraisalRow
    verdict: Mapping[str, Any]
    terms: bytes
    material: Material


def reprove(connection: sqlite3.Connection, number: int) -> Reproof:
    """Make an appraisal again. Raises InputError: what is missing, or was changed."""
    found = _find(connection, number)
    row, material = found.row, found.material
    request = Request(
        material.pieces,
        row.at,
        material.terms.nonce,
        row.correlation,
        material.along,
        unsorted=True,
    )
    # In a process of its own: the evidence may be such that ends it.
    pool: Pool[Verdict]
    verdict: Verdict
    with Pool(_in_force(connection, found).verifier, workers=1) as pool:
        verdict = pool.submit(request).result()
    before, after = found.verdict, json.loads(json.dumps(document(verdict)))
    return Reproof(
        row=row,
        kept=before,
        made=after,
        program=material.terms.program,
        differences=tuple(
            name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)
        ),
    )


def files_of(connection: sqlite3.Connection, number: int) -> dict[str, bytes]:
    """What an appraisal was made of as files by name, for other programs. Raises InputError.

    `evidence/`, `endorsements/`, `anchors/`, `references/` and `policy/` are arguments of `casemate
    appraise`; `collateral/` is for `casemate collateral import`, since nothing in it is an anchor;
    `terms.json` has the rest.
    """
    found = _find(connection, number)
    epoch = _in_force(connection, found).epoch
    standing, along = found.material.standing, found.material.along or Endorsements()
    contents = {
        "evidence": [piece.data for piece in found.material.pieces],
        "collateral": [
            source.data
            for part in (standing, along)
            for source in (*part.certificates, *part.revocations, *part.tdx_collateral)
        ],
    }
    for kind, folder in _FOLDERS.items():
        documents = history.in_force_at(connection, kind, epoch)
        contents[folder] = [data for _, data in documents]
    contents["policy"] = contents["policy"] or [policy.built_in_text(DEFAULT_POLICY)]
    files = {
        f"{folder}/{place}": data
        for folder, all_ in contents.items()
        for place, data in enumerate(all_, 1)
    }
    return {"terms.json": found.terms, **files}


_FOLDERS = {
    Kind.ENDORSEMENT: "endorsements",
    Kind.ANCHOR: "anchors",
    Kind.REFERENCE: "references",
    Kind.POLICY: "policy",
}


def _find(connection: sqlite3.Connection, number: int) -> _Found:
    row, kept = appraisals.find(connection, number), evidence.find(connection, number)
    contents = appraisals.contents(connection, number)
    if row is None or contents is None:
        raise InputError(f"there is no appraisal of number {number}, or its verdict was pruned")
    if kept is None:
        raise InputError(
            "the evidence of this appraisal is not kept: it was too old or too much, or none was "
            "kept (--keep-evidence, --evidence-limit)"
        )
    try:
        material = keeping.read(kept)
    except KeptError as error:
        raise InputError(str(error)) from None
    return _Found(row, document_of(json.loads(contents[0])), kept.terms, material)


def _in_force(connection: sqlite3.Connection, found: _Found) -> InForce:
    """The verifier of then, and its epoch. Raises InputError: no epoch fits the verdict."""
    row, terms = found.row, found.material.terms
    inputs = Inputs(
        require_signed_references=terms.require_signed_references,
        require_revocation=terms.require_revocation,
    )
    seen: list[str] = []
    for epoch in terms.epochs:
        verifier = inputs.load(connection, row.at, epoch=epoch).verifier
        digests = verifier.policy.id.digest, verifier.references.digest
        if digests == (row.policy, row.reference):
            endorsements = verifier.endorsements.with_(found.material.standing)
            return InForce(replace(verifier, endorsements=endorsements), epoch)
        seen.append(
            f"epoch {epoch} has policy {digests[0].hex()[:16]} and references "
            f"{digests[1].hex()[:16]}"
        )
    raise InputError(
        f"the verdict was made with policy {row.policy.hex()[:16]} and references "
        f"{row.reference.hex()[:16]}, but {'; '.join(seen)}: the built-in policy is another one in "
        f"this version (then {terms.program}), or the database was changed"
    )
