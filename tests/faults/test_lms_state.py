"""Signers killed at any moment never use a leaf twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from casemate.rot.lms_key import LmsKey
from tests.rot.bundle.parts import small_tree

MACHINE = "6d" * 32
#: Reserve leaves for ever and tell each, so that a told leaf is one that could have signed.
SIGNER = """
import sys
from pathlib import Path
from casemate.rot.lms_key import LmsKey
key = LmsKey.open(
    Path(sys.argv[1]), anchor_directory=Path(sys.argv[2]), machine=bytes.fromhex(sys.argv[3])
)
while True:
    print(key.reserve(), flush=True)
"""


def test_no_leaf_is_given_out_twice_when_signers_are_killed(tmp_path: Path) -> None:
    key, anchors = tmp_path / "key", tmp_path / "anchors"
    LmsKey.create(
        key, anchor_directory=anchors, machine=bytes.fromhex(MACHINE), make_tree=small_tree
    )
    rng = random.Random(7)
    told: list[int] = []
    command = [sys.executable, "-c", SIGNER, str(key), str(anchors), MACHINE]
    for _ in range(8):
        signers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for signer in signers:
            assert signer.stdout is not None
            assert signer.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        for signer in signers:
            signer.kill()
            output, _ = signer.communicate()
            told += [int(line) for line in output.split(b"\n")[:-1] if line]
    assert len(told) == len(set(told))
    survivor = LmsKey.open(key, anchor_directory=anchors, machine=bytes.fromhex(MACHINE))
    assert survivor.reserve() > max(told)
