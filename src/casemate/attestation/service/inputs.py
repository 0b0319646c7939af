"""What is in force: the verifier that the database's active documents make.

References that an administrator imports need no signature, unless the service is told to ask for
one: the import is authenticated, recorded, and makes an epoch.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation import input as operator_input
from casemate.attestation.appraisal import policy
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.evidence import registry
from casemate.attestation.input import Given
from casemate.attestation.reference import store
from casemate.attestation.service.database import documents, history
from casemate.attestation.service.database.documents import Document, Kind
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.verifier import Verifier

#: The policy where none is in force.
DEFAULT_POLICY = "default"


@dataclass(frozen=True, slots=True)
class InForce:
    """A verifier, and the epoch from which on it holds."""

    verifier: Verifier
    epoch: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """How documents become a verifier."""

    require_signed_references: bool = False
    require_revocation: bool = False

    def load(
        self, connection: sqlite3.Connection, at: datetime, *, epoch: int | None = None
    ) -> InForce:
        """Make the verifier of the active documents, or of those that were so at an epoch.

        Raises `InputError`: one cannot be used.
        """
        given = _given(connection, require_revocation=self.require_revocation, epoch=epoch)
        policies = _named(connection, Kind.POLICY, epoch)
        return InForce(
            Verifier(
                endorsements=given.endorsements,
                references=store.load(
                    given.references,
                    signers=given.signers,
                    at=at,
                    take_unsigned=not self.require_signed_references,
                ),
                policy=policy.read(policies[0].data, policies[0].name)
                if policies
                else policy.built_in(DEFAULT_POLICY),
            ),
            documents.epoch(connection) if epoch is None else epoch,
        )

    def check(
        self, connection: sqlite3.Connection, kind: Kind, document: NamedBytes, at: datetime
    ) -> None:
        """See that a document is one of its kind and can be used; raises `RefusedError`."""
        try:
            if kind is Kind.POLICY:
                policy.read(document.data, document.name)
            elif kind is Kind.REFERENCE:
                store.load(
                    [document],
                    signers=_given(connection).signers,
                    at=at,
                    take_unsigned=not self.require_signed_references,
                )
            else:
                operator_input.sort(
                    endorsements=[document] if kind is Kind.ENDORSEMENT else [],
                    anchors=[document] if kind is Kind.ANCHOR else [],
                    families=registry.families(),
                )
        except InputError as error:
            raise _unusable(kind, error) from error

    def activate(
        self,
        connection: sqlite3.Connection,
        document: Document,
        *,
        active: bool,
        at: datetime,
        principal: str,
    ) -> InForce:
        """Put a document in force, or out of it, if what is then in force can be used.

        Raises `RefusedError` otherwise; the change is undone with the transaction's savepoint.
        """
        documents.set_active(connection, document, active=active, at=at, principal=principal)
        try:
            return self.load(connection, at)
        except InputError as error:
            raise _unusable(document.kind, error) from error


def _given(
    connection: sqlite3.Connection, *, require_revocation: bool = False, epoch: int | None = None
) -> Given:
    return operator_input.sort(
        require_revocation=require_revocation,
        endorsements=_named(connection, Kind.ENDORSEMENT, epoch),
        anchors=_named(connection, Kind.ANCHOR, epoch),
        references=_named(connection, Kind.REFERENCE, epoch),
        families=registry.families(),
    )


def _named(connection: sqlite3.Connection, kind: Kind, epoch: int | None) -> list[NamedBytes]:
    found = (
        documents.in_force(connection, kind)
        if epoch is None
        else history.in_force_at(connection, kind, epoch)
    )
    return [
        NamedBytes(data, f"{document.name}, version {document.version}") for document, data in found
    ]


def _unusable(kind: Kind, error: InputError) -> RefusedError:
    return RefusedError(
        Reason.UNUSABLE,
        str(error),
        where=kind.value,
        advice="correct the document and import it again; what was in force still is",
    )
