"""kill -9 at any moment: what was acknowledged holds, and nothing is half there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from casemate.formats.pkcs11 import Attribute, ObjectClass
from casemate.hsm.client import Algorithm, ClientError
from tests.running_module import RunningModule


def killed_during(module: RunningModule, work: Callable[[], None], after: float) -> None:
    """Run `work` in a thread until the module is killed under it."""

    def until_lost() -> None:
        try:
            while True:
                work()
        except ClientError:
            return

    thread = threading.Thread(target=until_lost)
    thread.start()
    time.sleep(after)
    module.kill()
    thread.join(timeout=30)
    assert not thread.is_alive()


@pytest.mark.parametrize("after", [0.05, 0.21, 0.4])
def test_acknowledged_creations_survive_and_pairs_are_whole(
    module: RunningModule, after: float
) -> None:
    acknowledged: list[str] = []
    web = module.connect()
    web.connection.reconnect_seconds = 0.2

    def create() -> None:
        label = f"key-{len(acknowledged)}"
        web.generate(Algorithm.P256, label=label, stored=True)
        acknowledged.append(label)

    killed_during(module, create, after)
    assert acknowledged
    module.start()
    with module.connect() as again:
        private = {key.label for key in again.all_keys({Attribute.CLASS: ObjectClass.PRIVATE_KEY})}
        public = {key.label for key in again.all_keys({Attribute.CLASS: ObjectClass.PUBLIC_KEY})}
        assert private == public
        assert private >= set(acknowledged)
        assert len(private) <= len(acknowledged) + 1
        for label in acknowledged[::7]:
            key = again.find(label)
            half = again.find(label, object_class=ObjectClass.PUBLIC_KEY)
            half.verify(key.sign(b"still there"), b"still there")


def test_acknowledged_changes_survive(module: RunningModule) -> None:
    web = module.connect()
    key = web.generate(Algorithm.P256, label="0", id=b"\x01", stored=True).private
    reached = [0]

    def change() -> None:
        key.change({Attribute.LABEL: str(reached[0] + 1)})
        reached[0] += 1

    killed_during(module, change, 0.3)
    assert reached[0] > 0
    module.start()
    with module.connect() as again:
        label = again.find(id=b"\x01").label
    assert int(label) in (reached[0], reached[0] + 1)


def test_acknowledged_deletions_survive(module: RunningModule) -> None:
    web = module.connect()
    keys = [
        web.generate(Algorithm.P256, label=str(number), stored=True).private
        for number in range(200)
    ]
    gone: list[str] = []

    def destroy() -> None:
        if len(gone) == len(keys):
            web.random(1)
            return
        key = keys[len(gone)]
        key.destroy()
        gone.append(key.label)

    killed_during(module, destroy, 0.1)
    assert gone
    module.start()
    with module.connect() as again:
        left = {key.label for key in again.all_keys({Attribute.CLASS: ObjectClass.PRIVATE_KEY})}
    assert not left & set(gone)
    assert len(left) in (200 - len(gone), 199 - len(gone))


def test_partitions_made_and_destroyed_survive(module: RunningModule) -> None:
    with module.admin() as admin:
        for number in range(8):
            admin.call("partition.create", name=f"p{number}")
        for number in range(0, 8, 2):
            admin.call("partition.destroy", name=f"p{number}")
    module.kill()
    module.start()
    with module.admin() as admin:
        names = [partition["name"] for partition in admin.call("partition.list")]
    assert names == ["p1", "p3", "p5", "p7", "web"]


def test_a_client_goes_on_after_a_restart(module: RunningModule) -> None:
    with module.connect() as web:
        pair = web.generate(Algorithm.P256, label="tls", stored=True)
        module.kill()
        module.start()
        signature = pair.private.sign(b"after the restart")
        pair.public.verify(signature, b"after the restart")


def test_session_objects_do_not_survive(module: RunningModule) -> None:
    with module.connect() as web:
        web.generate(Algorithm.P256, label="fleeting")
    module.kill()
    module.start()
    with module.connect() as web:
        assert not list(web.all_keys())
