"""The state machine: what may follow what, and what refuses where."""

from __future__ import annotations

import itertools

import pytest

from casemate.hsm.errors import Code, ModuleError
from casemate.hsm.states import FOLLOWING, ModuleState, StateMachine


def machine_in(state: ModuleState) -> StateMachine:
    """Reach a state by the shortest legal way."""
    ways: dict[ModuleState, list[ModuleState]] = {ModuleState.POWER_OFF: []}
    queue = [ModuleState.POWER_OFF]
    for here in queue:
        for there in sorted(FOLLOWING[here]):
            if there not in ways:
                ways[there] = [*ways[here], there]
                queue.append(there)
    machine = StateMachine()
    for step in ways[state]:
        machine.enter(step)
    return machine


@pytest.mark.parametrize(("here", "there"), list(itertools.product(ModuleState, ModuleState)))
def test_only_the_named_transitions_are_possible(here: ModuleState, there: ModuleState) -> None:
    machine = machine_in(here)
    if there in FOLLOWING[here]:
        machine.enter(there)
        assert machine.state is there
    else:
        with pytest.raises(ModuleError) as raised:
            machine.enter(there)
        assert raised.value.code is Code.WRONG_STATE
        assert machine.state is here


@pytest.mark.parametrize("state", [ModuleState.ERROR, ModuleState.ZEROIZED])
def test_error_and_zeroized_have_no_way_out(state: ModuleState) -> None:
    assert FOLLOWING[state] == frozenset()


def test_a_refusal_names_the_state_and_what_to_do() -> None:
    machine = machine_in(ModuleState.SUSPENDED)
    with pytest.raises(ModuleError, match=r"suspended.*casemate resume"):
        machine.require(ModuleState.OPERATIONAL)
