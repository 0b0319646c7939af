"""Ten thousand keys in 64 partitions: what a start and an idle module cost."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from casemate.formats.pkcs11 import Attribute, ObjectClass
from casemate.hsm.client import Algorithm
from tests.running_module import RunningModule

PARTITIONS = tuple(f"p{number:02}" for number in range(64))
#: Pairs in each partition; a pair is two objects, so that there are 10,000 keys in all.
PAIRS = 79
TICKS = os.sysconf("SC_CLK_TCK")


def resident_bytes(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def threads(process: int) -> int:
    return len(list(Path(f"/proc/{process}/task").iterdir()))


def test_ten_thousand_keys_start_in_two_seconds_and_200_mib(short_folder: Path) -> None:
    module = RunningModule(short_folder, partitions=PARTITIONS).start()
    try:

        def fill(names: tuple[str, ...]) -> None:
            for name in names:
                with module.connect(name) as partition:
                    for number in range(PAIRS):
                        partition.generate(Algorithm.P256, label=str(number), stored=True)

        fillers = [threading.Thread(target=fill, args=(PARTITIONS[i::8],)) for i in range(8)]
        for filler in fillers:
            filler.start()
        for filler in fillers:
            filler.join()
        assert module.stop() == 0

        module.start()
        assert module.process is not None
        process = module.process.pid
        # The whole start, interpreter and self-tests included; CPU time, since others may run.
        assert cpu_seconds(process) <= 2
        assert resident_bytes(process) <= 200 << 20
        # Nobody has connected: no partition has a thread.
        assert threads(process) < 16

        with module.connect(PARTITIONS[40]) as partition:
            keys = list(partition.all_keys({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
            assert len(keys) == PAIRS
            for key in keys:
                public = partition.find(key.label, object_class=ObjectClass.PUBLIC_KEY)
                public.verify(key.sign(b"still there"), b"still there")
        assert resident_bytes(process) <= 200 << 20
        assert module.stop() == 0
    finally:
        module.kill()
