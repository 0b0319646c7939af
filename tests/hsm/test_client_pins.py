"""PINs by the Python API, against a real module that asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from casemate.formats.pkcs11 import Attribute, ObjectClass, ReturnValue
from casemate.hsm.client import Algorithm, pins
from casemate.hsm.client.errors import LoginError, NotFoundError
from tests.running_module import RunningModule

SO_PIN, PIN = b"so-pin-0000", b"user-pin-1111"


#: CKF_USER_PIN_COUNT_LOW: a wrong PIN came since the last right one.
FEW_TRIES_LEFT = 0x10000


@pytest.fixture
def guarded(short_folder: Path) -> Iterator[RunningModule]:
    """A module whose partition asks for PINs that are set."""
    running = RunningModule(short_folder, pin_required=True).start()
    pins.initialise(running.socket(), label="web", so_pin=SO_PIN)
    with running.connect() as web:
        pins.set_user_pin(web, so_pin=SO_PIN, pin=PIN)
    yield running
    running.kill()


def test_a_partition_without_its_pins_says_so(short_folder: Path) -> None:
    running = RunningModule(short_folder, pin_required=True).start()
    try:
        with running.connect() as web:
            assert web.info().login_required
            with pytest.raises(LoginError):
                web.generate(Algorithm.P256, label="k", stored=True)
            with pytest.raises(LoginError):
                web.login(PIN)
    finally:
        running.kill()


def test_private_keys_need_the_pin(guarded: RunningModule) -> None:
    with guarded.connect() as web:
        web.login(PIN)
        made = web.generate(Algorithm.P256, label="k", stored=True)
        assert made.private.attributes()[Attribute.PRIVATE] is True
        web.logout()
        with pytest.raises(NotFoundError):
            web.find("k", object_class=ObjectClass.PRIVATE_KEY)
    with guarded.connect(pin=PIN.decode()) as web:
        assert web.find("k").sign(b"x")
    with pytest.raises(LoginError, match="wrong"):
        guarded.connect(pin="wrong")


def test_a_failed_pin_is_counted_across_a_crash(guarded: RunningModule) -> None:
    with guarded.connect() as web:
        assert not web.info().flags & FEW_TRIES_LEFT
    with pytest.raises(LoginError):
        guarded.connect(pin="wrong")
    guarded.kill()
    guarded.start()
    with guarded.connect() as web:
        assert web.info().flags & FEW_TRIES_LEFT
        web.login(PIN)
        assert not web.info().flags & FEW_TRIES_LEFT


def test_a_locked_user_pin_is_unlocked_by_the_officer(guarded: RunningModule) -> None:
    def fail() -> ReturnValue | None:
        with pytest.raises(LoginError) as raised:
            guarded.connect(pin="wrong")
        return raised.value.result

    assert [fail() for _ in range(3)] == [ReturnValue.PIN_INCORRECT] * 3
    # From here a try is delayed, longer each time: sooner or later one comes within its delay.
    assert ReturnValue.PIN_LOCKED in [fail() for _ in range(4)]
    with guarded.connect() as web:
        pins.set_user_pin(web, so_pin=SO_PIN, pin=b"unlocked")
        web.login(b"unlocked")


def test_a_changed_pin_survives_a_crash(guarded: RunningModule) -> None:
    with guarded.connect(pin=PIN.decode()) as web:
        pins.change_pin(web, old=PIN, new=b"another-pin")
    guarded.kill()
    guarded.start()
    with guarded.connect(pin="another-pin") as web:
        assert web.generate(Algorithm.P256, label="k", stored=True)
    with pytest.raises(LoginError):
        guarded.connect(pin=PIN.decode())


def test_pins_stand_nowhere_on_disk(guarded: RunningModule) -> None:
    for path in guarded.folders.state.iterdir():
        content = path.read_bytes()
        assert PIN not in content
        assert SO_PIN not in content
    assert PIN.decode() not in guarded.log
