"""Quotes of a real TPM implementation (swtpm), where it is installed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from casemate.attestation.endorsements import Endorsements, TrustAnchor
from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.family import Context, Piece
from casemate.attestation.evidence.registry import select
from casemate.attestation.evidence.tpm import Tpm
from casemate.formats import tcg_event_log, tpm
from casemate.formats.tpm import Algorithm
from tests.attestation.sev_snp_maker import AT
from tests.attestation.software_tpm import software_tpm
from tests.attestation.tdx_maker import p256_key
from tests.attestation.tpm_maker import VirtualTpm

BANKS = (Algorithm.SHA256,)


@pytest.mark.parametrize("elliptic", [False, True], ids=["rsa", "p256"])
def test_a_boot_measured_into_a_real_tpm(tmp_path: Path, elliptic: bool) -> None:
    nonce = hashlib.sha256(b"nonce").digest()
    boot = VirtualTpm(p256_key("log-only"), banks=BANKS).boot()
    with software_tpm(tmp_path) as device:
        handle, public = device.make_attestation_key(elliptic=elliptic)
        for event in boot.events:
            device.extend(event.pcr, event.digests[Algorithm.SHA256])
        message, signature = device.quote(handle, nonce, (0, 4, 7))
        values = {pcr: device.read_pcr(pcr) for pcr in (0, 4, 7)}
    assert tcg_event_log.replay(boot.log, Algorithm.SHA256) == values
    assert tpm.encode_quote(tpm.decode_quote(message)) == message

    anchor = TrustAnchor(tpm.decode_public(public).spki, "ak", purposes=frozenset({"tpm"}))
    context = Context(at=AT, nonce=nonce, endorsements=Endorsements(anchors=(anchor,)))
    pieces = [
        Piece(message, "quote"),
        Piece(signature, "signature"),
        Piece(public, "ak.pub"),
        boot.values((0, 4, 7)),
        boot.log_piece(),
    ]
    (selection,) = select(pieces, [Tpm()])
    verified = selection.family.verify(selection.pieces, context)
    assert verified.nonce == nonce
    facts = verified.components[0].facts
    assert (facts["pcr04"], facts["secure_boot"]) == (values[4], True)

    other = VirtualTpm(p256_key("log-only"), banks=BANKS).boot(secure_boot=b"\0")
    (selection,) = select([*pieces[:3], other.log_piece()], [Tpm()])
    with pytest.raises(EvidenceError, match="digest of the PCR values"):
        selection.family.verify(selection.pieces, context)
