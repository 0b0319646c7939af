"""Intel TDX: quotes of versions 4 and 5, signed by the platform's quoting enclave (QE).

Checks, in order: the quote's form; the path of its PCK certificate up to Intel's root or the
operator's anchor, and its revocation; collateral for this platform, itself verified (`collateral`);
then dcap-qvl: the PCK certificate's signature over the QE's report, the attestation key in that
report, the QE against its identity, the attestation key's signature over the quote, and the TCB
level that the platform meets. That level is a fact for policies (`claims`); dcap-qvl itself refuses
a revoked level, a TD in debug mode, and attributes that Intel reserves.

The time of appraisal is an argument to all of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.bindings import REPORT_DATA, answers
from casemate.attestation.evidence.family import Context, FamilyName, Host, Piece, Verified
from casemate.attestation.evidence.tdx import collateral
from casemate.attestation.evidence.tdx.claims import COMPONENT, component
from casemate.attestation.evidence.tdx.collateral import Usable
from casemate.attestation.vendor_anchors import INTEL_ROOT_KEYS
from casemate.attestation.x509_path import Path, build, read, trusted_keys
from casemate.attestation.x509_validation import validate
from casemate.formats import tdx_quote
from casemate.formats.der_reader import DerError
from casemate.formats.tdx_quote import Quote, TdxQuoteError

ROLE = "quote"

#: What dcap-qvl's refusals speak of, and the check that each belongs to.
_REFUSALS = (
    ("debug mode", "debug"),
    ("status is invalid", "tcb-revoked"),
    ("revoked", "revoked"),
    ("isv enclave", "signature"),
    ("qe report", "quoting-enclave"),
    ("qe_report", "quoting-enclave"),
    ("qe ", "quoting-enclave"),
    ("tcb", "tcb-level"),
    ("fmspc", "tcb-level"),
    ("module", "tdx-module"),
)


class Tdx:
    """The family of TDX quotes."""

    name = FamilyName.TDX
    media_types: tuple[str | int, ...] = ("application/vnd.intel.tdx.quote",)
    required = frozenset({ROLE})

    def role(self, data: bytes) -> str | None:
        """A quote says version, key type and TEE type in its first eight bytes."""
        return ROLE if tdx_quote.looks_like_quote(data) else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Verify one quote."""
        checks = Checklist(COMPONENT)
        found = pieces[ROLE]
        checks.require("pieces", len(found) == 1, f"expected one quote, found {len(found)}")
        quote = _read(found[0], checks)
        trusted = trusted_keys(context.endorsements, INTEL_ROOT_KEYS, FamilyName.TDX)
        path = _pck_path(quote, found[0], context, trusted, checks)
        pck = path.certificates[0].fields
        try:
            fmspc = tdx_quote.read_fmspc(pck)
        except TdxQuoteError as error:
            checks.refuse("pck-certificate", str(error))
        usable = collateral.use(
            collateral.find(context, fmspc, pck.issuer),
            context,
            trusted=trusted,
            pinned=INTEL_ROOT_KEYS,
        )
        _require_unrevoked(path, usable, checks)
        verified = _judge(found[0].data, usable, checks)
        report_data = quote.report.report_data
        return Verified(
            family=self.name,
            pieces=found,
            host=Host(hashlib.sha256(pck.spki).digest(), "pck"),
            components=(component(quote, verified, fmspc=fmspc, is_stale=usable.is_stale),),
            checks=checks.passed,
            nonce=answers(report_data, context.nonce),
            bindings={REPORT_DATA: report_data},
            valid_until=path.valid_until
            if usable.is_stale
            else min(path.valid_until, usable.collateral.ends),
            keys=(pck.spki,),
        )

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """Header, body, signatures, attestation key and QE report; not the text of the chain."""
        return tdx_quote.covered(data)


def _read(piece: Piece, checks: Checklist) -> Quote:
    try:
        quote = tdx_quote.decode(piece.data)
    except TdxQuoteError as error:
        checks.refuse("form", f"{piece.name}: TDX quote: {error}")
    checks.require("form", True, "", passed=f"a TDX quote of version {quote.version}")
    return quote


def _pck_path(
    quote: Quote, piece: Piece, context: Context, trusted: Mapping[bytes, str], checks: Checklist
) -> Path:
    try:
        chain = [read(NamedBytes(der, f"{piece.name}: PCK chain")) for der in quote.chain]
    except DerError as error:
        checks.refuse("pck-certificate", f"{piece.name}: PCK chain {error}")
    path = build(
        chain[0],
        context.endorsements,
        checks,
        trusted=trusted,
        certificates=context.certificates,
        extra=chain[1:],
        is_whole=True,
    )
    validate(path, checks, endorsements=context.endorsements, at=context.at)
    checks.require("path", True, "", passed=f"the PCK certificate's path ends at {path.anchor}")
    return path


def _require_unrevoked(path: Path, usable: Usable, checks: Checklist) -> None:
    """The PCK certificate against the CRL of its issuer, which the collateral brings."""
    pck = path.certificates[0]
    entry = usable.collateral.pck_crl.get_revoked_certificate_by_serial_number(pck.fields.serial)
    checks.require(
        "revoked",
        entry is None,
        f"{pck.title} is revoked ({usable.collateral.name})",
        passed=f"{pck.title} is not revoked",
    )


def _judge(data: bytes, usable: Usable, checks: Checklist) -> Mapping[str, Any]:
    """Have dcap-qvl verify the quote; its claims."""
    import dcap_qvl

    seconds = int(usable.at.timestamp())
    verifier = dcap_qvl.QuoteVerifier(usable.root)
    policy = dcap_qvl.QuotePolicy.claims_only(seconds)
    try:
        claims = verifier.verify_with_policy(data, usable.collateral.library, seconds, policy)
    except ValueError as error:
        text = str(error)
        lower = text.lower()
        name = next((check for word, check in _REFUSALS if word in lower), "quote")
        checks.refuse(name, f"the quote does not verify: {text}")
    checks.require("signature", True, "", passed="the quote's signatures verify")
    verified: Mapping[str, Any] = json.loads(claims.to_json())
    status = verified["tcb"]["status"]
    checks.require("tcb-level", True, "", passed=f"Intel's word on the platform's TCB: {status}")
    return verified
