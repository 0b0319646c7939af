"""Every file of the public examples decodes, and says what its source says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cwt
import pytest

from casemate.formats.corim import comid, evidence, manifest
from casemate.formats.corim.comid import Comid
from casemate.formats.corim.manifest import Corim, SignedCorim
from casemate.formats.corim.reading import Form, Forms

DATA = Path(os.environ.get("CASEMATE_DATA", "/nonexistent")) / "corim"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="CASEMATE_DATA is not set")


def read(name: str) -> bytes:
    return (DATA / name).read_bytes()


def test_every_file_decodes_and_is_read_back_from_its_strict_form() -> None:
    names = sorted(path.name for path in DATA.glob("*.cbor"))
    assert len(names) == 13
    for name in names:
        if name.startswith("ce-"):
            found = evidence.decode(read(name))
            assert evidence.decode(evidence.encode(found)) == found
        elif name.startswith("comid-"):
            tag = comid.decode(read(name))
            assert comid.decode(comid.encode(tag)) == tag
        else:
            whole = manifest.decode(read(name))
            corim = whole.corim if isinstance(whole, SignedCorim) else whole
            assert manifest.decode_unsigned(manifest.encode(corim)) == corim


def test_one_file_needs_a_form_that_the_draft_does_not_have() -> None:
    met = {}
    for path in DATA.glob("*.cbor"):
        forms = Forms()
        decode = {"ce": evidence.decode, "co": comid.decode}.get(path.name[:2], manifest.decode)
        if path.name.startswith("corim"):
            decode = manifest.decode
        decode(path.read_bytes(), forms=forms)
        if forms.seen:
            met[path.name] = forms.seen
    assert met == {"ce-evidence.cbor": {Form.LONE_AUTHORITY}}


def test_a_signed_manifest_verifies_with_another_library() -> None:
    data = read("signed-good-corim.cbor")
    found = manifest.decode(data)
    assert isinstance(found, SignedCorim)
    assert found.signer is not None
    assert found.signer.name == "ACME Ltd signing key"
    fields = json.loads((DATA / "ec-p256.jwk").read_text())
    # The file calls it a key for encryption; the public half alone verifies.
    public = {name: fields[name] for name in ("kty", "crv", "x", "y")}
    key = cwt.COSEKey.from_jwk(public | {"alg": "ES256", "kid": "1"})
    assert cwt.COSE.new().decode(data, key) == found.envelope.payload
    assert manifest.decode(found.envelope.payload) == manifest.decode(
        read("unsigned-good-corim.cbor")
    )


def test_a_deprecated_mask_stands_in_the_raw_value() -> None:
    corim = manifest.decode(read("corim-firmware-cd.cbor"))
    assert isinstance(corim, Corim)
    (tag,) = corim.tags
    assert isinstance(tag, Comid)
    raw = tag.triples.endorsed[0].measurements[0].values.raw_value
    assert raw is not None
    assert (raw.value, raw.mask) == (bytes(8), b"\xff\xff\xff\xff" + bytes(4))
