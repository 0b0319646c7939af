"""The set of reference values: who may sign, what is in force when, and what is refused."""

from __future__ import annotations

import contextlib
import pickle
from datetime import UTC, datetime, timedelta

import cwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from casemate.attestation import cose_signature
from casemate.attestation.cose_signature import CoseSignatureError
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.reference.store import ReferenceSet, load
from casemate.formats import cbor, cose
from casemate.formats.cbor import Tag
from casemate.formats.corim import comid
from casemate.formats.corim.comid import LinkedTag, Relation, TagIdentity
from casemate.formats.corim.manifest import Signer, TagList, Validity
from tests.attestation.reference import making
from tests.attestation.reference.making import KEY, NOW, OTHER_KEY

SIGNER = NamedBytes(making.spki(), "signer.pem")
DAY = timedelta(days=1)
ONE = making.corim(making.tag([making.triple(making.values(1))]))


def loaded(*files: NamedBytes, unsigned: bool = False) -> ReferenceSet:
    return load(files, signers=[SIGNER], at=NOW, take_unsigned=unsigned)


def in_force(found: ReferenceSet, at: datetime = NOW) -> set[str]:
    return {
        f"{tag.comid.identity.name} {tag.comid.identity.version}"
        for tag in found.tags
        if tag.why_not(at) is None
    }


# --- who stands behind it --------------------------------------------------------------------


def test_a_signed_manifest_is_taken_from_a_named_signer() -> None:
    found = loaded(making.signed(ONE))
    (manifest,) = found.manifests
    assert manifest.signed_by is not None
    assert manifest.signed_by.name == "signer.pem"
    assert manifest.authority.proved == {making.spki()}
    assert in_force(found) == {"tag 0"}


def test_nobody_else_may_sign() -> None:
    with pytest.raises(InputError, match="by none of the 1 keys that may sign"):
        loaded(making.signed(ONE, key=OTHER_KEY))
    with pytest.raises(InputError, match="nobody is named who may sign"):
        load([making.signed(ONE)], signers=(), at=NOW)


def test_unsigned_is_taken_only_where_the_caller_says_so() -> None:
    with pytest.raises(InputError, match="not signed: nobody stands behind"):
        loaded(making.unsigned(ONE))
    found = loaded(making.unsigned(ONE), unsigned=True)
    assert found.manifests[0].authority.proved == frozenset()


def test_a_bare_comid_is_taken_as_an_unsigned_manifest() -> None:
    tag = comid.encode(making.tag([making.triple(making.values(1))]))
    tagged = bytes.fromhex("d901fa58") + bytes((len(tag),)) + tag
    for data in (tag, tagged):
        assert in_force(loaded(NamedBytes(data, "comid"), unsigned=True)) == {"tag 0"}
        with pytest.raises(InputError, match="not signed"):
            loaded(NamedBytes(data, "comid"))


@given(st.data())
def test_every_flipped_bit_of_what_is_signed_is_refused(choose: st.DataObject) -> None:
    file = making.signed(ONE)
    message, _ = cose.decode(file.data)
    for part in (message.protected, message.payload, message.signature):
        start = file.data.index(part)
        place = choose.draw(st.integers(start, start + len(part) - 1))
        data = bytearray(file.data)
        data[place] ^= 1 << choose.draw(st.integers(0, 7))
        with pytest.raises(InputError):
            loaded(NamedBytes(bytes(data), "flipped"))


def test_a_manifest_that_cannot_be_read_names_file_and_place() -> None:
    with pytest.raises(InputError, match="bad: no CoRIM or CoMID: at offset 0"):
        loaded(NamedBytes(b"\xff", "bad"))
    with pytest.raises(InputError, match="bad: no CoRIM or CoMID: identity is missing"):
        loaded(NamedBytes(b"\xa0", "bad"))
    with pytest.raises(InputError, match="neither a public key nor a certificate"):
        load([making.signed(ONE)], signers=[NamedBytes(b"x", "key")], at=NOW)


def test_a_profile_that_is_not_understood_refuses_the_whole_manifest() -> None:
    content = making.corim(
        making.tag([making.triple(making.values(1))]), profile=Tag(111, bytes.fromhex("2b0601"))
    )
    with pytest.raises(InputError, match=r"its profile 1\.3\.6\.1 is not known here"):
        loaded(making.signed(content))
    known = load([making.signed(content)], signers=[SIGNER], at=NOW, profiles={"1.3.6.1"})
    assert in_force(known) == {"tag 0"}


# --- certificates of signers -----------------------------------------------------------------


def certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    by: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
) -> bytes:
    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
    )
    made = builder.sign(by, hashes.SHA384())
    return made.public_bytes(serialization.Encoding.DER)


def test_a_certificate_that_leads_to_a_named_signer_signs_too() -> None:
    root = certificate("root", OTHER_KEY, "root", OTHER_KEY, authority=True)
    leaf = certificate("leaf", KEY, "root", OTHER_KEY, authority=False)
    named = [NamedBytes(root, "root.pem")]
    for chain in ([leaf, root],):
        found = load([making.signed(ONE, chain=chain)], signers=named, at=NOW)
        signer = found.manifests[0].signed_by
        assert signer is not None
        assert (signer.name, signer.signer, signer.key) == (
            "root.pem",
            making.spki(OTHER_KEY),
            making.spki(KEY),
        )
    # Certificates that ended, or have not begun, take the values out of force, and no more.
    for at in (NOW, NOW + 2 * DAY, NOW - 2 * DAY):
        found = load([making.signed(ONE, chain=[leaf, root])], signers=named, at=at)
        assert in_force(found, NOW) == {"tag 0"}
        assert in_force(found, NOW + 2 * DAY) == in_force(found, NOW - 2 * DAY) == set()
        assert in_force(ReferenceSet.unpack(found.pack()), NOW + 2 * DAY) == set()
    stranger = certificate("leaf", KEY, "leaf", KEY, authority=False)
    with pytest.raises(InputError, match="no anchor"):
        load([making.signed(ONE, chain=[stranger])], signers=named, at=NOW)
    with pytest.raises(InputError, match="does not verify"):
        load([making.signed(ONE, key=OTHER_KEY, chain=[leaf, root])], signers=named, at=NOW)


# --- what is in force ------------------------------------------------------------------------


def test_validity_of_manifest_and_of_signature_both_hold() -> None:
    tag = making.tag([making.triple(making.values(1))])
    manifest = making.corim(tag, validity=Validity(NOW, NOW + 3 * DAY))
    signer = Signer("signer", validity=Validity(NOW - DAY, NOW + DAY))
    found = loaded(making.signed(manifest, signer=signer))
    assert in_force(found, NOW) == in_force(found, NOW + DAY) == {"tag 0"}
    (stored,) = found.tags
    assert stored.why_not(NOW - timedelta(seconds=1)) == "not valid before 2026-06-01 00:00"
    assert stored.why_not(NOW + 2 * DAY) == "not valid after 2026-06-02 00:00"


def tag_file(version: int, number: int, *, begins: datetime | None = None) -> NamedBytes:
    validity = None if begins is None else Validity(begins, NOW + 9 * DAY)
    tag = making.tag([making.triple(making.values(number))], version=version)
    return making.signed(making.corim(tag, validity=validity), name=f"v{version}")


def test_a_newer_version_takes_the_place_from_when_it_is_valid_and_for_good() -> None:
    found = loaded(tag_file(1, 1), tag_file(2, 2, begins=NOW + DAY))
    assert in_force(found, NOW) == {"tag 1"}
    assert in_force(found, NOW + DAY) == {"tag 2"}
    assert in_force(found, NOW + 10 * DAY) == set()
    older = next(tag for tag in found.tags if tag.comid.identity.version == 1)
    assert older.why_not(NOW + 2 * DAY) == "replaced by tag v2"


def test_a_linked_tag_replaces_or_supplements() -> None:
    old = making.signed(making.corim(making.tag([making.triple(making.values(1))], name="old")))
    for relation, expected in (
        (Relation.REPLACES, {"new 0"}),
        (Relation.SUPPLEMENTS, {"new 0", "old 0"}),
    ):
        links = [LinkedTag("old", relation)]
        new = making.tag([making.triple(making.values(2))], name="new", links=links)
        assert in_force(loaded(old, making.signed(making.corim(new)))) == expected


def test_only_the_same_signer_replaces_a_tag() -> None:
    tag = making.tag([making.triple(making.values(2))], version=9)
    by_another = making.signed(making.corim(tag), key=OTHER_KEY)
    both = [SIGNER, NamedBytes(making.spki(OTHER_KEY), "other.pem")]
    found = load([tag_file(1, 1), by_another], signers=both, at=NOW)
    assert in_force(found) == {"tag 1", "tag 9"}


def test_a_changed_tag_needs_a_higher_version() -> None:
    with pytest.raises(InputError, match=r"the tag tag \(version 1\) says something else"):
        loaded(tag_file(1, 1), tag_file(1, 2))
    assert len(loaded(tag_file(1, 1), tag_file(1, 1)).tags) == 1


def test_with_tag_lists_only_listed_tags_of_that_signer_are_in_force() -> None:
    tags = [making.tag([making.triple(making.values(1))], name=name) for name in ("a", "b")]
    listing = TagList(TagIdentity("list"), (TagIdentity("a"),), Validity(NOW - DAY, NOW + DAY))
    found = loaded(making.signed(making.corim(*tags, listing)))
    assert in_force(found) == {"a 0"}
    assert in_force(found, NOW + 2 * DAY) == set()


# --- the set as a value ----------------------------------------------------------------------


def test_equal_sets_have_equal_digests_in_any_order_and_process() -> None:
    files = [tag_file(1, 1), tag_file(2, 2)]
    one, other = loaded(*files), loaded(*reversed(files))
    assert one == other
    assert (one.digest, one.epoch) == (other.digest, other.epoch)
    assert len(one.digest) == 32
    assert loaded(files[0]) != one
    for copy in (ReferenceSet.unpack(one.pack()), pickle.loads(pickle.dumps(one))):  # noqa: S301
        assert copy == one
        assert in_force(copy) == in_force(one)
        assert copy.manifests == one.manifests
    assert ReferenceSet().tags == ()
    assert "2 manifests" in repr(one)


def test_signer_and_content_both_make_the_digest() -> None:
    by_one = load([making.signed(ONE)], signers=[SIGNER], at=NOW)
    unsigned = loaded(making.unsigned(ONE), unsigned=True)
    assert by_one.digest != unsigned.digest


ANYTHING = st.recursive(
    st.none() | st.integers(-5, 2**63) | st.text(max_size=4) | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(st.lists(ANYTHING, min_size=2, max_size=5), max_size=2))
def test_any_values_are_a_packed_set_or_refused(entries: list[list[object]]) -> None:
    with contextlib.suppress(InputError):
        ReferenceSet.unpack(cbor.encode([1, entries]))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x82\x02\x80", b"\x82\x01\x81\x01"])
def test_what_is_no_packed_set_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="no packed reference set"):
        ReferenceSet.unpack(data)


# --- COSE signatures -------------------------------------------------------------------------


def der(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


COSE_KEYS = [
    ("ES256", ec.generate_private_key(ec.SECP256R1())),
    ("ES384", ec.generate_private_key(ec.SECP384R1())),
    ("ES512", ec.generate_private_key(ec.SECP521R1())),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ("PS256", rsa.generate_private_key(65537, 2048)),
    ("PS384", rsa.generate_private_key(65537, 2048)),
    ("PS512", rsa.generate_private_key(65537, 2048)),
]


@pytest.mark.parametrize(("algorithm", "key"), COSE_KEYS, ids=[name for name, _ in COSE_KEYS])
def test_signatures_of_another_library_verify_and_broken_ones_do_not(
    algorithm: str, key: ec.EllipticCurvePrivateKey
) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    signer = cwt.COSEKey.from_pem(pem, alg=algorithm)
    made = cwt.COSE.new(alg_auto_inclusion=True).encode(b"payload", signer)
    message, _ = cose.decode(made)
    public = der(key.public_key())
    cose_signature.verify(message, public)
    broken = bytearray(made)
    broken[-1] ^= 1
    message, _ = cose.decode(bytes(broken))
    with pytest.raises(CoseSignatureError):
        cose_signature.verify(message, public)
    with pytest.raises(Exception, match=r"."):
        cwt.COSE.new().decode(bytes(broken), signer)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "names no algorithm"),
        ({1: "ES384"}, "names no algorithm"),
        ({1: -7}, "algorithm -7 is not taken with this key"),
        ({1: -50}, "algorithm -50 is not taken with this key"),
        ({1: -51}, "expected 96 bytes, found 2"),
    ],
)
def test_an_algorithm_must_be_the_keys(header: dict[int | str, object], message: str) -> None:
    found = cose.Sign1(cose.protected_header(header), b"p", b"rs")
    with pytest.raises(CoseSignatureError, match=message):
        cose_signature.verify(found, making.spki())
    with pytest.raises(CoseSignatureError, match=r"cannot be used|names no algorithm"):
        cose_signature.verify(found, b"no key")


def test_times_have_zones() -> None:
    assert NOW.tzinfo is UTC
