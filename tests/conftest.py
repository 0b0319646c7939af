"""Fixtures for every test: folders with short paths, a real module."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.running_module import RunningModule

# A busy machine is no failure: time limits stand in the tests that are about time.
settings.register_profile("casemate", deadline=None)
settings.load_profile("casemate")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path short enough for Unix sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="cm-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def module(short_folder: Path) -> Iterator[RunningModule]:
    """A running module with partition `web`."""
    running = RunningModule(short_folder).start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def shared_module() -> Iterator[RunningModule]:
    """A running module with partitions `web` and `db`, shared by the tests of one file."""
    folder = Path(tempfile.mkdtemp(prefix="cm-"))
    running = RunningModule(folder, partitions=("web", "db")).start()
    yield running
    running.kill()
    shutil.rmtree(folder, ignore_errors=True)
