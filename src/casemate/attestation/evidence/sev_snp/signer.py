"""Which key signed a SEV-SNP report: found among the endorsements, by what the report says of it.

A report names its signer by hardware id and reported TCB, so an altered report asks for another
one. Where none fits exactly, those at hand are tried, on the report as it is and on one with their
hardware id and TCB: if one signed either, its certificate does not fit or the report was altered
(EvidenceError); if not, its certificate is missing collateral (InfrastructureError), unless the
evidence brought one: that should have been its own (EvidenceError).

A masked chip id (all zeros) fits every VCEK of its TCB, a VLEK has no hardware id at all: then the
signature decides between at most `MOST_TRIED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.family import Context
from casemate.attestation.signatures import Padding, Scheme, SignatureError, verify
from casemate.attestation.x509_path import PathCertificate, indexes_of
from casemate.formats import sev_snp, x509
from casemate.formats.sev_snp import Report, SevSnpError, SignerExtensions, SigningKey

#: Keys that are tried when none fits exactly, or when several fit.
MOST_TRIED = 64
_SCHEME = Scheme(Padding.ECDSA, "sha384")


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs reports: its certificate and what AMD states in it."""

    certificate: PathCertificate
    extensions: SignerExtensions


class SignerIndex:
    """Signers by hardware id and by TCB. Certificates with malformed extensions are left out."""

    def __init__(self, certificates: Iterable[PathCertificate]) -> None:
        self.all: list[Signer] = []
        self._by_chip: dict[bytes | None, list[Signer]] = {}
        self._by_tcb: dict[bytes, list[Signer]] = {}
        for certificate in certificates:
            if not sev_snp.is_signer(certificate.fields):
                continue
            try:
                extensions = sev_snp.read_signer(certificate.fields)
            except SevSnpError:
                continue
            signer = Signer(certificate, extensions)
            self.all.append(signer)
            self._by_chip.setdefault(extensions.hardware_id, []).append(signer)
            self._by_tcb.setdefault(extensions.tcb, []).append(signer)

    def fitting(self, report: Report) -> list[Signer]:
        """Those that a report may mean; at most `MOST_TRIED`."""
        if report.chip_id_is_masked:
            return self._by_tcb.get(report.reported_tcb, [])[:MOST_TRIED]
        shared = (*self._by_chip.get(report.chip_id, ()), *self._by_chip.get(None, ()))
        return [s for s in shared if s.extensions.tcb == report.reported_tcb][:MOST_TRIED]

    def near(self, report: Report) -> list[Signer]:
        """Those that agree in one of the two, any for a masked chip; `MOST_TRIED` of each kind."""
        if report.chip_id_is_masked:
            return self.all[:MOST_TRIED]
        return [
            *self._by_chip.get(report.chip_id, ())[:MOST_TRIED],
            *self._by_chip.get(None, ())[:MOST_TRIED],
            *self._by_tcb.get(report.reported_tcb, ())[:MOST_TRIED],
        ]


def _endorsed(endorsements: Endorsements) -> Iterator[SignerIndex]:
    """The endorsed signers, an index for each layer, made when first asked for."""
    for layer, index in zip(endorsements.layers, indexes_of(endorsements), strict=True):
        found = layer.derived.get("sev-snp-signers")
        if not isinstance(found, SignerIndex):
            found = layer.derived["sev-snp-signers"] = SignerIndex(index.all)
        yield found


def find_signer(
    report: Report,
    data: bytes,
    context: Context,
    checks: Checklist,
    extra: tuple[PathCertificate, ...] = (),
) -> Signer:
    """The key that signed a report (`data`); `extra` are certificates that came with it.

    Raises EvidenceError and InfrastructureError as the module says.
    """
    signed_part = data[: sev_snp.SIGNED_SIZE]
    brought = SignerIndex(extra)
    indexes = (brought, *_endorsed(context.endorsements))
    fitting = [signer for index in indexes for signer in index.fitting(report)]
    for signer in fitting:
        if _signed(signer, report, signed_part):
            _require_agreement(signer.extensions, report, checks)
            return signer
    if fitting:
        checks.refuse(
            "signature",
            "the report's signature does not verify under "
            + (
                fitting[0].certificate.title
                if len(fitting) == 1
                else f"any of the {len(fitting)} keys that fit its TCB"
            ),
        )
    for index in indexes:
        _refuse_near(index.near(report), report, signed_part, checks)
    for signer in brought.all:
        checks.refuse(
            "signer",
            f"{signer.certificate.title} came with the report and is of another chip id or TCB",
            expected=_identity(report.chip_id, report.reported_tcb),
            found=_identity(signer.extensions.hardware_id or b"", signer.extensions.tcb),
        )
    raise InfrastructureError(
        f"the {SigningKey(report.signing_key).name} certificate of this report is missing from the "
        f"collateral: {_identity(report.chip_id, report.reported_tcb)}",
        advice="give it as an endorsement, or fetch it: casemate collateral fetch",
    )


def _identity(chip_id: bytes, tcb: bytes) -> str:
    chip = f"{chip_id.hex()[:32]}..." if chip_id else "none"
    return f"chip id {chip}, reported TCB {tcb.hex()}"


def _signed(signer: Signer, report: Report, signed_part: bytes) -> bool:
    signature = x509.ecdsa_signature(report.signature)
    try:
        verify(signer.certificate.fields.spki, _SCHEME, signature, signed_part)
    except SignatureError:
        return False
    return True


def _refuse_near(near: list[Signer], report: Report, signed_part: bytes, checks: Checklist) -> None:
    """Refuse a report that a key at hand signed, be it as it is or before it was altered."""
    for signer in near:
        extensions = signer.extensions
        title = signer.certificate.title
        if _signed(signer, report, signed_part):
            checks.equal(
                "reported-tcb",
                expected=extensions.tcb,
                found=report.reported_tcb,
                what=f"reported TCB of a report that {title} signed",
            )
            checks.equal(
                "chip-id",
                expected=extensions.hardware_id or b"",
                found=report.chip_id,
                what=f"chip id of a report that {title} signed",
            )
        for chip_id in {extensions.hardware_id or report.chip_id, bytes(64)}:
            original = sev_snp.replace_identity(
                signed_part, chip_id=chip_id, reported_tcb=extensions.tcb
            )
            if _signed(signer, report, original):
                checks.refuse(
                    "altered",
                    f"{title} signed this report with another chip id or reported TCB: it was "
                    "altered",
                )


def _require_agreement(extensions: SignerExtensions, report: Report, checks: Checklist) -> None:
    product, key = extensions.product, extensions.signing_key
    checks.require("signature", True, "", passed=f"the report's signature verifies ({key.name})")
    checks.equal(
        "signing-key", expected=key.name, found=SigningKey(report.signing_key).name, what="signer"
    )
    checks.require(
        "reported-tcb", True, "", passed="the signer's TCB levels are the report's reported TCB"
    )
    if extensions.hardware_id is not None and not report.chip_id_is_masked:
        checks.require("chip-id", True, "", passed="the signer's hardware id is the chip id")
    if report.cpu is not None:
        found = sev_snp.product_of(report.cpu[0], report.cpu[1])
        checks.equal(
            "product",
            expected=product.value,
            found=found.value if found else f"family {report.cpu[0]:x}, model {report.cpu[1]:x}",
            what="processor",
        )
