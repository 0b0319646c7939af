"""Events: each is a Compliance Finding that the OCSF models accept whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding

from casemate.audit.ocsf import (
    ComplianceStatus,
    Finding,
    Product,
    Requirement,
    Severity,
    compliance_finding,
)


@pytest.mark.parametrize("resource", [None, "idevid:00112233"])
@pytest.mark.parametrize("status", list(ComplianceStatus))
def test_the_models_accept_and_keep_everything(
    resource: str | None, status: ComplianceStatus
) -> None:
    event = compliance_finding(
        Finding(
            uid="1a2b-7",
            correlation="c-1",
            at=datetime(2026, 11, 25, tzinfo=UTC),
            title="a host was appraised",
            message="the module's measurement differs",
            status=status,
            severity=Severity.HIGH,
            control="policy default 1",
            resource=resource,
            requirements=(Requirement("signature", ComplianceStatus.PASS, "it verifies"),),
            advice=("look at the module's file",),
            digests=(("policy", bytes(32)),),
            extra={"effect": "counted"},
        ),
        Product(feature="verifier", version="0.1.0"),
    )
    event["metadata"]["sequence"] = 1
    model = ComplianceFinding.model_validate(event, strict=False)
    read = json.loads(model.model_dump_json(exclude_none=True))
    assert {key: read.get(key) for key in event} == event
