"""The public OCP EAT verifier on our tokens, beside ours; docs/conformance.md has the counts.

It needs the verifier's program (`ocptoken`, caliptra-mcu-sw ocp-eat-verifier) as
`ocp-eat-verifier/ocptoken` under CASEMATE_SUITES. It knows ECDSA tokens, wants the root itself in
x5chain, checks chain and signature, and takes the profile only as the firmware emits it; where it
and the specification differ, the difference is one of our named quirks.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.caliptra.layers import Role
from casemate.attestation.evidence.family import Piece, Quirk
from casemate.attestation.evidence.registry import families, select
from casemate.formats import cose, eat
from casemate.formats.cbor import Tag
from casemate.rot.identity import Algorithm
from casemate.rot.manufacturer import ManufacturerCa
from tests.attestation import forgery, hosts

#: The profile as the firmware emits it: the only form that both take without a quirk.
FIRMWARE_PROFILE = Tag(111, b"1.3.6.1.4.1.42623.1.3")
COMMON = {eat.PROFILE: FIRMWARE_PROFILE}
FLIPS = 120


def token(*, missing: Role | None = None, **changes: Any) -> bytes:
    """A token whose x5chain goes up to the root."""
    root = {Role.AUTHORITY: hosts.manufacturer_certificate(Algorithm.ECC)}
    below = {role: der for role, der in forgery.chain().items() if role is not missing}
    return forgery.token(certificates=root | below, **changes)


@pytest.fixture(scope="module")
def verifier() -> Path:
    root = os.environ.get("CASEMATE_SUITES")
    if not root:
        pytest.skip("CASEMATE_SUITES is not set: no outside suites here")
    program = Path(root) / "ocp-eat-verifier" / "ocptoken"
    if not program.is_file():
        pytest.skip(f"{program} is missing: the OCP EAT verifier is not built")
    return program


class Both:
    """The public verifier and ours on the same bytes, with one root."""

    def __init__(self, program: Path, folder: Path, root: bytes) -> None:
        self._program, self._folder = program, folder
        (folder / "store" / "roots").mkdir(parents=True)
        (folder / "store" / "roots" / "root.der").write_bytes(root)

    def theirs(self, data: bytes) -> bool:
        """Whether the public verifier authenticates signer and signature."""
        evidence = self._folder / "token.cbor"
        evidence.write_bytes(data)
        run = subprocess.run(
            [self._program, "authenticate", "-e", evidence],
            env={"TA_STORE_PATH": str(self._folder / "store")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode in (0, 1), run.stderr
        return run.returncode == 0

    @staticmethod
    def ours(data: bytes, *quirks: Quirk, **changes: Any) -> bool:
        """Whether ours does."""
        context = hosts.context(quirks=frozenset(quirks), **changes)
        try:
            (selection,) = select([Piece(data)], families())
            selection.family.verify(selection.pieces, context)
        except EvidenceError:
            return False
        return True


@pytest.fixture
def both(verifier: Path, tmp_path: Path) -> Both:
    return Both(verifier, tmp_path, hosts.manufacturer_certificate(Algorithm.ECC))


@pytest.mark.conformance
def test_both_take_what_the_firmware_emits(both: Both) -> None:
    data = token(claims=COMMON)
    assert both.theirs(data)
    assert both.ours(data)
    emitted = token(claims=COMMON, headers={1: cose.ES384}, without=(eat.ISSUER, eat.CWT_ID))
    assert both.theirs(emitted)
    assert not both.ours(emitted)
    assert both.ours(emitted, Quirk.COSE_ES384, Quirk.NO_CONTENT_TYPE, Quirk.NO_ISSUER_OR_ID)


@pytest.mark.conformance
def test_where_they_differ_from_the_specification(both: Both) -> None:
    """Known differences, held so that a new version of the verifier shows."""
    strict = hosts.boot(1).token()
    assert both.ours(strict)
    assert not both.theirs(strict)
    for profile in (bytes.fromhex("2b0601040182cc7f0103"), Tag(111, eat.OCP_PROFILE)):
        data = token(claims={eat.PROFILE: profile})
        assert both.ours(data)
        assert not both.theirs(data)
    # ML-DSA-87 is -50 (RFC 9964); the verifier's protected header check knows ECDSA alone.
    assert not both.theirs(hosts.boot(1).token(Algorithm.MLDSA))


@pytest.mark.conformance
def test_both_refuse_what_is_damaged(both: Both) -> None:
    data = token(claims=COMMON)
    source = random.Random(5)
    family = select([Piece(data)], families())[0].family
    places = [at for part in family.covered("token", data) for at in part]
    for at in source.sample(places, FLIPS):
        damaged = data[:at] + bytes((data[at] ^ 1 << source.randrange(8),)) + data[at + 1 :]
        assert not both.ours(damaged)
        assert not both.theirs(damaged), at


@pytest.mark.conformance
def test_both_refuse_another_maker_and_broken_chains(
    both: Both, verifier: Path, tmp_path: Path
) -> None:
    data = token(claims=COMMON)
    stranger = ManufacturerCa.generate().certificate(Algorithm.ECC)
    other = Both(verifier, tmp_path / "other", stranger)
    assert not other.theirs(data)
    for missing in (Role.LDEVID, Role.FMC, Role.RUNTIME, Role.LEAF):
        broken = token(missing=missing, claims=COMMON)
        assert not both.ours(broken)
        assert not both.theirs(broken)
