"""Hostile bytes: whatever stands in evidence ends in its own error, never in another exception."""

from __future__ import annotations

from functools import cache
from typing import Any

import cbor2
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Piece, Quirk
from casemate.attestation.evidence.registry import families, select
from casemate.formats import cbor, cose, eat, pcr_quote
from casemate.formats.cbor import Tag
from casemate.rot.identity import Algorithm
from tests.attestation import forgery, hosts

CLAIMS = (
    eat.ISSUER,
    eat.CWT_ID,
    eat.NONCE,
    eat.UEID,
    eat.DEBUG_STATUS,
    eat.PROFILE,
    eat.MEASUREMENTS,
    eat.PCR_QUOTE,
    eat.PCR_LOG,
    eat.DEVICE_STATUS_SIZE,
    eat.KEY_REPORT,
    eat.PARTITION_CHAIN,
    eat.ANCHOR,
)
SCALARS = st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary() | st.text()
KEYS = st.integers(-300, 300) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.builds(Tag, st.integers(0, 600), inner)
    ),
    max_leaves=8,
)


def attempt(*pieces: bytes) -> None:
    """Verify with every quirk on; only the two errors of the contract may come out."""
    context = hosts.context(quirks=frozenset(Quirk))
    try:
        for selection in select([Piece(data) for data in pieces], families()):
            selection.family.verify(selection.pieces, context)
    except (EvidenceError, InfrastructureError):
        return


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(CLAIMS), VALUES, min_size=1, max_size=3))
def test_any_claims_under_a_good_signature(claims: dict[int, Any]) -> None:
    attempt(forgery.token(claims=claims))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from((1, 3, 4, 33)), VALUES, max_size=3))
def test_any_headers_under_a_good_signature(headers: dict[int | str, Any]) -> None:
    attempt(forgery.token(headers=headers))


@cache
def whole() -> tuple[bytes, ...]:
    host = hosts.boot(1)
    partition = host.partition()
    return (
        host.token_with_key(partition),
        host.token(Algorithm.MLDSA),
        partition.report(hosts.NONCE),
        b"".join(partition.chain),
        pcr_quote.encode(host.attester.quote(Algorithm.ECC, hosts.NONCE)),
        host.attester.log(),
    )


@settings(max_examples=200)
@given(data=st.data())
def test_pieces_cut_doubled_and_overwritten(data: st.DataObject) -> None:
    good = data.draw(st.sampled_from(whole()))
    start = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(start, min(len(good), start + 64)))
    changed = good[:start] + data.draw(st.binary(max_size=64)) + good[end:]
    attempt(changed)
    attempt(changed, *whole())


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=200), max_size=4), VALUES, VALUES)
def test_any_certificates_and_payload(chain: list[bytes], payload: Any, signature: Any) -> None:
    parts = [cbor2.dumps({1: -51, 3: 263}), {cose.X5CHAIN: chain}, payload, signature]
    attempt(cbor.encode(Tag(55799, Tag(61, Tag(18, parts)))))
    attempt(*chain)
