"""The two providers of the root of trust's secrets: they agree, and both keep their slots apart."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey, MLDSA87PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate import _silicon
from casemate.rot import crypto as product
from casemate.rot.anchor import FileAnchor, PublicAnchor
from casemate.rot.crypto import ModelCrypto, RotCrypto, SiliconCrypto, Slot
from casemate.rot.errors import KeyVaultError, RotError
from casemate.rot.fuses import DEFAULT_CSR_MAC_KEY, DEFAULT_OBFUSCATION_KEY
from tests.rot.devices import write_anchor
from tests.rot.independent_derivation import drbg_scalar, p384_public


@pytest.fixture(scope="module")
def anchor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anchor") / "anchor"
    return write_anchor(path, DEFAULT_OBFUSCATION_KEY, DEFAULT_CSR_MAC_KEY)


@pytest.fixture(params=["model", "silicon"])
def crypto(request: pytest.FixtureRequest, anchor: Path) -> RotCrypto:
    return ModelCrypto() if request.param == "model" else SiliconCrypto(anchor)


def shown(crypto: RotCrypto, secret: Slot) -> bytes:
    """A secret does not come out: show the public key that it is the seed of."""
    key = crypto.ecc_key(secret)
    return crypto.public_key(key)


@settings(max_examples=60, deadline=None)
@given(
    value=st.sampled_from((32, 64)).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
    locked=st.booleans(),
    label=st.binary(max_size=40),
    context=st.none() | st.binary(max_size=80),
    times=st.integers(0, 5),
    bits=st.sampled_from((384, 512)),
    message=st.binary(max_size=200),
)
def test_model_and_silicon_agree(
    *,
    anchor: Path,
    value: bytes,
    locked: bool,
    label: bytes,
    context: bytes | None,
    times: int,
    bits: product.HashBits,
    message: bytes,
) -> None:
    def walk(crypto: RotCrypto) -> list[bytes]:
        root = crypto.deobfuscate(value, debug_locked=locked)
        key = crypto.kdf(root, label, context, bits=bits)
        chain = crypto.kdf_chain(key, label, times, bits=bits)
        mac = crypto.hmac(chain, message, bits=bits)
        both = crypto.hmac_slot(mac, root, bits=bits)
        ecc, mldsa = crypto.ecc_key(both), crypto.mldsa_key(both)
        stable = crypto.stable_key(root, label, message)
        return [
            shown(crypto, stable),
            *(shown(crypto, secret) for secret in (key, chain, mac, both)),
            crypto.public_key(ecc),
            crypto.public_key(mldsa),
            crypto.ecc_sign(ecc, message),
            crypto.mldsa_sign(mldsa, message),
            crypto.mldsa_sign_mu(mldsa, hashlib.sha512(message).digest()),
            crypto.csr_mac(message),
        ]

    assert walk(ModelCrypto()) == walk(SiliconCrypto(anchor))


def test_signatures_verify_elsewhere(crypto: RotCrypto) -> None:
    seed = crypto.deobfuscate(bytes(64), debug_locked=True)
    ecc, mldsa = crypto.ecc_key(seed), crypto.mldsa_key(seed)
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), crypto.public_key(ecc))
    raw = crypto.ecc_sign(ecc, b"message")
    der = utils.encode_dss_signature(
        int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big")
    )
    point.verify(der, b"message", ec.ECDSA(hashes.SHA384()))
    public = MLDSA87PublicKey.from_public_bytes(crypto.public_key(mldsa))
    public.verify(crypto.mldsa_sign(mldsa, b"message"), b"message")
    with pytest.raises(InvalidSignature):
        public.verify(crypto.mldsa_sign(mldsa, b"message"), b"massage")


def test_wrong_slots_are_refused(crypto: RotCrypto) -> None:
    secret = crypto.deobfuscate(bytes(64), debug_locked=True)
    ecc, mldsa = crypto.ecc_key(secret), crypto.mldsa_key(secret)
    gone = crypto.kdf(secret, b"gone")
    crypto.erase(gone)
    crypto.erase(gone)
    refused: list[Callable[[], object]] = [
        lambda: crypto.public_key(secret),
        lambda: crypto.kdf(ecc, b"label"),
        lambda: crypto.kdf_chain(mldsa, b"label", 1),
        lambda: crypto.hmac(gone, b""),
        lambda: crypto.hmac_slot(secret, ecc),
        lambda: crypto.ecc_key(mldsa),
        lambda: crypto.mldsa_key(gone),
        lambda: crypto.ecc_sign(mldsa, b""),
        lambda: crypto.ecc_sign(Slot(10**6), b""),
        lambda: crypto.ecc_sign_digest(ecc, bytes(47)),
        lambda: crypto.mldsa_sign(secret, b""),
        lambda: crypto.mldsa_sign_mu(mldsa, bytes(63)),
        lambda: crypto.deobfuscate(bytes(15), debug_locked=True),
        lambda: crypto.deobfuscate(b"", debug_locked=True),
        lambda: crypto.deobfuscate(bytes(80), debug_locked=True),
        lambda: crypto.to_descriptor(ecc),
        lambda: crypto.stable_key(ecc, b"", b""),
    ]
    for number, attempt in enumerate(refused):
        with pytest.raises(KeyVaultError):
            attempt()
            pytest.fail(f"attempt {number} was not refused")


def test_a_seed_of_half_a_secret_is_refused(crypto: RotCrypto) -> None:
    half = crypto.deobfuscate(bytes(32), debug_locked=True)
    with pytest.raises(KeyVaultError):
        crypto.ecc_key(half)


def test_debug_open_gives_other_secrets(crypto: RotCrypto) -> None:
    locked = crypto.deobfuscate(b"\xff" * 64, debug_locked=True)
    opened = crypto.deobfuscate(b"\xff" * 64, debug_locked=False)
    assert shown(crypto, locked) != shown(crypto, opened)


def test_a_secret_travels_by_descriptor_only(crypto: RotCrypto) -> None:
    secret = crypto.kdf(crypto.deobfuscate(bytes(64), debug_locked=True), b"seal")
    descriptor = crypto.to_descriptor(secret)
    try:
        assert not os.get_inheritable(descriptor)
        received = os.pread(descriptor, 100, 0)
        assert len(received) == 64
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        assert shown(crypto, secret) == p384_public(drbg_scalar(received[:48]))
    finally:
        os.close(descriptor)


def test_384_bits_use_48_bytes_of_a_key(crypto: RotCrypto) -> None:
    # The accelerator reads 48 of the 64 bytes: so the RT CDI is cut where DPE begins.
    long = crypto.kdf(crypto.deobfuscate(bytes(64), debug_locked=True), b"cdi")
    descriptor = crypto.to_descriptor(long)
    key = os.pread(descriptor, 64, 0)
    os.close(descriptor)
    import hmac

    expected = hmac.digest(key[:48], b"\0\0\0\1derive_cdi\0ctx", "sha384")
    derived = crypto.kdf(long, b"derive_cdi", b"ctx", bits=384)
    assert shown(crypto, derived) == p384_public(drbg_scalar(expected))


# --- ML-DSA-87 from a seed ------------------------------------------------------------------


def test_mldsa_functions_against_the_library() -> None:
    seed = bytes(range(32))
    key = MLDSA87PrivateKey.from_seed_bytes(seed)
    public = _silicon.mldsa87_public_key(seed)
    assert public == key.public_key().public_bytes_raw()
    signature = _silicon.mldsa87_sign(seed, b"m", b"context")
    key.public_key().verify(signature, b"m", b"context")
    assert signature == _silicon.mldsa87_sign(seed, b"m", b"context")
    assert _silicon.mldsa87_verify(public, b"m", key.sign(b"m", b"context"), b"context")
    assert not _silicon.mldsa87_verify(public, b"m", signature)
    assert not _silicon.mldsa87_verify(public, b"m", signature[:-1], b"context")
    mu = bytes(64)
    assert _silicon.mldsa87_verify_mu(public, mu, _silicon.mldsa87_sign_mu(seed, mu))
    assert _silicon.mldsa87_verify_mu(public, mu, key.sign_mu(mu))


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_mldsa_seeds_of_a_wrong_size(seed: bytes) -> None:
    with pytest.raises(ValueError, match="expected 32 bytes"):
        _silicon.mldsa87_public_key(seed)
    with pytest.raises(ValueError, match="expected 32 bytes"):
        _silicon.mldsa87_sign(seed, b"")
    with pytest.raises(ValueError, match="at most 255"):
        _silicon.mldsa87_sign(bytes(32), b"", bytes(256))


# --- the anchor -----------------------------------------------------------------------------


def test_an_anchor_is_made_once_and_is_its_own(tmp_path: Path) -> None:
    one, two = FileAnchor(tmp_path / "one"), FileAnchor(tmp_path / "two")
    one.create()
    two.create()
    with pytest.raises(RotError, match="cannot be made"):
        one.create()
    keys = []
    for anchor in (one, two, one):
        crypto = anchor.open()
        keys.append(shown(crypto, crypto.deobfuscate(bytes(64), debug_locked=True)))
    assert keys[0] == keys[2] != keys[1]
    assert one.name == "file"
    assert isinstance(PublicAnchor().open(), ModelCrypto)


def test_an_anchor_that_is_damaged_or_open_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "anchor"
    FileAnchor(path).create()
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes((good[-1] ^ 1,)))
    with pytest.raises(KeyVaultError, match="digest does not match"):
        SiliconCrypto(path)
    path.write_bytes(good)
    path.chmod(0o644)
    with pytest.raises(KeyVaultError, match="its mode is 0644"):
        SiliconCrypto(path)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(KeyVaultError):
        SiliconCrypto(tmp_path / "link")
    with pytest.raises(KeyVaultError, match="No such file"):
        SiliconCrypto(tmp_path / "none")


def test_no_method_of_the_vault_gives_a_secret(anchor: Path) -> None:
    vault = _silicon.RootOfTrustVault.open(anchor)
    slot = vault.kdf(512, vault.deobfuscate(bytes(64), True), b"x")
    assert isinstance(slot, int)
    for name in ("public_key", "ecc_sign_digest", "mldsa_sign"):
        arguments = {"public_key": (), "ecc_sign_digest": (bytes(48),), "mldsa_sign": (b"",)}
        with pytest.raises(ValueError, match="does not hold"):
            getattr(vault, name)(slot, *arguments[name])
    assert "object at" in repr(vault) or repr(vault).startswith("<")
