"""Key reports: signed by the partition's identity, over the nonce, with the code's digests."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from casemate.hsm.client import Algorithm, ClientError, Partition
from casemate.hsm.measurement import list_digest
from tests.running_module import RunningModule

NONCE = bytes(range(32))


def verified(web: Partition, report: bytes) -> dict[int, object]:
    """Check a report's signature by the partition's certificate and return its payload."""
    (leaf,) = map(x509.load_der_x509_certificate, web.certificate_chain())
    leaf.verify_directly_issued_by(leaf)
    public = leaf.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    tag = cbor2.loads(report)
    assert tag.tag == 18
    protected, _, payload, signature = tag.value
    signed = cbor2.dumps(["Signature1", protected, b"", payload])
    der = utils.encode_dss_signature(int.from_bytes(signature[:48]), int.from_bytes(signature[48:]))
    public.verify(der, signed, ec.ECDSA(hashes.SHA384()))
    claims = cbor2.loads(payload)
    assert isinstance(claims, dict)
    return claims


@pytest.mark.parametrize("version", [1, 2])
def test_a_report_names_key_nonce_and_partition(module: RunningModule, version: int) -> None:
    with module.connect() as web, module.admin() as admin:
        made = web.generate(Algorithm.P256, label="k", stored=True)
        claims = verified(web, made.private.attest(NONCE, version=version))
        shown = admin.call("partition.show", name="web")
        chain = web.certificate_chain()
        doctor = admin.call("doctor")
    assert claims[0] == version
    cose_key, size = claims[1], claims[2]
    assert isinstance(cose_key, bytes)
    assert isinstance(size, int)
    key = cbor2.loads(cose_key[:size])
    public = load_der_public_key(made.private.public_key_info())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    numbers = public.public_numbers()
    assert (int.from_bytes(key[-2]), int.from_bytes(key[-3])) == (numbers.x, numbers.y)
    (leaf,) = map(x509.load_der_x509_certificate, chain)
    spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert shown["identity"] == hashlib.sha256(spki).hexdigest()
    assert claims[4] == bytes.fromhex(shown["id"].replace("-", ""))
    assert claims[5] == NONCE.ljust(128, b"\0")
    if version == 2:
        measured = claims[7]
        assert isinstance(measured, dict)
        assert {name: digest.hex() for name, digest in measured.items()} == doctor["measurements"]
        assert len(measured) == 5
    else:
        assert 7 not in claims


def test_the_identity_is_the_same_after_a_restart_and_another_s_in_another_partition(
    module: RunningModule,
) -> None:
    def public_key(name: str) -> bytes:
        with module.connect(name) as partition:
            (certificate,) = partition.certificate_chain()
        read = x509.load_der_x509_certificate(certificate)
        assert read.subject.rfc4514_string().endswith(f"CN=Casemate partition {name}")
        return read.tbs_certificate_bytes

    with module.admin() as admin:
        admin.call("partition.create", name="db")
    before = public_key("web")
    assert before != public_key("db")
    module.kill()
    module.start()
    assert public_key("web") == before


def test_a_nonce_that_does_not_fit_is_refused(module: RunningModule) -> None:
    with module.connect() as web:
        key = web.generate(Algorithm.P256, label="k").private
        assert key.attest(bytes(128))
        with pytest.raises(ClientError):
            key.attest(bytes(129))


def test_the_silicon_that_is_measured_is_the_file_that_runs(module: RunningModule) -> None:
    from casemate import _silicon

    with module.admin() as admin:
        measured = admin.call("doctor")["measurements"]
    library = Path(_silicon.__file__)
    assert measured["silicon"] == hashlib.sha384(library.read_bytes()).hexdigest()


def test_a_list_s_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (tmp_path / name for name in "abc")
    expected = hashlib.sha384(
        b"a\0" + hashlib.sha384(b"1").digest() + b"b\0" + hashlib.sha384(b"2").digest()
    ).digest()
    assert list_digest({"b": b, "a": a}) == expected
    assert list_digest({"b": b, "a": c}) == expected
    assert list_digest({"a": b, "b": a}) != expected
    assert list_digest({"a": a, "x": b}) != expected
