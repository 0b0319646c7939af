"""Azure composites: report, runtime claims and vTPM quote, and every way to mix them."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.azure_snp_vtpm import AzureSnpVtpm, AzureSnpVtpmJson
from casemate.attestation.evidence.family import Context, Family, FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import azure_hcl, x509
from casemate.formats.azure_hcl import HashType, HclReport, ReportType
from casemate.formats.tpm import Algorithm
from tests.attestation import real_data
from tests.attestation.authorities import rsa_key
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.tpm_maker import VirtualTpm

NONCE = b"n" * 32
FILES: list[Family] = [AzureSnpVtpm(), AzureSnpVtpmJson()]


@dataclasses.dataclass(frozen=True)
class Machine:
    """One VM: its platform and its vTPM."""

    platform: Platform
    vtpm: VirtualTpm
    hash_type: HashType = HashType.SHA256

    def claims(self, user_data: bytes = bytes(64), **changes: Any) -> bytes:
        numbers = self.vtpm.key.public_key().public_numbers()
        key = {
            "kid": "HCLAkPub",
            "key_ops": ["sign"],
            "kty": "RSA",
            "e": "AQAB",
            "n": base64url(numbers.n.to_bytes(256, "big")),  # type: ignore[union-attr]
        }
        value = {
            "keys": [key],
            "vm-configuration": {"secure-boot": True, "vmUniqueId": "911B0EF8"},
            "user-data": user_data.hex().upper(),
        }
        names = {"vm_configuration": "vm-configuration", "user_data_text": "user-data"}
        changed = {names.get(name, name): value for name, value in changes.items()}
        return json.dumps({**value, **changed}).encode()

    def hcl(self, claims: bytes | None = None, **fields: Any) -> Piece:
        claims = self.claims() if claims is None else claims
        digest = hashlib.new(self.hash_type.name.lower(), claims).digest()
        report = self.platform.evidence(**{"report_data": digest.ljust(64, b"\0"), **fields})
        made = HclReport(report.data, ReportType.SEV_SNP, self.hash_type, claims)
        return Piece(azure_hcl.encode(made), "hcl-report.bin")

    def evidence(self, nonce: bytes = NONCE) -> list[Piece]:
        return [self.hcl(), self.vtpm.json_quote(nonce)]

    def json_evidence(self, version: int | str = 1, user_data: bytes = bytes(64)) -> Piece:
        value = {
            "version": version,
            "hcl_report": base64url(self.hcl(self.claims(user_data)).data),
            "tpm_quote": json.loads(self.vtpm.json_quote(NONCE).data),
            "vcek": base64url(self.platform.signer_certificate.data),
        }
        return Piece(b"\n" + json.dumps(value).encode(), "evidence.json")

    def context(self) -> Context:
        return self.platform.context(nonce=NONCE)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


GOOD = Machine(Platform(), VirtualTpm(rsa_key("vtpm-a")).boot())
OTHER = Machine(Platform(chip=b"\7" * 64), VirtualTpm(rsa_key("vtpm-b")).boot())


def verify(pieces: list[Piece], context: Context) -> Verified:
    (selection,) = select(pieces, families())
    assert selection.family.name is FamilyName.AZURE_SNP_VTPM
    return selection.family.verify(selection.pieces, context)


def refused(pieces: list[Piece], context: Context) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(pieces, context)
    return caught.value.check.name


def test_authentic_evidence() -> None:
    pieces = [*GOOD.evidence(), GOOD.vtpm.log_piece()]
    verified = verify(pieces, GOOD.context())
    assert verified.nonce == NONCE
    assert verified.host.kind == "tpm-ak"
    assert verified.host.key_digest == hashlib.sha256(GOOD.vtpm.spki).digest()
    snp, vtpm = verified.components
    assert (snp.name, vtpm.name) == ("sev-snp", "tpm")
    assert snp.facts["debug"] is False and vtpm.facts["vm_secure_boot"] is True
    assert vtpm.facts["vm_unique_id"] == "911B0EF8" and vtpm.facts["secure_boot"] is True
    assert vtpm.facts["pcr04"] == GOOD.vtpm.pcrs(Algorithm.SHA256)[4]
    assert {check.name for check in snp.checks} >= {"signature", "chip-id", "path"}


@pytest.mark.parametrize("hash_type", HashType)
def test_every_hash_of_the_claims(hash_type: HashType) -> None:
    machine = dataclasses.replace(GOOD, hash_type=hash_type)
    verify(machine.evidence(), machine.context())


def test_the_agents_json_brings_its_vcek() -> None:
    without_vcek = GOOD.platform.endorsements().certificates[1:]
    context = GOOD.platform.context(certificates=without_vcek, nonce=NONCE)
    verify([GOOD.json_evidence()], context)
    verify([GOOD.json_evidence("1")], context)
    bound = NONCE.ljust(64, b"\0")
    verify([GOOD.json_evidence(2, bound)], context)
    assert refused([GOOD.json_evidence(2)], context) == "user-data"
    assert refused([GOOD.json_evidence(3)], context) == "form"
    with pytest.raises(InfrastructureError, match="SEV-Milan"):
        verify([GOOD.json_evidence()], GOOD.platform.context(certificates=()))
    forger = Machine(Platform(maker="b"), GOOD.vtpm)
    assert refused([forger.json_evidence()], context) == "path-signature"


def test_parts_of_two_good_machines_do_not_mix() -> None:
    both = GOOD.platform.endorsements()
    other = OTHER.platform.endorsements()
    merged = dataclasses.replace(both, certificates=both.certificates + other.certificates)
    context = dataclasses.replace(GOOD.context(), endorsements=merged)
    verify(GOOD.evidence(), context)
    verify(OTHER.evidence(), context)
    swapped = [GOOD.evidence()[0], OTHER.evidence()[1]]
    assert refused(swapped, context) == "quote-signature"
    assert refused([OTHER.evidence()[0], GOOD.evidence()[1]], context) == "quote-signature"
    # The report of one around the claims of the other.
    parts = azure_hcl.decode(GOOD.hcl().data)
    claims = dataclasses.replace(parts, claims=OTHER.claims())
    mixed = [Piece(azure_hcl.encode(claims)), OTHER.evidence()[1]]
    assert refused(mixed, context) == "runtime-claims"
    foreign_log = VirtualTpm(GOOD.vtpm.key).boot(b"\0").log_piece()
    assert refused([*GOOD.evidence(), foreign_log], context) == "event-log"


def test_a_report_that_the_guest_made() -> None:
    pieces = [GOOD.hcl(vmpl=1), GOOD.vtpm.json_quote(NONCE)]
    assert refused(pieces, GOOD.context()) == "vmpl"


def test_another_nonce_is_not_answered() -> None:
    assert verify(GOOD.evidence(b"old"), GOOD.context()).nonce is None


@pytest.mark.parametrize(
    "claims",
    [
        b"no JSON",
        b"[]",
        GOOD.claims(keys=[]),
        GOOD.claims(keys=[{"kid": "HCLAkPub", "kty": "EC"}]),
        GOOD.claims(keys=[{"kid": "HCLAkPub", "kty": "RSA", "n": "*", "e": "AQAB"}]),
        GOOD.claims(keys=[{"kid": "HCLAkPub", "kty": "RSA", "n": "AQ", "e": "AQ"}]),
        GOOD.claims(vm_configuration=1),
        GOOD.claims(user_data_text="zz"),
    ],
)
def test_claims_that_cannot_be_read(claims: bytes) -> None:
    assert refused([GOOD.hcl(claims), GOOD.vtpm.json_quote(NONCE)], GOOD.context()) == "form"


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 1), st.data())
def test_a_bit_in_what_is_signed(position: int, data: st.DataObject) -> None:
    pieces = _good()
    family = FILES[0]
    role = family.role(pieces[position].data)
    assert role is not None
    covered = data.draw(st.sampled_from(family.covered(role, pieces[position].data)))
    flipped = bytearray(pieces[position].data)
    flipped[data.draw(st.sampled_from(covered))] ^= 1 << data.draw(st.integers(0, 7))
    roles = {family.role(piece.data) or "": (piece,) for piece in pieces}
    with pytest.raises(EvidenceError):
        family.verify({**roles, role: (Piece(bytes(flipped)),)}, GOOD.context())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_bit_in_the_agents_json(data: st.DataObject) -> None:
    evidence, family = _good_json(), FILES[1]
    covered = data.draw(st.sampled_from(family.covered("evidence", evidence)))
    flipped = bytearray(evidence)
    flipped[data.draw(st.sampled_from(covered))] ^= 1 << data.draw(st.integers(0, 7))
    context = GOOD.context()
    without_vcek = dataclasses.replace(
        context.endorsements, certificates=context.endorsements.certificates[1:]
    )
    with pytest.raises(EvidenceError):
        family.verify(
            {"evidence": (Piece(bytes(flipped)),)},
            dataclasses.replace(context, endorsements=without_vcek),
        )


def test_a_bit_of_every_byte_of_the_agents_vcek() -> None:
    evidence, family = json.loads(_good_json()), FILES[1]
    vcek = azure_hcl.decode_base64url(evidence["vcek"])
    context = GOOD.context()
    without_vcek = dataclasses.replace(
        context.endorsements, certificates=context.endorsements.certificates[1:]
    )
    issuer = x509.read_certificate(vcek).issuer
    named = vcek.index(issuer)
    places = {(position, position % 8) for position in range(len(vcek))}
    places |= {(named + at, bit) for at in range(len(issuer)) for bit in range(8)}
    for position, bit in sorted(places):
        flipped = bytearray(vcek)
        flipped[position] ^= 1 << bit
        evidence["vcek"] = base64.urlsafe_b64encode(flipped).decode().rstrip("=")
        piece = Piece(json.dumps(evidence).encode())
        with pytest.raises(EvidenceError):
            family.verify(
                {"evidence": (piece,)}, dataclasses.replace(context, endorsements=without_vcek)
            )


#: Where a SEV-SNP report has reported TCB, processor and chip id.
IDENTITY = range(0x17F, 0x1E1)


def test_a_bit_of_every_character_of_the_agents_report() -> None:
    # One character of base64 may be parts of two bytes, of a TCB and what stands behind it.
    evidence, family = _good_json(), FILES[1]
    context = GOOD.context()
    without_vcek = dataclasses.replace(
        context.endorsements, certificates=context.endorsements.certificates[1:]
    )
    text = json.loads(evidence)["hcl_report"]
    report, _ = azure_hcl.signed_ranges(azure_hcl.decode_base64url(text))
    begin = evidence.index(text.encode())
    for position in range(report.start * 4 // 3 + 1, report.stop * 4 // 3):
        identity = IDENTITY.start <= position * 3 // 4 - report.start < IDENTITY.stop
        for bit in range(7) if identity else (position % 6,):
            flipped = bytearray(evidence)
            flipped[begin + position] ^= 1 << bit
            with pytest.raises(EvidenceError):
                family.verify(
                    {"evidence": (Piece(bytes(flipped)),)},
                    dataclasses.replace(context, endorsements=without_vcek),
                )


@settings(max_examples=120, deadline=None)
@given(st.integers(0), st.integers(0, 7))
def test_a_bit_anywhere_never_changes_the_claims(position: int, bit: int) -> None:
    pieces = _good()
    family = FILES[0]
    before = verify(pieces, GOOD.context())
    flipped = bytearray(pieces[0].data)
    flipped[position % len(flipped)] ^= 1 << bit
    roles = {family.role(piece.data) or "": (piece,) for piece in pieces}
    try:
        after = family.verify({**roles, "hcl-report": (Piece(bytes(flipped)),)}, GOOD.context())
    except EvidenceError:
        return
    assert after.components == before.components


_GOOD: list[Piece] = []
_JSON: list[bytes] = []


def _good_json() -> bytes:
    if not _JSON:
        _JSON.append(GOOD.json_evidence().data)
    return _JSON[0]


def _good() -> list[Piece]:
    if not _GOOD:
        _GOOD.extend(GOOD.evidence())
    return _GOOD


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for prefix in (b"", GOOD.hcl().data[:1236]):
        try:
            azure_hcl.decode(prefix + data)
        except azure_hcl.HclError:
            continue


def test_real_evidence_in_both_forms() -> None:
    case = real_data.case("azure-vtpm")
    chain = real_data.certificates(case["endorsements"])
    context = Context(
        at=real_data.time_of(case),
        nonce=b"challenge",
        endorsements=Endorsements(certificates=chain),
    )
    verified = verify(list(real_data.pieces(case)), context)
    assert verified.nonce == b"challenge"
    assert verified.components[1].facts["vm_secure_boot"] is True
    data = (real_data.data_folder() / "azure-vtpm/evidence-v1.json").read_bytes()
    upper = Endorsements(certificates=chain[1:])
    verified = verify(
        [Piece(data, "evidence-v1.json")], dataclasses.replace(context, endorsements=upper)
    )
    assert verified.nonce == b"challenge"
