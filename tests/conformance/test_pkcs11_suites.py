"""Public PKCS#11 suites against the library and a module; docs/conformance.md has the counts.

They need, under CASEMATE_SUITES: `pyp11-run/tests` (python-pkcs11's tests) with `venv-pyp11` (its
wheel), and `pkcs11test/pkcs11test` (google/pkcs11test, built). The partition has the policy
`legacy-test`: both suites use RSA-1024 and SHA-1 nearly everywhere.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pkcs11.constants import User
from tests.pkcs11.cryptoki import LIBRARY, Cryptoki
from tests.running_module import RunningModule

TOKEN, SO_PIN, USER_PIN = "TEST", "5678", "1234"

#: Mechanisms that docs/mechanisms.md refuses by name: finite-field DH, DSA, DES, AES_MAC.
REFUSED = {0x10, 0x12, 0x20, 0x21, 0x130, 0x131, 0x136, 0x1083, 0x2000, 0x2001}
#: Other reasons for which python-pkcs11 skips a test: peculiarities of another module.
OTHER_SKIPS = ("SoftHSMv2 only", "Requires an additional PKCS#11 module")

#: Tests of pkcs11test that need DES or MD5 without saying so in their parameter.
NEED_DES = {
    # A DES or 3DES key is what is digested, wrapped, attacked, searched or imported.
    *(f"Digests/DigestTest.DigestKey/{n}" for n in range(5)),
    *(f"Digests/DigestTest.DigestKeyInvalid/{n}" for n in range(5)),
    "ROUserSessionTest.WrapUnwrap",
    "ROUserSessionTest.WrapInvalid",
    "ROUserSessionTest.UnwrapInvalid",
    "RWEitherSessionTest.TookanAttackA2",
    *(f"ReadWriteSessionTest.TookanAttack{name}" for name in ("A1", "A3", "A4", "A5a", "A5b")),
    "ReadWriteSessionTest.SetLatchingAttribute",
    "ReadWriteSessionTest.FindObjectSubset",
    "ReadWriteSessionTest.GetSetOperationState",
    "ReadOnlySessionTest.CreateSecretKeyAttributes",
    "ReadOnlySessionTest.SecretKeyTestVectors",
}

#: The suite knows no flag of a token that is newer than PKCS#11 2.40: CKF_ASYNC_SESSION_SUPPORTED.
NEWER_THAN_THE_SUITE = {"PKCS11Test.EnumerateSlots"}


def suites() -> Path:
    root = os.environ.get("CASEMATE_SUITES")
    if not root:
        pytest.skip("CASEMATE_SUITES is not set: no outside suites here")
    if not LIBRARY.exists():
        pytest.skip("the native parts are not built: run make build")
    return Path(root)


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningModule]:
    """A module with an empty, initialised token."""
    suites()
    module = RunningModule(
        tmp_path, partitions=(TOKEN,), legacy_test=True, pin_required=True
    ).start()
    for name, value in module.environment().items():
        monkeypatch.setenv(name, value)
    with Cryptoki(LIBRARY) as library:
        slot = library.slot(TOKEN)
        library.call("C_InitToken", slot, SO_PIN.encode(), 4, TOKEN.encode().ljust(32))
        session = library.open_session(slot)
        session.login(SO_PIN.encode(), User.SO)
        session.call("C_InitPIN", USER_PIN.encode(), 4)
    yield module
    module.stop()


@pytest.mark.conformance
def test_python_pkcs11(token: RunningModule) -> None:
    folder, python = suites() / "pyp11-run", suites() / "venv-pyp11" / "bin" / "python"
    if not (folder / "tests").is_dir() or not python.exists():
        pytest.skip("python-pkcs11's tests are not there")
    variables = {
        "PKCS11_MODULE": str(LIBRARY),
        "PKCS11_TOKEN_LABEL": TOKEN,
        "PKCS11_TOKEN_PIN": USER_PIN,
        "PKCS11_TOKEN_SO_PIN": SO_PIN,
    }
    run = subprocess.run(
        [str(python), "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rsfE", "tests"],
        cwd=folder,
        env={**token.environment(), **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    summary = run.stdout.splitlines()[-1]
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in summary
    for reason in re.findall(r"^SKIPPED \[\d+\] \S+: (.*)$", run.stdout, re.M):
        wanted = re.fullmatch(r"Requires ([\d, ]+)", reason)
        if wanted is None:
            assert reason in OTHER_SKIPS
        else:
            assert {int(number) for number in wanted[1].split(",")} & REFUSED, reason


@pytest.mark.conformance
def test_google_pkcs11test(token: RunningModule) -> None:
    binary = suites() / "pkcs11test" / "pkcs11test"
    if not binary.exists():
        pytest.skip("pkcs11test is not built")
    command = [str(binary), "-m", LIBRARY.name, "-l", str(LIBRARY.parent), "-S", "0"]
    run = subprocess.run(
        [*command, "-u", USER_PIN, "-o", SO_PIN],
        cwd=binary.parent,
        env=token.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = set(re.findall(r"^\[  FAILED  \] (\S+)(?:,.*)? \(\d+ ms\)$", run.stdout, re.M))
    by_parameter = set(
        re.findall(r'^\[  FAILED  \] (\S+), where GetParam\(\) = "3?DES-\w+"', run.stdout, re.M)
    )
    passed = re.search(r"^\[  PASSED  \] (\d+) tests", run.stdout, re.M)
    assert passed is not None and int(passed[1]) >= 231, run.stdout[-2000:]
    assert failed - by_parameter <= NEED_DES | NEWER_THAN_THE_SUITE
