"""Devices for the tests of the mailbox."""

from __future__ import annotations

import pytest

from tests.rot.mailbox.devices import Bench, powered, running


@pytest.fixture
def rom() -> Bench:
    return powered()


@pytest.fixture
def runtime() -> Bench:
    return running()
