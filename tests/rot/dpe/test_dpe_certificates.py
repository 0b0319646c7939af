"""What a DPE certifies and signs, checked with other people's parsers and verifiers."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from asn1crypto import cms, csr
from asn1crypto import core as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, mldsa, utils

from casemate import _silicon
from casemate.formats import dice
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertificateFormat,
    DeriveFlags,
    Profile,
    SignFlags,
    Support,
)
from casemate.rot.chain import ChainError, check_chain

if TYPE_CHECKING:
    from tests.rot.dpe.conftest import Bench

LABEL = bytes(range(48))
X509 = DeriveFlags.INPUT_ALLOW_X509
EXPORT = DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE


def load(bench: Bench, public_key: bytes) -> ec.EllipticCurvePublicKey | mldsa.MLDSA87PublicKey:
    if bench.profile is Profile.ML_DSA_87:
        return mldsa.MLDSA87PublicKey.from_public_bytes(public_key)
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), b"\x04" + public_key)


def verify(key: Any, signature: bytes, message: bytes) -> None:
    """Check a signature as X.509 carries it; raises InvalidSignature."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ec.ECDSA(hashes.SHA384()))
    else:
        key.verify(signature, message)


def chain(bench: Bench) -> list[x509.Certificate]:
    data, certificates = bench.client().certificate_chain(), []
    while data:
        size = 4 + int.from_bytes(data[2:4], "big")
        certificates.append(x509.load_der_x509_certificate(data[:size]))
        data = data[size:]
    return certificates


def dice_values(certificate: x509.Certificate) -> tuple[tuple[dice.TcbInfo, ...], bytes, bool]:
    found = {extension.oid.dotted_string: extension for extension in certificate.extensions}
    infos = found[dice.OID_MULTI_TCB_INFO]
    ueid = found[dice.OID_UEID]
    assert infos.critical is ueid.critical
    return (
        dice.decode_multi_tcb_info(infos.value.public_bytes()),
        dice.decode_ueid(ueid.value.public_bytes()),
        infos.critical,
    )


def test_the_chain_is_a_chain(bench: Bench) -> None:
    root, alias = chain(bench)
    root.verify_directly_issued_by(root)
    alias.verify_directly_issued_by(root)


@pytest.mark.parametrize("critical", [True, False])
def test_the_leaf_certificate(make: Callable[..., Bench], critical: bool) -> None:
    bench = make(critical=critical)
    certified = bench.certify()
    leaf = x509.load_der_x509_certificate(certified.certificate)
    alias = chain(bench)[-1]
    leaf.verify_directly_issued_by(alias)
    public = leaf.public_key()
    assert public == load(bench, certified.public_key)

    prefix = b"\x04" if bench.profile is Profile.P384_SHA384 else b""
    digits = hashlib.sha384(prefix + certified.public_key).hexdigest().upper()
    assert leaf.subject.rfc4514_string() == f"2.5.4.5={digits[:64]},CN=DPE Leaf"
    assert leaf.serial_number == int.from_bytes(digits[:20].encode(), "big")

    extensions = leaf.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, False)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert purposes.critical
    assert [purpose.dotted_string for purpose in purposes.value] == [dice.KP_ATTEST_LOC]
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = alias.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert authority.key_identifier == own.digest
    with pytest.raises(x509.ExtensionNotFound):
        extensions.get_extension_for_class(x509.SubjectKeyIdentifier)

    infos, ueid, marked = dice_values(leaf)
    assert (len(infos), ueid, marked) == (1, LABEL, critical)


def test_every_measurement_is_in_the_leaf_the_root_first(make: Callable[..., Bench]) -> None:
    bench = make()
    change = DeriveFlags.CHANGE_LOCALITY | X509
    child = bench.derive(
        flags=change, measurement=b"\1" * 48, tci_type=0x01020304, target=0x10, svn=300
    )
    leaf = bench.certify(child.handle, locality=0x10).certificate
    infos, _, _ = dice_values(x509.load_der_x509_certificate(leaf))
    assert infos[0].fwids == (dice.Fwid(dice.OID_SHA384, bytes(48)),)
    cumulative = hashlib.sha384(bytes(48) + b"\1" * 48).digest()
    assert infos[1] == dice.TcbInfo(
        svn=300,
        fwids=(dice.Fwid(dice.OID_SHA384, b"\1" * 48),),
        vendor_info=b"\0\0\0\x10",
        type=b"\4\3\2\1",
        integrity_registers=(
            dice.IntegrityRegister((dice.Fwid(dice.OID_SHA384, cumulative),), number=0),
        ),
    )
    bench = make(without=Support.RECURSIVE)
    infos, _, _ = dice_values(x509.load_der_x509_certificate(bench.certify().certificate))
    assert infos[0].integrity_registers is None


def test_the_certificate_of_an_exported_cdi_is_an_authority(bench: Bench) -> None:
    exported = bench.export(DEFAULT_HANDLE, EXPORT)
    certificate = x509.load_der_x509_certificate(exported.certificate)
    certificate.verify_directly_issued_by(chain(bench)[-1])
    assert "CN=DPE Exported CDI" in certificate.subject.rfc4514_string()
    extensions = certificate.extensions
    assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert usage.key_cert_sign
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [purpose.dotted_string for purpose in purposes] == [dice.KP_ECA]
    public = certificate.public_key()
    if isinstance(public, ec.EllipticCurvePublicKey):
        encoded = public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    else:
        assert isinstance(public, mldsa.MLDSA87PublicKey)
        encoded = public.public_bytes_raw()
    identifier = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert identifier == hashlib.sha384(encoded).digest()[:20]
    infos, ueid, _ = dice_values(certificate)
    assert ueid == b"casemate-dpe-sim!"
    assert infos[0].integrity_registers is None
    # Whoever has the handle signs with the key of that certificate.
    with bench.instance.keys.exported_signer(exported.exported_cdi) as signer:
        signature = signer.sign(b"message")
    if bench.profile is Profile.P384_SHA384:
        r, s = (int.from_bytes(part, "big") for part in (signature[:48], signature[48:]))
        signature = utils.encode_dss_signature(r, s)
    verify(public, signature, b"message")


def test_a_csr_is_signed_by_its_key_and_wrapped_by_the_alias(bench: Bench) -> None:
    certified = bench.certify(output=CertificateFormat.CSR)
    message = cms.ContentInfo.load(certified.certificate, strict=True)
    assert message["content_type"].native == "signed_data"
    signed = message["content"]
    assert signed["version"].native == "v1"
    request = signed["encap_content_info"]["content"].native
    (signer,) = signed["signer_infos"]
    alias = chain(bench)[-1]
    identifier = signer["sid"].chosen
    assert identifier["serial_number"].native == alias.serial_number
    assert identifier["issuer"].dump() == alias.issuer.public_bytes()
    assert signer["digest_algorithm"]["algorithm"].native == "sha384"
    verify(alias.public_key(), signer["signature"].native, request)

    parsed = csr.CertificationRequest.load(request, strict=True)
    information = parsed["certification_request_info"]
    public = load(bench, certified.public_key)
    verify(public, parsed["signature"].native, information.dump())
    (attribute,) = information["attributes"]
    assert attribute["type"].native == "extension_request"
    extensions = {e["extn_id"].dotted: e["extn_value"].parsed for e in attribute["values"][0]}
    assert set(extensions) == {
        dice.OID_MULTI_TCB_INFO,
        dice.OID_UEID,
        "2.5.29.19",
        "2.5.29.15",
        "2.5.29.37",
    }
    leaf = bench.certify()
    assert leaf.public_key == certified.public_key


def test_signatures_verify_under_the_certified_key(bench: Bench) -> None:
    public = load(bench, bench.certify().public_key)
    if isinstance(public, ec.EllipticCurvePublicKey):
        digest = hashlib.sha384(b"message").digest()
        signature = bench.sign(digest).signature
        r, s = (int.from_bytes(part, "big") for part in (signature[:48], signature[48:]))
        algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA384()))
        public.verify(utils.encode_dss_signature(r, s), digest, algorithm)
        # The P-384 profile knows no raw messages: the flag is ignored.
        assert bench.sign(digest, flags=SignFlags.IS_RAW).signature == signature
    else:
        raw = bench.sign(b"message", flags=SignFlags.IS_RAW).signature
        public.verify(raw, b"message")
        tr = hashlib.shake_256(public.public_bytes_raw()).digest(64)
        mu = hashlib.shake_256(tr + b"\0\0" + b"message").digest(64)
        assert bench.sign(mu).signature == raw
        for message in (b"", bytes(1024)):
            public.verify(bench.sign(message, flags=SignFlags.IS_RAW).signature, message)


def test_keys_follow_label_and_measurement(make: Callable[..., Bench]) -> None:
    bench = make()
    keys = {bench.certify().public_key, bench.certify(label=bytes(48)).public_key}
    info, chain_input = DeriveFlags.INTERNAL_INPUT_INFO, DeriveFlags.INTERNAL_INPUT_DICE
    inputs: list[tuple[DeriveFlags, bytes, int, int]] = [
        (X509, bytes(48), 0, 0),
        (DeriveFlags(0), bytes(48), 0, 0),
        (X509, b"\1" * 48, 0, 0),
        (X509, bytes(48), 1, 0),
        (X509, bytes(48), 0, 1),
        (X509 | info, bytes(48), 0, 0),
        (X509 | chain_input, bytes(48), 0, 0),
        (X509 | info | chain_input, bytes(48), 0, 0),
    ]
    for flags, measurement, tci_type, svn in inputs:
        bench = make()
        child = bench.derive(flags=flags, measurement=measurement, tci_type=tci_type, svn=svn)
        keys.add(bench.certify(child.handle, CertificateFormat.CSR).public_key)
    assert len(keys) == 2 + len(inputs)
    # And nothing else: another instance, another handle, the same key.
    again = make()
    child = again.derive(again.rotate(), X509)
    bench = make()
    same = bench.derive(flags=X509)
    assert again.certify(child.handle).public_key == bench.certify(same.handle).public_key


def test_an_independent_derivation_gives_the_same_key(bench: Bench) -> None:
    """Written from the public description, with none of the product's derivation code."""
    child = bench.derive(flags=X509, measurement=b"\7" * 48, tci_type=5, svn=2)
    certified = bench.certify(child.handle)

    def node(tci_type: int, cumulative: bytes, current: bytes, svn: int) -> bytes:
        parts = (tci_type.to_bytes(4, "little"), cumulative, current, bytes(4))
        return b"".join(parts) + svn.to_bytes(4, "little") + b"\1"

    cumulative = hashlib.sha384(bytes(48) + b"\7" * 48).digest()
    nodes = node(5, cumulative, b"\7" * 48, 2) + node(0, bytes(48), bytes(48), 0)
    digest = hashlib.sha384(nodes).digest()

    def kdf(key: bytes, label: bytes, context: bytes) -> bytes:
        return hmac.digest(key[:48], b"\0\0\0\1" + label + b"\0" + context, "sha384")

    crypto, slot = bench.instance.keys.crypto, bench.instance.keys.cdi
    with os.fdopen(crypto.to_descriptor(slot), "rb") as secret:
        runtime_cdi = secret.read()
    cdi = kdf(runtime_cdi, b"derive_cdi", hashlib.sha384(digest + b"DPE").digest())
    if bench.profile is Profile.ML_DSA_87:
        seed = kdf(cdi, LABEL, b"MLDSA")[:32][::-1]
        expected = mldsa.MLDSA87PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw()
        assert expected == _silicon.mldsa87_public_key(seed)
    else:
        seed = kdf(cdi, LABEL, b"ECC")
        mac, key, value = hmac.digest, bytes(48), b"\1" * 48
        for step in (0, 1):
            key = mac(key, value + bytes([step]) + seed + bytes(48), "sha384")
            value = mac(key, value, "sha384")
        scalar = int.from_bytes(mac(key, value, "sha384"), "big")
        numbers = ec.derive_private_key(scalar, ec.SECP384R1()).public_key().public_numbers()
        expected = numbers.x.to_bytes(48, "big") + numbers.y.to_bytes(48, "big")
    assert certified.public_key == expected


def test_the_firmwares_way_to_name_a_signer(bench: Bench) -> None:
    """Through a runtime the signer is named by key identifier, as an OCTET STRING inside [0]."""
    from dataclasses import replace

    from casemate.rot.dpe import SignerIdentification

    issuer = replace(
        bench.instance.platform.issuer,
        signer_identification=SignerIdentification.KEY_IDENTIFIER,
    )
    bench.instance.platform = replace(bench.instance.platform, issuer=issuer)
    message = cms.ContentInfo.load(bench.certify(output=CertificateFormat.CSR).certificate)
    signer = message["content"]["signer_infos"][0]
    assert signer["version"].native == "v3"
    inner = asn1.OctetString.load(signer["sid"].chosen.contents, strict=True)
    assert inner.native == issuer.key_identifier


def test_any_changed_bit_of_a_certificate_is_seen(make: Callable[..., Bench]) -> None:
    bench = make()
    leaf = bench.certify().certificate
    chain_bytes = bench.client().certificate_chain()
    first = 4 + int.from_bytes(chain_bytes[2:4], "big")
    root, alias = chain_bytes[:first], chain_bytes[first:]
    names = ("root", "alias", "leaf")
    check_chain((root, alias, leaf), names)
    step = 1 if bench.profile is Profile.P384_SHA384 else 13
    for position in range(0, len(leaf), step):
        changed = bytearray(leaf)
        changed[position] ^= 1 << position % 8
        with pytest.raises(ChainError):
            check_chain((root, alias, bytes(changed)), names)
