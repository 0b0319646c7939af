"""One changed bit: where signatures cover it refused, elsewhere never better than before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.family import Family, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import pcr_quote
from casemate.rot.evidence import leaf_certificate
from casemate.rot.identity import Algorithm
from tests.attestation import hosts

NAMES = (
    "token",
    "token, ML-DSA",
    "token with a key",
    "key report",
    "partition chain",
    "quote",
    "quote, ML-DSA",
    "log",
    "certificates",
    "leaf",
)
#: Signatures cover every byte of these.
WHOLE = ("partition chain", "log", "leaf")


@cache
def host() -> hosts.Host:
    return hosts.boot(1)


@cache
def evidence() -> Mapping[str, tuple[bytes, ...]]:
    """Whole evidence of every kind, by name; the first piece is the one that is changed."""
    own, partition = host(), host().partition()
    chain = {
        algorithm: (own.idevid[algorithm], *own.attester.chain(algorithm))
        for algorithm in Algorithm
    }
    below = chain[Algorithm.ECC]
    quotes = {
        algorithm: pcr_quote.encode(own.attester.quote(algorithm, hosts.NONCE))
        for algorithm in Algorithm
    }
    return {
        "token": (own.token(),),
        "token, ML-DSA": (own.token(Algorithm.MLDSA),),
        "token with a key": (own.token_with_key(partition),),
        "key report": (partition.report(hosts.NONCE), b"".join(partition.chain)),
        "partition chain": (b"".join(partition.chain), partition.report(hosts.NONCE)),
        "quote": (quotes[Algorithm.ECC], own.attester.log(), *below),
        "quote, ML-DSA": (
            quotes[Algorithm.MLDSA],
            own.attester.log(),
            *chain[Algorithm.MLDSA],
        ),
        "log": (own.attester.log(), quotes[Algorithm.ECC], *below),
        "certificates": (b"".join(below),),
        "leaf": (leaf_certificate(own.attester, Algorithm.ECC), *below),
    }


def taken(pieces: tuple[bytes, ...]) -> tuple[Family, Verified]:
    (selection,) = select([Piece(data) for data in pieces], families())
    endorsed = hosts.endorsed(*host().idevid.values())
    context = hosts.context(endorsements=endorsed)
    return selection.family, selection.family.verify(selection.pieces, context)


@cache
def covered(name: str) -> tuple[range, ...]:
    first = evidence()[name][0]
    family, _ = taken(evidence()[name])
    role = family.role(first)
    assert role is not None
    return family.covered(role, first)


def flipped(data: bytes, bit: int) -> bytes:
    at, number = divmod(bit, 8)
    return data[:at] + bytes((data[at] ^ 1 << number,)) + data[at + 1 :]


def outside(name: str) -> list[int]:
    inside = {at for part in covered(name) for at in part}
    return [at for at in range(len(evidence()[name][0])) if at not in inside]


@pytest.mark.parametrize("name", NAMES)
def test_the_ranges_lie_within_and_leave_little(name: str) -> None:
    first, ranges = evidence()[name][0], covered(name)
    places = [at for part in ranges for at in part]
    assert len(places) == len(set(places))
    assert all(0 <= at < len(first) for at in places)
    # What is left: framing, the IDevID's certificate, a quote's unsigned fields.
    initial = len(host().idevid[Algorithm.MLDSA if "ML-DSA" in name else Algorithm.ECC])
    assert len(first) - initial - 200 < len(places) <= len(first)
    assert (outside(name) == []) == (name in WHOLE)


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_a_changed_bit_that_is_covered_is_refused(name: str, data: st.DataObject) -> None:
    first, *others = evidence()[name]
    part = data.draw(st.sampled_from(covered(name)))
    bit = data.draw(st.integers(part.start * 8, part.stop * 8 - 1))
    with pytest.raises(EvidenceError):
        taken((flipped(first, bit), *others))


@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.parametrize("name", [name for name in NAMES if name not in WHOLE])
def test_a_changed_bit_elsewhere_improves_nothing(name: str, data: st.DataObject) -> None:
    first, *others = evidence()[name]
    bit = data.draw(st.sampled_from(outside(name))) * 8 + data.draw(st.integers(0, 7))
    _, before = taken((first, *others))
    try:
        _, after = taken((flipped(first, bit), *others))
    except EvidenceError:
        return
    assert after.host == before.host
    assert after.components == before.components
    assert after.nonce == before.nonce
