"""The public CoRIM library of veraison, and every file that it is tested with, against our codecs.

Looks for `corim/` under CASEMATE_SUITES: `files/*.cbor` are the library's test files, and `oracle`
is a program that links it. It reads records from standard input (a kind: m for a manifest, c for a
CoMID, e for concise evidence; length in 4 bytes, little-endian; the bytes), and answers a line of
JSON for each: {"again": base64 of what the library writes of what it read} or {"error": text}.
docs/conformance.md says how it was made.
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import cwt
import pytest

from casemate.attestation.reference import release
from casemate.formats.corim import comid, evidence, manifest
from casemate.formats.corim.manifest import SignedCorim
from casemate.formats.corim.reading import CorimError
from casemate.formats.corim.triples import Triples
from tests.attestation.reference import making
from tests.attestation.reference.test_release import released

pytestmark = pytest.mark.conformance
MUTATIONS = 5_000
#: A digest of 31 bytes for SHA-256: refused here always, by the library only under its profile.
WRONG = {"cca-cca-platform-invalid-digests.cbor"}


@lru_cache
def suite() -> Path:
    folder = os.environ.get("CASEMATE_SUITES")
    if not folder:
        pytest.skip("CASEMATE_SUITES is not set: the public CoRIM library is not here")
    found = Path(folder) / "corim"
    if not (found / "oracle").is_file():
        pytest.skip(f"{found / 'oracle'} is missing: the public CoRIM library is not built")
    return found


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((suite() / "files").glob("*.cbor"))}


def kind_of(name: str) -> str:
    """By the names that the library gives its files."""
    plain = name.removeprefix("tdx-")
    if plain.startswith("ce-"):
        return "e"
    return "c" if plain.startswith("comid") else "m"


def ask(records: list[tuple[str, bytes]]) -> list[dict[str, str]]:
    sent = b"".join(
        kind.encode() + len(data).to_bytes(4, "little") + data for kind, data in records
    )
    answer = subprocess.run(
        [suite() / "oracle"], input=sent, capture_output=True, timeout=300, check=True
    )
    lines = [json.loads(line) for line in answer.stdout.splitlines()]
    assert len(lines) == len(records)
    return lines


def _manifest(data: bytes) -> Any:
    read = manifest.decode(data)
    return read.corim if isinstance(read, SignedCorim) else read


READERS: dict[str, Callable[[bytes], Any]] = {
    "m": _manifest,
    "c": comid.decode,
    "e": evidence.decode,
}
WRITERS: dict[str, Callable[[Any], bytes]] = {
    "m": manifest.encode,
    "c": comid.encode,
    "e": lambda found: evidence.encode(found, tagged=True),
}


def test_every_file_of_the_library_is_read_as_the_library_reads_it() -> None:
    found = files()
    answers = ask([(kind_of(name), data) for name, data in found.items()])
    same, library_refuses = 0, []
    for (name, data), answer in zip(found.items(), answers, strict=True):
        read = READERS[kind_of(name)]
        if name in WRONG:
            with pytest.raises(CorimError):
                read(data)
            continue
        ours = read(data)
        if "error" in answer:
            library_refuses.append(f"{name}: {answer['error']}")
            continue
        assert read(base64.b64decode(answer["again"])) == ours, name
        same += 1
    print(f"{len(found)} files: {same} read alike, refused by the library: {library_refuses}")
    assert same + len(library_refuses) + len(WRONG) == len(found)
    assert same >= 38


def test_the_library_reads_what_is_written_here() -> None:
    found = {name: data for name, data in files().items() if name not in WRONG}
    records, expected = [], []
    taken = ask([(kind_of(name), data) for name, data in found.items()])
    for (name, data), answer in zip(found.items(), taken, strict=True):
        if "error" not in answer:
            kind = kind_of(name)
            expected.append((name, READERS[kind](data)))
            records.append((kind, WRITERS[kind](expected[-1][1])))
    made = released()
    values = release.values_of(made.bundle, [made.manifest])
    own = making.corim(making.tag(Triples(reference=values.triples)))
    records.append(("m", manifest.encode(own)))
    expected.append(("a release of our own", own))
    for (name, ours), (kind, _), answer in zip(expected, records, ask(records), strict=True):
        assert "error" not in answer, (name, answer)
        assert READERS[kind](base64.b64decode(answer["again"])) == ours, name


def mutations() -> Iterator[tuple[str, bytes]]:
    source = random.Random(20261125)
    pool = list(files().items())
    for _ in range(MUTATIONS):
        name, data = source.choice(pool)
        changed = bytearray(data)
        for _ in range(source.choice((1, 1, 2, 4))):
            changed[source.randrange(len(changed))] = source.randrange(256)
        yield kind_of(name), bytes(changed)


def test_damaged_files_that_both_take_say_the_same_to_both() -> None:
    records = [record for record in mutations() if len(record[1]) >= 3]
    both = ours_alone = library_alone = 0
    for (kind, data), answer in zip(records, ask(records), strict=True):
        try:
            ours = READERS[kind](data)
        except CorimError:
            library_alone += "again" in answer
            continue
        if "error" in answer:
            ours_alone += 1
            continue
        both += 1
        assert READERS[kind](base64.b64decode(answer["again"])) == ours, data.hex()
    print(
        f"{len(records)} damaged files: {both} taken by both and read alike, "
        f"{library_alone} by the library alone, {ours_alone} here alone"
    )
    assert both > MUTATIONS // 10


def test_signed_files_verify_with_another_library_and_here() -> None:
    from casemate.attestation import cose_signature

    fields = {
        "kty": "EC",
        "crv": "P-256",
        # The public half of the key that signed them (ec-p256.jwk beside the public files).
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }
    key = cwt.COSEKey.from_jwk(fields | {"alg": "ES256", "kid": "1"})
    spki = making.spki_of_jwk(fields)
    outcomes = {}
    for name, data in files().items():
        if not name.startswith("signed"):
            continue
        read = manifest.decode(data)
        assert isinstance(read, SignedCorim)
        ours = theirs = True
        try:
            cose_signature.verify(read.envelope, spki)
        except cose_signature.CoseSignatureError:
            ours = False
        try:
            cwt.COSE.new().decode(data, key)
        except cwt.VerifyError:
            theirs = False
        assert ours == theirs, name
        outcomes[name] = ours
    print(outcomes)
    assert any(outcomes.values())
