"""Quotes: the PCR bank and a nonce, signed with the FMC alias key of either algorithm."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate.formats.pcr_quote import NONCE_SIZE, PcrQuote, ecc_digest, mldsa_message
from casemate.rot.crypto import RotCrypto
from casemate.rot.errors import QuoteError
from casemate.rot.identity import Algorithm
from casemate.rot.ladder import Layer
from casemate.rot.pcr import PcrBank


def make_quote(
    crypto: RotCrypto, fmc: Layer, bank: PcrBank, nonce: bytes, algorithm: Algorithm
) -> PcrQuote:
    """Quote the bank for a nonce (32 bytes). Raises QuoteError for another size."""
    if len(nonce) != NONCE_SIZE:
        raise QuoteError(f"nonce: expected {NONCE_SIZE} bytes, found {len(nonce)}")
    pcrs = bank.values
    if algorithm is Algorithm.ECC:
        digest = ecc_digest(pcrs, nonce)
        signature = crypto.ecc_sign_digest(fmc.ecc_key, digest)
    else:
        digest = mldsa_message(pcrs, nonce)
        signature = crypto.mldsa_sign(fmc.mldsa_key, digest)
    return PcrQuote(pcrs, nonce, bank.reset_counters, digest, signature)


def verify_quote(quote: PcrQuote, fmc_public_key: bytes, nonce: bytes) -> None:
    """Check a quote: it answers the nonce, its digest is of its PCRs, the FMC key signed it.

    `fmc_public_key` is 97 bytes (ECC) or 2592 (ML-DSA). Raises QuoteError.
    """
    if quote.nonce != nonce:
        raise QuoteError("the quote answers another nonce")
    make = mldsa_message if quote.is_mldsa else ecc_digest
    if quote.digest != make(quote.pcrs, nonce):
        raise QuoteError("the quote's digest is not that of its PCRs and nonce")
    try:
        if quote.is_mldsa:
            key = MLDSA87PublicKey.from_public_bytes(fmc_public_key)
            key.verify(quote.signature, quote.digest)
        else:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), fmc_public_key)
            r, s = quote.signature[:48], quote.signature[48:]
            der = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
            point.verify(der, quote.digest, ec.ECDSA(utils.Prehashed(hashes.SHA384())))
    except ValueError as error:
        raise QuoteError(f"the FMC alias public key does not parse: {error}") from None
    except InvalidSignature:
        raise QuoteError("the FMC alias key did not sign this quote") from None
