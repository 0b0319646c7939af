"""The public image verifier and generator of caliptra-sw against ours.

Looks for `native-verify/image-verify` under CASEMATE_SUITES: a program that links the public
`image/verify` with an environment in software. It reads records from standard input (length, then
284 bytes of fuses and reset, then a bundle; little-endian) and answers a 32-bit code for each, zero
for a bundle that boots. `generated/*.bin` beside it are bundles of the public generator, each with
its vendor and owner hash in `*.hashes`; `*.soc` and `*.owner` are its SoC manifests of both kinds.
How it was run is written in docs/conformance.md.
"""

from __future__ import annotations

import collections
import hashlib
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from casemate.formats import firmware_bundle as fb
from casemate.formats import soc_manifest as sm
from casemate.rot import lms
from casemate.rot.bundle.verdict import judge
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType
from casemate.rot.soc_manifest.verify import Authorizations, set_manifest, set_owner_manifest
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


def test_soc_manifests_of_the_public_generator_are_set() -> None:
    """Signed by the generator's first vendor keys and its owner: those of bundle 0."""
    folder = _suite() / "generated"
    found = sorted([*folder.glob("*.soc"), *folder.glob("*.owner")])
    if not found:
        pytest.skip(f"{folder} holds no SoC manifests: they were not generated")
    for path in found:
        kind = path.name.split("-")[0]
        bundle = (folder / f"{kind}0.bin").read_bytes()
        fuses = Fuses(pqc_key_type=PqcKeyType(bundle[8]), lifecycle=Lifecycle.PRODUCTION)
        firmware = fb.Manifest.decode(bundle)
        content = path.read_bytes()
        read: sm.SocManifest | sm.OwnerManifest
        if path.suffix == ".soc":
            state = set_manifest(Authorizations(), content, firmware, fuses)
            read, images = sm.SocManifest.decode(content), state.images
            assert sm.encode_list(read.entries) == read.image_list
        else:
            state = set_owner_manifest(Authorizations(), content, firmware, fuses)
            read, images = sm.OwnerManifest.decode(content), state.owner_images
            assert sm.encode_list(read.entries, slots=32) == read.image_list
        assert read.encode_preamble() + read.image_list == content
        assert len(images) == read.svn
        assert [image.fw_id for image in images] == [10 + 3 * at for at in range(len(images))]


def test_what_the_public_generator_lays_out_we_lay_out_to_the_byte() -> None:
    """Its bundles, decoded and encoded again; its key list, made again from the hashes."""
    folder = _suite() / "generated"
    for path in sorted(folder.glob("*.bin")):
        theirs = path.read_bytes()
        manifest = fb.Manifest.decode(theirs)
        contents = [entry.span.of(theirs) for entry in (manifest.fmc, manifest.runtime)]
        assert fb.Bundle(manifest, *contents).encode() == theirs
        info = manifest.vendor_key_info
        rebuilt = fb.VendorKeyInfo(
            fb.KeyDescriptor.of_hashes(info.ecc.hashes[: info.ecc.hash_count], slots=4),
            fb.KeyDescriptor.of_hashes(
                info.pqc.hashes[: info.pqc.hash_count], slots=32, kind=manifest.pqc_key_type
            ),
        )
        assert rebuilt.encode() == fb.LAYOUT["vendor_key_info"].of(theirs)
        index = manifest.vendor_ecc_index
        key = fb.LAYOUT["vendor_ecc_key"].of(theirs)
        assert hashlib.sha384(key).digest() == info.ecc.hashes[index]


def test_the_public_lms_test_key_grows_to_its_public_tree() -> None:
    """The public generator makes one leaf of a tree (5) from its seed; all others have a key of
    zeros. So the seed's derivation, the leaf's node and the joining of a tree are compared.
    """
    source = _suite().parent / "caliptra-sw" / "image" / "fake-keys" / "src" / "lib.rs"
    if not source.is_file():
        pytest.skip(f"{source} is missing: the public test keys are not here")
    block = source.read_text().split("const VENDOR_LMS_KEY_0_PRIVATE")[1].split("};")[0]
    numbers = bytes(int(each, 16) for each in re.findall(r"0x([0-9a-f]{2})\b", block))
    identifier, seed = numbers[:16], numbers[16:40]
    leaves = [
        hashlib.sha256(identifier + number.to_bytes(4, "big") + b"\x82\x82" + bytes(24)).digest()[
            :24
        ]
        for number in range(1 << 15, 1 << 16)
    ]
    leaves[5] = lms.leaf_node(seed, identifier, 5, tree=lms.TREE_M24_H15, ots=lms.OTS_N24_W4)
    nodes = lms.join_nodes(identifier, leaves)
    bundle = (_suite() / "generated" / "lms0.bin").read_bytes()
    public = fb.LAYOUT["vendor_pqc_key"].of(bundle)[:48]
    assert lms.LmsPublicKey.decode(public).root == nodes[1]
    signature = fb.LAYOUT["vendor_pqc_signature"].of(bundle)[:1620]
    read = lms.LmsSignature.decode(signature)
    assert (read.leaf, read.path) == (5, lms.path_of(nodes, 5))
    header = fb.LAYOUT["header"].of(bundle)[:120]
    digest = hashlib.sha384(header).digest()
    again = lms.sign_leaf(seed, identifier, 5, digest, path=read.path, randomizer=read.randomizer)
    assert again.encode() == signature
