"""`casemate bench --quick` for real: our module, and SoftHSM where it is installed.

No figure is judged here: these tests run beside others. They hold what the figures are made of.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

import casemate
from casemate.cli.main import main

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
LIBRARY = Path(casemate.__file__).with_name("libcasemate_pkcs11.so")
FEW = ("--operation", "sign-p256", "--operation", "encrypt-aes256gcm:4096")


def bench(*words: str, code: int = 0, environment: dict[str, str] | None = None) -> Any:
    result = CliRunner().invoke(main, ["bench", *words, "--json"], env=environment)
    assert result.exit_code == code, f"{words}: {result.output} {result.exception!r}"
    return json.loads(result.stdout)


@pytest.fixture
def softhsm(tmp_path: Path) -> str:
    """A token of SoftHSM, as `--module` wants it."""
    tool = shutil.which("softhsm2-util")
    if tool is None or not SOFTHSM.exists():
        pytest.skip("SoftHSM is not installed (softhsm2)")
    (tmp_path / "tokens").mkdir()
    configuration = tmp_path / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    subprocess.run(
        [tool, "--init-token", "--free", "--label", "b", "--pin", "1234", "--so-pin", "1234"],
        env={**os.environ, "SOFTHSM2_CONF": str(configuration)},
        check=True,
        capture_output=True,
    )
    return f"path={SOFTHSM},token=b,pin=1234,env.SOFTHSM2_CONF={configuration}"


def check_series(series: dict[str, Any]) -> None:
    """Every measured series is complete and consistent in itself."""
    assert series["unsupported"] is None
    assert series["rate"] > 0
    assert series["client_cpu_us"] > 0
    assert (series["server_cpu_us"] > 0) == (series["subject"] == "casemate")
    if series["threads"] == series["in_flight"] == 1:
        assert 0 < series["p50_us"] <= series["p99_us"] <= series["p999_us"]
    assert series["ratio_to_raw"] is None or series["ratio_to_raw"] > 0


def test_all_parts_of_a_quick_run(tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    found = bench("--quick", *FEW, "--operation", "round-trip", "--plot", str(picture))
    assert found["format"] == 1
    assert list(found["subjects"]) == ["aws-lc", "casemate"]
    assert found["machine"]["cpus"] >= 1
    assert 0 <= found["other_programs_cpus"] <= os.cpu_count()
    assert all(crossing > 1 for crossing in found["crossings_ns"])
    assert bool(found["crossings_ns"]) == (len(os.sched_getaffinity(0)) > 1)
    for series in found["operations"]:
        check_series(series)
        assert len(series["rates"]) == found["rounds"]
    asynchronous = [one for one in found["operations"] if one["in_flight"] == 16]
    assert len(asynchronous) == 2
    assert all(one["how"].startswith("16 asynchronous sessions") for one in asynchronous)
    assert {one["objects"] for one in found["operations"]} == {"token"}
    assert found["round_trip_one_cpu"]["p50_us"] > 0
    assert found["idle"]["seconds"] > 0
    assert [one["flood"] for one in found["fairness"]["contests"]] == [
        "RSA-4096 sign, 8 threads",
        "RSA-4096 generate, 8 threads",
    ]
    assert all(one["flood_rate"] > 0 for one in found["fairness"]["contests"])
    assert [one["added_ms"] for one in found["network"]] == [0, 1]
    # The added millisecond is really waited for.
    assert found["network"][1]["p50_us"] > 1000
    named = [one["what"] for one in found["must_hold"]]
    assert "ECDSA P-256 sign / AWS-LC" in named
    assert "no-op round trip on one CPU, p50" in named
    assert len(named) == len(set(named))
    ElementTree.fromstring(picture.read_text())  # noqa: S314 (our own)


def test_a_peer_runs_beside_ours_with_the_same_kind_of_objects(softhsm: str) -> None:
    found = bench("--quick", "--part", "operations", *FEW, "--objects", "both", "--module", softhsm)
    assert list(found["subjects"]) == ["aws-lc", "casemate", "softhsm"]
    by_kind: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for series in found["operations"]:
        check_series(series)
        key = tuple(series[name] for name in ("operation", "objects", "threads", "in_flight"))
        by_kind.setdefault(key, {})[series["subject"]] = series
    for key, subjects in by_kind.items():
        ours, theirs = subjects["casemate"], subjects["softhsm"]
        ratios = sorted(a / b for a, b in zip(ours["rates"], theirs["rates"], strict=True))
        assert theirs["ratio_of_own"] == pytest.approx(ratios[len(ratios) // 2]), key
    assert {key[1] for key in by_kind} == {"token", "session"}
    # SoftHSM has no asynchronous sessions: it says how its operations were kept in flight.
    hows = {one["how"] for one in found["operations"] if one["subject"] == "softhsm"}
    assert "16 threads with a session each" in hows


def test_keys_on_a_foreign_token_are_destroyed(softhsm: str) -> None:
    bench("--quick", "--part", "operations", "--without-own", *FEW, "--module", softhsm)
    tokens = Path(softhsm.partition("SOFTHSM2_CONF=")[2]).with_name("tokens")
    left = [path for path in tokens.rglob("*.object") if path.name != "token.object"]
    assert left == []


def test_what_a_library_cannot_do_is_said_and_the_rest_goes_on(softhsm: str) -> None:
    found = bench(
        *("--quick", "--part", "operations", "--without-own", "--module", softhsm),
        *("--operation", "sign-mldsa65", "--operation", "digest-sha256:64"),
    )
    theirs = [one for one in found["operations"] if one["subject"] == "softhsm"]
    refused = [one for one in theirs if one["operation"] == "sign-mldsa65"]
    assert refused
    why = "C_GenerateKeyPair answered CKR_MECHANISM_INVALID"
    assert {one["unsupported"] for one in refused} == {why}
    assert all(one["rate"] is None for one in refused)
    assert all(one["rate"] for one in theirs if one["operation"] == "digest-sha256")


def test_a_pin_on_the_command_line_is_warned_of(tmp_path: Path) -> None:
    module = f"path={LIBRARY},name=b,token=nobody,env.CASEMATE_SOCKETS=/nowhere"
    (tmp_path / "pin").write_text("4321")
    words = ("bench", "--quick", "--without-own", "--part", "operations", "--module")
    for field, warned in (("pin=4321", True), (f"pin-file={tmp_path / 'pin'}", False)):
        done = CliRunner().invoke(main, [*words, f"{module},{field}"])
        assert ("warning: b: a PIN on the command line" in done.output) == warned
        assert "4321" not in done.output


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (
            ("--module", f"path={LIBRARY},name=b,token=nobody,env.CASEMATE_SOCKETS=/nowhere"),
            "nobody",
        ),
        (("--module", str(LIBRARY.with_name("__init__.py"))), "__init__.py"),
        (("--module", str(LIBRARY), "--module", str(LIBRARY)), "same name"),
    ],
)
def test_what_cannot_be_opened_is_named(words: tuple[str, ...], what: str) -> None:
    found = bench("--quick", "--part", "operations", *FEW, *words, code=1)
    assert what in found["error"]["what"]


def test_the_tables_name_objects_and_how_they_were_kept_in_flight() -> None:
    result = CliRunner().invoke(main, ["bench", "--quick", "--part", "operations", *FEW])
    assert result.exit_code == 0, result.output
    assert "asynchronous sessions of PKCS#11 3.2" in result.output
    assert "token objects" in result.output
    assert "Must hold" in result.output


def test_unknown_operations_are_refused_with_the_known_ones() -> None:
    result = CliRunner().invoke(main, ["bench", "--operation", "sign-p255"])
    assert result.exit_code == 2
    assert "sign-p256" in result.output
