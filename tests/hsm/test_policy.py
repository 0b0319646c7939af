"""Policies and names: every field is checked by name, type and range."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.hsm.errors import ModuleError
from casemate.hsm.policy import Access, Policy, check_name


def test_a_policy_survives_its_json() -> None:
    policy = Policy(
        pin_required=True, mechanisms=(1, 2), keys=7, access=Access.GROUP, group=33, weight=5
    )
    assert Policy.from_json(json.loads(json.dumps(policy.as_json()))) == policy


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keys": 0}, "keys"),
        ({"keys": "12"}, "keys"),
        ({"keys": True}, "keys"),
        ({"sessions": 1 << 40}, "sessions"),
        ({"pin_required": 1}, "pin_required"),
        ({"mechanisms": [1, "2"]}, "mechanisms"),
        ({"access": "everybody"}, "access"),
        ({"group": -1}, "group"),
        ({"group": 33}, "group"),
        ({"access": "group"}, "group"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_field_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModuleError, match=named):
        Policy().changed(changes)


def test_leaving_group_access_forgets_the_group() -> None:
    policy = Policy(access=Access.GROUP, group=33)
    assert policy.changed({"access": "shared"}).group is None
    assert policy.changed({"keys": 9}).group == 33


@given(st.text(alphabet=st.sampled_from("aZ09._-/ \0\n\u00e9"), max_size=40))
def test_no_name_leaves_the_runtime_folder(name: str) -> None:
    try:
        check_name(name)
    except ModuleError:
        return
    assert "/" not in name
    assert name not in (".", "..", "admin.sock")
    assert 1 <= len(name.encode()) <= 32
