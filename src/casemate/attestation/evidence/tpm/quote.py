"""Verification of a TPM quote: the signature, the PCRs under its digest, the log behind the PCRs.

Checks, in order: the quote's form (magic: made by a TPM and not by the host through the same key);
its signature; the PCR values against the signed digest; the event log against the PCR values. Where
only a log came along, the values are those that it leads to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.family import Piece
from casemate.attestation.signatures import Padding, Scheme, SignatureError, verify
from casemate.formats import tcg_event_log, tpm
from casemate.formats.tcg_event_log import EventLog, EventLogError
from casemate.formats.tpm import HASHES, Algorithm, Quote, Signature, TpmError

Pcrs = Mapping[Algorithm, Mapping[int, bytes]]

_PADDINGS = {
    Algorithm.RSASSA: Padding.PKCS1,
    Algorithm.RSAPSS: Padding.PSS,
    Algorithm.ECDSA: Padding.ECDSA,
}


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """A quote that holds: its fields, the values of the PCRs that it selects, the log if any.

    `pcrs` is None where neither values nor a log came along: then the digest alone is known.
    """

    quote: Quote
    pcrs: Pcrs | None
    log: EventLog | None


def read_quote(message: bytes, checks: Checklist) -> Quote:
    """The fields of a signed message."""
    try:
        quote = tpm.decode_quote(message)
    except TpmError as error:
        checks.refuse("form", f"TPM quote: {error}")
    checks.require("form", True, "", passed="a quote that a TPM made")
    return quote


def is_signed_by(spki: bytes, signature: Signature, message: bytes) -> bool:
    """Whether a key made the signature. SHA-1 never counts."""
    if signature.hash is Algorithm.SHA1:
        return False
    scheme = Scheme(_PADDINGS[signature.scheme], HASHES[signature.hash][0])
    try:
        verify(spki, scheme, signature.value, message)
    except SignatureError:
        return False
    return True


def verify_registers(
    quote: Quote,
    checks: Checklist,
    *,
    digest: Algorithm,
    values: Pcrs | None,
    log_piece: Piece | None,
) -> VerifiedQuote:
    """Hold PCR values and event log against a quote whose signature was made with `digest`."""
    log = None if log_piece is None else _read_log(log_piece, checks)
    replayed = {} if log is None else _replay(quote, log, checks)
    if values is None and log is None:
        return VerifiedQuote(quote, None, None)
    _require_quoted(values or {}, quote, checks)
    selected: dict[Algorithm, dict[int, bytes]] = {}
    for selection in quote.selections:
        _, size = HASHES[selection.bank]
        bank = selected.setdefault(selection.bank, {})
        for pcr in selection.pcrs:
            from_log = replayed.get(selection.bank, {}).get(pcr)
            if values is None:
                found = tcg_event_log.start_value(pcr, size) if from_log is None else from_log
            else:
                found = _given(values, selection.bank, pcr, checks)
            bank[pcr] = found
    _require_digest(quote, digest, selected, checks)
    _require_replay(selected, replayed, checks)
    return VerifiedQuote(quote, selected, log)


def _require_quoted(values: Pcrs, quote: Quote, checks: Checklist) -> None:
    quoted = {(selection.bank, pcr) for selection in quote.selections for pcr in selection.pcrs}
    for bank, pcrs in values.items():
        for pcr in pcrs:
            if (bank, pcr) not in quoted:
                checks.refuse(
                    "pcr-values", f"PCR {pcr} ({bank.name}) has a value but is not quoted"
                )


def _given(values: Pcrs, bank: Algorithm, pcr: int, checks: Checklist) -> bytes:
    found = values.get(bank, {}).get(pcr)
    if found is None:
        checks.refuse("pcr-values", f"PCR {pcr} ({bank.name}) is quoted but its value is not here")
    if len(found) != HASHES[bank][1]:
        checks.refuse("pcr-values", f"PCR {pcr} ({bank.name}) has {len(found)} bytes")
    return found


def _require_digest(
    quote: Quote,
    digest: Algorithm,
    selected: Mapping[Algorithm, Mapping[int, bytes]],
    checks: Checklist,
) -> None:
    values = b"".join(
        selected[selection.bank][pcr] for selection in quote.selections for pcr in selection.pcrs
    )
    checks.equal(
        "pcr-digest",
        expected=quote.pcr_digest,
        found=hashlib.new(HASHES[digest][0], values).digest(),
        what="digest of the PCR values",
    )


def _read_log(piece: Piece, checks: Checklist) -> EventLog:
    try:
        return tcg_event_log.decode(piece.data)
    except EventLogError as error:
        checks.refuse("event-log", f"{piece.name}: event log: {error}")


def _replay(quote: Quote, log: EventLog, checks: Checklist) -> dict[Algorithm, dict[int, bytes]]:
    banks = [selection.bank for selection in quote.selections if selection.bank in log.banks]
    checks.require(
        "event-log",
        bool(banks),
        "the event log has digests of none of the quoted banks",
        passed=f"an event log of {len(log.events)} events",
    )
    return {bank: tcg_event_log.replay(log, bank) for bank in banks}


def _require_replay(
    selected: Mapping[Algorithm, Mapping[int, bytes]],
    replayed: Mapping[Algorithm, Mapping[int, bytes]],
    checks: Checklist,
) -> None:
    for bank, pcrs in replayed.items():
        for pcr, value in pcrs.items():
            if pcr in selected.get(bank, {}) and selected[bank][pcr] != value:
                checks.equal(
                    "event-log",
                    expected=selected[bank][pcr],
                    found=value,
                    what=f"PCR {pcr} ({bank.name}) as the event log leads to it",
                )
    if replayed:
        checks.require("event-log", True, "", passed="the event log leads to the quoted PCRs")
