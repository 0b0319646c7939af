"""Tells the outside what was decided: one OCSF event for each verdict, in the spool.

An event is made of what the database keeps of the appraisal, so that events which a full disk or a
crash kept from the spool are made again, and no verdict goes untold.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import casemate
from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.verdict import Comparison, ComponentVerdict, Verdict
from casemate.attestation.service import identifiers
from casemate.attestation.service.database import appraisals
from casemate.attestation.service.database.appraisals import AppraisalRow
from casemate.attestation.service.database.writer import Event, Publisher
from casemate.attestation.service.errors import StoreError
from casemate.attestation.service.record import Recorded
from casemate.attestation.service.trust import Effect
from casemate.attestation.states import State
from casemate.audit.ocsf import (
    ComplianceStatus,
    Finding,
    Product,
    Requirement,
    Severity,
    compliance_finding,
)
from casemate.audit.spool import Spool, SpoolError

PRODUCT = Product(feature="verifier", version=casemate.__version__)
#: Events that are made again in one go.
_CATCH_UP = 200

_STATUS = {
    State.AFFIRMING: (ComplianceStatus.PASS, Severity.INFORMATIONAL),
    State.WARNING: (ComplianceStatus.WARNING, Severity.LOW),
    State.CONTRAINDICATED: (ComplianceStatus.FAIL, Severity.HIGH),
    State.COULD_NOT_APPRAISE: (ComplianceStatus.UNKNOWN, Severity.MEDIUM),
}


class SpoolPublisher(Publisher):
    """Writes the events of a database's appraisals to a spool."""

    def __init__(self, spool: Spool, database_id: str) -> None:
        self._spool = spool
        self._database_id = database_id
        self._lock = threading.Lock()

    def catch_up(self, connection: sqlite3.Connection) -> None:
        """Make the events of appraisals that the spool does not have."""
        told = self._last_told()
        while rows := appraisals.after(connection, told, _CATCH_UP):
            self.publish([_remade(connection, row, self._database_id) for row in rows])
            told = rows[-1].number

    def publish(self, events: Sequence[Event]) -> None:
        """Append events in their order."""
        try:
            with self._lock:
                self._spool.append(events)
        except SpoolError as error:
            raise StoreError(
                f"the event spool cannot be written: {error}",
                advice="make room for it; nothing is appraised until its events can be told",
            ) from error

    def of(self, recorded: Recorded) -> Event:
        """The event of a verdict that is on disk."""
        return _numbered(
            compliance_finding(recorded.appraised.finding, PRODUCT),
            number=recorded.number,
            database=self._database_id,
            principal=recorded.principal,
            effect=recorded.effect,
        )

    def _last_told(self) -> int:
        """The number of the last appraisal that the spool has; 0: none of this database.

        Events without a number (of appraisals that could not be kept) may stand behind it.
        """
        for event in self._spool.backwards():
            unmapped = event.get("unmapped", {})
            if unmapped.get("database") == self._database_id and "number" in unmapped:
                return int(unmapped["number"])
        return 0


def not_kept(*, message: str, advice: str, at: datetime, correlation: str, principal: str) -> Event:
    """The event of an appraisal that could not be kept: could-not-appraise, without a number."""
    status, severity = _STATUS[State.COULD_NOT_APPRAISE]
    return compliance_finding(
        Finding(
            uid=f"not-kept-{correlation}",
            correlation=correlation,
            at=at,
            title="could-not-appraise",
            message=message,
            status=status,
            severity=severity,
            control="none",
            advice=(advice,) if advice else (),
            extra={"principal": principal, "effect": Effect.VERIFIER_FAILED.value},
        ),
        PRODUCT,
    )


def _remade(connection: sqlite3.Connection, row: AppraisalRow, database_id: str) -> Event:
    found = appraisals.contents(connection, row.number)
    if found is None:
        raise sqlite3.DatabaseError("an appraisal went away while it was read")
    return _numbered(
        of_document(document_of(json.loads(found[0])), row.at),
        number=row.number,
        database=database_id,
        principal=row.principal,
        effect=row.effect,
    )


def document_of(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the verdict's document of claims that were kept."""
    found: Mapping[str, Any] = claims.get(result.VERDICT, claims)
    return found


def of_document(document: Mapping[str, Any], at: datetime) -> Event:
    """The event of a verdict's document, but for what only the database knows (`_numbered`)."""
    policy, host = document["policy"], document["host"]
    found = _finding(
        state=State(document["state"]),
        at=at,
        correlation=document["correlation_id"],
        host=host["name"] if host else None,
        control=f"policy {policy['name']} {policy['version']}",
        reasons=document["reasons"],
        advice=document["advice"],
        requirements=tuple(_requirements(document)),
        digests=(
            ("policy", bytes.fromhex(policy["digest"])),
            ("references", bytes.fromhex(document["references"])),
            *((part["name"], bytes.fromhex(part["digest"])) for part in document["evidence"]),
        ),
    )
    return compliance_finding(found, PRODUCT)


def finding_of(verdict: Verdict, requirements: Sequence[Requirement]) -> Finding:
    """What the event of a verdict says, but for what only the database knows.

    `requirements` are those of its components (`requirement`), in their order.
    """
    policy = verdict.policy
    return _finding(
        state=verdict.state,
        at=verdict.at,
        correlation=verdict.correlation_id,
        host=None if verdict.host is None else verdict.host.name,
        control=f"policy {policy.name} {policy.version}",
        reasons=verdict.reasons,
        advice=verdict.advice,
        requirements=tuple(requirements),
        digests=(
            ("policy", policy.digest),
            ("references", verdict.references),
            *verdict.evidence,
        ),
    )


def _finding(
    *,
    state: State,
    at: datetime,
    correlation: str,
    host: str | None,
    control: str,
    reasons: Sequence[str],
    advice: Sequence[str],
    requirements: tuple[Requirement, ...],
    digests: tuple[tuple[str, bytes], ...],
) -> Finding:
    status, severity = _STATUS[state]
    return Finding(
        uid="",
        correlation=correlation,
        at=at,
        title=f"{host or 'unknown host'}: {state}",
        message=reasons[0] if reasons else state.value,
        status=status,
        severity=severity,
        control=control,
        resource=host,
        requirements=requirements,
        advice=tuple(advice),
        digests=digests,
        extra={"reasons": list(reasons)},
    )


def _numbered(event: Event, *, number: int, database: str, principal: str, effect: Effect) -> Event:
    """Say which appraisal an event tells of (in place), and what it did to trust."""
    uid = identifiers.name(database, number)
    event["metadata"]["uid"] = event["finding_info"]["uid"] = uid
    event["unmapped"] |= {
        "database": database,
        "number": number,
        "principal": principal,
        "effect": effect.value,
    }
    return event


def _requirements(document: Mapping[str, Any]) -> Iterator[Requirement]:
    """One entry a component: what it was found to be, and why where it is not affirming."""
    for component in document["components"]:
        why = [check["sentence"] for check in component["checks"] if not check["passed"]]
        why += [
            f"{claim['label']}: {claim['comparison']}"
            for claim in component["claims"]
            if claim["comparison"] != Comparison.MET
        ]
        why += [clause["sentence"] for clause in component["clauses"]]
        yield _found(component["name"], State(component["state"]), why)


def requirement(component: ComponentVerdict) -> Requirement:
    """The same of one component's verdict; its facts do not matter."""
    why = [check.sentence for check in component.checks if not check.passed]
    for claim in component.claims:
        if claim.comparison is not Comparison.MET:
            why.append(f"{claim.label}: {claim.comparison}")
    why += [clause.sentence for clause in component.clauses]
    return _found(component.name, component.state, why)


def _found(name: str, state: State, why: Sequence[str]) -> Requirement:
    return Requirement(name, _STATUS[state][0], "; ".join(why) or state.value)
