"""Manufacture: the CSR envelope, the manufacturer, the device's folder, the chains it makes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from casemate.formats import dice, x509
from casemate.rot import csr_envelope, identity
from casemate.rot.boot import RootOfTrust
from casemate.rot.certificate_files import all_files
from casemate.rot.chain import ChainError, check_chain, verify_signature
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_folder import DeviceFolder, Order, manufacture
from casemate.rot.errors import RotError
from casemate.rot.fuse_file import FuseFile
from casemate.rot.fuses import (
    DEFAULT_FUSES,
    Fuses,
    IdevidAttributes,
    KeyIdAlgorithm,
    Lifecycle,
    PqcKeyType,
)
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.manufacturer import ManufacturerCa
from tests.rot.devices import Shelf, firmware, golden

CA = ManufacturerCa.public_test()


def device(fuses: Fuses = DEFAULT_FUSES) -> RootOfTrust:
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware()), make_requests=True)
    root.cold_reset(fuses, b"a")
    return root


def envelope_of(root: RootOfTrust) -> bytes:
    assert root.csr_envelope is not None
    return root.csr_envelope


# --- the CSR envelope -----------------------------------------------------------------------


def test_the_envelope_holds_both_requests() -> None:
    root = device()
    data = envelope_of(root)
    assert len(data) == csr_envelope.SIZE == 8784
    assert data[:8].hex() == "52534300" + (8784).to_bytes(4, "little").hex()
    opened = csr_envelope.decode(data)
    assert opened.ecc_csr == root.requests[LayerName.IDEVID, Algorithm.ECC]
    assert opened.mldsa_csr == root.requests[LayerName.IDEVID, Algorithm.MLDSA]
    csr_envelope.check_mac(opened, ModelCrypto().csr_mac)
    with pytest.raises(RotError, match="MAC is not the device's"):
        csr_envelope.check_mac(opened, ModelCrypto(csr_mac_key=bytes(64)).csr_mac)


def test_no_envelope_unless_it_is_asked_for() -> None:
    root = RootOfTrust(ModelCrypto(), Shelf())
    root.power_on(DEFAULT_FUSES)
    assert root.csr_envelope is None
    assert root.requests == {}


def test_every_changed_byte_of_the_envelope_is_noticed() -> None:
    data = envelope_of(device())
    crypto = ModelCrypto()
    for position in [*range(30), *range(500, len(data), 97), *range(len(data) - 64, len(data))]:
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises(RotError):
            CA.issue_from_envelope(bytes(damaged), crypto, DEFAULT_FUSES)
    for size in (0, 8, 8783, 8785):
        with pytest.raises(RotError, match="8784 bytes"):
            csr_envelope.decode(data[:size].ljust(size, b"\0"))


# --- the manufacturer -----------------------------------------------------------------------


def test_both_chains_hold_together() -> None:
    root = device()
    issued = CA.issue_from_envelope(envelope_of(root), root.crypto, DEFAULT_FUSES)
    for algorithm in Algorithm:
        chain = [CA.certificate(algorithm), issued[algorithm]]
        chain += [root.certificates[layer, algorithm] for layer in list(LayerName)[1:]]
        check_chain(chain, ("ca", *(layer.value for layer in LayerName)))


@pytest.mark.parametrize("how", list(KeyIdAlgorithm))
def test_the_idevid_key_id_is_made_as_the_fuses_say(how: KeyIdAlgorithm) -> None:
    attributes = IdevidAttributes.build(
        ueid=bytes(17),
        ecc_key_id_algorithm=how,
        mldsa_key_id_algorithm=how,
        ecc_key_id=b"e" * 20,
        mldsa_key_id=b"m" * 20,
    )
    fuses = dataclasses.replace(DEFAULT_FUSES, idevid_cert_attributes=attributes.raw)
    root = device(fuses)
    issued = CA.issue_from_envelope(envelope_of(root), root.crypto, fuses)
    for algorithm in Algorithm:
        initial = x509.read_certificate(issued[algorithm])
        local = x509.read_certificate(root.certificates[LayerName.LDEVID, algorithm])
        subject_id = initial.extension(x509.OID_SUBJECT_KEY_ID)
        authority_id = local.extension(x509.OID_AUTHORITY_KEY_ID)
        assert subject_id is not None
        assert authority_id is not None
        key_id = x509.read_subject_key_id(subject_id.value)
        assert x509.read_authority_key_id(authority_id.value) == key_id
        assert len(key_id) == 20
        if how is KeyIdAlgorithm.FUSE:
            assert key_id == (b"e" if algorithm is Algorithm.ECC else b"m") * 20


def test_a_request_that_is_no_idevids_is_refused() -> None:
    root = device()
    for layer in (LayerName.LDEVID, LayerName.RT_ALIAS):
        request = root.requests[layer, Algorithm.ECC]
        with pytest.raises(RotError, match="not an IDevID's"):
            CA.issue(request, Algorithm.ECC, bytes(20))
    good = root.requests[LayerName.IDEVID, Algorithm.ECC]
    with pytest.raises(RotError, match="not by the issuer's key"):
        CA.issue(good.replace(b"IDevID", b"iDevID"), Algorithm.ECC, bytes(20))
    with pytest.raises(RotError, match="Ecc384 request"):
        CA.issue(b"garbage", Algorithm.ECC, bytes(20))


def test_a_manufacturers_keys_are_kept_and_read(tmp_path: Path) -> None:
    made = ManufacturerCa.generate()
    folder = tmp_path / "ca"
    assert not ManufacturerCa.is_in(folder)
    made.save(folder)
    assert ManufacturerCa.is_in(folder)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    again = ManufacturerCa.load(folder)
    for algorithm in Algorithm:
        assert again.certificate(algorithm) == made.certificate(algorithm)
    with pytest.raises(RotError, match="cannot keep"):
        made.save(folder)
    (folder / "manufacturer_key_ecc.pem").write_text("no key")
    with pytest.raises(RotError, match="cannot be read as a private key"):
        ManufacturerCa.load(folder)
    (folder / "manufacturer_key_ecc.pem").write_bytes(
        (folder / "manufacturer_key_mldsa.pem").read_bytes()
    )
    with pytest.raises(RotError, match="expected a P-384 private key"):
        ManufacturerCa.load(folder)


# --- chains ---------------------------------------------------------------------------------


def test_each_broken_link_has_its_own_error() -> None:
    root = device()
    crypto = root.crypto
    shelf = {layer: root.certificates.get((layer, Algorithm.ECC), b"") for layer in LayerName}
    ca = CA.certificate(Algorithm.ECC)
    initial = CA.issue_from_envelope(envelope_of(root), crypto, DEFAULT_FUSES)[Algorithm.ECC]
    local = shelf[LayerName.LDEVID]

    def fails(chain: list[bytes], message: str) -> None:
        with pytest.raises(ChainError, match=message):
            check_chain(chain, [f"certificate {number}" for number in range(len(chain))])

    fails([ca, local], "names the issuer Caliptra 2.1 Ecc384 IDevID, which is called Casemate")
    fails([ca, initial, local[:-1] + bytes((local[-1] ^ 1,))], "signature|not a certificate")
    fails([ca, b"x"], "certificate 1: not a certificate")
    fails([ca, initial.replace(b"\x04\x14", b"\x04\x14", 1)[:-3]], "not a certificate")

    # A link whose only fault is one field: made and signed anew.
    other = ModelCrypto()
    key = other.ecc_key(other.deobfuscate(bytes(64), debug_locked=True))
    public = other.public_key(key)

    def signed(name: str, issuer: str, *extensions: x509.Extension, by: int | None = None) -> bytes:
        tbs = x509.certificate_tbs(
            serial=b"\1",
            signature_algorithm=x509.ECDSA_SHA384,
            issuer=x509.name(issuer, "0"),
            not_before="20230101000000Z",
            not_after="99991231235959Z",
            subject=x509.name(name, "0"),
            spki=x509.spki_p384(public),
            extensions=extensions,
        )
        signature = x509.ecdsa_signature(other.ecc_sign(key, tbs))
        return x509.join(tbs, x509.ECDSA_SHA384, signature)

    authority = (x509.basic_constraints(0), x509.key_usage(key_cert_sign=True))
    check_chain([signed("a", "a", *authority), signed("b", "a")], ("a", "b"))
    fails([signed("a", "a"), signed("b", "a")], "no certificate authority")
    fails(
        [signed("a", "a", *authority), signed("b", "a", *authority), signed("c", "b")],
        "path length 0 allows no 1 certificates below",
    )
    usage = (x509.basic_constraints(0), x509.key_usage(digital_signature=True))
    fails([signed("a", "a", *usage), signed("b", "a")], "may not sign certificates")
    identified = (*authority, x509.subject_key_id(b"1" * 20))
    fails(
        [signed("a", "a", *identified), signed("b", "a", x509.authority_key_id(b"2" * 20))],
        "another key of the issuer",
    )


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_golden_pair_whose_signature_is_good_and_whose_names_are_not(
    algorithm: Algorithm,
) -> None:
    local = golden(f"ldevid_cert_{algorithm.value}.der")
    fmc = golden(f"fmc_alias_cert_{algorithm.value}.der")
    verify_signature(x509.read_certificate(fmc).signed, x509.read_certificate(local).spki)
    with pytest.raises(
        ChainError, match=r"names the issuer Caliptra 2\.0 .* is called Caliptra 2\.1"
    ):
        check_chain((local, fmc), ("LDevID", "FMC alias"))


def test_algorithms_that_are_not_checked_are_named() -> None:
    local = x509.read_certificate(device().certificates[LayerName.LDEVID, Algorithm.ECC])
    mldsa = x509.read_certificate(device().certificates[LayerName.LDEVID, Algorithm.MLDSA])
    with pytest.raises(ChainError, match="only P-384 with SHA-384 and ML-DSA-87"):
        verify_signature(local.signed, mldsa.spki)
    bad_point = local.spki[:-97] + b"\4" + bytes(96)
    with pytest.raises(ChainError, match="does not parse"):
        verify_signature(local.signed, bad_point)


# --- the folder -----------------------------------------------------------------------------


def test_a_device_is_made_and_boots(tmp_path: Path) -> None:
    order = Order(vendor_pk_hash=b"v" * 48, serial=b"s" * 16, pqc_key_type=PqcKeyType.LMS)
    made = manufacture(tmp_path / "device", CA, order)
    fuses = DeviceFolder(tmp_path / "device").fuse_file.read()
    assert fuses.lifecycle is Lifecycle.PRODUCTION
    assert fuses.pqc_key_type is PqcKeyType.LMS
    assert (fuses.vendor_pk_hash, fuses.ueid) == (b"v" * 48, b"\1" + b"s" * 16)
    assert any(fuses.field_entropy)
    assert (tmp_path / "device" / "anchor").stat().st_mode & 0o777 == 0o600

    root = RootOfTrust(made.anchor.open(), Shelf(a=firmware()), make_requests=True)
    root.cold_reset(fuses, b"a")
    files = all_files(root, fuses, made)
    assert len(files) == 2 * (1 + 4 + 4)
    for name, data in files.items():
        if "_cert_" in name:
            ueid = x509.read_certificate(data).extension(dice.OID_UEID)
            assert ueid is not None
            assert dice.decode_ueid(ueid.value) == fuses.ueid


def test_two_devices_share_nothing(tmp_path: Path) -> None:
    one = manufacture(tmp_path / "one", CA, Order())
    two = manufacture(tmp_path / "two", CA, Order())
    a, b = one.fuse_file.read(), two.fuse_file.read()
    assert a.uds_seed != b.uds_seed
    assert a.field_entropy != b.field_entropy
    assert a.ueid != b.ueid
    assert (tmp_path / "one/anchor").read_bytes() != (tmp_path / "two/anchor").read_bytes()
    # The fuses of one in the other's folder are another device, and its chain does not hold.
    root = RootOfTrust(two.anchor.open(), Shelf(a=firmware()), make_requests=True)
    root.cold_reset(a, b"a")
    with pytest.raises(ChainError, match=r"idevid|ldevid"):
        all_files(root, a, one)


def test_a_device_in_manufacture_gets_no_field_entropy(tmp_path: Path) -> None:
    made = manufacture(tmp_path / "device", CA, Order(lifecycle=Lifecycle.MANUFACTURING))
    fuses = made.fuse_file.read()
    assert fuses.lifecycle is Lifecycle.MANUFACTURING
    assert not any(fuses.field_entropy)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "device"
    folder.mkdir()
    (folder / "something").write_text("here")
    with pytest.raises(RotError, match="not empty"):
        manufacture(folder, CA, Order())
    assert [path.name for path in folder.iterdir()] == ["something"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "device"):
        with pytest.raises(RotError, match="cannot be made a device's folder"):
            manufacture(path, CA, Order())


def test_a_failed_step_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RotError, match="ueid: expected 17 bytes"):
        manufacture(tmp_path / "device", CA, Order(serial=b"short"))
    assert list((tmp_path / "device").iterdir()) == []
    assert not FuseFile(tmp_path / "device" / "fuses.json").path.exists()


def test_files_are_named_as_the_golden_files_and_equal_them() -> None:
    files = all_files(device(), DEFAULT_FUSES, None)
    for name in ("idevid_csr_ecc", "idevid_csr_mldsa", "ldevid_cert_ecc", "ldevid_cert_mldsa"):
        assert files[f"{name}.der"] == golden(f"{name}.der")
    assert identity.Algorithm.ECC.value == "ecc"
