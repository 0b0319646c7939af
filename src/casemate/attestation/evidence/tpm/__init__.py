"""TPM 2.0: a quote over PCRs, signed by an attestation key, with PCR values and event log.

Pieces, by their bytes:

- `quote`: TPMS_ATTEST as the TPM signed it, or JSON with message, signature and PCRs
  (`casemate.formats.tpm_quote_json`).
- `signature`: TPMT_SIGNATURE, for the first form.
- `ak`: the attestation key's public area (TPMT_PUBLIC or TPM2B_PUBLIC), optional.
- `pcrs`: JSON {"sha256": {"0": "<hexadecimal>", ...}, ...}, optional.
- `event-log`: a TCG log, crypto-agile or legacy, optional.

The attestation key must be known: its key is an anchor that the operator named, or a certificate
among the endorsements has it and hangs on one. A public area that came along says which, and must
be that of a restricted signing key: only then does the magic mean that the TPM made the quote.
`quote` has the checks, `claims` the conventions of environments, measurements and facts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime

from casemate.attestation.checks import Checklist
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.bindings import REPORT_DATA, answers
from casemate.attestation.evidence.family import Context, FamilyName, Host, Piece, Verified
from casemate.attestation.evidence.tpm.claims import COMPONENT, component
from casemate.attestation.evidence.tpm.quote import (
    Pcrs,
    is_signed_by,
    read_quote,
    verify_registers,
)
from casemate.attestation.x509_path import PathCertificate, build, indexes_of, trusted_keys
from casemate.attestation.x509_validation import validate
from casemate.formats import strict_json, tcg_event_log, tpm, tpm_quote_json
from casemate.formats.strict_json import JsonError
from casemate.formats.tpm import HASHES, QUOTE_MAGIC, Algorithm, Attribute, Signature, TpmError

QUOTE, SIGNATURE, AK, PCRS, EVENT_LOG = "quote", "signature", "ak", "pcrs", "event-log"

#: Attestation keys that are tried where no public area says which one signed.
MOST_TRIED = 64
_BANKS = {name: bank for bank, (name, _) in HASHES.items()}
_HEXADECIMAL = re.compile(r"(?:[0-9a-f]{2})+")
_ATTESTATION_KEY = Attribute.FIXED_TPM | Attribute.RESTRICTED | Attribute.SIGN


class Tpm:
    """The family of lone TPM quotes."""

    name = FamilyName.TPM
    media_types: tuple[str | int, ...] = ("application/vnd.trustedcomputinggroup.tpm2.quote",)
    required = frozenset({QUOTE})

    def role(self, data: bytes) -> str | None:
        """Which piece of a quote these bytes are."""
        if data.startswith(QUOTE_MAGIC):
            return QUOTE
        if tcg_event_log.looks_like_log(data):
            return EVENT_LOG
        if names := strict_json.names_of(data):
            if names == tpm_quote_json.NAMES:
                return QUOTE
            return PCRS if names <= _BANKS.keys() else None
        for role, decode in ((SIGNATURE, tpm.decode_signature), (AK, tpm.decode_public)):
            try:
                decode(data)
            except TpmError:
                continue
            return role
        return None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Verify one quote."""
        checks = Checklist(COMPONENT)
        for role, found in pieces.items():
            checks.require("pieces", len(found) == 1, f"expected one {role}, found {len(found)}")
        by_role = {role: found[0] for role, found in pieces.items()}
        message, signature, values = _read_signed(by_role, checks)
        quote = read_quote(message, checks)
        spki, valid_until = _attestation_key(by_role.get(AK), signature, message, context, checks)
        verified = verify_registers(
            quote,
            checks,
            digest=signature.hash,
            values=values,
            log_piece=by_role.get(EVENT_LOG),
        )
        return Verified(
            family=self.name,
            pieces=tuple(by_role.values()),
            host=Host(hashlib.sha256(spki).digest(), "tpm-ak"),
            components=(component(verified),),
            checks=checks.passed,
            nonce=answers(quote.qualifying_data, context.nonce),
            bindings={REPORT_DATA: quote.qualifying_data},
            valid_until=valid_until,
            keys=(spki,),
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """Quote and signature whole; of JSON its values.

        Of a log nothing is declared, since which digests count depends on the PCRs and banks that
        are quoted, nor of the key, of which the numbers alone count.
        """
        if role == PCRS:
            return _covered_values(data)
        if role == QUOTE and strict_json.names_of(data):
            return tpm_quote_json.covered(data)
        if role in (EVENT_LOG, AK):
            return ()
        return (range(len(data)),)


def _read_signed(
    pieces: Mapping[str, Piece], checks: Checklist
) -> tuple[bytes, Signature, Pcrs | None]:
    """The signed message, its signature and the PCR values."""
    quote = pieces[QUOTE]
    try:
        if strict_json.names_of(quote.data):
            read = tpm_quote_json.decode(quote.data)
            signature = Signature(Algorithm.RSASSA, Algorithm.SHA256, read.signature)
            return read.message, signature, {Algorithm.SHA256: dict(enumerate(read.pcrs))}
        if SIGNATURE not in pieces:
            checks.refuse("form", f"{quote.name}: the quote has no signature beside it")
        values = _read_values(pieces[PCRS].data) if PCRS in pieces else None
        return quote.data, tpm.decode_signature(pieces[SIGNATURE].data), values
    except (JsonError, TpmError) as error:
        checks.refuse("form", f"TPM quote: {error}")


def _read_values(data: bytes) -> Pcrs:
    value = strict_json.decode(data)
    if not isinstance(value, dict):
        raise JsonError("PCR values: expected an object")
    banks: dict[Algorithm, dict[int, bytes]] = {}
    for name, entries in value.items():
        if name not in _BANKS or not isinstance(entries, dict):
            raise JsonError(f"PCR values: {name!r} is no bank with values")
        bank = banks.setdefault(_BANKS[name], {})
        for number, text in entries.items():
            if not re.fullmatch(r"0|[1-9][0-9]?", number):
                raise JsonError(f"PCR values: {number!r} is no PCR")
            if not isinstance(text, str) or not _HEXADECIMAL.fullmatch(text):
                raise JsonError(f"PCR values: PCR {number}: expected lower-case hexadecimal")
            bank[int(number)] = bytes.fromhex(text)
    return banks


def _covered_values(data: bytes) -> tuple[range, ...]:
    ranges = (range(found.start(1), found.end(1)) for found in re.finditer(rb':\s*"(\w+)"', data))
    return tuple(ranges)


def _attestation_key(
    piece: Piece | None,
    signature: Signature,
    message: bytes,
    context: Context,
    checks: Checklist,
) -> tuple[bytes, datetime | None]:
    """The key that signed, and until when its certificate is valid."""
    stated = None if piece is None else _stated_key(piece, checks)
    endorsements = context.endorsements
    keys = trusted_keys(endorsements, {}, FamilyName.TPM)
    anchors = [anchor.spki for anchor in endorsements.anchors if anchor.digest in keys]
    certificates: list[PathCertificate] = [
        certificate
        for index in indexes_of(endorsements)
        for certificate in index.all
        if stated in (None, certificate.fields.spki)
    ][:MOST_TRIED]
    if stated is None:
        candidates = [*anchors[:MOST_TRIED], *(found.fields.spki for found in certificates)]
    else:
        candidates = [stated]
    if not candidates:
        raise InfrastructureError(
            "no attestation key of a TPM is known to the verifier",
            advice="name the key as an anchor, or give its certificate as an endorsement",
        )
    spki = next((key for key in candidates if is_signed_by(key, signature, message)), None)
    if spki is None:
        checks.refuse("signature", "the quote's signature verifies under no attestation key known")
    checks.require("signature", True, "", passed="the quote's signature verifies")
    if spki in anchors:
        checks.require("attestation-key", True, "", passed="the operator named the attestation key")
        return spki, None
    signer = next((found for found in certificates if found.fields.spki == spki), None)
    if signer is None:
        checks.refuse(
            "attestation-key",
            "the attestation key that signed is neither an anchor nor in a certificate at hand",
            found=hashlib.sha256(spki).hexdigest(),
        )
    path = build(signer, endorsements, checks, trusted=keys, certificates=context.certificates)
    validate(path, checks, endorsements=endorsements, at=context.at)
    checks.require(
        "attestation-key", True, "", passed=f"the attestation key's path ends at {path.anchor}"
    )
    return spki, path.valid_until


def _stated_key(piece: Piece, checks: Checklist) -> bytes:
    try:
        public = tpm.decode_public(piece.data)
    except TpmError as error:
        checks.refuse("form", f"{piece.name}: public area: {error}")
    wanted = public.attributes & (_ATTESTATION_KEY | Attribute.DECRYPT)
    checks.require(
        "key-attributes",
        wanted == _ATTESTATION_KEY,
        f"{piece.name}: an attestation key is fixed to its TPM, restricted and signs only; found "
        f"attributes {int(public.attributes):08x}",
        passed="a restricted signing key, fixed to its TPM",
    )
    return public.spki
