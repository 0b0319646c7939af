"""The product's story, told to its end by the real programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

from casemate.cli._demo_tls import find_openssl
from casemate.cli.pkcs11_path import library


def test_the_story_is_told_to_its_end() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "casemate.cli.main", "demo"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = {
        match[2].strip(): match[3]
        for line in done.stdout.splitlines()
        if (match := re.match(r" *([0-9.]+) ms {2}(.{44}) (.*)", line))
    }
    assert steps["manufacture a device"].startswith("fuses burnt")
    assert steps["boot it: ROM, FMC, runtime"].startswith("PCR0")
    assert steps["ask for the private key's value"].startswith("refused")
    assert "CoRIM" in steps["make reference values of bundle and manifest"]
    verdicts = re.findall(r"appraise it against the reference values +(\S+)", done.stdout)
    assert verdicts == ["AFFIRMING", "CONTRAINDICATED"]
    assert "verdict affirming" in steps["release: wrap the TLS key to the host's key"]
    assert steps["change one byte of the module; boot again"].startswith(
        "refused to start: package"
    )
    refusal = steps["ask for the TLS key again"]
    assert refusal.startswith("refused: the verdict is contraindicated")
    assert "module: package differs" in refusal
    assert len(re.findall(r"17 of 17 claims met", done.stdout)) == 1
    if find_openssl(library(), "") is not None:
        handshake = next(told for step, told in steps.items() if step.startswith("TLS 1.3"))
        assert "certificate verified" in handshake
    elif shutil.which("openssl") is not None:
        assert steps["signature checked by the openssl program"] == "Verified OK"
