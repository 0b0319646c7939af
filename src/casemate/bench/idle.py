"""What a module and a connected client cost while nothing is asked of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from casemate.bench.cases import ONE, P256, Objects
from casemate.bench.measurer import Measurer, cpu_seconds
from casemate.bench.own_module import OwnModule


@dataclass(frozen=True, slots=True)
class Idle:
    """CPU time of module and client over `seconds`, as shares of one CPU (0.005: 0.5%)."""

    seconds: float
    module: float
    client: float

    @property
    def together(self) -> float:
        """Both."""
        return self.module + self.client


def idle(module: OwnModule, seconds: float) -> Idle:
    """Connect a client, have it sign for a moment, then watch both doing nothing."""
    with Measurer(module.subject()) as measurer:
        measurer.run(P256, Objects.TOKEN, ONE, milliseconds=50)
        # What spins after the last operation is over by now.
        time.sleep(0.05)
        before = cpu_seconds(module.process), cpu_seconds(measurer.pid)
        begun = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begun
        after = cpu_seconds(module.process), cpu_seconds(measurer.pid)
    shares = [(end - begin) / took for begin, end in zip(before, after, strict=True)]
    return Idle(seconds=took, module=shares[0], client=shares[1])
