"""A service with the synthetic hosts' manufacturer, references and policy, shared by a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.attestation.service.running import Running, prepare, running


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("verifier")) as found:
        prepare(found)
        yield found
