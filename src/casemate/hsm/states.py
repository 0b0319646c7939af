"""The states of the module, as FIPS 140-3 names them, and which may follow which.

    power-off -> self-test -> uninitialised -> operational <-> suspended
                     |              |               |              |
                     +-> error <----+---------------+--------------+
                                    +-> zeroized <--+--------------+

- **power-off**: the process has just begun; nothing is loaded.
- **self-test**: silicon tests its mechanisms before the first service. A failure is `error`.
- **uninitialised**: the tests have passed, the sealing secret is not there yet. No partition can be
  opened; only status and self-tests are served.
- **operational**: partitions are served.
- **suspended**: partitions stay loaded and refuse; control operations too. The operator resumes.
- **error**: a self-test failed. There is no way out but a restart.
- **zeroized**: keys and masking keys are gone. There is no way out: what is on disk is dead too.

>>> machine = StateMachine()
>>> machine.enter(ModuleState.SELF_TEST)
>>> machine.enter(ModuleState.OPERATIONAL)
Traceback (most recent call last):
  ...
casemate.hsm.errors.ModuleError: the module is self-test and cannot become operational
"""

from __future__ import annotations

import threading
from enum import StrEnum

from casemate.hsm.errors import Code, ModuleError


class ModuleState(StrEnum):
    """Where the module stands."""

    POWER_OFF = "power-off"
    SELF_TEST = "self-test"
    UNINITIALISED = "uninitialised"
    OPERATIONAL = "operational"
    SUSPENDED = "suspended"
    ERROR = "error"
    ZEROIZED = "zeroized"


_S = ModuleState
FOLLOWING: dict[ModuleState, frozenset[ModuleState]] = {
    _S.POWER_OFF: frozenset({_S.SELF_TEST}),
    _S.SELF_TEST: frozenset({_S.UNINITIALISED, _S.ERROR}),
    _S.UNINITIALISED: frozenset({_S.OPERATIONAL, _S.ERROR, _S.ZEROIZED}),
    _S.OPERATIONAL: frozenset({_S.SUSPENDED, _S.ERROR, _S.ZEROIZED}),
    _S.SUSPENDED: frozenset({_S.OPERATIONAL, _S.ERROR, _S.ZEROIZED}),
    _S.ERROR: frozenset(),
    _S.ZEROIZED: frozenset(),
}


class StateMachine:
    """The module's present state; safe to ask from every thread."""

    def __init__(self) -> None:
        self._state = ModuleState.POWER_OFF
        self._lock = threading.Lock()

    @property
    def state(self) -> ModuleState:
        """The present state."""
        return self._state

    def enter(self, target: ModuleState) -> None:
        """Change to `target`; raises `ModuleError` where that may not follow."""
        with self._lock:
            if target not in FOLLOWING[self._state]:
                raise ModuleError(
                    Code.WRONG_STATE, f"the module is {self._state} and cannot become {target}"
                )
            self._state = target

    def require(self, *allowed: ModuleState) -> None:
        """Raise `ModuleError` unless the present state is one of `allowed`."""
        if self._state not in allowed:
            raise ModuleError(
                Code.WRONG_STATE,
                f"the module is {self._state}",
                where=f"this needs it to be {' or '.join(allowed)}",
                advice=_ADVICE.get(self._state, "wait until the module has started"),
            )


_ADVICE = {
    ModuleState.SUSPENDED: "casemate resume",
    ModuleState.ERROR: "read the module's log for the self-test that failed, then restart it",
    ModuleState.ZEROIZED: "start a module on a new state folder; the keys of this one are gone",
}
