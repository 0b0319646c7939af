"""One module for all tests of the PKCS#11 library that do not end it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pkcs11.cryptoki import LIBRARY, Cryptoki, Session
from tests.running_module import RunningModule


@pytest.fixture(scope="session", autouse=True)
def built() -> None:
    """`make test` builds the library first: without it these tests fail, they do not skip."""
    assert LIBRARY.exists(), f"{LIBRARY} is not built: run make build"


@pytest.fixture(scope="session")
def module(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningModule]:
    """A module with two partitions that need no PIN."""
    folder = tmp_path_factory.mktemp("module")
    running = RunningModule(folder, partitions=("db", "web")).start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def guarded(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningModule]:
    """A module with a partition that needs PINs."""
    folder = tmp_path_factory.mktemp("guarded")
    running = RunningModule(folder, partitions=("safe",), pin_required=True).start()
    yield running
    running.stop()


@pytest.fixture
def own_module(built: None, tmp_path: Path) -> Iterator[RunningModule]:
    """A module that the test may kill."""
    running = RunningModule(tmp_path, partitions=("own",)).start()
    yield running
    running.stop()


@pytest.fixture
def library(module: RunningModule, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cryptoki]:
    """The initialised library, with the slots of `module` only."""
    with loaded(module, monkeypatch) as cryptoki:
        yield cryptoki


@pytest.fixture
def session(library: Cryptoki) -> Session:
    """A read-write session of the partition `web`."""
    return library.open_session(library.slot("web"))


def loaded(running: RunningModule, monkeypatch: pytest.MonkeyPatch) -> Cryptoki:
    """The library, set up for this module, to be used as a context."""
    for name, value in running.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(running.base))
    monkeypatch.setenv("CASEMATE_PKCS11_LOG", "1")
    return Cryptoki(LIBRARY)
