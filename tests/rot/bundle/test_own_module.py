"""Both keys of an owner in a partition of Casemate's own module, used through PKCS#11."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from casemate.cli.pkcs11_path import library
from casemate.hsm.client.algorithms import Algorithm
from tests.rot.bundle.parts import MLDSA, good
from tests.running_module import RunningModule


def casemate(module: RunningModule, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", *(str(each) for each in arguments), "--json"],
        env=module.environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_the_module_signs_as_owner_with_both_algorithms(
    shared_module: RunningModule, tmp_path: Path
) -> None:
    if not library().exists():
        pytest.skip("the PKCS#11 library is not built")
    with shared_module.connect() as partition:
        partition.generate(Algorithm.P384, label="owner-ecc", id=b"\x01", stored=True)
        partition.generate(Algorithm.ML_DSA_87, label="owner-pqc", id=b"\x02", stored=True)
    (tmp_path / "vendor.bin").write_bytes(good(MLDSA))
    uri = f"pkcs11:token=web;object={{}}?module-path={library()}"
    signed = casemate(
        shared_module,
        *("bundle", "resign", tmp_path / "vendor.bin", "--out", tmp_path / "ours.bin"),
        *("--owner-ecc-key", uri.format("owner-ecc"), "--owner-pqc-key", uri.format("owner-pqc")),
    )
    answer = casemate(
        shared_module,
        *("bundle", "verify", tmp_path / "ours.bin"),
        *("--vendor-hash", signed["vendor"]["hash"], "--owner-hash", signed["owner"]["hash"]),
    )
    assert answer["boots"]
