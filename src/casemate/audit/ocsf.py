"""Events of the Open Cybersecurity Schema Framework (schema.ocsf.io, 1.5.0), as plain dicts.

A verdict is a Compliance Finding (class 2003): a resource, evaluated against requirements, with a
status of pass, warning, fail or unknown. Times are milliseconds since 1970.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

OCSF_VERSION = "1.5.0"
FINDINGS = 2
COMPLIANCE_FINDING = 2003
ACTIVITY_CREATE = 1
#: Fingerprint algorithm SHA-256.
SHA256 = 3
_NOTHING: Mapping[str, Any] = {}


class ComplianceStatus(enum.IntEnum):
    """compliance.status_id."""

    UNKNOWN = 0
    PASS = 1
    WARNING = 2
    FAIL = 3


class Severity(enum.IntEnum):
    """severity_id."""

    UNKNOWN = 0
    INFORMATIONAL = 1
    LOW = 2
    MEDIUM = 3
    HIGH = 4
    CRITICAL = 5


@dataclass(frozen=True, slots=True)
class Product:
    """Who reports: metadata.product."""

    feature: str
    version: str
    name: str = "Casemate"
    vendor: str = "Casemate"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing that was checked: an entry of compliance.checks."""

    name: str
    status: ComplianceStatus
    description: str


class Finding(NamedTuple):
    """What a Compliance Finding says.

    `uid` names the finding for ever; `correlation` ties it to the request; `resource` is what was
    judged (None: nothing that could be named); `digests` are SHA-256 values by name; `extra` is
    what the schema has no place for.
    """

    uid: str
    correlation: str
    at: datetime
    title: str
    message: str
    status: ComplianceStatus
    severity: Severity
    control: str
    resource: str | None = None
    resource_type: str = "host"
    requirements: tuple[Requirement, ...] = ()
    advice: tuple[str, ...] = ()
    digests: tuple[tuple[str, bytes], ...] = ()
    extra: Mapping[str, Any] = _NOTHING


def compliance_finding(finding: Finding, product: Product) -> dict[str, Any]:
    """Return the event, without the sequence number that the spool gives it."""
    milliseconds = int(finding.at.timestamp() * 1000)
    event: dict[str, Any] = {
        "activity_id": ACTIVITY_CREATE,
        "activity_name": "Create",
        "category_uid": FINDINGS,
        "category_name": "Findings",
        "class_uid": COMPLIANCE_FINDING,
        "class_name": "Compliance Finding",
        "type_uid": COMPLIANCE_FINDING * 100 + ACTIVITY_CREATE,
        "type_name": "Compliance Finding: Create",
        "time": milliseconds,
        "severity_id": int(finding.severity),
        "severity": finding.severity.name.capitalize(),
        "message": finding.message,
        "metadata": {
            "version": OCSF_VERSION,
            "uid": finding.uid,
            "correlation_uid": finding.correlation,
            "product": {
                "name": product.name,
                "vendor_name": product.vendor,
                "version": product.version,
                "feature": {"name": product.feature},
            },
        },
        "finding_info": {
            "uid": finding.uid,
            "title": finding.title,
            "created_time": milliseconds,
            "desc": finding.message,
        },
        "compliance": {
            "control": finding.control,
            "standards": ["RFC 9334"],
            "status_id": int(finding.status),
            "checks": [
                {
                    "name": requirement.name,
                    "desc": requirement.description,
                    "status_id": int(requirement.status),
                    "status": requirement.status.name.capitalize(),
                }
                for requirement in finding.requirements
            ],
        },
        "unmapped": {
            **finding.extra,
            "sha256": {name: digest.hex() for name, digest in finding.digests},
        },
    }
    if finding.resource is not None:
        event["resources"] = [{"uid": finding.resource, "type": finding.resource_type}]
    if finding.advice:
        event["remediation"] = {"desc": "; ".join(finding.advice)}
    return event
