"""A second derivation of keys, CDIs and PCRs, kept apart from the product's code on purpose.

Written from the public description of the flow with the standard library, a textbook P-384 and
`cryptography`'s ML-DSA key generation; it imports nothing of Casemate's and must stay so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac as std_hmac

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

# P-384: y^2 = x^3 - 3x + b over GF(p), group order n, base point (gx, gy) (SP 800-186, 3.2.1.4).
P = 2**384 - 2**128 - 2**96 + 2**32 - 1
N = int(
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
    "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
    16,
)
GX = int(
    "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B98"
    "59F741E082542A385502F25DBF55296C3A545E3872760AB7",
    16,
)
GY = int(
    "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147C"
    "E9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F",
    16,
)

Jacobian = tuple[int, int, int]


def _double(point: Jacobian) -> Jacobian:
    x, y, z = point
    if not y:
        return (1, 1, 0)
    ysq = y * y % P
    s = 4 * x * ysq % P
    m = 3 * (x - z * z) * (x + z * z) % P
    nx = (m * m - 2 * s) % P
    return nx, (m * (s - nx) - 8 * ysq * ysq) % P, 2 * y * z % P


def _add(a: Jacobian, b: Jacobian) -> Jacobian:
    if not a[2]:
        return b
    if not b[2]:
        return a
    za, zb = a[2] * a[2] % P, b[2] * b[2] % P
    ua, ub = a[0] * zb % P, b[0] * za % P
    sa, sb = a[1] * b[2] * zb % P, b[1] * a[2] * za % P
    if ua == ub:
        return _double(a) if sa == sb else (1, 1, 0)
    h, r = (ub - ua) % P, (sb - sa) % P
    hh = h * h % P
    hhh, v = h * hh % P, ua * hh % P
    x = (r * r - hhh - 2 * v) % P
    return x, (r * (v - x) - sa * hhh) % P, h * a[2] * b[2] % P


def _base_table() -> list[list[Jacobian]]:
    """For each hexadecimal digit of a scalar: 0 to 15 times the base point at that place."""
    table: list[list[Jacobian]] = []
    step: Jacobian = (GX, GY, 1)
    for _ in range(96):
        row: list[Jacobian] = [(1, 1, 0)]
        for _ in range(15):
            row.append(_add(row[-1], step))
        table.append(row)
        step = _add(row[-1], step)
    return table


_TABLE = _base_table()


def p384_public(scalar: int) -> bytes:
    total: Jacobian = (1, 1, 0)
    for row in _TABLE:
        total = _add(total, row[scalar & 15])
        scalar >>= 4
    inverse = pow(total[2], -1, P)
    x, y = total[0] * inverse**2 % P, total[1] * inverse**3 % P
    return b"\x04" + x.to_bytes(48, "big") + y.to_bytes(48, "big")


def h512(key: bytes, message: bytes) -> bytes:
    return std_hmac.new(key, message, hashlib.sha512).digest()


def kdf512(key: bytes, label: str, ctx: bytes | None = None) -> bytes:
    fixed = (1).to_bytes(4, "big") + label.encode()
    if ctx is not None:
        fixed = fixed + b"\x00" + ctx
    return h512(key, fixed)


def drbg_scalar(entropy: bytes) -> int:
    def mac(k: bytes, m: bytes) -> bytes:
        return std_hmac.new(k, m, hashlib.sha384).digest()

    provided = entropy + b"\x00" * 48
    k, v = b"\x00" * 48, b"\x01" * 48
    k = mac(k, v + b"\x00" + provided)
    v = mac(k, v)
    k = mac(k, v + b"\x01" + provided)
    v = mac(k, v)
    for _ in range(100):
        v = mac(k, v)
        candidate = int.from_bytes(v, "big")
        if 1 <= candidate <= N - 1:
            return candidate
        k = mac(k, v + b"\x00")
        v = mac(k, v)
    raise AssertionError("no candidate in 100 outputs")


@dataclasses.dataclass
class Keys:
    cdi: bytes
    ecc_scalar: int
    ecc_public: bytes
    mldsa_seed: bytes
    mldsa_public: bytes


def keys_of(cdi: bytes, layer: str) -> Keys:
    scalar = drbg_scalar(kdf512(cdi, layer + "_ecc_key")[:48])
    seed = bytes(reversed(kdf512(cdi, layer + "_mldsa_key")[:32]))
    public = MLDSA87PrivateKey.from_seed_bytes(seed).public_key()
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return Keys(cdi, scalar, p384_public(scalar), seed, raw)


def unscramble(obfuscation_key: bytes, seed: bytes) -> bytes:
    iv = b"".join(w.to_bytes(4, "big") for w in (0xFB10365B, 0xA1179741, 0xFBA193A1, 0x0F406D7E))
    context = Cipher(algorithms.AES256(obfuscation_key), modes.CBC(iv)).decryptor()
    return context.update(seed) + context.finalize()


@dataclasses.dataclass
class Device:
    """What is derived from one set of fuses and one firmware; names follow the description."""

    obfuscation_key: bytes
    uds_seed: bytes
    field_entropy: bytes
    debug_locked: bool
    lifecycle: int
    vendor_pk_hash: bytes
    owner_fuse: bytes
    ecc_revocation: int
    lms_revocation: int
    mldsa_revocation: int
    anti_rollback_disable: bool
    fw_fuse_svn: int
    soc_manifest_svn: int
    soc_max_svn: int
    pqc_type: int
    subsystem_mode: bool
    # the firmware
    fmc_digest: bytes
    rt_digest: bytes
    svn: int
    owner_pk_hash: bytes
    ecc_index: int
    pqc_index: int
    # the ROM
    old_rom: bool

    def status(self) -> bytes:
        out = bytearray()
        out.append(1 if any(self.owner_fuse) else 0)
        out.append(1 if self.anti_rollback_disable else 0)
        out.append(self.ecc_revocation)
        out += self.lms_revocation.to_bytes(4, "little")
        out.append(self.mldsa_revocation)
        out += bytes([self.fw_fuse_svn, self.soc_manifest_svn, self.soc_max_svn])
        out += bytes([self.pqc_type, self.lifecycle, 1 if self.debug_locked else 0])
        out += bytes([self.svn, self.ecc_index, self.pqc_index])
        if not self.old_rom:
            out.append(1 if self.subsystem_mode else 0)
        return bytes(out)

    def pcr0(self) -> bytes:
        value = b"\x00" * 48
        for item in (self.status(), self.vendor_pk_hash, self.owner_pk_hash, self.fmc_digest):
            value = hashlib.sha384(value + item).digest()
        return value

    def pcr2(self) -> bytes:
        return hashlib.sha384(b"\x00" * 48 + self.rt_digest).digest()

    def derive(self) -> dict[str, Keys]:
        if self.debug_locked:
            obf, seed, entropy = self.obfuscation_key, self.uds_seed, self.field_entropy
        else:
            obf, seed, entropy = b"\xff" * 32, b"\xff" * 64, b"\xff" * 32
        uds, fe = unscramble(obf, seed), unscramble(obf, entropy)
        idevid = keys_of(kdf512(uds, "idevid_cdi"), "idevid")
        ldevid = keys_of(h512(h512(idevid.cdi, b"ldevid_cdi"), fe), "ldevid")
        fmc = keys_of(kdf512(ldevid.cdi, "alias_fmc_cdi", self.pcr0()), "alias_fmc")
        rt = keys_of(kdf512(fmc.cdi, "alias_rt_cdi", self.rt_digest), "alias_rt")
        return {"idevid": idevid, "ldevid": ldevid, "fmc_alias": fmc, "rt_alias": rt}

    def firmware_secret(self, target: int, context: bytes) -> bytes:
        ldevid = self.derive()["ldevid"]
        link = kdf512(ldevid.cdi, "si_init", bytes([self.lifecycle, int(self.debug_locked)]))
        for _ in range(128 - target):
            link = kdf512(link, "si_extend")
        return kdf512(link, "chain_output", context)
