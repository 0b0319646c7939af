"""CoRIM, CoMID and concise evidence: what is written is read back, and no bytes can break them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.formats import cbor, cose
from casemate.formats.cbor import Tag
from casemate.formats.corim import comid, evidence, manifest
from casemate.formats.corim.comid import Comid
from casemate.formats.corim.evidence import ConciseEvidence
from casemate.formats.corim.manifest import Corim, SignedCorim, Signer
from casemate.formats.corim.reading import STRICT, CorimError, Forms
from tests.formats.corim import strategies as known


def strict() -> Forms:
    return Forms(STRICT)


@settings(max_examples=300)
@given(known.CORIM)
def test_a_manifest_is_read_back_in_its_strict_form(corim: Corim) -> None:
    data = manifest.encode(corim)
    assert manifest.decode(data, forms=strict()) == corim
    assert manifest.decode_unsigned(data, forms=strict()) == corim
    assert manifest.encode(manifest.decode_unsigned(data)) == data
    hash(corim)


@given(known.CORIM, known.SIGNER, st.none() | st.binary(max_size=8))
def test_a_signed_manifest_keeps_its_envelope_and_signer(
    corim: Corim, signer: Signer, key_id: bytes | None
) -> None:
    protected = manifest.protected_header(cose.ESP384, signer, key_id=key_id)
    envelope = cose.Sign1(protected, manifest.encode(corim), b"signature")
    read = manifest.decode(cose.encode(envelope), forms=strict())
    assert read == SignedCorim(envelope, signer, corim)


@given(known.COMID)
def test_a_comid_is_read_back(tag: Comid) -> None:
    assert comid.decode(comid.encode(tag), forms=strict()) == tag


@given(known.EVIDENCE, st.booleans())
def test_concise_evidence_is_read_back(found: ConciseEvidence, tagged: bool) -> None:
    data = evidence.encode(found, tagged=tagged)
    assert evidence.decode(data, forms=strict()) == found
    assert data.startswith(bytes.fromhex("d9023b")) == tagged


@settings(max_examples=300)
@given(known.CORIM, st.data())
def test_damaged_manifests_are_refused_or_read_never_worse(
    corim: Corim, choose: st.DataObject
) -> None:
    data = bytearray(manifest.encode(corim))
    for _ in range(choose.draw(st.integers(1, 4))):
        data[choose.draw(st.integers(0, len(data) - 1))] = choose.draw(st.integers(0, 255))
    try:
        read = manifest.decode(bytes(data))
    except CorimError:
        return
    hash(read.corim.id if isinstance(read, SignedCorim) else read)


@given(st.binary(max_size=64))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    for decode in (manifest.decode, comid.decode, evidence.decode):
        try:
            decode(data)
        except CorimError:
            continue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({9: 0}, "the key 9 is not known here"),
        ({1: {}}, r"measurement\[0\]: the map is empty"),
        ({1: {2: []}}, r"measurement\[0\]\.digests: expected at least 1 items, found 0"),
        ({1: {2: [[1, bytes(31)]]}}, r"digests\[0\]\.value: expected 32 bytes, found 31"),
        ({1: {2: [[1, bytes(32)], [1, bytes(32)]]}}, r"digests: an algorithm stands twice"),
        ({1: {2: [["x", b""]]}}, r"digests\[0\]\.value: the digest is empty"),
        ({1: {1: -1}}, r"measurement\[0\]\.svn: expected no negative number"),
        ({1: {1: Tag(551, 1)}}, r"svn: expected tag 552 or 553, found tag 551"),
        ({1: {5: b"m"}}, r"raw-value-mask: a mask without a raw value"),
        ({1: {4: Tag(560, b"ab"), 5: b"m"}}, r"raw-value-mask: expected 2 bytes, found 1"),
        ({1: {4: Tag(563, [b"ab", b"m"])}}, r"raw-value.mask: expected 2 bytes, found 1"),
        ({1: {4: Tag(563, [b"a", b"m"]), 5: b"m"}}, r"raw-value-mask: a second mask"),
        ({1: {4: Tag(999, b"a")}}, r"raw-value: expected tag 560 or 563, found tag 999"),
        ({1: {3: {}}}, r"flags: expected a map with at least one flag"),
        ({1: {3: {0: 1}}}, r"flags.0: expected true or false, found an integer"),
        ({1: {6: bytes(7)}}, r"mac-address: expected 6 or 8 bytes, found 7"),
        ({1: {7: bytes(4)}}, r"ip-address: expected an address in tag 52 or 54"),
        ({1: {14: {-1: [[1, bytes(32)]]}}}, r"integrity-registers\[-1\]: a register must be"),
        ({1: {15: Tag(564, [2, 1])}}, r"int-range: the range from 2 to 1 is empty"),
        ({1: {"x": 0}}, r"the key 'x' is not known here"),
        ({0: True}, r"measurement\[0\]\.key: expected an integer, found a boolean"),
        ({2: Tag(554, "k")}, r"authorized-by: expected an array of keys .the form authorized-by"),
        ({2: [Tag(554, b"k")]}, r"authorized-by\[0\]: expected a text string"),
        ({2: [Tag(558, [])]}, r"authorized-by\[0\]: expected a COSE_Key"),
    ],
)
def test_a_refusal_names_the_path(change: dict[int, object], message: str) -> None:
    measurement = {1: {11: "name"}} | change
    content = {1: {0: "tag"}, 4: {0: [[{0: {1: "vendor"}}, [measurement]]]}}
    with pytest.raises(CorimError, match=message) as caught:
        comid.decode(cbor.encode(content), forms=strict())
    assert caught.value.path.startswith("triples.reference[0].measurement[0]")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({4: {10: [[[], []]]}}, r"triples.conditional\[0\].conditions: expected at least 1"),
        ({4: {0: [[{}, []]]}}, r"triples.reference\[0\].environment: the map is empty"),
        ({4: {0: [[{0: {9: 0}}, []]]}}, r"environment.class: the key 9 is not known here"),
        ({4: {0: [[{0: {0: 1}}, []]]}}, r"class.id: expected tag 111 or 37 or 560, found an int"),
        ({4: {2: [[{0: {1: "v"}}, []]]}}, r"triples.identity\[0\].keys: expected at least 1"),
        ({4: {}}, "triples: the map is empty"),
        ({3: [{0: "a", 1: 2}]}, r"linked-tags\[0\].relation: the relation 2 is not known"),
        ({1: {0: bytes(15)}}, r"identity.id: expected 16 bytes, found 15"),
        ({1: None}, r"identity: expected a map, found null"),
        ({2: [{0: "name", 2: []}]}, r"entities\[0\].roles: expected at least 1 items"),
    ],
)
def test_what_is_no_comid_is_refused(content: dict[int, object], message: str) -> None:
    whole = {1: {0: "tag"}, 4: {6: [[{0: {1: "v"}}, ["tag"]]]}} | content
    with pytest.raises(CorimError, match=message):
        comid.decode(cbor.encode(whole))


def signed(header: dict[int | str, object], payload: bytes) -> bytes:
    envelope = cose.Sign1(cose.protected_header(header), payload, b"s")
    return cose.encode(envelope)


CORIM = cbor.encode(Tag(501, {0: "id", 1: [Tag(505, b"\xa0")]}))
META = cbor.encode({0: {0: "signer"}})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({1: -7, 3: "text/plain", 8: META}, "content-type: expected application/rim"),
        ({1: -7, 258: -16, 8: META}, "a hash envelope"),
        ({1: -7, 3: "application/rim+cbor"}, "expected corim-meta or CWT claims"),
        ({3: "application/rim+cbor", 8: META, 15: {1: "other"}}, "name different signers"),
        ({3: "application/rim+cbor", 15: {1: 5}}, "cwt-claims.issuer: expected a text"),
        ({3: "application/rim+cbor", 15: {1: "i", 4: -1}}, "expires: -1 seconds is no time"),
        ({3: "application/rim+cbor", 8: b"\xff"}, "corim-meta: at offset 0"),
    ],
)
def test_what_is_no_signed_manifest_is_refused(
    header: dict[int | str, object], message: str
) -> None:
    with pytest.raises(CorimError, match=message):
        manifest.decode(signed(header, CORIM), forms=strict())


def test_cwt_claims_name_a_signer_too() -> None:
    header: dict[int | str, object] = {3: "application/rim+cbor", 15: {1: "issuer", 4: 10, 5: 5}}
    read = manifest.decode(signed(header, CORIM), forms=strict())
    assert isinstance(read, SignedCorim)
    assert read.signer is not None
    assert read.signer.name == "issuer"
    assert read.signer.validity is not None
    assert read.signer.validity.not_after.timestamp() == 10


def test_tags_of_old_drafts_are_read_by_name_only() -> None:
    header: dict[int | str, object] = {3: "application/rim+cbor", 8: META}
    inner = [cose.protected_header(header), {}, CORIM, b"s"]
    for value in (Tag(500, Tag(502, Tag(18, inner))), Tag(500, Tag(502, inner)), Tag(502, inner)):
        forms = Forms()
        read = manifest.decode(cbor.encode(value), forms=forms)
        assert isinstance(read, SignedCorim)
        assert {form.value for form in forms.seen} == {"outer-tags-500-502"}
        with pytest.raises(CorimError, match="is not allowed here"):
            manifest.decode(cbor.encode(value), forms=strict())
    assert isinstance(manifest.decode(cbor.encode(Tag(500, cbor.decode(CORIM)))), Corim)


def test_a_manifest_may_be_large_but_not_without_bound() -> None:
    one = [{0: {1: "vendor"}}, [{0: 1, 1: {2: [[7, bytes(48)]]}}]]
    content = cbor.encode({1: {0: "tag"}, 4: {0: [one] * 10_000}})
    assert len(comid.decode(content).triples.reference) == 10_000
    with pytest.raises(CorimError, match="more than 500000 items"):
        comid.decode(cbor.encode({1: [0] * 500_001}))
