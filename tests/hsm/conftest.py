"""A session in the shared module's partition `web`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from casemate.hsm.client import Partition
from tests.running_module import RunningModule


@pytest.fixture(scope="module")
def web(shared_module: RunningModule) -> Iterator[Partition]:
    with shared_module.connect() as partition:
        yield partition
