"""The one interface to the root of trust's secrets, and its two providers.

A secret is a slot, as in the chip's key vault: UDS, field entropy, CDIs, ladder keys and key pairs
are made in slots from slots, and only public keys, signatures and MACs come out.

- `ModelCrypto` holds slots in Python's memory: for the model, whose fuses are public test values.
- `SiliconCrypto` holds them in silicon (Rust): for a host, whose secrets never reach Python.

The steps on top (which label, in which order) are `casemate.rot.ladder`'s.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NewType, Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.cmac import CMAC

from casemate import _silicon
from casemate.rot.errors import KeyVaultError
from casemate.rot.fuses import DEFAULT_CSR_MAC_KEY, DEFAULT_OBFUSCATION_KEY

#: The number of a key-vault slot: an opaque handle.
Slot = NewType("Slot", int)
#: The bits of the hash under an HMAC or KDF. With 384 a key is cut to its first 48 bytes.
HashBits = Literal[384, 512]

#: The IV of the de-obfuscation engine (caliptra-sw, rom/dev/src/flow/cold_reset/idev_id.rs).
DOE_IV = bytes.fromhex("fb10365ba1179741fba193a10f406d7e")
#: The order of the group of P-384 (SP 800-186).
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


class RotCrypto(Protocol):
    """What the ladder, the certificates, the quotes and DPE need.

    Every method raises KeyVaultError for an empty slot or one of the wrong kind.
    """

    def deobfuscate(self, value: bytes, *, debug_locked: bool) -> Slot:
        """Decrypt an obfuscated fuse value (64 or 32 bytes) into a slot.

        With debug open the engine's key is all ones; the caller gives all ones as the value too.
        """
        ...

    def kdf(
        self, key: Slot, label: bytes, context: bytes | None = None, *, bits: HashBits = 512
    ) -> Slot:
        """HMAC(key, 00000001 || label [|| 00 || context]) into a new slot (48 or 64 bytes)."""
        ...

    def kdf_chain(self, key: Slot, label: bytes, times: int, *, bits: HashBits = 512) -> Slot:
        """The KDF `times` times over, each under the result before; 0 times is a copy."""
        ...

    def hmac(self, key: Slot, data: bytes, *, bits: HashBits = 512) -> Slot:
        """A plain HMAC of public data into a new slot."""
        ...

    def hmac_slot(self, key: Slot, data: Slot, *, bits: HashBits = 512) -> Slot:
        """A plain HMAC of another slot's secret into a new slot."""
        ...

    def stable_key(self, root: Slot, prefix: bytes, info: bytes) -> Slot:
        """A key (64 bytes) under a stable root, bound to no firmware: CM_DERIVE_STABLE_KEY.

        AES-256-CMAC KDF over `info` under the root's first 32 bytes, then the HMAC-SHA512 KDF over
        prefix and info; the words of the result are byte-swapped.
        """
        ...

    def ecc_key(self, seed: Slot) -> Slot:
        """A P-384 key pair: HMAC_DRBG-SHA384 over the seed's first 48 bytes, nonce all zero."""
        ...

    def mldsa_key(self, seed: Slot) -> Slot:
        """An ML-DSA-87 key pair: FIPS 204 over the seed's first 32 bytes, in reverse order."""
        ...

    def public_key(self, key: Slot) -> bytes:
        """97 bytes (04, X, Y) for P-384, 2592 for ML-DSA-87."""
        ...

    def ecc_sign(self, key: Slot, message: bytes) -> bytes:
        """A deterministic signature (r, s: 96 bytes) over SHA-384 of the message (RFC 6979)."""
        ...

    def ecc_sign_digest(self, key: Slot, digest: bytes) -> bytes:
        """The same over a digest of 48 bytes."""
        ...

    def mldsa_sign(self, key: Slot, message: bytes) -> bytes:
        """A deterministic signature (4627 bytes), FIPS 204 external interface, empty context."""
        ...

    def mldsa_sign_mu(self, key: Slot, mu: bytes) -> bytes:
        """The same over an external mu (64 bytes)."""
        ...

    def csr_mac(self, envelope: bytes) -> bytes:
        """HMAC-SHA512 (64 bytes) of the IDevID CSR envelope under the device's CSR key."""
        ...

    def to_descriptor(self, key: Slot) -> int:
        """A sealed memory file with the slot's secret, to pass to another process's silicon."""
        ...

    def erase(self, *keys: Slot) -> None:
        """Wipe slots; wiping an empty slot is no error."""
        ...


# --- the model ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class _Secret:
    value: bytes


@dataclass(frozen=True, slots=True, repr=False)
class _EccKey:
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, repr=False)
class _MldsaKey:
    seed: bytes
    public: bytes


class ModelCrypto:
    """Slots in Python's memory; see RotCrypto. For public test values only: nothing is wiped."""

    def __init__(
        self,
        obfuscation_key: bytes = DEFAULT_OBFUSCATION_KEY,
        csr_mac_key: bytes = DEFAULT_CSR_MAC_KEY,
    ) -> None:
        self._obfuscation_key = obfuscation_key
        self._csr_mac_key = csr_mac_key
        self._slots: dict[Slot, _Secret | _EccKey | _MldsaKey] = {}
        self._next = 1

    def deobfuscate(self, value: bytes, *, debug_locked: bool) -> Slot:
        """See RotCrypto."""
        if not value or len(value) % 16 or len(value) > 64:
            raise KeyVaultError(f"the obfuscated value has {len(value)} bytes, expected 64 or 32")
        key = self._obfuscation_key if debug_locked else b"\xff" * 32
        decryptor = Cipher(algorithms.AES256(key), modes.CBC(DOE_IV)).decryptor()
        return self._put(_Secret(decryptor.update(value) + decryptor.finalize()))

    def kdf(
        self, key: Slot, label: bytes, context: bytes | None = None, *, bits: HashBits = 512
    ) -> Slot:
        """See RotCrypto."""
        message = b"\0\0\0\1" + label + (b"" if context is None else b"\0" + context)
        return self.hmac(key, message, bits=bits)

    def kdf_chain(self, key: Slot, label: bytes, times: int, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        value = self._secret(key)
        for _ in range(times):
            value = _hmac(bits, value, b"\0\0\0\1" + label)
        return self._put(_Secret(value))

    def hmac(self, key: Slot, data: bytes, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        return self._put(_Secret(_hmac(bits, self._secret(key), data)))

    def hmac_slot(self, key: Slot, data: Slot, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        return self.hmac(key, self._secret(data), bits=bits)

    def stable_key(self, root: Slot, prefix: bytes, info: bytes) -> Slot:
        """See RotCrypto."""
        key = self._secret(root)[:32]
        if len(key) != 32:
            raise KeyVaultError(f"the root has {len(key)} bytes, expected 32 or more")
        inner = b""
        for counter in range(1, 5):
            cmac = CMAC(algorithms.AES256(key))
            cmac.update(counter.to_bytes(4, "big") + info)
            inner += cmac.finalize()
        tag = _hmac(512, inner, b"\0\0\0\1" + prefix + info)
        swapped = b"".join(tag[at : at + 4][::-1] for at in range(0, len(tag), 4))
        return self._put(_Secret(swapped))

    def ecc_key(self, seed: Slot) -> Slot:
        """See RotCrypto."""
        entropy = self._secret(seed)[:48]
        if len(entropy) != 48:
            raise KeyVaultError(f"the seed has {len(entropy)} bytes, expected 48 or more")
        scalar = _p384_scalar(entropy)
        return self._put(_EccKey(ec.derive_private_key(scalar, ec.SECP384R1())))

    def mldsa_key(self, seed: Slot) -> Slot:
        """See RotCrypto."""
        xi = self._secret(seed)[:32][::-1]
        if len(xi) != 32:
            raise KeyVaultError(f"the seed has {len(xi)} bytes, expected 32 or more")
        return self._put(_MldsaKey(xi, _silicon.mldsa87_public_key(xi)))

    def public_key(self, key: Slot) -> bytes:
        """See RotCrypto."""
        match self._get(key):
            case _EccKey(private):
                return private.public_key().public_bytes(
                    serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
                )
            case _MldsaKey(_, public):
                return public
            case _:
                raise KeyVaultError(f"slot {key} does not hold a key pair")

    def ecc_sign(self, key: Slot, message: bytes) -> bytes:
        """See RotCrypto."""
        return self.ecc_sign_digest(key, hashlib.sha384(message).digest())

    def ecc_sign_digest(self, key: Slot, digest: bytes) -> bytes:
        """See RotCrypto."""
        held = self._get(key)
        if not isinstance(held, _EccKey):
            raise KeyVaultError(f"slot {key} does not hold a P-384 key")
        if len(digest) != 48:
            raise KeyVaultError(f"the digest has {len(digest)} bytes, expected 48")
        algorithm = ec.ECDSA(utils.Prehashed(hashes.SHA384()), deterministic_signing=True)
        r, s = utils.decode_dss_signature(held.key.sign(digest, algorithm))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    def mldsa_sign(self, key: Slot, message: bytes) -> bytes:
        """See RotCrypto."""
        return _silicon.mldsa87_sign(self._mldsa_seed(key), message)

    def mldsa_sign_mu(self, key: Slot, mu: bytes) -> bytes:
        """See RotCrypto."""
        if len(mu) != 64:
            raise KeyVaultError(f"mu has {len(mu)} bytes, expected 64")
        return _silicon.mldsa87_sign_mu(self._mldsa_seed(key), mu)

    def csr_mac(self, envelope: bytes) -> bytes:
        """See RotCrypto."""
        return hmac.digest(self._csr_mac_key, envelope, "sha512")

    def to_descriptor(self, key: Slot) -> int:
        """See RotCrypto."""
        secret = self._secret(key)
        descriptor = os.memfd_create("casemate-secret", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.pwrite(descriptor, secret, 0)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return descriptor

    def erase(self, *keys: Slot) -> None:
        """See RotCrypto."""
        for key in keys:
            self._slots.pop(key, None)

    def _put(self, content: _Secret | _EccKey | _MldsaKey) -> Slot:
        slot = Slot(self._next)
        self._next += 1
        self._slots[slot] = content
        return slot

    def _get(self, slot: Slot) -> _Secret | _EccKey | _MldsaKey:
        try:
            return self._slots[slot]
        except KeyError:
            raise KeyVaultError(f"slot {slot} is empty") from None

    def _secret(self, slot: Slot) -> bytes:
        held = self._get(slot)
        if not isinstance(held, _Secret):
            raise KeyVaultError(f"slot {slot} does not hold a secret")
        return held.value

    def _mldsa_seed(self, slot: Slot) -> bytes:
        held = self._get(slot)
        if not isinstance(held, _MldsaKey):
            raise KeyVaultError(f"slot {slot} does not hold an ML-DSA-87 key")
        return held.seed


def _hmac(bits: HashBits, key: bytes, data: bytes) -> bytes:
    if bits == 384:
        return hmac.digest(key[:48], data, "sha384")
    return hmac.digest(key, data, "sha512")


def _p384_scalar(entropy: bytes) -> int:
    """The first output of HMAC_DRBG-SHA384 (SP 800-90A) that is a private key of P-384."""
    mac = functools.partial(hmac.digest, digest="sha384")
    key, value = bytes(48), b"\1" * 48
    for marker in (b"\0", b"\1"):
        key = mac(key, value + marker + entropy + bytes(48))
        value = mac(key, value)
    while True:
        value = mac(key, value)
        if 0 < (scalar := int.from_bytes(value, "big")) < P384_ORDER:
            return scalar
        key = mac(key, value + b"\0")
        value = mac(key, value)


# --- the host -------------------------------------------------------------------------------


class SiliconCrypto:
    """Slots in silicon, over the device secrets of an anchor file; see RotCrypto."""

    def __init__(self, anchor: Path, *, require_locked: bool = False) -> None:
        """Open the vault; from then on the process can be neither dumped nor debugged.

        With `require_locked` it is refused where the limits do not allow locked memory. Raises
        KeyVaultError.
        """
        try:
            self._vault = _silicon.RootOfTrustVault.open(anchor, require_locked=require_locked)
        except (OSError, ValueError) as error:
            raise KeyVaultError(f"{anchor}: {error}") from None

    def deobfuscate(self, value: bytes, *, debug_locked: bool) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.deobfuscate(value, debug_locked))

    def kdf(
        self, key: Slot, label: bytes, context: bytes | None = None, *, bits: HashBits = 512
    ) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.kdf(bits, key, label, context))

    def kdf_chain(self, key: Slot, label: bytes, times: int, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.kdf_chain(bits, key, label, times))

    def hmac(self, key: Slot, data: bytes, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.hmac(bits, key, data))

    def hmac_slot(self, key: Slot, data: Slot, *, bits: HashBits = 512) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.hmac_slot(bits, key, data))

    def stable_key(self, root: Slot, prefix: bytes, info: bytes) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.stable_key(root, prefix, info))

    def ecc_key(self, seed: Slot) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.ecc_key(seed))

    def mldsa_key(self, seed: Slot) -> Slot:
        """See RotCrypto."""
        with _vault_errors:
            return Slot(self._vault.mldsa_key(seed))

    def public_key(self, key: Slot) -> bytes:
        """See RotCrypto."""
        with _vault_errors:
            return self._vault.public_key(key)

    def ecc_sign(self, key: Slot, message: bytes) -> bytes:
        """See RotCrypto."""
        return self.ecc_sign_digest(key, hashlib.sha384(message).digest())

    def ecc_sign_digest(self, key: Slot, digest: bytes) -> bytes:
        """See RotCrypto."""
        with _vault_errors:
            return self._vault.ecc_sign_digest(key, digest)

    def mldsa_sign(self, key: Slot, message: bytes) -> bytes:
        """See RotCrypto."""
        with _vault_errors:
            return self._vault.mldsa_sign(key, message)

    def mldsa_sign_mu(self, key: Slot, mu: bytes) -> bytes:
        """See RotCrypto."""
        with _vault_errors:
            return self._vault.mldsa_sign_mu(key, mu)

    def csr_mac(self, envelope: bytes) -> bytes:
        """See RotCrypto."""
        return self._vault.csr_mac(envelope)

    def to_descriptor(self, key: Slot) -> int:
        """See RotCrypto."""
        with _vault_errors:
            return self._vault.to_descriptor(key)

    def erase(self, *keys: Slot) -> None:
        """See RotCrypto."""
        for key in keys:
            self._vault.erase(key)


class _VaultErrors:
    """Turns what silicon raises into this room's error."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is not None and issubclass(kind, (ValueError, OSError, OverflowError)):
            raise KeyVaultError(str(error)) from None


_vault_errors = _VaultErrors()
