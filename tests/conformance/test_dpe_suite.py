"""The public DPE conformance suite against the simulators; docs/conformance.md has the counts.

It needs the suite's compiled test binary (`go test -c` in caliptra-dpe's verification/testing) as
`dpe-sim/verification.test` under CASEMATE_SUITES. The suite listens on one fixed socket, so both
profiles run in one test, one after the other.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BOTH_DEFAULT_TARGETS = ("DefaultSupport", "DefaultSupportNonCriticalDiceExtensions")
#: What the reference simulator skips at the same revision: the feature is not in the target.
SKIPPED = {
    "DeriveContext_Simulation-DeriveContextSimulation",
    *(f"{target}-DeriveContextCdiExport" for target in BOTH_DEFAULT_TARGETS),
    *(f"{target}-DeriveContextCdiExportDisallowedChild" for target in BOTH_DEFAULT_TARGETS),
}
#: A TPM knows no ML-DSA.
SKIPPED_MLDSA = SKIPPED | {f"{target}-TPMPolicySigning" for target in BOTH_DEFAULT_TARGETS}


def suite_binary() -> Path:
    root = os.environ.get("CASEMATE_SUITES")
    if not root:
        pytest.skip("CASEMATE_SUITES is not set: no outside suites here")
    binary = Path(root) / "dpe-sim" / "verification.test"
    if not binary.is_file():
        pytest.skip(f"{binary} is missing: the DPE suite is not built")
    return binary


@pytest.mark.conformance
def test_the_suite_passes_and_skips_only_what_the_reference_skips(tmp_path: Path) -> None:
    binary = suite_binary()
    for script, passes, skips in (
        ("main_p384", 58, SKIPPED),
        ("main_mldsa87", 56, SKIPPED_MLDSA),
    ):
        simulator = tmp_path / script
        code = f"from casemate.cli.dpe_simulator import {script}; {script}()"
        simulator.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$@\"\n")
        simulator.chmod(0o755)
        run = subprocess.run(
            [binary, "-test.v", "-sim", simulator],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert run.returncode == 0, run.stdout[-4000:]
        results = re.findall(r"^ +--- (PASS|FAIL|SKIP): TestRunAll/(\S+)", run.stdout, re.M)
        assert {name for verdict, name in results if verdict == "SKIP"} == skips
        assert sum(verdict == "PASS" for verdict, _ in results) == passes
