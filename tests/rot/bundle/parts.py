"""Keys, bundles and fuses for the tests of bundles; every key is made when the tests run."""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, mldsa

from casemate.formats import firmware_bundle as fb
from casemate.rot import lms
from casemate.rot.bundle import build
from casemate.rot.bundle.signers import Algorithm, EcdsaSigner, MldsaSigner, Signer
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse

LMS, MLDSA = PqcKeyType.LMS, PqcKeyType.MLDSA
BOTH = (LMS, MLDSA)


def small_tree(
    seed: bytes, identifier: bytes, *, leaves: int = 16, **_ignored: object
) -> list[bytes]:
    """A tree of the full height in which the first leaves are real and the rest are filler."""
    real = [
        lms.leaf_node(seed, identifier, leaf, tree=lms.TREE_M24_H15, ots=lms.OTS_N24_W4)
        for leaf in range(leaves)
    ]
    return lms.join_nodes(identifier, real + [b"filler".ljust(24)] * (32768 - leaves))


class TreeSigner:
    """An LMS signer in memory with a few real leaves, used round and round: for tests only."""

    algorithm = Algorithm.LMS

    def __init__(self, leaves: int = 4) -> None:
        self._seed, self._identifier = os.urandom(24), os.urandom(16)
        nodes = small_tree(self._seed, self._identifier, leaves=leaves)
        self._paths = [lms.path_of(nodes, leaf) for leaf in range(leaves)]
        self._count = 0
        self.public_key = lms.LmsPublicKey(
            lms.TREE_M24_H15, lms.OTS_N24_W4, self._identifier, nodes[1]
        ).encode()

    def sign(self, message: bytes) -> bytes:
        leaf = self._count % len(self._paths)
        self._count += 1
        return lms.sign_leaf(
            self._seed,
            self._identifier,
            leaf,
            message,
            path=self._paths[leaf],
            randomizer=os.urandom(24),
        ).encode()


def pqc_signer(kind: PqcKeyType) -> Signer:
    return TreeSigner() if kind is LMS else MldsaSigner(mldsa.MLDSA87PrivateKey.generate())


def ecc_signer() -> EcdsaSigner:
    return EcdsaSigner(ec.generate_private_key(ec.SECP384R1()))


@dataclass(frozen=True)
class Parties:
    """A vendor with four keys of each kind and an owner."""

    kind: PqcKeyType
    vendor_ecc: tuple[Signer, ...]
    vendor_pqc: tuple[Signer, ...]
    owner_ecc: Signer
    owner_pqc: Signer

    def vendor_keys(self, ecc_index: int = 0, pqc_index: int = 0) -> build.VendorKeys:
        return build.VendorKeys(
            ecc=tuple(signer.public_key for signer in self.vendor_ecc),
            pqc=tuple(signer.public_key for signer in self.vendor_pqc),
            pqc_key_type=self.kind,
            ecc_index=ecc_index,
            pqc_index=pqc_index,
        )


@functools.cache
def parties(kind: PqcKeyType) -> Parties:
    return Parties(
        kind,
        tuple(ecc_signer() for _ in range(4)),
        tuple(pqc_signer(kind) for _ in range(4)),
        ecc_signer(),
        pqc_signer(kind),
    )


FMC = build.Executable(
    content=bytes(range(256)) * 4, load_addr=0x40000000, entry_point=0x40000010, version=0x1234
)
RUNTIME = build.Executable(
    content=b"runtime!" * 100, load_addr=0x40005000, entry_point=0x40005000, version=0x5678
)


def make(
    kind: PqcKeyType,
    *,
    fmc: build.Executable = FMC,
    runtime: build.Executable = RUNTIME,
    ecc_index: int = 0,
    pqc_index: int = 0,
    svn: int = 5,
) -> bytes:
    """A good bundle, made as a vendor and an owner would."""
    who = parties(kind)
    unsigned = build.build(fmc, runtime, who.vendor_keys(ecc_index, pqc_index), svn=svn)
    vendor_signed = build.sign_as_vendor(
        unsigned, who.vendor_ecc[ecc_index], who.vendor_pqc[pqc_index]
    )
    return build.sign_as_owner(vendor_signed, who.owner_ecc, who.owner_pqc)


@functools.cache
def good(kind: PqcKeyType) -> bytes:
    return make(kind)


def fuses_for(bundle: bytes, **changes: Any) -> Fuses:
    """Production fuses with both hashes of a bundle and SVN 3."""
    values: dict[str, Any] = {
        "vendor_pk_hash": hashlib.sha384(fb.LAYOUT["vendor_key_info"].of(bundle)).digest(),
        "owner_pk_hash": hashlib.sha384(fb.OWNER_KEYS.of(bundle)).digest(),
        "pqc_key_type": PqcKeyType(bundle[8]) if bundle[8] in (1, 3) else MLDSA,
        "lifecycle": Lifecycle.PRODUCTION,
        "firmware_svn_fuse": svn_fuse(3),
    }
    return Fuses(**(values | changes))


def forge(
    kind: PqcKeyType,
    *,
    header: dict[str, Any] | None = None,
    fmc: dict[str, Any] | None = None,
    runtime: dict[str, Any] | None = None,
    contents: bytes | None = None,
    seal_toc: bool = True,
    **manifest: Any,
) -> bytes:
    """A bundle with any field changed and then signed: what only key holders can make."""
    base = fb.Manifest.decode(good(kind))
    changed = replace(base, **manifest)
    changed = replace(changed, fmc=replace(changed.fmc, **(fmc or {})))
    changed = replace(changed, runtime=replace(changed.runtime, **(runtime or {})))
    changed_header = replace(changed.header, **(header or {}))
    if seal_toc:
        toc = hashlib.sha384(changed.fmc.encode() + changed.runtime.encode()).digest()
        changed_header = replace(changed_header, toc_digest=toc)
    changed = replace(changed, header=changed_header)
    who = parties(kind)
    raw = changed_header.encode()
    vendor = build._signatures(raw[:120], who.vendor_ecc[0], who.vendor_pqc[0])
    owner = build._signatures(raw, who.owner_ecc, who.owner_pqc)
    changed = replace(changed, vendor_signatures=vendor, owner_signatures=owner)
    return changed.encode() + (good(kind)[fb.MANIFEST_SIZE :] if contents is None else contents)


def patch(bundle: bytes, offset: int, value: bytes) -> bytes:
    """A bundle with bytes changed and nothing signed again."""
    return bundle[:offset] + value + bundle[offset + len(value) :]


def flip(bundle: bytes, offset: int, mask: int = 1) -> bytes:
    return patch(bundle, offset, bytes((bundle[offset] ^ mask,)))
