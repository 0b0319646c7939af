"""Key reports that a running module makes, of every kind of key, as the verifier reads them."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from casemate.attestation.errors import EvidenceError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.evidence.registry import families, select
from casemate.hsm.client import Algorithm
from tests.attestation import hosts
from tests.running_module import RunningModule

KINDS = {
    Algorithm.RSA_2048: "rsa-2048",
    Algorithm.P256: "p-256",
    Algorithm.P384: "p-384",
    Algorithm.P521: "p-521",
    Algorithm.ED25519: "ed25519",
    Algorithm.ML_DSA_65: "ml-dsa-65",
}


def test_every_kind_of_key_that_a_partition_reports(shared_module: RunningModule) -> None:
    with shared_module.connect() as web:
        (certificate,) = web.certificate_chain()
        made = {kind: web.generate(kind, label=str(kind)) for kind in KINDS}
        reports = {kind: pair.private.attest(hosts.NONCE) for kind, pair in made.items()}
        azure = made[Algorithm.RSA_2048].private.attest(hosts.NONCE, version=1)
        public = {kind: pair.public.public_key_info() for kind, pair in made.items()}
        late = made[Algorithm.P256].private.attest(bytes(32))
    named = dataclasses.replace(hosts.endorsements(), anchors=(hosts.anchor_of(certificate),))
    # The partition is made now: its certificate is valid from now on, without an end.
    context = hosts.context(endorsements=named, at=datetime.now(UTC) + timedelta(days=1))
    for kind, report in (*reports.items(), (Algorithm.RSA_2048, azure)):
        (selection,) = select([Piece(report), Piece(certificate)], families())
        verified = selection.family.verify(selection.pieces, context)
        key = verified.components[-1]
        assert key.facts["kind"] == KINDS[kind]
        spki = key.facts["public_key"]
        assert isinstance(spki, bytes)
        loaded = load_der_public_key(spki)
        assert loaded.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) == spki
        assert spki == public[kind]
        assert (key.facts["generated"], key.facts["imported"]) == (True, False)
        assert key.facts["partition"] == "web"
        assert len(key.measured) == (0 if report == azure else 5)
    (selection,) = select([Piece(late), Piece(certificate)], families())
    with pytest.raises(EvidenceError, match="nonce"):
        selection.family.verify(selection.pieces, context)
