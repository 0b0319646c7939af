"""Evidence put together from the parts of two good hosts: refused in every combination.

Once as somebody on the network would do it, and once as a host would whose own leaf signs whatever
it is given.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import pytest

from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.family import Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import cbor, cose, eat, pcr_quote
from casemate.formats.key_binding import key_binding
from casemate.rot.evidence import EVIDENCE_LABEL, leaf_certificate
from casemate.rot.identity import Algorithm
from tests.attestation import hosts, partitions

CLAIMS = (
    eat.PCR_QUOTE,
    eat.PCR_LOG,
    eat.MEASUREMENTS,
    eat.UEID,
    eat.KEY_REPORT,
    eat.PARTITION_CHAIN,
)


@cache
def host(number: int) -> hosts.Host:
    """Two hosts of one maker, alike but for their devices: other fuses, another manifest SVN."""
    return hosts.boot(number, firmware_svn_fuse=(1 << number) - 1)


@cache
def partition(number: int) -> partitions.Partition:
    return host(number).partition("web")


@cache
def message(number: int) -> cose.Sign1:
    return cose.decode(host(number).token_with_key(partition(number)))[0]


def claims(number: int) -> dict[int | str, Any]:
    return eat.decode_claims(message(number).payload)


def verify(pieces: Sequence[bytes]) -> Verified:
    (selection,) = select([Piece(data) for data in pieces], families())
    return selection.family.verify(selection.pieces, hosts.context())


def refused(*pieces: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(pieces)
    assert caught.value.check.sentence
    return caught.value.check.name


def mixtures(count: int) -> Iterable[tuple[int, ...]]:
    """Every way to take so many parts from two hosts that takes from both."""
    return (chosen for chosen in itertools.product((1, 2), repeat=count) if len(set(chosen)) == 2)


def test_both_hosts_are_good() -> None:
    for number in (1, 2):
        found = message(number)
        data = cose.encode(found, tags=eat.TOKEN_TAGS)
        assert [component.name for component in verify([data]).components][-1] == "key"
    differing = [claim for claim in CLAIMS if claims(1)[claim] == claims(2)[claim]]
    assert differing == []


def test_spliced_from_two_tokens() -> None:
    """Payload, signature and each certificate, from either token."""
    count = len(message(1).x5chain)
    names: Counter[str] = Counter()
    for chosen in mixtures(2 + count):
        payload, signature, *certificates = chosen
        spliced = cose.Sign1(
            message(1).protected,
            message(payload).payload,
            message(signature).signature,
            {cose.X5CHAIN: [message(number).x5chain[at] for at, number in enumerate(certificates)]},
        )
        names[refused(cose.encode(spliced, tags=eat.TOKEN_TAGS))] += 1
    assert sum(names.values()) == 2 ** (2 + count) - 2
    assert names["token-signature"]
    assert names["dpe-leaf-signature"]


def signed_by_host_1(content: dict[int | str, Any]) -> bytes:
    """A token with these claims, signed by the first host's own leaf."""
    payload = cbor.encode(content)
    protected = message(1).protected
    digest = hashlib.sha384(cose.to_be_signed(protected, payload)).digest()
    signature = host(1).attester.sign(Algorithm.ECC, EVIDENCE_LABEL, digest)
    made = cose.Sign1(protected, payload, signature, dict(message(1).unprotected))
    return cose.encode(made, tags=eat.TOKEN_TAGS)


def test_signed_by_a_host_over_parts_of_another() -> None:
    """Every mixture of claims, and all of the other host's, under the first host's leaf."""
    assert verify([signed_by_host_1(claims(1))])
    names: Counter[str] = Counter()
    for chosen in (*mixtures(len(CLAIMS)), (2,) * len(CLAIMS)):
        content = claims(1) | {
            claim: claims(number)[claim] for claim, number in zip(CLAIMS, chosen, strict=True)
        }
        names[refused(signed_by_host_1(content))] += 1
    assert sum(names.values()) == 2 ** len(CLAIMS) - 1
    assert "token-signature" not in names
    assert {"quote-signature", "log-pcr-0", "token-ueid", "key-report-signature"} <= names.keys()


def test_key_report_and_partition_beside_another_host_s_token() -> None:
    token = {number: host(number).token() for number in (1, 2)}
    report = {number: claims(number)[eat.KEY_REPORT] for number in (1, 2)}
    chain = {number: b"".join(partition(number).chain) for number in (1, 2)}
    assert verify([token[1], report[1], chain[1]])
    for first, second, third in mixtures(3):
        assert refused(token[first], report[second], chain[third]) in (
            "partition-device",
            "key-report-signature",
        )
    # A report that was made for this very token, but by the other host's partition.
    binding = key_binding(hosts.NONCE, host(1).leaf_key(), partition(2).spki)
    assert refused(token[1], partition(2).report(binding), chain[2]) == "partition-device"


def test_quote_log_and_certificates_as_files() -> None:
    """Quote, log, leaf and each certificate of the device, from either host."""
    parts = {
        number: (
            pcr_quote.encode(host(number).attester.quote(Algorithm.ECC, hosts.NONCE)),
            host(number).attester.log(),
            leaf_certificate(host(number).attester, Algorithm.ECC),
            *reversed(host(number).attester.chain(Algorithm.ECC)),
            host(number).idevid[Algorithm.ECC],
        )
        for number in (1, 2)
    }
    assert verify(parts[1])
    assert verify(parts[2])
    names = Counter(
        refused(*(parts[number][at] for at, number in enumerate(chosen)))
        for chosen in mixtures(len(parts[1]))
    )
    assert sum(names.values()) == 2 ** len(parts[1]) - 2
    assert {"quote-signature", "log-pcr-0", "dpe-leaf-signature"} <= names.keys()
