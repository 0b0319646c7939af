"""Keys from files and from a module behind PKCS#11 (SoftHSM where it is installed)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa

from casemate.formats import firmware_bundle as fb
from casemate.rot.bundle import build
from casemate.rot.bundle.pkcs11 import KeyUri, Pkcs11Signer
from casemate.rot.bundle.signatures import Outcome, check_ecdsa
from casemate.rot.bundle.signers import (
    Algorithm,
    EcdsaSigner,
    LmsSigner,
    SignerError,
    load_public_key,
    load_signer,
    sign_checked,
)
from casemate.rot.bundle.verdict import judge
from casemate.rot.lms_key import LmsKey
from tests.rot.bundle.parts import (
    FMC,
    MLDSA,
    RUNTIME,
    ecc_signer,
    fuses_for,
    parties,
    pqc_signer,
    small_tree,
)

SOFTHSM = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)
DIGEST = hashlib.sha384(b"header").digest()
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
NO_ENCRYPTION = serialization.NoEncryption()


def _pem(path: Path, key: ec.EllipticCurvePrivateKey | mldsa.MLDSA87PrivateKey) -> str:
    path.write_bytes(key.private_bytes(PEM, PKCS8, NO_ENCRYPTION))
    return str(path)


def test_pem_keys_sign_and_show_the_same_public_key_everywhere(tmp_path: Path) -> None:
    p384, pq = ec.generate_private_key(ec.SECP384R1()), mldsa.MLDSA87PrivateKey.generate()
    for name, key, algorithm in (
        ("ecc", p384, Algorithm.ECDSA_P384),
        ("pq", pq, Algorithm.MLDSA87),
    ):
        signer = load_signer(_pem(tmp_path / name, key))
        assert signer.algorithm is algorithm
        sign_checked(signer, DIGEST)
        public = tmp_path / f"{name}.pub"
        public.write_bytes(key.public_key().public_bytes(PEM, SPKI))
        for reference in (str(public), str(tmp_path / name)):
            assert load_public_key(reference) == (algorithm, signer.public_key)
    raw = tmp_path / "raw"
    raw.write_bytes(pq.public_key().public_bytes_raw())
    assert load_public_key(str(raw))[0] is Algorithm.MLDSA87


def test_a_certificate_gives_its_public_key(tmp_path: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "vendor")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA384())
    )
    path = tmp_path / "cert.pem"
    path.write_bytes(certificate.public_bytes(PEM))
    assert load_public_key(str(path)) == (Algorithm.ECDSA_P384, EcdsaSigner(key).public_key)


@pytest.mark.parametrize("name", ["owner_ecc", *(f"vendor_ecc_{at}" for at in range(4))])
def test_the_public_test_keys_of_the_bundle_tools_load(name: str) -> None:
    if not (folder := os.environ.get("CASEMATE_DATA")):
        pytest.skip("CASEMATE_DATA is not set: the public test keys are not here")
    path = Path(folder) / "caliptra" / name
    signer = load_signer(f"{path}_key.pem")
    assert load_public_key(f"{path}_pub.pem") == (Algorithm.ECDSA_P384, signer.public_key)
    sign_checked(signer, DIGEST)


def test_an_encrypted_key_asks_for_its_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "key"
    encryption = serialization.BestAvailableEncryption(b"right")
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(key.private_bytes(PEM, PKCS8, encryption))
    assert load_signer(str(path), passphrase=lambda: b"right").algorithm is Algorithm.ECDSA_P384
    with pytest.raises(SignerError, match="passphrase"):
        load_signer(str(path), passphrase=lambda: b"wrong")
    with pytest.raises(SignerError, match="no passphrase was given"):
        load_signer(str(path))


def test_an_lms_key_is_a_directory(tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    key = LmsKey.create(tmp_path / "key", anchor_directory=anchors, make_tree=small_tree)
    signer = load_signer(str(tmp_path / "key"), anchor_directory=anchors)
    assert isinstance(signer, LmsSigner)
    sign_checked(signer, DIGEST)
    assert load_public_key(str(tmp_path / "key")) == (Algorithm.LMS, key.public_key)
    assert load_public_key(str(tmp_path / "key" / "public"))[0] is Algorithm.LMS


def _foreign(kind: str) -> bytes:
    match kind:
        case "p256":
            return ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, NO_ENCRYPTION)
        case "rsa":
            key = rsa.generate_private_key(65537, 2048)
            return key.private_bytes(PEM, PKCS8, NO_ENCRYPTION)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, NO_ENCRYPTION)
        case "garbage":
            return b"-----BEGIN?"
    return bytes(70_000) if kind == "large" else b""


@pytest.mark.parametrize("kind", ["p256", "rsa", "ed25519", "garbage", "empty", "large"])
def test_other_keys_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(_foreign(kind))
    for load in (load_signer, load_public_key):
        with pytest.raises(SignerError):
            load(str(path))


class Faulty:
    """A signer whose module has a fault."""

    def __init__(self) -> None:
        self._signer = ecc_signer()
        self.algorithm, self.public_key = Algorithm.ECDSA_P384, self._signer.public_key

    def sign(self, message: bytes) -> bytes:
        return self._signer.sign(hashlib.sha384(message).digest())


def test_a_signature_of_a_faulty_module_never_leaves() -> None:
    with pytest.raises(SignerError, match="its own public key refuses"):
        sign_checked(Faulty(), DIGEST)
    unsigned = build.build(FMC, RUNTIME, parties(MLDSA).vendor_keys(), svn=1)
    with pytest.raises(SignerError):
        build.sign_as_owner(unsigned, Faulty(), pqc_signer(MLDSA))


# --- PKCS#11 ---------------------------------------------------------------------------------


def test_a_uri_is_taken_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pin = tmp_path / "pin"
    pin.write_text("1234\n")
    uri = KeyUri.parse(
        "pkcs11:token=My%20Token;serial=1;slot-id=7;object=k%3B;id=%01%FF;type=private"
        f"?module-path=/lib/p11.so&pin-source=file:{pin}"
    )
    assert uri.module == "/lib/p11.so"
    assert uri.token == {"token": b"My Token", "serial": b"1"}
    assert (uri.slot_id, uri.object_label, uri.object_id) == (7, b"k;", b"\x01\xff")
    assert uri.pin() == b"1234"
    monkeypatch.setenv("CASEMATE_PKCS11_MODULE", "/lib/other.so")
    monkeypatch.setenv("CASEMATE_PKCS11_PIN", "99")
    uri = KeyUri.parse("pkcs11:object=k")
    assert (uri.module, uri.pin()) == ("/lib/other.so", b"99")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pkcs11:object=k", "no module"),
        ("pkcs11:token=t?module-path=/m", "name the key"),
        ("pkcs11:object=k;colour=red?module-path=/m", "unknown attribute colour"),
        ("pkcs11:object=k;object=l?module-path=/m", "once"),
        ("pkcs11:object?module-path=/m", "name=value"),
        ("pkcs11:object=k;type=cert?module-path=/m", "type=private"),
        ("pkcs11:object=k;slot-id=x?module-path=/m", "slot-id"),
        ("pkcs11:object=k?module-path=/no/such/module.so", "no PKCS#11 module"),
    ],
)
def test_a_wrong_uri_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    monkeypatch.delenv("CASEMATE_PKCS11_MODULE", raising=False)
    with pytest.raises(SignerError, match=expected):
        load_signer(text)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The module path and token part of a URI of a fresh SoftHSM token with a key `ecc`."""
    module = next((path for path in SOFTHSM if Path(path).exists()), None)
    if module is None or not shutil.which("softhsm2-util") or not shutil.which("pkcs11-tool"):
        pytest.skip("SoftHSM and pkcs11-tool are not installed")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "conf").write_text(f"directories.tokendir = {folder}/tokens\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "conf")
    pins = ("--so-pin", "5678", "--pin", "1234")
    init = ["softhsm2-util", "--init-token", "--free", "--label", "Bundle keys", *pins]
    subprocess.run(init, check=True, capture_output=True)
    for label, curve, number in (("ecc", "secp384r1", "01"), ("small", "prime256v1", "02")):
        subprocess.run(
            [
                *("pkcs11-tool", "--module", module, "--login", "--pin", "1234"),
                *("--keypairgen", "--key-type", f"EC:{curve}", "--label", label, "--id", number),
            ],
            check=True,
            capture_output=True,
        )
    yield f"pkcs11:token=Bundle%20keys;{{}}?module-path={module}&pin-value=1234"
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


def test_an_hsm_signs_a_bundle(token: str) -> None:
    signer = load_signer(token.format("object=ecc"))
    assert signer.algorithm is Algorithm.ECDSA_P384
    assert load_public_key(token.format("id=%01")) == (signer.algorithm, signer.public_key)
    who = parties(MLDSA)
    unsigned = build.build(FMC, RUNTIME, who.vendor_keys(), svn=1)
    bundle = build.sign_as_vendor(unsigned, who.vendor_ecc[0], who.vendor_pqc[0])
    bundle = build.sign_as_owner(bundle, signer, who.owner_pqc)
    assert fb.Manifest.decode(bundle).owner_keys.ecc == signer.public_key
    assert judge(bundle, fuses_for(bundle, firmware_svn_fuse=0)).boots


def test_an_hsms_key_signs_more_than_once(token: str) -> None:
    signer = Pkcs11Signer.open(token.format("object=ecc"))
    for _ in range(3):
        assert check_ecdsa(DIGEST, signer.public_key, signer.sign(DIGEST)) is Outcome.GOOD
    signer.close()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("object=none", "0 private keys"),
        ("object=small", "another curve"),
        ("object=ecc;serial=wrong", "0 tokens"),
    ],
)
def test_what_an_hsm_does_not_have_is_named(token: str, part: str, expected: str) -> None:
    with pytest.raises(SignerError, match=expected):
        load_signer(token.format(part))


def test_an_hsm_without_a_pin_is_not_asked(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CASEMATE_PKCS11_PIN", raising=False)
    with pytest.raises(SignerError, match="asks for a PIN"):
        load_signer(token.format("object=ecc").removesuffix("&pin-value=1234"))
