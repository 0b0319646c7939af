"""The four answers of an appraisal, and which of several is the worst.

Could-not-appraise stands apart: it says that the verifier or its collateral failed, never the
evidence, and changes nobody's trust. Next to a component that was contraindicated it does not
hide that: bad evidence stays bad.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable


class State(enum.StrEnum):
    """An answer; the values are those of the command line and of the API."""

    AFFIRMING = "affirming"
    WARNING = "warning"
    COULD_NOT_APPRAISE = "could-not-appraise"
    CONTRAINDICATED = "contraindicated"

    @property
    def tier(self) -> int:
        """The trustworthiness tier (draft-ietf-rats-ar4si, section 3.2): none, 2, 32 or 96."""
        return _TIERS[self]


_TIERS = {
    State.AFFIRMING: 2,
    State.WARNING: 32,
    State.COULD_NOT_APPRAISE: 0,
    State.CONTRAINDICATED: 96,
}
_BY_BADNESS = list(State)


def worst(states: Iterable[State]) -> State:
    """The worst of at least one; of none, could-not-appraise: nothing was appraised."""
    return max(states, key=_BY_BADNESS.index, default=State.COULD_NOT_APPRAISE)
