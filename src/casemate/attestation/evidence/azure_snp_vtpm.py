"""Azure confidential VMs with SEV-SNP: HCL report and vTPM quote, bound to each other.

The paravisor runs at VMPL 0 and owns the virtual TPM. At boot it makes a SEV-SNP report whose
report data is the hash of its runtime claims, among them the vTPM's attestation key; that key signs
quotes over PCRs and the verifier's nonce. So the quote is as good as the report.

Checks, in order: the HCL report's form; the SEV-SNP report and its signer (`sev_snp`); that the
report was made at VMPL 0, where the guest's operating system cannot make one; that its report data
is the hash of the claims; the quote's form and its signature under the claims' attestation key; the
PCR values and the event log (`tpm.quote`); the nonce in the quote's qualifying data; where evidence
says version 2, the same nonce in the user data of the claims.

Two forms: files (`hcl-report`, `quote` as JSON, optionally `event-log`), with the VCEK among the
endorsements; and the one JSON of the confidential-containers agents (versions 1 and 2), which
brings the VCEK along. Components `sev-snp` and `tpm` as those families have them; the VM's settings
are facts of `tpm`: `vm_secure_boot`, `vm_tpm_enabled`, `vm_console_enabled`, `vm_unique_id`.

The host is the VM, by its vTPM's attestation key: many VMs share a chip.

Source: Microsoft, "Azure confidential VM guest attestation design".
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.bindings import REPORT_DATA, answers
from casemate.attestation.evidence.family import (
    Component,
    Context,
    Fact,
    FamilyName,
    Host,
    Piece,
    Verified,
)
from casemate.attestation.evidence.sev_snp import authenticate
from casemate.attestation.evidence.tpm.claims import component as tpm_component
from casemate.attestation.evidence.tpm.quote import is_signed_by, read_quote, verify_registers
from casemate.attestation.x509_path import PathCertificate, read
from casemate.formats import azure_hcl, sev_snp, strict_json, tcg_event_log, tpm_quote_json
from casemate.formats.azure_hcl import HclError, HclReport, ReportType, RuntimeClaims
from casemate.formats.der_reader import DerError
from casemate.formats.sev_snp import SevSnpError
from casemate.formats.strict_json import JsonError
from casemate.formats.tpm import Algorithm, Signature
from casemate.formats.tpm_quote_json import JsonQuote

HCL_REPORT, QUOTE, EVENT_LOG, EVIDENCE = "hcl-report", "quote", "event-log", "evidence"
#: The names of the agents' JSON; `version` is 1 or 2, as a number or as text.
_EVIDENCE_NAMES = {"version", "tpm_quote", "hcl_report", "vcek"}
#: Names of the VM's settings in the claims, and of the facts that they become.
_SETTINGS = {
    "secure-boot": "vm_secure_boot",
    "tpm-enabled": "vm_tpm_enabled",
    "console-enabled": "vm_console_enabled",
    "vmUniqueId": "vm_unique_id",
}


@dataclass(frozen=True, slots=True)
class _Parts:
    """The evidence of either form."""

    hcl: bytes
    quote: JsonQuote
    log: Piece | None = None
    certificates: tuple[PathCertificate, ...] = ()
    version: int = 1


class AzureSnpVtpm:
    """The family as separate files."""

    name = FamilyName.AZURE_SNP_VTPM
    media_types: tuple[str | int, ...] = ()
    required = frozenset({HCL_REPORT, QUOTE})

    def role(self, data: bytes) -> str | None:
        """An HCL report, a vTPM quote in JSON, or an event log."""
        if data.startswith(azure_hcl.MAGIC):
            return HCL_REPORT
        if tcg_event_log.looks_like_log(data):
            return EVENT_LOG
        return QUOTE if strict_json.names_of(data) == tpm_quote_json.NAMES else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Verify one HCL report with its quote."""
        checks = Checklist()
        for role, found in pieces.items():
            checks.require("pieces", len(found) == 1, f"expected one {role}, found {len(found)}")
        try:
            quote = tpm_quote_json.decode(pieces[QUOTE][0].data)
        except JsonError as error:
            checks.refuse("form", f"{pieces[QUOTE][0].name}: {error}")
        log = pieces[EVENT_LOG][0] if EVENT_LOG in pieces else None
        parts = _Parts(pieces[HCL_REPORT][0].data, quote, log)
        return _verify(parts, tuple(found[0] for found in pieces.values()), context, checks)

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """The hardware report and the claims; of the quote its values; of a log nothing."""
        if role == HCL_REPORT:
            return azure_hcl.signed_ranges(data)
        return tpm_quote_json.covered(data) if role == QUOTE else ()


class AzureSnpVtpmJson:
    """The family as one JSON file of the agents."""

    name = FamilyName.AZURE_SNP_VTPM
    media_types: tuple[str | int, ...] = ()
    required = frozenset({EVIDENCE})

    def role(self, data: bytes) -> str | None:
        """JSON with the agents' four names."""
        return EVIDENCE if strict_json.names_of(data) == _EVIDENCE_NAMES else None

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Verify one JSON of evidence."""
        checks = Checklist()
        found = pieces[EVIDENCE]
        checks.require("pieces", len(found) == 1, f"expected one piece, found {len(found)}")
        try:
            parts = _read_evidence(found[0])
        except (JsonError, HclError, DerError, SevSnpError) as error:
            checks.refuse("form", f"{found[0].name}: {error}")
        return _verify(parts, found, context, checks)

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """All of its values but the version: hexadecimal and base64 in their one form."""
        value = strict_json.decode(data)
        quote = tpm_quote_json.covered_values(data, tpm_quote_json.from_value(value["tpm_quote"]))
        texts = []
        for name in ("hcl_report", "vcek"):
            text = value[name].rstrip("=").encode()
            start = data.index(b'"' + text) + 1
            texts.append(range(start, start + len(text)))
        return (*quote, *texts)


def _read_evidence(piece: Piece) -> _Parts:
    value = strict_json.decode(piece.data)
    if not isinstance(value, dict) or value.keys() != _EVIDENCE_NAMES:
        raise JsonError(f"expected an object of {', '.join(sorted(_EVIDENCE_NAMES))}")
    if str(value["version"]) not in ("1", "2") or isinstance(value["version"], bool):
        raise JsonError(f"version: expected 1 or 2, found {value['version']!r}")
    for name in ("hcl_report", "vcek"):
        if not isinstance(value[name], str):
            raise JsonError(f"{name}: expected base64url")
    vcek = read(NamedBytes(azure_hcl.decode_base64url(value["vcek"]), f"{piece.name}: vcek"))
    # Read here, so that one whose extensions are broken is this evidence's fault.
    sev_snp.read_signer(vcek.fields)
    return _Parts(
        azure_hcl.decode_base64url(value["hcl_report"]),
        tpm_quote_json.from_value(value["tpm_quote"]),
        certificates=(vcek,),
        version=int(value["version"]),
    )


def _verify(
    parts: _Parts, pieces: tuple[Piece, ...], context: Context, checks: Checklist
) -> Verified:
    hcl, claims = _read_hcl(parts.hcl, checks)
    snp_checks = Checklist("sev-snp")
    authenticated = authenticate(hcl.hardware_report, context, snp_checks, extra=parts.certificates)
    report = authenticated.report
    checks.equal("vmpl", expected=0, found=report.vmpl, what="privilege level of the report")
    digest = hashlib.new(hcl.hash_type.name.lower(), hcl.claims).digest()
    checks.equal(
        "runtime-claims",
        expected=digest.ljust(64, b"\0"),
        found=report.report_data,
        what="report data (the hash of the runtime claims)",
    )
    message = parts.quote.message
    quote = read_quote(message, checks)
    signature = Signature(Algorithm.RSASSA, Algorithm.SHA256, parts.quote.signature)
    checks.require(
        "quote-signature",
        is_signed_by(claims.attestation_key, signature, message),
        f"the quote's signature does not verify under {azure_hcl.ATTESTATION_KEY} of the claims",
        passed="the quote is signed by the attestation key of the claims",
    )
    verified = verify_registers(
        quote,
        checks,
        digest=signature.hash,
        values={Algorithm.SHA256: dict(enumerate(parts.quote.pcrs))},
        log_piece=parts.log,
    )
    if parts.version >= 2:
        _require_user_data(claims, quote.qualifying_data, checks)
    snp = authenticated.component(context)
    vtpm = tpm_component(verified)
    return Verified(
        family=FamilyName.AZURE_SNP_VTPM,
        pieces=pieces,
        host=Host(hashlib.sha256(claims.attestation_key).digest(), "tpm-ak"),
        components=(
            dataclasses.replace(snp, checks=snp_checks.passed),
            _with_settings(vtpm, claims),
        ),
        checks=checks.passed,
        nonce=answers(quote.qualifying_data, context.nonce),
        bindings={REPORT_DATA: quote.qualifying_data},
        valid_until=authenticated.path.valid_until,
        keys=(claims.attestation_key, authenticated.signer.certificate.fields.spki),
    )


def _read_hcl(data: bytes, checks: Checklist) -> tuple[HclReport, RuntimeClaims]:
    try:
        hcl = azure_hcl.decode(data)
        checks.equal(
            "hardware",
            expected=ReportType.SEV_SNP.name,
            found=hcl.kind.name,
            what="kind of the hardware report",
        )
        return hcl, azure_hcl.decode_claims(hcl.claims)
    except HclError as error:
        checks.refuse("form", f"HCL report: {error}")


def _require_user_data(claims: RuntimeClaims, qualifying: bytes, checks: Checklist) -> None:
    checks.require(
        "user-data",
        claims.user_data is not None and claims.user_data == qualifying.ljust(64, b"\0"),
        "the claims' user data is not what the quote was asked to carry",
        passed="the claims' user data is what the quote carries",
    )


def _with_settings(component: Component, claims: RuntimeClaims) -> Component:
    settings: dict[str, Fact] = {
        fact: claims.configuration[name]
        for name, fact in _SETTINGS.items()
        if name in claims.configuration
    }
    return dataclasses.replace(component, facts={**component.facts, **settings})
