"""LMS hash-based signatures over SHA-256 and SHA-256/192: trees, signing, verification.

Sources: RFC 8554 (sections 4 and 5), RFC 9858 and NIST SP 800-208 for the 192-bit sets; secrets
come from a seed as in RFC 8554, appendix A. Bundles use `LMS_SHA256_M24_H15` over
`LMOTS_SHA256_N24_W4`.

Each leaf signs once. Nothing here remembers which leaves were used: `casemate.rot.lms_key` does,
and no other code may call `sign_leaf` with a key that signs anything of value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_D_PBLC = b"\x80\x80"
_D_MESG = b"\x81\x81"
_D_LEAF = b"\x82\x82"
_D_INTR = b"\x83\x83"
_BYTE = [bytes((value,)) for value in range(256)]
_U16 = [value.to_bytes(2, "big") for value in range(300)]
IDENTIFIER_SIZE = 16


class LmsError(ValueError):
    """A key or signature that cannot be of its algorithm: which field, expected, found."""


@dataclass(frozen=True, slots=True)
class OtsParameters:
    """One LM-OTS parameter set: hash size `n` and Winternitz width `w` in bits, `p` chains."""

    code: int
    n: int
    w: int
    p: int
    checksum_shift: int

    @property
    def signature_size(self) -> int:
        """Bytes of a one-time signature: type, randomizer, chains."""
        return 4 + self.n * (self.p + 1)


@dataclass(frozen=True, slots=True)
class TreeParameters:
    """One LMS parameter set: node size `m` in bytes and height `h`."""

    code: int
    m: int
    h: int


OTS = {
    parameters.code: parameters
    for parameters in (
        OtsParameters(1, 32, 1, 265, 7),
        OtsParameters(2, 32, 2, 133, 6),
        OtsParameters(3, 32, 4, 67, 4),
        OtsParameters(4, 32, 8, 34, 0),
        OtsParameters(5, 24, 1, 200, 8),
        OtsParameters(6, 24, 2, 101, 6),
        OtsParameters(7, 24, 4, 51, 4),
        OtsParameters(8, 24, 8, 26, 0),
    )
}
TREES = {
    code: TreeParameters(code, m, h)
    for first, m in ((5, 32), (10, 24))
    for code, h in enumerate((5, 10, 15, 20, 25), first)
}
#: The sets of a firmware bundle.
OTS_N24_W4 = OTS[7]
TREE_M24_H15 = TREES[12]


def _lookup_ots(code: int) -> OtsParameters:
    if code not in OTS:
        raise LmsError(f"LM-OTS type: expected one of {sorted(OTS)}, found {code}")
    return OTS[code]


def _lookup_tree(code: int) -> TreeParameters:
    if code not in TREES:
        raise LmsError(f"LMS type: expected one of {sorted(TREES)}, found {code}")
    return TREES[code]


@dataclass(frozen=True, slots=True)
class LmsPublicKey:
    """A tree's public key: its sets, its 16-byte identifier, its root."""

    tree: TreeParameters
    ots: OtsParameters
    identifier: bytes
    root: bytes

    def encode(self) -> bytes:
        """The key as RFC 8554 writes it (48 bytes for 192-bit sets)."""
        types = self.tree.code.to_bytes(4, "big") + self.ots.code.to_bytes(4, "big")
        return types + self.identifier + self.root

    @classmethod
    def decode(cls, data: bytes) -> LmsPublicKey:
        """Read a key that fills `data`. Raises LmsError."""
        if len(data) < 24:
            raise LmsError(f"LMS public key: expected at least 24 bytes, found {len(data)}")
        tree = _lookup_tree(int.from_bytes(data[:4], "big"))
        ots = _lookup_ots(int.from_bytes(data[4:8], "big"))
        if tree.m != ots.n:
            raise LmsError(f"LMS public key: nodes of {tree.m} bytes over chains of {ots.n}")
        if len(data) != 24 + tree.m:
            raise LmsError(f"LMS public key: expected {24 + tree.m} bytes, found {len(data)}")
        return cls(tree, ots, data[8:24], data[24:])


@dataclass(frozen=True, slots=True)
class LmsSignature:
    """One signature: leaf number, one-time signature, path of nodes from leaf to root."""

    leaf: int
    ots: OtsParameters
    randomizer: bytes
    chains: tuple[bytes, ...]
    tree: TreeParameters
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The signature as RFC 8554 writes it."""
        return b"".join(
            (
                self.leaf.to_bytes(4, "big"),
                self.ots.code.to_bytes(4, "big"),
                self.randomizer,
                *self.chains,
                self.tree.code.to_bytes(4, "big"),
                *self.path,
            )
        )

    @classmethod
    def decode(cls, data: bytes, *, node_size: int | None = None) -> LmsSignature:
        """Read a signature that fills `data`. Raises LmsError.

        `node_size` overrides the size of the path's nodes that the signature's own type gives
        (see `verify`).
        """
        if len(data) < 8:
            raise LmsError(f"LMS signature: expected at least 8 bytes, found {len(data)}")
        ots = _lookup_ots(int.from_bytes(data[4:8], "big"))
        after = 4 + ots.signature_size
        if len(data) < after + 4:
            raise LmsError(f"LMS signature: expected at least {after + 4} bytes, found {len(data)}")
        tree = _lookup_tree(int.from_bytes(data[after : after + 4], "big"))
        size = tree.m if node_size is None else node_size
        end = after + 4 + size * tree.h
        if len(data) != end:
            raise LmsError(f"LMS signature: expected {end} bytes, found {len(data)}")
        leaf = int.from_bytes(data[:4], "big")
        if leaf >= 1 << tree.h:
            raise LmsError(f"LMS signature: leaf {leaf} of a tree with {1 << tree.h}")
        n = ots.n
        return cls(
            leaf,
            ots,
            data[8 : 8 + n],
            tuple(data[at : at + n] for at in range(8 + n, after, n)),
            tree,
            tuple(data[at : at + size] for at in range(after + 4, end, size)),
        )


def _digits(digest: bytes, ots: OtsParameters) -> list[int]:
    """The base-2^w digits of the message digest and of its checksum, one for each chain."""
    mask = (1 << ots.w) - 1

    def split(data: bytes) -> list[int]:
        return [byte >> shift & mask for byte in data for shift in range(8 - ots.w, -1, -ots.w)]

    digits = split(digest)
    checksum = sum(mask - digit for digit in digits) << ots.checksum_shift
    return (digits + split(checksum.to_bytes(2, "big")))[: ots.p]


def _message_digest(
    identifier: bytes, leaf: int, randomizer: bytes, message: bytes, n: int
) -> bytes:
    prefix = identifier + leaf.to_bytes(4, "big") + _D_MESG + randomizer
    return hashlib.sha256(prefix + message).digest()[:n]


def _chain(prefix: bytes, value: bytes, first: int, last: int, n: int) -> bytes:
    """Apply the chain function from step `first` up to, not including, `last`."""
    sha256 = hashlib.sha256
    for step in range(first, last):
        value = sha256(prefix + _BYTE[step] + value).digest()[:n]
    return value


def _secret(identifier: bytes, leaf: bytes, chain: int, seed: bytes, n: int) -> bytes:
    return hashlib.sha256(identifier + leaf + _U16[chain] + b"\xff" + seed).digest()[:n]


def _node(identifier: bytes, number: int, left: bytes, right: bytes) -> bytes:
    prefix = identifier + number.to_bytes(4, "big") + _D_INTR
    return hashlib.sha256(prefix + left + right).digest()[: len(left)]


def _leaf_node(identifier: bytes, number: int, ots_key: bytes) -> bytes:
    prefix = identifier + number.to_bytes(4, "big") + _D_LEAF
    return hashlib.sha256(prefix + ots_key).digest()[: len(ots_key)]


def _ots_key(identifier: bytes, leaf: bytes, ends: Iterable[bytes], n: int) -> bytes:
    return hashlib.sha256(identifier + leaf + _D_PBLC + b"".join(ends)).digest()[:n]


def leaf_node(
    seed: bytes, identifier: bytes, leaf: int, *, tree: TreeParameters, ots: OtsParameters
) -> bytes:
    """The bottom node of one leaf: the hash of its one-time public key (p * (2^w - 1) hashes)."""
    number = leaf.to_bytes(4, "big")
    steps = (1 << ots.w) - 1
    n = ots.n
    ends = [
        _chain(
            identifier + number + _U16[at], _secret(identifier, number, at, seed, n), 0, steps, n
        )
        for at in range(ots.p)
    ]
    return _leaf_node(identifier, (1 << tree.h) + leaf, _ots_key(identifier, number, ends, n))


def join_nodes(identifier: bytes, leaves: list[bytes]) -> list[bytes]:
    """All nodes of a tree from its leaf nodes: index 1 is the root, index 0 is empty."""
    count = len(leaves)
    nodes = [b""] * count + leaves
    for number in range(count - 1, 0, -1):
        nodes[number] = _node(identifier, number, nodes[2 * number], nodes[2 * number + 1])
    return nodes


def tree_nodes(
    seed: bytes,
    identifier: bytes,
    *,
    tree: TreeParameters = TREE_M24_H15,
    ots: OtsParameters = OTS_N24_W4,
    progress: Callable[[int], None] = lambda _: None,
) -> list[bytes]:
    """Generate a whole tree from a seed of n bytes; `progress` hears the number of leaves done.

    A bundle's tree has 32,768 leaves and takes about 25 million hashes.
    """
    _check_seed(seed, identifier, ots)
    leaves = []
    for leaf in range(1 << tree.h):
        leaves.append(leaf_node(seed, identifier, leaf, tree=tree, ots=ots))
        if leaf % 256 == 255:
            progress(leaf + 1)
    return join_nodes(identifier, leaves)


def _check_seed(seed: bytes, identifier: bytes, ots: OtsParameters) -> None:
    if len(seed) != ots.n:
        raise LmsError(f"LMS seed: expected {ots.n} bytes, found {len(seed)}")
    if len(identifier) != IDENTIFIER_SIZE:
        raise LmsError(f"LMS identifier: expected {IDENTIFIER_SIZE} bytes, found {len(identifier)}")


def path_of(nodes: list[bytes], leaf: int) -> tuple[bytes, ...]:
    """The sibling nodes from a leaf to the root."""
    number = len(nodes) // 2 + leaf
    path = []
    while number > 1:
        path.append(nodes[number ^ 1])
        number >>= 1
    return tuple(path)


def sign_leaf(
    seed: bytes,
    identifier: bytes,
    leaf: int,
    message: bytes,
    *,
    path: tuple[bytes, ...],
    randomizer: bytes,
    tree: TreeParameters = TREE_M24_H15,
    ots: OtsParameters = OTS_N24_W4,
) -> LmsSignature:
    """Sign with one leaf. A second message under the same leaf gives forgers the key.

    `randomizer` is n random bytes that nobody could know before the message was fixed.
    """
    _check_seed(seed, identifier, ots)
    if len(randomizer) != ots.n:
        raise LmsError(f"LMS randomizer: expected {ots.n} bytes, found {len(randomizer)}")
    digest = _message_digest(identifier, leaf, randomizer, message, ots.n)
    number = leaf.to_bytes(4, "big")
    chains = tuple(
        _chain(
            identifier + number + _U16[at],
            _secret(identifier, number, at, seed, ots.n),
            0,
            digit,
            ots.n,
        )
        for at, digit in enumerate(_digits(digest, ots))
    )
    return LmsSignature(leaf, ots, randomizer, chains, tree, path)


def root_of(key: LmsPublicKey, message: bytes, signature: LmsSignature) -> bytes:
    """The root that message and signature lead to; the signature is good if it is the key's."""
    ots = key.ots
    n = ots.n
    identifier = key.identifier
    leaf = signature.leaf.to_bytes(4, "big")
    digest = _message_digest(identifier, signature.leaf, signature.randomizer, message, n)
    steps = (1 << ots.w) - 1
    ends = [
        _chain(identifier + leaf + _U16[at], value, digit, steps, n)
        for at, (digit, value) in enumerate(
            zip(_digits(digest, ots), signature.chains, strict=True)
        )
    ]
    number = (1 << signature.tree.h) + signature.leaf
    node = _leaf_node(identifier, number, _ots_key(identifier, leaf, ends, n))
    for sibling in signature.path:
        left, right = (sibling, node) if number & 1 else (node, sibling)
        number >>= 1
        node = _node(identifier, number, left, right)
    return node


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an RFC 8554 signature over `message` is good under an RFC 8554 public key.

    Raises LmsError if key or signature are not of the sets they name, or of different ones.
    """
    key = LmsPublicKey.decode(public_key)
    read = LmsSignature.decode(signature)
    if read.ots != key.ots:
        raise LmsError(f"LM-OTS type: the key's is {key.ots.code}, the signature's {read.ots.code}")
    if read.tree != key.tree:
        raise LmsError(f"LMS type: the key's is {key.tree.code}, the signature's {read.tree.code}")
    return root_of(key, message, read) == key.root
