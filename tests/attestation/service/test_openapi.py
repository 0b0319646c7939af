"""Requests made from the OpenAPI document: no answer is a defect, each is as the document says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.attestation.service.running import Running, prepare, running
from tests.attestation.service.test_service import ROUTES


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("verifier")) as found:
        prepare(found)
        yield found


@pytest.fixture(scope="module")
def api(service: Running) -> Any:
    return schemathesis.openapi.from_url(f"{service.url}/openapi.json")


def test_every_answer_is_as_documented(api: Any, service: Running) -> None:
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > len(ROUTES)
    for operation in operations:

        @settings(
            max_examples=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            for name in ("admin", "reader", "attester"):
                answer = case.call(headers={"Authorization": f"Bearer {service.tokens[name]}"})
                case.validate_response(
                    answer,
                    checks=[
                        not_a_server_error,
                        status_code_conformance,
                        content_type_conformance,
                        response_schema_conformance,
                    ],
                )

        ask()
