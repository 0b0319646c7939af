"""The DICE ladder and the key ladders beside it: which secret comes from which, by what label.

Layers: UDS -> IDevID -> LDevID (with field entropy) -> FMC alias (with PCR 0) -> RT alias (with
the RT digest). Each layer has a CDI and, from it, one P-384 and one ML-DSA-87 key pair.

Beside them, from the LDevID CDI: the firmware key ladder (128 - SVN steps, so that a newer
firmware can reach an older one's secret and never the reverse), the stable identity roots, and
this project's sealing ladder, which is the same shape with labels of its own, bound also to the
owner and counted by the SoC manifest's SVN.

Sources: caliptra-sw rom/dev/src/flow/cold_reset, fmc/src/flow/rt_alias.rs,
rom/dev/src/key_ladder.rs and runtime/src/key_ladder.rs.
"""

from __future__ import annotations

from dataclasses import dataclass

from casemate.rot.crypto import RotCrypto, Slot
from casemate.rot.errors import KeyVaultError
from casemate.rot.fuses import SVN_BITS, Fuses

#: What a chip's fuses read as once debug is open.
_ALL_ONES = b"\xff"


@dataclass(frozen=True, slots=True)
class Layer:
    """One DICE layer: the slots of its CDI and keys, and the public keys (97 and 2592 bytes)."""

    cdi: Slot
    ecc_key: Slot
    mldsa_key: Slot
    ecc_public: bytes
    mldsa_public: bytes


def deobfuscate(crypto: RotCrypto, fuses: Fuses) -> tuple[Slot, Slot]:
    """UDS and field entropy in slots. With debug open both are those of all-ones fuses."""
    if fuses.debug_locked:
        uds, entropy = fuses.uds_seed, fuses.field_entropy
    else:
        uds, entropy = _ALL_ONES * 64, _ALL_ONES * 32
    return (
        crypto.deobfuscate(uds, debug_locked=fuses.debug_locked),
        crypto.deobfuscate(entropy, debug_locked=fuses.debug_locked),
    )


def _layer(crypto: RotCrypto, cdi: Slot, label: bytes) -> Layer:
    ecc_seed = crypto.kdf(cdi, label + b"_ecc_key")
    mldsa_seed = crypto.kdf(cdi, label + b"_mldsa_key")
    ecc, mldsa = crypto.ecc_key(ecc_seed), crypto.mldsa_key(mldsa_seed)
    crypto.erase(ecc_seed, mldsa_seed)
    return Layer(cdi, ecc, mldsa, crypto.public_key(ecc), crypto.public_key(mldsa))


def idevid(crypto: RotCrypto, uds: Slot) -> Layer:
    """The initial device identity."""
    return _layer(crypto, crypto.kdf(uds, b"idevid_cdi"), b"idevid")


def ldevid(crypto: RotCrypto, idevid_cdi: Slot, field_entropy: Slot) -> Layer:
    """The local device identity: it changes when the owner programs field entropy."""
    step = crypto.hmac(idevid_cdi, b"ldevid_cdi")
    cdi = crypto.hmac_slot(step, field_entropy)
    crypto.erase(step)
    return _layer(crypto, cdi, b"ldevid")


def fmc_alias(crypto: RotCrypto, ldevid_cdi: Slot, pcr0: bytes) -> Layer:
    """The first mutable code's identity, from PCR 0 (48 bytes)."""
    return _layer(crypto, crypto.kdf(ldevid_cdi, b"alias_fmc_cdi", pcr0), b"alias_fmc")


def rt_alias(crypto: RotCrypto, fmc_cdi: Slot, rt_digest: bytes) -> Layer:
    """The runtime firmware's identity, from its digest (48 bytes)."""
    return _layer(crypto, crypto.kdf(fmc_cdi, b"alias_rt_cdi", rt_digest), b"alias_rt")


def stable_roots(crypto: RotCrypto, idevid_cdi: Slot, ldevid_cdi: Slot) -> tuple[Slot, Slot]:
    """The roots of stable keys: under the IDevID, and under the LDevID.

    Keys below them depend on no firmware and no SVN.
    """
    return (
        crypto.kdf(idevid_cdi, b"stable_identity_root_idev"),
        crypto.kdf(ldevid_cdi, b"stable_identity_root_ldev"),
    )


class KeyLadder:
    """A chain of KDF steps whose length falls as the SVN rises.

    The slot stands at the smallest SVN since the cold boot. A lower SVN is reached by more steps,
    a higher one by none: that would need the start, which is erased.
    """

    def __init__(
        self, crypto: RotCrypto, start: Slot, svn: int, *, extend: bytes, output: bytes
    ) -> None:
        """Take the start slot (it is erased) and walk to `svn` (0 to 128)."""
        self._crypto = crypto
        self._extend, self._output = extend, output
        self._svn = _svn(svn)
        self._slot = crypto.kdf_chain(start, extend, SVN_BITS - svn)
        crypto.erase(start)

    @property
    def svn(self) -> int:
        """The smallest SVN since the cold boot: the highest that can be a target."""
        return self._svn

    def lower(self, svn: int) -> None:
        """Note that firmware of this SVN runs now; a higher one changes nothing."""
        if 0 <= svn < self._svn:
            slot = self._crypto.kdf_chain(self._slot, self._extend, self._svn - svn)
            self._crypto.erase(self._slot)
            self._slot, self._svn = slot, svn

    def derive(self, target_svn: int, context: bytes) -> Slot:
        """The secret that firmware of `target_svn` and newer can reach, for a context.

        Raises KeyVaultError if the target is above the smallest SVN since the cold boot.
        """
        if _svn(target_svn) > self._svn:
            raise KeyVaultError(
                f"the key ladder stands at SVN {self._svn}; SVN {target_svn} is out of reach "
                "(code 0x000E0056)"
            )
        slot = self._crypto.kdf_chain(self._slot, self._extend, self._svn - target_svn)
        secret = self._crypto.kdf(slot, self._output, context)
        self._crypto.erase(slot)
        return secret

    def erase(self) -> None:
        """Wipe the ladder's slot: nothing can be derived any more."""
        self._crypto.erase(self._slot)


def firmware_ladder(crypto: RotCrypto, ldevid_cdi: Slot, fuses: Fuses, svn: int) -> KeyLadder:
    """Caliptra's firmware key ladder: bound to lifecycle and debug state, not to the owner."""
    start = crypto.kdf(ldevid_cdi, b"si_init", _state(fuses))
    return KeyLadder(crypto, start, svn, extend=b"si_extend", output=b"chain_output")


def sealing_start(crypto: RotCrypto, ldevid_cdi: Slot, fuses: Fuses, owner_pk_hash: bytes) -> Slot:
    """Where this project's sealing ladder starts: bound to lifecycle, debug state and owner."""
    return crypto.kdf(ldevid_cdi, b"casemate_seal_init", _state(fuses) + owner_pk_hash)


def sealing_ladder(crypto: RotCrypto, start: Slot, soc_manifest_svn: int) -> KeyLadder:
    """The sealing ladder, once the SoC manifest and with it the SVN is known."""
    return KeyLadder(
        crypto,
        start,
        soc_manifest_svn,
        extend=b"casemate_seal_extend",
        output=b"casemate_seal_output",
    )


def _state(fuses: Fuses) -> bytes:
    return bytes((fuses.lifecycle, fuses.debug_locked))


def _svn(svn: int) -> int:
    if not 0 <= svn <= SVN_BITS:
        raise KeyVaultError(f"SVN: expected 0 to {SVN_BITS}, found {svn}")
    return svn
