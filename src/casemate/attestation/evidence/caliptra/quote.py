"""A PCR quote: under the FMC alias key, for the nonce, over the PCRs that it shows."""

from __future__ import annotations

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra.layers import Layer
from casemate.attestation.evidence.caliptra.signatures import Algorithm, SignatureError
from casemate.formats import pcr_quote
from casemate.formats.pcr_quote import PcrQuote, PcrQuoteError


def read_quote(data: bytes, checks: Checklist) -> PcrQuote:
    """A quote from a mailbox response. Raises EvidenceError."""
    try:
        return pcr_quote.decode(data)
    except PcrQuoteError as error:
        checks.refuse("quote", f"PCR quote: {error}")


def verify_quote(quote: PcrQuote, fmc: Layer, checks: Checklist, *, nonce: bytes | None) -> None:
    """Check a quote; `nonce` is the 32 bytes that it must hold. Raises EvidenceError."""
    algorithm = Algorithm.MLDSA if quote.is_mldsa else Algorithm.ECC
    if fmc.key.algorithm is not algorithm:
        checks.refuse(
            "quote-algorithm",
            f"the quote is for {algorithm.value}, the FMC alias key for {fmc.key.algorithm.value}",
        )
    checks.note("quote-algorithm", "quote algorithm")
    if nonce is not None:
        checks.equal(
            "quote-nonce", expected=nonce, found=quote.nonce, what="the nonce of the PCR quote"
        )
    make = pcr_quote.mldsa_message if quote.is_mldsa else pcr_quote.ecc_digest
    digest = make(quote.pcrs, quote.nonce)
    checks.require(
        "quote-digest",
        digest == quote.digest,
        "the digest in the PCR quote is not that of its PCRs and nonce",
    )
    try:
        if quote.is_mldsa:
            fmc.key.verify(quote.signature, digest)
        else:
            fmc.key.verify_digest(quote.signature, digest)
    except SignatureError:
        checks.refuse("quote-signature", "the FMC alias key did not sign the PCR quote")
    checks.note("quote-signature", "the FMC alias key signed the PCR quote")
