"""LMS against the vectors of its RFCs and against an independent implementation (pyhsslms)."""

from __future__ import annotations

import contextlib
import os
import random

import pyhsslms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.rot import lms

#: RFC 9858, appendix A.1: LMS_SHA256_M24_H5 with LMOTS_SHA256_N24_W8.
SEED_A1, IDENTIFIER_A1 = bytes(range(24)), bytes(range(0x20, 0x30))
ROOT_A1 = "2c571450aed99cfb4f4ac285da14882796618314508b12d2"
MESSAGE_A1 = b"Test message for SHA256-192\n"
SIGNATURE_A1 = bytes.fromhex(
    "00000005000000080b5040a18c1b5cabcbc85b047402ec6294a30dd8da8fc3dae13b9f0875f09361dc77fcc4481ea4"
    "63c073716249719193614b835b4694c059f12d3aedd34f3db93f3580fb88743b8b3d0648c0537b7a50e433d7ea9d66"
    "72fffc5f42770feab4f98eb3f3b23fd2061e4d0b38f832860ae76673ad1a1a52a9005dcf1bfb56fe16ff723627612f"
    "9a48f790f3c47a67f870b81e919d99919c8db48168838cece0abfb683da48b9209868be8ec10c63d8bf80d36498dfc"
    "205dc45d0dd870572d6d8f1d90177cf5137b8bbf7bcb67a46f86f26cfa5a44cbcaa4e18da099a98b0b3f96d5ac8ac3"
    "75d8da2a7c248004ba11d7ac775b9218359cddab4cf8ccc6d54cb7e1b35a36ddc9265c087063d2fc6742a717787647"
    "6a324b03295bfed99f2eaf1f38970583c1b2b616aad0f31cd7a4b1bb0a51e477e94a01bbb4d6f8866e2528a159df3d"
    "6ce244d2b6518d1f0212285a3c2d4a927054a1e1620b5b02aab0c8c10ed48ae518ea73cba81fcfff88bff461dac51e"
    "7ab4ca75f47a6259d24820b9995792d139f61ae2a8186ae4e3c9bfe0af2cc717f424f41aa67f03faedb0665115f206"
    "7a46843a4cbbd297d5e83bc1aafc18d1d03b3d894e8595a6526073f02ab0f08b99fd9eb208b59ff6317e5545e6f9ad"
    "5f9c183abd043d5acd6eb2dd4da3f02dbc3167b468720a4b8b92ddfe7960998bb7a0ecf2a26a37598299413f7b2aec"
    "d39a30cec527b4d9710c4473639022451f50d01c0457125da0fa4429c07dad859c846cbbd93ab5b91b01bc770b089c"
    "fede6f651e86dd7c15989c8b5321dea9ca608c71fd862323072b827cee7a7e28e4e2b999647233c3456944bb7aef91"
    "87c96b3f5b79fb98bc76c3574dd06f0e95685e5b3aef3a54c4155fe3ad817749629c30adbe897c4f4454c86c490000"
    "000ae9ca10eaa811b22ae07fb195e3590a334ea64209942fbae338d19f152182c807d3c40b189d3fcbea942f446824"
    "39b191332d33ae0b761a2a8f984b56b2ac2fd4ab08223a69ed1f7719c7aa7e9eee96504b0e60c6bb5c942d695f0493"
    "eb25f80a5871cffd131d0e04ffe5065bc7875e82d34b40b69dd9f3c1"
)
#: RFC 8554, appendix F, test case 2: LMS_SHA256_M32_H10 with LMOTS_SHA256_N32_W4.
SEED_F2 = bytes.fromhex("558b8966c48ae9cb898b423c83443aae014a72f1b1ab5cc85cf1d892903b5439")
IDENTIFIER_F2 = bytes.fromhex("d08fabd4a2091ff0a8cb4ed834e74534")
ROOT_F2 = "32a58885cd9ba0431235466bff9651c6c92124404d45fa53cf161c28f1ad5a8e"
OTS_SETS = {
    1: pyhsslms.lmots_sha256_n32_w1,
    2: pyhsslms.lmots_sha256_n32_w2,
    3: pyhsslms.lmots_sha256_n32_w4,
    4: pyhsslms.lmots_sha256_n32_w8,
    5: pyhsslms.lmots_sha256_n24_w1,
    6: pyhsslms.lmots_sha256_n24_w2,
    7: pyhsslms.lmots_sha256_n24_w4,
    8: pyhsslms.lmots_sha256_n24_w8,
}


def _public_a1() -> bytes:
    return lms.LmsPublicKey(
        lms.TREES[10], lms.OTS[8], IDENTIFIER_A1, bytes.fromhex(ROOT_A1)
    ).encode()


def test_trees_of_the_rfcs() -> None:
    nodes = lms.tree_nodes(SEED_A1, IDENTIFIER_A1, tree=lms.TREES[10], ots=lms.OTS[8])
    assert nodes[1].hex() == ROOT_A1
    nodes = lms.tree_nodes(SEED_F2, IDENTIFIER_F2, tree=lms.TREES[6], ots=lms.OTS[3])
    assert nodes[1].hex() == ROOT_F2


def test_the_signature_of_the_rfc_verifies() -> None:
    assert lms.verify(_public_a1(), MESSAGE_A1, SIGNATURE_A1)
    assert not lms.verify(_public_a1(), MESSAGE_A1 + b"!", SIGNATURE_A1)


def test_signing_with_the_rfcs_leaf_gives_the_rfcs_signature() -> None:
    read = lms.LmsSignature.decode(SIGNATURE_A1)
    nodes = lms.tree_nodes(SEED_A1, IDENTIFIER_A1, tree=lms.TREES[10], ots=lms.OTS[8])
    made = lms.sign_leaf(
        SEED_A1,
        IDENTIFIER_A1,
        read.leaf,
        MESSAGE_A1,
        path=lms.path_of(nodes, read.leaf),
        randomizer=read.randomizer,
        tree=lms.TREES[10],
        ots=lms.OTS[8],
    )
    assert made.encode() == SIGNATURE_A1


@pytest.mark.parametrize("code", OTS_SETS)
def test_each_set_against_an_independent_implementation(code: int) -> None:
    ots = lms.OTS[code]
    tree = lms.TREES[5 if ots.n == 32 else 10]
    theirs_tree = pyhsslms.lms_sha256_m32_h5 if ots.n == 32 else pyhsslms.lms_sha256_m24_h5
    seed, identifier = os.urandom(ots.n), os.urandom(16)
    theirs = pyhsslms.LmsPrivateKey(
        lms_type=theirs_tree, lmots_type=OTS_SETS[code], SEED=seed, I=identifier
    )
    public = theirs.publicKey().serialize()
    nodes = lms.tree_nodes(seed, identifier, tree=tree, ots=ots)
    assert lms.LmsPublicKey(tree, ots, identifier, nodes[1]).encode() == public
    message = os.urandom(40)
    signature = theirs.sign(message)
    assert lms.verify(public, message, signature)
    ours = lms.sign_leaf(
        seed,
        identifier,
        7,
        message,
        path=lms.path_of(nodes, 7),
        randomizer=os.urandom(ots.n),
        tree=tree,
        ots=ots,
    ).encode()
    assert pyhsslms.LmsPublicKey.deserialize(public).verify(message, ours)


def test_any_changed_bit_is_refused() -> None:
    rng = random.Random(4)
    for at in rng.sample(range(len(SIGNATURE_A1)), 200):
        changed = bytearray(SIGNATURE_A1)
        changed[at] ^= 1 << rng.randrange(8)
        with contextlib.suppress(lms.LmsError):
            assert not lms.verify(_public_a1(), MESSAGE_A1, bytes(changed)), at


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=900), st.integers(0, 1000))
def test_any_bytes_are_read_or_refused(data: bytes, cut: int) -> None:
    for attempt in (data, SIGNATURE_A1[:cut], SIGNATURE_A1[:cut] + data):
        if attempt == SIGNATURE_A1:
            continue
        for decode in (lms.LmsSignature.decode, lms.LmsPublicKey.decode):
            with contextlib.suppress(lms.LmsError):
                assert decode(attempt).encode() == attempt


def test_types_that_do_not_fit_are_refused() -> None:
    for at, value in ((0, 12), (0, 99), (4, 7), (4, 4), (4, 0)):
        public = bytearray(_public_a1())
        public[at : at + 4] = value.to_bytes(4, "big")
        with pytest.raises(lms.LmsError):
            lms.verify(bytes(public), MESSAGE_A1, SIGNATURE_A1)
    with pytest.raises(lms.LmsError, match="leaf 32 of a tree with 32"):
        lms.LmsSignature.decode((32).to_bytes(4, "big") + SIGNATURE_A1[4:])


def test_parameters_follow_from_hash_and_width() -> None:
    """RFC 8554, appendix B, computes the number of chains and the checksum's shift."""
    for ots in lms.OTS.values():
        u = -(-8 * ots.n // ots.w)
        v = -(-(((1 << ots.w) - 1) * u).bit_length() // ots.w)
        assert (ots.p, ots.checksum_shift) == (u + v, 16 - v * ots.w)
