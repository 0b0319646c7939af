"""Whatever the bytes, there is an answer: never a crash, never a guess."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.inspect import inspect
from casemate.rot.bundle.verdict import judge
from casemate.rot.bundle.verify import verify
from casemate.rot.firmware import ResetReason
from tests.rot.bundle.mutations import draw
from tests.rot.bundle.parts import BOTH, fuses_for, good


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_garbage_is_refused(data: bytes) -> None:
    assert not judge(data, fuses_for(good(BOTH[0]))).boots


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, fb.MANIFEST_SIZE), st.sampled_from(BOTH))
def test_a_good_beginning_with_a_random_rest_is_refused(seed: int, cut: int, kind: int) -> None:
    rest = random.Random(seed).randbytes(fb.MANIFEST_SIZE + 512)
    data = good(BOTH[0 if kind == BOTH[0] else 1])[:cut] + rest[cut:]
    assert not judge(data, fuses_for(good(BOTH[0]))).boots
    inspected = inspect(data)
    assert inspected.to_json()["size"] == len(data)


@pytest.mark.parametrize("block", range(6))
def test_two_hundred_draws_are_answered(block: int) -> None:
    """The draws that the public verifier is compared on (docs/conformance.md), a few of them."""
    for number in range(block * 34, block * 34 + 34):
        case = draw(number)
        arguments = {
            "reason": ResetReason.UPDATE if case.cold_boot else ResetReason.COLD,
            "cold_boot": case.cold_boot,
            "dot_owner_pk_hash": case.dot_owner_pk_hash,
        }
        verdict = judge(case.bundle, case.fuses, **arguments)  # type: ignore[arg-type]
        assert verdict.boots == (verdict.error is None)
        inspect(case.bundle, case.fuses)
        if verdict.boots:
            assert verify(case.bundle, case.fuses, **arguments)  # type: ignore[arg-type]
