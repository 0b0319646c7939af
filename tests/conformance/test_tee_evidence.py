"""Real confidential-VM evidence, and Google's Go verifiers against ours.

Looks under CASEMATE_SUITES for:

- `go-tee/tee-verify`, a program over go-sev-guest and go-tdx-guest. It reads JSON lines {Kind:
  "snp" or "tdx", Evidence, Signer (VCEK or VLEK certificate; both base64), Key: "vcek" or "vlek",
  At} and answers each with a JSON string: "ok", or why not. It has AMD's and Intel's roots and
  fetches nothing; a TDX quote is verified up to its PCK certificate, without collateral.
- `trustee-data`, the folder deps/verifier/test_data of confidential-containers/trustee.
- `amd-chains`, AMD's chains in PEM (`cert_chain` of the key service, for VCEKs and VLEKs).

The reports and the quote to change are those of CASEMATE_DATA. How it was run is written in
docs/conformance.md.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest

from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Context, Piece
from casemate.attestation.evidence.registry import families, select
from casemate.formats import tdx_quote, x509
from tests.attestation import real_data

pytestmark = pytest.mark.conformance
FLIPS = 2_000
_AT = "2026-06-01T00:00:00Z"
_PEM = re.compile(b"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


def _suite(name: str) -> Path:
    if not (folder := os.environ.get("CASEMATE_SUITES")):
        pytest.skip("CASEMATE_SUITES is not set: the other verifiers are not here")
    suite = Path(folder) / name
    if not suite.exists():
        pytest.skip(f"{suite} is not there")
    return suite


def _others(records: list[dict[str, str]]) -> list[str]:
    """The answers of the Go verifiers."""
    program = _suite("go-tee/tee-verify")
    text = "\n".join(map(json.dumps, records))
    done = subprocess.run([program], input=text.encode(), capture_output=True, check=True)
    # Their logs go to standard output too.
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b'"')]


def _ours(data: bytes, endorsements: Endorsements, at: str) -> str:
    context = Context(at=datetime.fromisoformat(at), endorsements=endorsements)
    try:
        for selection in select([Piece(data)], families()):
            selection.family.verify(selection.pieces, context)
    except EvidenceError as error:
        return f"{error.check.name}: {error}"
    except InfrastructureError as error:
        # Several changed fields at once can ask for another chip's certificate.
        return f"missing: {error}"
    return "ok"


def _changes(data: bytes, count: int) -> Iterator[bytes]:
    """The bytes as they are, then with one bit changed, then with a few bytes of another value."""
    yield data
    draw = random.Random(1)
    for number in range(count - 1):
        changed = bytearray(data)
        if number % 4:
            changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        else:
            start = draw.randrange(len(data))
            changed[start : start + 8] = draw.randbytes(min(8, len(data) - start))
        yield bytes(changed)


def _compare(records: list[dict[str, str]], ours: list[str]) -> Counter[tuple[bool, bool]]:
    answers = _others(records)
    return Counter((mine == "ok", other == "ok") for mine, other in zip(ours, answers, strict=True))


def test_sev_snp_reports_are_judged_as_by_go_sev_guest() -> None:
    _suite("go-tee/tee-verify")
    case = real_data.case("snp-milan")
    endorsements = Endorsements(certificates=real_data.certificates(case["endorsements"]))
    vcek = base64.b64encode(endorsements.certificates[0].data).decode()
    reports = list(_changes(real_data.pieces(case)[0].data, FLIPS))
    records = [
        {"Kind": "snp", "Evidence": _text(data), "Signer": vcek, "Key": "vcek", "At": _AT}
        for data in reports
    ]
    counted = _compare(records, [_ours(data, endorsements, _AT) for data in reports])
    print(f"SEV-SNP (ours ok, theirs ok): {dict(counted)}")
    assert counted == {(True, True): 1, (False, False): FLIPS - 1}


def test_tdx_quotes_are_judged_as_by_go_tdx_guest() -> None:
    _suite("go-tee/tee-verify")
    case = real_data.case("tdx-current")
    sources = tuple(
        NamedBytes((real_data.data_folder() / name).read_bytes(), name)
        for name in case["endorsements"]
    )
    endorsements = Endorsements(tdx_collateral=sources)
    original = real_data.pieces(case)[0].data
    covered = [offset for part in tdx_quote.covered(original) for offset in part]
    draw = random.Random(2)
    quotes = [original]
    for _ in range(FLIPS // 4):
        changed = bytearray(original)
        changed[draw.choice(covered)] ^= 1 << draw.randrange(8)
        quotes.append(bytes(changed))
    records = [{"Kind": "tdx", "Evidence": _text(data), "At": case["at"]} for data in quotes]
    counted = _compare(records, [_ours(data, endorsements, case["at"]) for data in quotes])
    print(f"TDX (ours ok, theirs ok): {dict(counted)}")
    assert counted == {(True, True): 1, (False, False): FLIPS // 4}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _trustee_case(name: str) -> bytes:
    return (_suite("trustee-data") / name).read_bytes()


def _chain() -> tuple[NamedBytes, ...]:
    """AMD's roots and intermediates, as `amd-chains/*.pem` has them."""
    return tuple(
        NamedBytes(base64.b64decode(match), file.name)
        for file in sorted(_suite("amd-chains").glob("*.pem"))
        for match in _PEM.findall(file.read_bytes())
    )


@pytest.mark.parametrize(
    ("evidence", "signer", "at", "facts"),
    [
        (
            "snp/test-report.bin",
            "snp/test-vcek.der",
            "2024-06-01T00:00:00Z",
            {"report_version": 2, "signing_key": "vcek", "product": "Milan"},
        ),
        (
            "snp/test-vlek-report.bin",
            "snp/test-vlek.der",
            "2025-06-01T00:00:00Z",
            {"report_version": 3, "signing_key": "vlek", "vmpl": 1, "chip_id_masked": True},
        ),
        (
            "az-snp-vtpm/evidence-v1.json",
            None,
            "2026-01-15T00:00:00Z",
            {"signing_key": "vcek", "vmpl": 0},
        ),
        (
            "az-snp-vtpm/evidence-v2.json",
            None,
            "2026-01-15T00:00:00Z",
            {"signing_key": "vcek", "vmpl": 0},
        ),
    ],
)
def test_real_evidence_of_trustee(
    evidence: str, signer: str | None, at: str, facts: dict[str, Any]
) -> None:
    certificates = _chain()
    if signer is not None:
        certificates += (NamedBytes(_trustee_case(signer), signer),)
    context = Context(
        at=datetime.fromisoformat(at), endorsements=Endorsements(certificates=certificates)
    )
    (selection,) = select([Piece(_trustee_case(evidence), evidence)], families())
    verified = selection.family.verify(selection.pieces, context)
    found = verified.components[0].facts
    assert {name: found[name] for name in facts} == facts


@pytest.mark.parametrize("name", ["tdx_quote_4.dat", "tdx_quote_5.dat"])
def test_real_quotes_are_read_as_by_dcap_qvl(name: str) -> None:
    data = _trustee_case(name)
    ours, theirs = tdx_quote.decode(data), dcap_qvl.parse_quote(data)
    report = theirs.report
    assert ours.version == theirs.header.version
    assert ours.report.mr_td == bytes(report.mr_td)
    assert ours.report.rtmrs == tuple(
        bytes(value) for value in (report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3)
    )
    assert ours.report.attributes.value.to_bytes(8, "little") == bytes(report.td_attributes)
    assert ours.report.xfam.to_bytes(8, "little") == bytes(report.xfam)
    assert ours.report.report_data == bytes(report.report_data)
    assert (ours.report.mr_service_td is not None) == hasattr(report, "mr_service_td")
    assert (
        tdx_quote.read_fmspc(x509.read_certificate(ours.chain[0])).hex() == theirs.fmspc().lower()
    )
