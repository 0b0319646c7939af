"""Verification of the largest bundle stays under 5 ms on one core."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.verify import verify
from casemate.rot.fuses import PqcKeyType
from tests.rot.bundle.parts import BOTH, FMC, RUNTIME, fuses_for, make


@pytest.mark.parametrize("kind", BOTH)
def test_a_bundle_of_256_kib_is_verified_in_under_5_ms(kind: PqcKeyType) -> None:
    fmc = replace(FMC, content=bytes(0x5000))
    room = fb.MAX_BUNDLE_SIZE - fb.MANIFEST_SIZE - len(fmc.content)
    bundle = make(kind, fmc=fmc, runtime=replace(RUNTIME, content=b"x" * room))
    assert len(bundle) == fb.MAX_BUNDLE_SIZE - fb.MAX_BUNDLE_SIZE % 256
    fuses = fuses_for(bundle)
    times = []
    for _ in range(40):
        begin = time.thread_time()
        verify(bundle, fuses)
        times.append(time.thread_time() - begin)
    # Processor time, the best of many: other work on the machine is not what is measured.
    assert min(times) < 0.005, f"{min(times) * 1e3:.2f} ms"
