from __future__ import annotations

import random
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import firmware_bundle as fb
from casemate.rot.fuses import PqcKeyType
from tests.rot.bundle.parts import BOTH, good

#: Offsets from the public layout (caliptra-sw, image/types/src/lib.rs).
PUBLIC_OFFSETS = {
    "vendor_key_info": 0xC,
    "vendor_ecc_index": 0x6D4,
    "vendor_ecc_key": 0x6D8,
    "vendor_pqc_index": 0x738,
    "vendor_pqc_key": 0x73C,
    "vendor_ecc_signature": 0x115C,
    "owner_ecc_key": 0x23D0,
    "owner_ecc_signature": 0x2E50,
    "preamble_reserved": 0x40C4,
    "header": 0x40CC,
    "fmc_entry": 0x416C,
    "runtime_entry": 0x41D4,
}


def test_the_layout_is_the_public_one() -> None:
    assert {name: fb.LAYOUT[name].start for name in PUBLIC_OFFSETS} == PUBLIC_OFFSETS
    assert fb.TOC.end == fb.MANIFEST_SIZE == 16956
    assert fb.OWNER_KEYS.size == 2688


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 64))
def test_every_string_of_a_manifests_size_is_one(seed: int) -> None:
    data = random.Random(seed).randbytes(fb.MANIFEST_SIZE)
    assert fb.Manifest.decode(data).encode() == data


@settings(deadline=None)
@given(st.binary(max_size=fb.MANIFEST_SIZE - 1))
def test_a_short_manifest_names_the_field_that_is_cut(data: bytes) -> None:
    with pytest.raises(fb.BundleFormatError) as caught:
        fb.Manifest.decode(data)
    span = fb.LAYOUT[caught.value.field]
    assert span.start <= len(data) < span.end


@pytest.mark.parametrize("kind", BOTH)
def test_a_bundle_encodes_to_what_it_was_decoded_from(kind: PqcKeyType) -> None:
    bundle = good(kind)
    assert len(bundle) % fb.BUNDLE_ALIGNMENT == 0
    assert fb.Bundle.decode(bundle).encode() == bundle


def test_words_are_turned_round_and_back() -> None:
    assert fb.swap_words(bytes(range(8))) == bytes((3, 2, 1, 0, 7, 6, 5, 4))
    with pytest.raises(ValueError, match=r"."):
        fb.swap_words(b"123")


def test_which_fields_are_turned_round() -> None:
    """ECC values and digests are; LMS and ML-DSA keys and signatures are not."""
    manifest = fb.Manifest.decode(good(BOTH[0]))
    counting = bytes(range(96))
    turned = fb.swap_words(counting)
    keys = fb.PublicKeys(counting, counting)
    raw = replace(
        manifest,
        vendor_keys=keys,
        owner_keys=keys,
        vendor_signatures=fb.Signatures(counting, counting.ljust(4628, b"\0")),
        header=replace(manifest.header, toc_digest=counting[:48]),
        fmc=replace(manifest.fmc, digest=counting[48:]),
    ).encode()

    def at(name: str, size: int = 96) -> bytes:
        return fb.LAYOUT[name].of(raw)[:size]

    for name in ("vendor_ecc_key", "owner_ecc_key", "vendor_ecc_signature"):
        assert at(name) == turned
    for name in ("vendor_pqc_key", "owner_pqc_key", "vendor_pqc_signature"):
        assert at(name) == counting
    assert at("header", 160)[28:76] == turned[:48]
    assert at("fmc_entry", 104)[56:] == turned[48:]


def test_numbers_are_little_endian() -> None:
    manifest = fb.Manifest.decode(good(BOTH[0]))
    raw = replace(manifest, header=replace(manifest.header, svn=0x01020304)).encode()
    assert fb.LAYOUT["header"].of(raw)[76:80] == struct.pack("<I", 0x01020304)
    assert raw[:4] == b"CMN2"


def test_a_toc_that_does_not_fit_the_contents_is_not_encoded() -> None:
    bundle = fb.Bundle.decode(good(BOTH[0]))
    entry = bundle.manifest.fmc
    for fmc in (replace(entry, offset=17000), replace(entry, size=5)):
        broken = replace(bundle, manifest=replace(bundle.manifest, fmc=fmc))
        with pytest.raises(fb.BundleFormatError) as caught:
            broken.encode()
        assert caught.value.field == "FMC entry"


def test_contents_beyond_the_end_and_values_too_large_are_refused() -> None:
    bundle = good(BOTH[0])
    with pytest.raises(fb.BundleFormatError, match="bundle ends"):
        fb.Bundle.decode(bundle[: fb.MANIFEST_SIZE + 10])
    manifest = fb.Manifest.decode(bundle)
    for broken in (
        replace(manifest, header=replace(manifest.header, svn=1 << 32)),
        replace(manifest, owner_keys=fb.PublicKeys(bytes(95), b"")),
        replace(manifest, owner_keys=fb.PublicKeys(bytes(96), bytes(2593))),
        replace(manifest, reserved=b""),
        replace(manifest, marker=-1),
    ):
        with pytest.raises(fb.BundleFormatError):
            broken.encode()


def test_a_bundle_is_at_most_256_kib() -> None:
    bundle = fb.Bundle.decode(good(BOTH[0]))
    runtime = bytes(fb.MAX_BUNDLE_SIZE)
    entry = replace(bundle.manifest.runtime, size=len(runtime))
    large = replace(bundle, runtime=runtime, manifest=replace(bundle.manifest, runtime=entry))
    with pytest.raises(fb.BundleFormatError, match="at most 262144"):
        large.encode()
