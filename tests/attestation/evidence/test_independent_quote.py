"""Our verifier of quotes against the independent one: the same answer, good and damaged."""

from __future__ import annotations

import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.family import Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import pcr_quote
from casemate.rot.identity import Algorithm
from tests.attestation import hosts, independent_quote
from tests.attestation.independent_quote import Quoted, RefusedError


@cache
def host() -> hosts.Host:
    return hosts.boot(1)


@cache
def certificates(algorithm: Algorithm) -> tuple[bytes, ...]:
    return (host().idevid[algorithm], *host().attester.chain(algorithm))


@cache
def quote(algorithm: Algorithm) -> bytes:
    return pcr_quote.encode(host().attester.quote(algorithm, hosts.NONCE))


def ours(response: bytes, log: bytes, algorithm: Algorithm) -> Verified | None:
    try:
        pieces = [Piece(data) for data in (response, log, *certificates(algorithm))]
        selection = select(pieces, families())[0]
        return selection.family.verify(selection.pieces, hosts.context())
    except EvidenceError:
        return None


def theirs(response: bytes, log: bytes, algorithm: Algorithm) -> Quoted | None:
    try:
        quoted = independent_quote.verify(response, certificates(algorithm)[2], hosts.NONCE)
        return independent_quote.replay(quoted, log)
    except RefusedError:
        return None


def sealed(response: bytes) -> bytes:
    """A response with its checksum made right again."""
    return pcr_quote.checksum(response[4:]).to_bytes(4, "little") + response[4:]


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_both_say_the_same_of_a_good_quote(algorithm: Algorithm) -> None:
    log = host().attester.log()
    verified, quoted = (
        ours(quote(algorithm), log, algorithm),
        theirs(quote(algorithm), log, algorithm),
    )
    assert verified is not None
    assert quoted is not None
    facts = verified.components[0].facts
    assert independent_quote.lifecycle_and_debug(quoted.status) == (3, True)
    assert (facts["lifecycle"], facts["debug_locked"]) == ("production", True)
    values = {
        measured.environment: measured.measurement.values
        for component in verified.components
        for measured in component.measured
    }
    raw = values[environments.DEVICE_STATUS].raw_value
    assert raw is not None
    assert raw.value == quoted.status
    for environment, first in ((environments.FMC, 0), (environments.RUNTIME, 2)):
        registers = dict(values[environment].integrity_registers)
        assert [registers[first + n][0].value for n in range(2)] == quoted.pcrs[first : first + 2]


@settings(max_examples=150)
@given(data=st.data())
@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_both_say_the_same_of_a_damaged_quote(algorithm: Algorithm, data: st.DataObject) -> None:
    good, log = quote(algorithm), host().attester.log()
    at = data.draw(st.integers(4, len(good) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    damaged = sealed(good[:at] + bytes((good[at] ^ bit,)) + good[at + 1 :])
    assert (ours(damaged, log, algorithm) is None) == (theirs(damaged, log, algorithm) is None)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_whatever_the_independent_one_refuses_ours_refuses(algorithm: Algorithm) -> None:
    """Damaged logs, quotes of other sizes and of another device: ours also holds their form."""
    good, log, source = quote(algorithm), host().attester.log(), random.Random(3)
    for _ in range(200):
        at = source.randrange(len(log))
        changed = log[:at] + bytes((log[at] ^ 1 << source.randrange(8),)) + log[at + 1 :]
        if theirs(good, changed, algorithm) is None:
            assert ours(good, changed, algorithm) is None
    other = pcr_quote.encode(hosts.boot(2).attester.quote(algorithm, hosts.NONCE))
    crossed = quote(Algorithm.ECC if algorithm is Algorithm.MLDSA else Algorithm.MLDSA)
    late = pcr_quote.encode(host().attester.quote(algorithm, bytes(32)))
    for response in (other, crossed, late, good[:-1], b""):
        assert theirs(response, log, algorithm) is None
        assert ours(response, log, algorithm) is None
