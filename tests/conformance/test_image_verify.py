"""The public image verifier and generator of caliptra-sw against ours.

Looks for `native-verify/image-verify` under CASEMATE_SUITES: a program that links the public
`image/verify` with an environment in software. It reads records from standard input (length, then
284 bytes of fuses and reset, then a bundle; little-endian) and answers a 32-bit code for each, zero
for a bundle that boots. `generated/*.bin` beside it are bundles of the public generator, each with
its vendor and owner hash in `*.hashes`. How it was run is written in docs/conformance.md.
"""

from __future__ import annotations

import collections
import os
import struct
import subprocess
from pathlib import Path

import pytest

from casemate.rot.bundle.verdict import judge
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType
from tests.rot.bundle.mutations import Draw, draw

pytestmark = pytest.mark.conformance
DRAWS = 10_000


def _suite() -> Path:
    if not (folder := os.environ.get("CASEMATE_SUITES")):
        pytest.skip("CASEMATE_SUITES is not set: the public verifier is not here")
    suite = Path(folder) / "native-verify"
    if not (suite / "image-verify").is_file():
        pytest.skip(f"{suite} holds no image-verify: the public verifier was not built")
    return suite


def _record(case: Draw) -> bytes:
    fuses, cold = case.fuses, case.cold_boot
    environment = b"".join(
        (
            struct.pack("<II", fuses.lifecycle, fuses.pqc_key_type),
            fuses.vendor_pk_hash,
            fuses.owner_pk_hash,
            struct.pack(
                "<7I",
                fuses.ecc_revocation,
                fuses.lms_revocation,
                fuses.mldsa_revocation,
                fuses.anti_rollback_disable,
                fuses.firmware_svn,
                2 if cold else 0,
                case.dot_owner_pk_hash is not None,
            ),
            case.dot_owner_pk_hash or bytes(48),
            struct.pack("<II", cold.vendor_ecc_index, cold.vendor_pqc_index) if cold else bytes(8),
            cold.owner_pk_hash + cold.fmc_digest if cold else bytes(96),
        )
    )
    record = environment + case.bundle
    return struct.pack("<I", len(record)) + record


def _ours(case: Draw) -> int:
    verdict = judge(
        case.bundle,
        case.fuses,
        reason=ResetReason.UPDATE if case.cold_boot else ResetReason.COLD,
        cold_boot=case.cold_boot,
        dot_owner_pk_hash=case.dot_owner_pk_hash,
    )
    return verdict.error.code if verdict.error else 0


def test_the_public_verifier_gives_the_same_code() -> None:
    program = subprocess.Popen(
        [_suite() / "image-verify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    codes: collections.Counter[int] = collections.Counter()
    with program:
        for number in range(DRAWS):
            case = draw(number)
            program.stdin.write(_record(case))
            program.stdin.flush()
            theirs = int.from_bytes(program.stdout.read(4), "little")
            ours = _ours(case)
            assert ours == theirs, f"draw {number}: ours {ours:#010x}, public {theirs:#010x}"
            codes[ours] += 1
        program.stdin.close()
    assert sum(codes.values()) == DRAWS
    assert len(codes) > 40, "the draws reach too few codes to compare"
    print(f"{DRAWS} bundles, {codes[0]} boot, {len(codes)} different answers")


def test_bundles_of_the_public_generator_boot() -> None:
    bundles = sorted((_suite() / "generated").glob("*.bin"))
    assert bundles
    for path in bundles:
        bundle, hashes = path.read_bytes(), path.with_suffix(".hashes").read_bytes()
        fuses = Fuses(
            vendor_pk_hash=hashes[:48],
            owner_pk_hash=hashes[48:],
            pqc_key_type=PqcKeyType(bundle[8]),
            lifecycle=Lifecycle.PRODUCTION,
        )
        verdict = judge(bundle, fuses)
        assert verdict.boots, f"{path.name}: {verdict.refusal}"
