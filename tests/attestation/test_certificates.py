"""The cache of verified certificates: what it spares, what it never keeps, and its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.attestation.certificates import VerifiedCertificates

KEY = bytes(91)


def refuse() -> None:
    raise ValueError("refused")


def nothing() -> None:
    """A signature that holds."""


def holds(memory: VerifiedCertificates, number: int, epoch: int = 0) -> bool:
    """Whether a certificate is known: a look at one that is not would be refused."""
    try:
        memory.check(number.to_bytes(4, "big"), KEY, epoch, refuse)
    except ValueError:
        return False
    return True


def test_what_was_verified_is_not_verified_again_until_the_epoch_changes() -> None:
    memory = VerifiedCertificates()
    memory.check(bytes(4), KEY, 1, nothing)
    assert holds(memory, 0, 1)
    assert not holds(memory, 0, 2)
    assert not holds(memory, 1, 1)
    with pytest.raises(ValueError, match="refused"):
        memory.check(bytes(4), bytes(92), 1, refuse)
    assert (memory.hits, memory.misses) == (1, 4)


@given(st.lists(st.integers(0, 30), max_size=200), st.integers(0, 12))
def test_the_bound_holds_and_what_was_used_lately_stays(used: list[int], capacity: int) -> None:
    memory = VerifiedCertificates(capacity=capacity)
    for number in used:
        memory.check(number.to_bytes(4, "big"), KEY, 0, nothing)
    lately = list(dict.fromkeys(reversed(used)))
    assert all(holds(memory, number) for number in lately[: capacity // 2])
    memory = VerifiedCertificates(capacity=capacity)
    for number in used:
        memory.check(number.to_bytes(4, "big"), KEY, 0, nothing)
    # One more than the bound at most: the halves are rounded up.
    assert sum(holds(memory, number) for number in range(31)) <= capacity + 2
