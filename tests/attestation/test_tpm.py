"""TPM quotes: keys of both kinds, PCR values, event logs replayed, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Context, Piece, Verified
from casemate.attestation.evidence.registry import select
from casemate.attestation.evidence.tpm import Tpm
from casemate.formats import tcg_event_log, tpm
from casemate.formats.tcg_event_log import EventLogError
from casemate.formats.tpm import Algorithm, Attribute
from tests.attestation.authorities import Authority, rsa_key
from tests.attestation.sev_snp_maker import AT, p384_key
from tests.attestation.tpm_maker import AK_ATTRIBUTES, VirtualTpm, measured

FAMILY = Tpm()
NONCE = b"n" * 32
P256 = ec.generate_private_key(ec.SECP256R1())
TPMS = {
    "rsa": VirtualTpm(rsa_key("ak")).boot(),
    "pss": VirtualTpm(rsa_key("ak"), scheme=Algorithm.RSAPSS).boot(),
    "p256": VirtualTpm(P256).boot(),
    "p384": VirtualTpm(p384_key("ak"), hash=Algorithm.SHA384).boot(),
    "banks": VirtualTpm(rsa_key("ak"), banks=(Algorithm.SHA1, Algorithm.SHA256)).boot(),
    "sha384": VirtualTpm(rsa_key("ak"), banks=(Algorithm.SHA384,)).boot(),
    "legacy": VirtualTpm(rsa_key("ak"), banks=(Algorithm.SHA1,)).boot(),
}


def context_of(machine: VirtualTpm, nonce: bytes | None = NONCE) -> Context:
    anchor = TrustAnchor(machine.spki, "ak", purposes=frozenset({"tpm"}))
    return Context(at=AT, nonce=nonce, endorsements=Endorsements(anchors=(anchor,)))


def evidence(machine: VirtualTpm, nonce: bytes = NONCE) -> list[Piece]:
    message = machine.quote(nonce)
    signature = Piece(machine.signature(message), "quote.sig")
    return [Piece(message, "quote.msg"), signature, machine.values(), machine.log_piece()]


def verify(pieces: list[Piece], context: Context) -> Verified:
    (selection,) = select(pieces, [FAMILY])
    return selection.family.verify(selection.pieces, context)


def refused(pieces: list[Piece], context: Context) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(pieces, context)
    return caught.value.check.name


@pytest.mark.parametrize("kind", TPMS)
def test_quotes_of_every_key_and_bank(kind: str) -> None:
    machine = TPMS[kind]
    verified = verify([*evidence(machine), machine.public_area()], context_of(machine))
    assert verified.nonce == NONCE
    assert verified.host.name == f"tpm-ak:{hashlib.sha256(machine.spki).hexdigest()[:32]}"
    (component,) = verified.components
    bank = machine.banks[0]
    assert component.facts["pcr04"] == machine.pcrs(bank)[4]
    assert component.facts["secure_boot"] is True
    assert (component.facts["reset_count"], component.facts["clock_safe"]) == (3, True)
    by_key = {found.measurement.key: found for found in component.measured}
    digests = {digest.value for digest in by_key[7].measurement.values.digests}
    assert digests == {machine.pcrs(found)[7] for found in machine.banks}
    assert not by_key[7].optional and by_key[11].optional and by_key[None].optional
    registers = dict(by_key[None].measurement.values.integrity_registers)
    assert {digest.value for digest in registers[0]} == {machine.pcrs(b)[0] for b in machine.banks}


def test_the_json_form() -> None:
    machine = TPMS["rsa"]
    pieces = [machine.json_quote(NONCE), machine.log_piece()]
    assert verify(pieces, context_of(machine)).nonce == NONCE
    value = json.loads(pieces[0].data)
    value["pcrs"][4] = "ab" * 32
    assert refused([Piece(json.dumps(value).encode())], context_of(machine)) == "pcr-digest"


def test_values_may_come_from_the_log_alone_or_not_at_all() -> None:
    machine = TPMS["rsa"]
    quote, signature, _, log = evidence(machine)
    facts = verify([quote, signature, log], context_of(machine)).components[0].facts
    assert facts["pcr00"] == machine.pcrs(Algorithm.SHA256)[0]
    (component,) = verify([quote, signature], context_of(machine)).components
    assert [found.label for found in component.measured] == ["digest of the PCRs"]


def test_a_quote_of_some_pcrs() -> None:
    machine = TPMS["rsa"]
    message = machine.quote(NONCE, (0, 7))
    signed = [Piece(message), Piece(machine.signature(message))]
    facts = verify([*signed, machine.values((0, 7))], context_of(machine)).components[0].facts
    assert "pcr07" in facts and "pcr04" not in facts
    verify([*signed, machine.log_piece()], context_of(machine))
    assert refused([*signed, machine.values()], context_of(machine)) == "pcr-values"
    assert refused([*signed, machine.values((0,))], context_of(machine)) == "pcr-values"


def test_the_nonce() -> None:
    machine = TPMS["rsa"]
    assert verify(evidence(machine), context_of(machine, b"another")).nonce is None
    assert verify(evidence(machine), context_of(machine, None)).nonce is None


def test_which_attestation_key_is_known() -> None:
    machine = TPMS["rsa"]
    nobody = Context(at=AT, endorsements=Endorsements())
    with pytest.raises(InfrastructureError, match="no attestation key"):
        verify(evidence(machine), nobody)
    stranger = context_of(TPMS["p256"])
    assert refused(evidence(machine), stranger) == "signature"
    stated = [*evidence(machine), machine.public_area()]
    assert refused(stated, stranger) == "attestation-key"
    wrong = [*evidence(machine), TPMS["p256"].public_area()]
    assert refused(wrong, context_of(machine)) == "signature"
    for attributes in (
        AK_ATTRIBUTES & ~Attribute.RESTRICTED,
        AK_ATTRIBUTES & ~Attribute.FIXED_TPM,
        AK_ATTRIBUTES | Attribute.DECRYPT,
    ):
        loose = [*evidence(machine), machine.public_area(attributes)]
        assert refused(loose, context_of(machine)) == "key-attributes"


def test_an_attestation_key_with_a_certificate() -> None:
    machine = TPMS["rsa"]
    maker = Authority("TPM maker", rsa_key("tpm-ca"), pss=False)
    certificate = NamedBytes(maker.issue("AK", machine.key, not_after="20270101000000Z"), "ak.der")
    root = NamedBytes(maker.certify(maker), "root.der")
    endorsed = Endorsements(anchors=(maker.anchor,), certificates=(certificate, root))
    verified = verify(evidence(machine), Context(at=AT, endorsements=endorsed))
    assert verified.valid_until is not None and verified.valid_until.year == 2027
    unknown = dataclasses.replace(endorsed, anchors=())
    assert refused(evidence(machine), Context(at=AT, endorsements=unknown)) == "anchor"
    late = Context(at=AT.replace(year=2028), endorsements=endorsed)
    assert refused(evidence(machine), late) == "expired"


def test_what_the_host_made_itself() -> None:
    machine = TPMS["rsa"]
    message = b"\0TCG" + machine.quote(NONCE)[4:]
    pieces = {"quote": (Piece(message),), "signature": (Piece(machine.signature(message)),)}
    with pytest.raises(EvidenceError, match="no TPM made this"):
        FAMILY.verify(pieces, context_of(machine))


def test_a_log_that_leads_elsewhere_names_the_register() -> None:
    machine = TPMS["rsa"]
    other = VirtualTpm(machine.key).boot()
    other.events[2] = measured(4, 0x80000003, b"another boot loader", other.banks)
    pieces = [*evidence(machine)[:3], other.log_piece()]
    with pytest.raises(EvidenceError, match="PCR 4") as caught:
        verify(pieces, context_of(machine))
    assert caught.value.check.name == "event-log"
    foreign = VirtualTpm(machine.key, banks=(Algorithm.SHA384,)).boot().log_piece()
    assert refused([*evidence(machine)[:3], foreign], context_of(machine)) == "event-log"


def test_secure_boot_off_is_told() -> None:
    machine = VirtualTpm(rsa_key("ak")).boot(secure_boot=b"\0")
    facts = verify(evidence(machine), context_of(machine)).components[0].facts
    assert facts["secure_boot"] is False


def test_startup_locality_and_padding_of_logs() -> None:
    machine = TPMS["rsa"]
    start = tcg_event_log.Event(0, 3, {Algorithm.SHA256: bytes(32)}, b"StartupLocality\0" + b"\3")
    log = dataclasses.replace(machine.log, events=(machine.log.events[0], start, *machine.events))
    data = tcg_event_log.encode(log)
    first = hashlib.sha256(bytes(31) + b"\3" + machine.events[0].digests[Algorithm.SHA256])
    for padding in (b"", bytes(100), b"\xff" * 100):
        read = tcg_event_log.decode(data + padding)
        assert read == log
        assert tcg_event_log.replay(read, Algorithm.SHA256)[0] == first.digest()
    with pytest.raises(EventLogError):
        tcg_event_log.decode(data + b"\1" + bytes(99))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["rsa", "pss", "p256", "banks"]), st.data())
def test_a_bit_in_what_is_signed(kind: str, data: st.DataObject) -> None:
    machine = TPMS[kind]
    pieces = _made(kind)
    position = data.draw(st.integers(0, 2))
    piece = pieces[position]
    role = FAMILY.role(piece.data)
    assert role is not None
    covered = data.draw(st.sampled_from(FAMILY.covered(role, piece.data)))
    offset = data.draw(st.sampled_from(covered))
    flipped = bytearray(piece.data)
    flipped[offset] ^= 1 << data.draw(st.integers(0, 7))
    changed = {FAMILY.role(p.data) or "": (p,) for p in pieces} | {role: (Piece(bytes(flipped)),)}
    with pytest.raises(EvidenceError):
        FAMILY.verify(changed, context_of(machine))


@settings(max_examples=100, deadline=None)
@given(st.integers(0), st.integers(0, 7))
def test_a_bit_in_the_log_never_improves_it(position: int, bit: int) -> None:
    machine = TPMS["rsa"]
    pieces = _made("rsa")
    log = bytearray(machine.log_piece().data)
    log[position % len(log)] ^= 1 << bit
    changed = {FAMILY.role(p.data) or "": (p,) for p in pieces}
    try:
        verified = FAMILY.verify(changed | {"event-log": (Piece(bytes(log)),)}, context_of(machine))
    except EvidenceError:
        return
    measured_before = verify(pieces, context_of(machine)).components[0].measured
    assert verified.components[0].measured == measured_before


_MADE: dict[str, list[Piece]] = {}


def _made(kind: str) -> list[Piece]:
    if kind not in _MADE:
        _MADE[kind] = evidence(TPMS[kind])
    return _MADE[kind]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for decode in (tpm.decode_quote, tpm.decode_signature, tpm.decode_public):
        for prefix in (b"", tpm.QUOTE_MAGIC, struct.pack(">HH", 0x18, 0xB), b"\0\1\0\x0b"):
            try:
                decode(prefix + data)
            except tpm.TpmError:
                continue
    spec = tcg_event_log.encode(TPMS["banks"].log)[:80]
    for prefix in (b"", spec):
        try:
            tcg_event_log.decode(prefix + data)
        except EventLogError:
            continue
