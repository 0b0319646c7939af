"""Objects in a real module by the Python API: found, changed, destroyed, limited, refused."""

from __future__ import annotations

import pytest

from casemate.formats.pkcs11 import Attribute, Mechanism, ObjectClass
from casemate.hsm.client import Algorithm, ClientError, Key, Partition
from casemate.hsm.client.errors import (
    AmbiguousError,
    ArgumentError,
    InvalidSignatureError,
    MechanismError,
    NotAllowedError,
    NotFoundError,
    QuotaError,
)
from casemate.hsm.client.uri import object_uri
from tests.hsm.keys import pair
from tests.running_module import RunningModule

_A = Attribute


def test_the_value_of_a_key_is_never_told(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    told = made.private.attributes()
    assert _A.VALUE not in told
    assert told[_A.SENSITIVE] is True
    assert told[_A.NEVER_EXTRACTABLE] is True
    assert "handle=" in repr(made.private)
    assert "VALUE" not in repr(made.private)


def test_find_by_label_and_id_says_when_there_is_none_or_more_than_one(web: Partition) -> None:
    first = web.generate(Algorithm.P256, label="twin", id=b"\x71")
    web.generate(Algorithm.P256, label="twin", id=b"\x72")
    assert web.find(id=b"\x71") == first.private
    assert web.find(id=b"\x71", object_class=ObjectClass.PUBLIC_KEY) == first.public
    with pytest.raises(AmbiguousError, match="2 keys"):
        web.find("twin")
    with pytest.raises(NotFoundError, match="casemate key list"):
        web.find("nobody")


def test_labels_of_any_script_come_back(web: Partition) -> None:
    for label in ("schlüssel", "鍵", "a" * 200, " "):
        made = web.generate(Algorithm.P256, label=label)
        assert made.private.label == label
        assert web.find(label) == made.private
        made.public.destroy()
        made.private.destroy()


def test_an_object_that_is_gone_says_so(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="short-lived")
    made.private.destroy()
    for use in (lambda: made.private.sign(b"x"), made.private.destroy, made.private.attributes):
        with pytest.raises(NotFoundError):
            use()


def test_changes_and_copies(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="before")
    made.private.change({_A.LABEL: "after"})
    assert web.object(made.private.handle).label == "after"
    copied = made.private.copy({_A.LABEL: "copy"})
    assert isinstance(copied, Key)
    made.public.verify(copied.sign(b"x"), b"x")
    with pytest.raises(NotAllowedError):
        made.private.change({_A.SENSITIVE: False})


def test_many_objects_are_found_page_by_page(shared_module: RunningModule) -> None:
    with shared_module.connect("db") as db:
        for number in range(300):
            db.create(
                {
                    _A.CLASS: ObjectClass.DATA,
                    _A.LABEL: f"data-{number}",
                    _A.APPLICATION: "paging",
                    _A.VALUE: b"x" * number,
                }
            )
        found = list(db.objects({_A.APPLICATION: "paging"}))
    assert len({one.handle for one in found}) == 300


def test_the_same_label_in_two_partitions_is_two_keys(shared_module: RunningModule) -> None:
    with shared_module.connect("web") as web, shared_module.connect("db") as db:
        ours = web.generate(Algorithm.P256, label="tenant", stored=True)
        theirs = db.generate(Algorithm.P256, label="tenant", stored=True)
        assert ours.private.public_key_info() != theirs.private.public_key_info()
        signature = db.find("tenant").sign(b"x")
        with pytest.raises(InvalidSignatureError):
            ours.public.verify(signature, b"x")
        # A handle of one partition means nothing in the other, or another object of its own.
        for handle in range(1, 500):
            try:
                assert web.object(handle).partition is web
            except NotFoundError:
                continue


def test_destroying_a_partition_leaves_the_other(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.create", name="db")
    with module.connect("web") as web, module.connect("db") as db:
        key = web.generate(Algorithm.P256, label="stays", stored=True).private
        gone = db.generate(Algorithm.P256, label="goes", stored=True).private
        with module.admin() as admin:
            admin.call("partition.destroy", name="db")
        assert key.sign(b"x")
        with pytest.raises(ClientError):
            gone.change({_A.LABEL: "x"})
        assert not module.socket("db").parent.exists()


def test_a_uri_names_partition_id_and_label(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="a key;or two", id=b"\x0a\xff")
    assert object_uri(made.private) == (
        "pkcs11:token=web;id=%0A%FF;object=a%20key%3Bor%20two;type=private"
    )


def test_a_full_quota_is_one_clear_error_and_destroying_helps(module: RunningModule) -> None:
    with module.admin() as admin:
        admin.call("partition.set-policy", name="web", policy={"keys": 4})
    with module.connect() as web:
        first = web.generate(Algorithm.P256, label="1", stored=True)
        web.generate(Algorithm.P256, label="2", stored=True)
        with pytest.raises(QuotaError, match="resize"):
            web.generate(Algorithm.P256, label="3", stored=True)
        first.public.destroy()
        first.private.destroy()
        web.generate(Algorithm.P256, label="3", stored=True)


def test_a_mechanism_that_the_policy_forbids_is_refused(module: RunningModule) -> None:
    with module.admin() as admin:
        allowed = [int(Mechanism.EC_KEY_PAIR_GEN), int(Mechanism.ECDSA_SHA384)]
        admin.call("partition.set-policy", name="web", policy={"mechanisms": allowed})
    with module.connect() as web:
        assert set(web.mechanisms()) == set(allowed)
        key = web.generate(Algorithm.P256, label="k").private
        assert key.sign(b"x", mechanism=Mechanism.ECDSA_SHA384)
        with pytest.raises(MechanismError):
            key.sign(b"x")


def test_a_key_of_the_wrong_kind_says_so(web: Partition) -> None:
    made = pair(web, Algorithm.P256)
    with pytest.raises(ArgumentError):
        made.private.encrypt(b"x")
    with pytest.raises(ArgumentError, match="generate_secret"):
        web.generate(Algorithm.AES_256, label="x")
    with pytest.raises(ArgumentError, match="use generate"):
        web.generate_secret(Algorithm.P256, label="x")
    with pytest.raises(NotAllowedError):
        made.public.sign(b"x")


def test_an_empty_label_and_a_huge_template_are_answered(web: Partition) -> None:
    made = web.generate(Algorithm.P256, label="")
    assert made.private.label == ""
    with pytest.raises(ClientError):
        web.generate(Algorithm.P256, label="x" * 20000)
    assert web.random(3)


def test_random_comes_in_any_size(web: Partition) -> None:
    assert len(web.random(3_000_000)) == 3_000_000
    assert web.random(32) != web.random(32)
