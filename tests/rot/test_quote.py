"""Quotes: made in both algorithms, verified against key, nonce and PCRs; the PCR bank's rules."""

from __future__ import annotations

import dataclasses

import pytest

from casemate.formats import pcr_log
from casemate.formats.pcr_quote import PcrQuote
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto
from casemate.rot.errors import PcrError, QuoteError
from casemate.rot.fuses import DEFAULT_FUSES
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.pcr import PcrBank
from casemate.rot.quote import verify_quote
from tests.rot.devices import Shelf, firmware

NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def root() -> RootOfTrust:
    made = RootOfTrust(ModelCrypto(), Shelf(a=firmware()))
    made.cold_reset(DEFAULT_FUSES, b"a")
    return made


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_quote_verifies_and_no_other_does(root: RootOfTrust, algorithm: Algorithm) -> None:
    quote = root.quote(NONCE, algorithm)
    key = root.subjects[LayerName.FMC_ALIAS][algorithm].public_key
    verify_quote(quote, key, NONCE)
    assert quote.pcrs == root.pcrs.values
    assert root.quote(NONCE, algorithm) == quote

    def refused(changed: PcrQuote, message: str, nonce: bytes = NONCE, by: bytes = key) -> None:
        with pytest.raises(QuoteError, match=message):
            verify_quote(changed, by, nonce)

    refused(quote, "another nonce", nonce=bytes(32))
    refused(dataclasses.replace(quote, nonce=bytes(32)), "another nonce")
    swapped = (quote.pcrs[1], *quote.pcrs[1:-1], b"x" * 48)
    refused(dataclasses.replace(quote, pcrs=swapped), "digest is not that")
    refused(dataclasses.replace(quote, digest=bytes(len(quote.digest))), "digest is not that")
    forged = bytes((quote.signature[0] ^ 1,)) + quote.signature[1:]
    refused(dataclasses.replace(quote, signature=forged), "did not sign")
    runtime = root.subjects[LayerName.RT_ALIAS][algorithm].public_key
    refused(quote, "did not sign", by=runtime)
    refused(quote, "does not parse", by=key[:-1])


def test_reset_counters_are_not_signed(root: RootOfTrust) -> None:
    quote = root.quote(NONCE, Algorithm.ECC)
    key = root.subjects[LayerName.FMC_ALIAS][Algorithm.ECC].public_key
    verify_quote(dataclasses.replace(quote, reset_counters=(9,) * 32), key, NONCE)


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_nonces_of_another_size(root: RootOfTrust, nonce: bytes) -> None:
    with pytest.raises(QuoteError, match="expected 32 bytes"):
        root.quote(nonce, Algorithm.ECC)


def test_extend_refuses_what_the_boot_owns() -> None:
    bank = PcrBank()
    for index in range(4):
        with pytest.raises(PcrError, match="0x000e003c"):
            bank.extend(index, bytes(48))
    for index in (-1, 32, 1000):
        with pytest.raises(PcrError, match="0x000e003d"):
            bank.extend(index, bytes(48))
    with pytest.raises(PcrError, match="48 bytes"):
        bank.extend(4, bytes(47))
    assert not any(any(value) for value in bank.values)
    bank.extend(4, b"d" * 48)
    bank.extend(31, b"d" * 48)
    assert bank.values[4] == bank.values[31] == pcr_log.extend(bytes(48), b"d" * 48)
    assert bank.log == ()


def test_stash_refuses_wrong_sizes() -> None:
    bank = PcrBank()
    good: dict[str, object] = {"metadata": bytes(4), "context": bytes(48), "svn": 0, "log": True}
    for measurement, changes in (
        (bytes(47), {}),
        (bytes(48), {"metadata": bytes(3)}),
        (bytes(48), {"context": bytes(49)}),
        (bytes(48), {"svn": 1 << 32}),
        (bytes(48), {"svn": -1}),
    ):
        with pytest.raises(PcrError):
            bank.stash(measurement, **(good | changes))  # type: ignore[arg-type]
    assert bank.values[31] == bytes(48)
    assert bank.measurements == ()


def test_reset_counters() -> None:
    bank = PcrBank()
    bank.raise_reset_counter(5)
    bank.raise_reset_counter(5)
    assert bank.reset_counters[5] == 2
    with pytest.raises(PcrError):
        bank.raise_reset_counter(32)
