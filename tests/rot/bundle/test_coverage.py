"""Every covered byte is refused when it changes, every uncovered one may change."""

from __future__ import annotations

import random

import pytest

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle.coverage import uncovered
from casemate.rot.bundle.verdict import judge
from casemate.rot.bundle.verify import verify
from casemate.rot.fuses import Lifecycle, PqcKeyType
from tests.rot.bundle.parts import BOTH, LMS, flip, fuses_for, good, patch

P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)
#: Fields where each byte is tried; of the larger ones, a sample.
SMALL = ("marker", "size", "pqc_key_type", "vendor_ecc_index", "vendor_pqc_index", "header")
SAMPLE = 70


def _covered(bundle: bytes) -> list[int]:
    free = {at for each in uncovered(bundle) for at in range(each.span.start, each.span.end)}
    return [at for at in range(len(bundle)) if at not in free]


@pytest.mark.parametrize("kind", BOTH)
def test_a_change_to_any_covered_byte_is_refused(kind: PqcKeyType) -> None:
    """Production lifecycle, both hashes fused; the fuses stay as they were."""
    bundle, rng = good(kind), random.Random(1)
    fuses = fuses_for(bundle)
    covered = _covered(bundle)
    spans = {**fb.LAYOUT, "contents": fb.Span(fb.MANIFEST_SIZE, len(bundle))}
    tried = 0
    for name, span in spans.items():
        offsets = [at for at in covered if span.start <= at < span.end]
        if name not in SMALL and len(offsets) > SAMPLE:
            offsets = rng.sample(offsets, SAMPLE)
        for at in offsets:
            for changed in (flip(bundle, at, 1 << rng.randrange(8)), _other_byte(rng, bundle, at)):
                assert not judge(changed, fuses).boots, f"{name}, offset {at:#x}"
                tried += 1
    assert tried > 1200


def _other_byte(rng: random.Random, bundle: bytes, at: int) -> bytes:
    """Another byte in place of one, except for the second good LMS type (7 for 12)."""
    choices = [value for value in range(256) if value not in (bundle[at], 7)]
    return patch(bundle, at, bytes((rng.choice(choices),)))


@pytest.mark.parametrize("kind", BOTH)
def test_a_change_to_any_uncovered_span_is_not_noticed(kind: PqcKeyType) -> None:
    bundle, rng = good(kind), random.Random(2)
    fuses = fuses_for(bundle)
    expected = verify(bundle, fuses)
    spans = uncovered(bundle)
    for each in spans:
        for at in {each.span.start, each.span.end - 1}:
            assert verify(flip(bundle, at), fuses) == expected, each
    everything = bundle
    for each in spans:
        everything = patch(everything, each.span.start, rng.randbytes(each.span.size))
    assert verify(everything, fuses) == expected


@pytest.mark.parametrize("kind", BOTH)
def test_weaker_fuses_leave_more_uncovered(kind: PqcKeyType) -> None:
    bundle, rng = good(kind), random.Random(3)
    weaker = fuses_for(bundle, lifecycle=Lifecycle.UNPROVISIONED, owner_pk_hash=bytes(48))
    spans = uncovered(bundle, weaker)
    assert sum(each.span.size for each in spans) > sum(
        each.span.size for each in uncovered(bundle, fuses_for(bundle))
    )
    for each in spans:
        changed = patch(bundle, each.span.start, rng.randbytes(each.span.size))
        assert judge(changed, weaker).boots, each


def test_the_sizes_of_what_nothing_covers() -> None:
    lms = {each.field: each.span.size for each in uncovered(good(LMS))}
    assert lms["vendor_pqc_signature"] == lms["owner_pqc_signature"] == 4628 - 1620
    assert lms["vendor_pqc_key"] == 2592 - 48
    assert "owner_pqc_key" not in lms
    mldsa = {each.field: each.span.size for each in uncovered(good(PqcKeyType.MLDSA))}
    assert mldsa["vendor_pqc_signature"] == mldsa["owner_pqc_signature"] == 1
    assert (mldsa["reserved"], mldsa["preamble_reserved"]) == (3, 8)
    assert "vendor_pqc_key" not in mldsa


@pytest.mark.parametrize("party", ["vendor", "owner"])
def test_ecdsa_has_its_second_good_value(party: str) -> None:
    """n - s verifies where s does: a property of ECDSA that the public verifier has too."""
    bundle = good(LMS)
    at = fb.LAYOUT[f"{party}_ecc_signature"].start + 48
    s = int.from_bytes(fb.swap_words(bundle[at : at + 48]), "big")
    other = fb.swap_words((P384_ORDER - s).to_bytes(48, "big"))
    assert judge(patch(bundle, at, other), fuses_for(bundle)).boots
