"""Keys of a DPE: made from the CDI of the layer beneath, a context's digest and a label.

    CDI  = KDF(CDI of the runtime, "derive_cdi", SHA384(context digest || info))
    seed = KDF(CDI, label, info)

Both are HMAC-384 KDFs; the key pair comes from the seed as every key of the ladder does. Source:
caliptra-sw, runtime/src/dpe_crypto.rs. Nothing is kept: a key lives as long as one command, except
the one exported CDI, which stays in a slot until its handle is revoked.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from casemate.formats.dpe import EXPORTED_CDI_SIZE, Profile, Status
from casemate.rot.crypto import RotCrypto, Slot
from casemate.rot.dpe.errors import DpeError

_CDI_INFO = b"DPE"
_EXPORTED_CDI_INFO = b"Exported CDI"
_KEY_INFO = {Profile.P384_SHA384: b"ECC", Profile.ML_DSA_87: b"MLDSA"}
_EXPORTED_KEY_INFO = {
    Profile.P384_SHA384: b"Exported ECC",
    Profile.ML_DSA_87: b"Exported ML-DSA",
}


@dataclass(frozen=True, slots=True)
class Signer:
    """A key pair in a slot, with the algorithm of its profile."""

    profile: Profile
    crypto: RotCrypto
    slot: Slot

    @property
    def public_key(self) -> bytes:
        """X and Y (96 bytes), or the FIPS 204 encoding (2592 bytes)."""
        public = self.crypto.public_key(self.slot)
        return public[1:] if self.profile is Profile.P384_SHA384 else public

    def sign(self, message: bytes) -> bytes:
        """Return r and s (96 bytes), or an ML-DSA signature (4627 bytes), over a message."""
        if self.profile is Profile.P384_SHA384:
            return self.crypto.ecc_sign(self.slot, message)
        return self.crypto.mldsa_sign(self.slot, message)

    def sign_prepared(self, prepared: bytes) -> bytes:
        """Return a signature over a SHA-384 digest (48 bytes), or an external mu (64 bytes)."""
        if self.profile is Profile.P384_SHA384:
            return self.crypto.ecc_sign_digest(self.slot, prepared)
        return self.crypto.mldsa_sign_mu(self.slot, prepared)


@dataclass(slots=True)
class ExportedCdiSlot:
    """The place for the one CDI that may be exported at a time; profiles that share it compete."""

    random: Callable[[int], bytes]
    _slot: Slot | None = field(default=None, repr=False)
    _handle: bytes = field(default=b"", repr=False)
    _digest: bytes = b""

    def fill(self, digest: bytes, make: Callable[[], Slot]) -> bytes:
        """Keep the CDI that `make` derives from `digest`; return the bearer handle (32 bytes).

        Raises DpeError EXPORTED_CDI_DUPLICATE if that CDI is exported already, EXPORTED_CDI_LIMIT
        if another one is: revoke it first.
        """
        if self._slot is not None:
            if self._digest == digest:
                raise DpeError(Status.EXPORTED_CDI_DUPLICATE, "this CDI is exported already")
            raise DpeError(Status.EXPORTED_CDI_LIMIT, "another CDI is exported: revoke it first")
        self._slot, self._digest = make(), digest
        self._handle = self.random(EXPORTED_CDI_SIZE)
        return self._handle

    def get(self, handle: bytes) -> Slot:
        """Return the CDI of a bearer handle; raises DpeError EXPORTED_CDI_INVALID_HANDLE."""
        if self._slot is None or not hmac.compare_digest(self._handle, handle):
            raise DpeError(Status.EXPORTED_CDI_INVALID_HANDLE, "no exported CDI has this handle")
        return self._slot

    def clear(self, crypto: RotCrypto, handle: bytes | None = None) -> None:
        """Wipe the CDI that a handle names, or whichever there is; raises as `get` does."""
        if handle is not None:
            self.get(handle)
        if self._slot is not None:
            crypto.erase(self._slot)
        self._slot, self._handle, self._digest = None, b"", b""


@dataclass(frozen=True, slots=True)
class DpeKeys:
    """What a DPE instance can derive: `cdi` is the runtime's, `alias` its signing key pair."""

    profile: Profile
    crypto: RotCrypto
    cdi: Slot
    alias: Slot
    exported: ExportedCdiSlot

    @property
    def alias_signer(self) -> Signer:
        """The runtime's alias key: the issuer of everything a DPE certifies."""
        return Signer(self.profile, self.crypto, self.alias)

    @contextlib.contextmanager
    def leaf(self, digest: bytes, label: bytes) -> Iterator[Signer]:
        """Give the key pair that a label selects in the context with this digest."""
        cdi = self._derive_cdi(digest, _CDI_INFO)
        try:
            with self._key(cdi, label, _KEY_INFO[self.profile]) as signer:
                yield signer
        finally:
            self.crypto.erase(cdi)

    def export(self, digest: bytes) -> bytes:
        """Export the CDI of the context with this digest; return its bearer handle (32 bytes)."""
        return self.exported.fill(digest, lambda: self._derive_cdi(digest, _EXPORTED_CDI_INFO))

    @contextlib.contextmanager
    def exported_signer(self, handle: bytes) -> Iterator[Signer]:
        """Give the key pair of an exported CDI; raises DpeError for a handle of none."""
        info = _EXPORTED_KEY_INFO[self.profile]
        with self._key(self.exported.get(handle), info, info) as signer:
            yield signer

    def _derive_cdi(self, digest: bytes, info: bytes) -> Slot:
        context = hashlib.sha384(digest + info).digest()
        return self.crypto.kdf(self.cdi, b"derive_cdi", context, bits=384)

    @contextlib.contextmanager
    def _key(self, cdi: Slot, label: bytes, info: bytes) -> Iterator[Signer]:
        seed = self.crypto.kdf(cdi, label, info, bits=384)
        try:
            if self.profile is Profile.P384_SHA384:
                key = self.crypto.ecc_key(seed)
            else:
                key = self.crypto.mldsa_key(seed)
        finally:
            self.crypto.erase(seed)
        try:
            yield Signer(self.profile, self.crypto, key)
        finally:
            self.crypto.erase(key)
