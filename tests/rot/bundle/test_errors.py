from __future__ import annotations

from pathlib import Path

from casemate.rot.bundle.errors import BundleError, Cause

TABLES = Path(__file__).parents[3] / "docs" / "bundle.md"


def test_every_error_stands_in_the_documented_table_of_its_cause() -> None:
    """The errors that no bundle causes stand apart, each with its reason."""
    text = TABLES.read_text()
    reachable, unreachable = text.split("why no bundle causes it")
    for error in BundleError:
        caused = error.cause in (Cause.BYTES, Cause.FUSES, Cause.RESET)
        if error.name.startswith("FW_PROC"):
            assert error.name in text
            continue
        table = reachable if caused else unreachable
        assert f"| {error.code & 0xFF:02x} | {error.name} | {error.meaning} |" in table


def test_codes_and_names_are_each_used_once() -> None:
    assert len({error.code for error in BundleError}) == len(BundleError)
    assert BundleError.ACTIVATION_FAILED.public_name == "IMAGE_VERIFIER_ACTIVATION_FAILED"
    assert BundleError.FMC_SIZE_ZERO.public_name == "IMAGE_VERIFIER_ERR_FMC_SIZE_ZERO"
    assert BundleError.FMC_SIZE_ZERO.code == 0x000B003B
