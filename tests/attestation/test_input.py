"""Sorting what an operator gives: kinds by bytes, trust by what the operator said."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given as given_by
from hypothesis import strategies as st

from casemate.attestation import input as given
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import EvidenceError, InputError
from casemate.attestation.evidence import registry
from casemate.attestation.evidence.family import Piece
from casemate.formats import cmw, x509
from casemate.formats.cmw import Collection, MessageKind, Record
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.attestation.authorities import Authority, rsa_key
from tests.attestation.sev_snp_maker import Platform
from tests.attestation.verifiers import appraise, good_corim, host, verifier

FAMILIES = registry.families()
EAT_TYPE = 'application/eat+cwt; eat_profile="1.3.6.1.4.1.42623.1.3"'


def sort(**files: list[bytes]) -> given.Given:
    named = {
        kind: [NamedBytes(data, f"{kind} {number}") for number, data in enumerate(datas)]
        for kind, datas in files.items()
    }
    return given.sort(families=FAMILIES, **named)  # type: ignore[arg-type]


def pem(label: str, data: bytes) -> bytes:
    body = base64.encodebytes(data).decode()
    return f"a remark\n-----BEGIN {label}-----\n{body}-----END {label}-----\n".encode()


def root_and_leaf() -> tuple[bytes, bytes]:
    root = Authority("root", rsa_key("root"))
    return root.certify(root), root.issue("leaf", rsa_key("leaf"))


def test_a_self_signed_certificate_is_an_anchor_only_where_somebody_names_it() -> None:
    root, leaf = root_and_leaf()
    named = sort(endorsements=[root, leaf]).endorsements
    assert [anchor.spki for anchor in named.anchors] == [x509.read_certificate(root).spki]
    assert len(named.certificates) == 2
    along = sort(evidence=[root, leaf])
    assert not along.endorsements.anchors


def test_any_certificate_is_an_anchor_where_the_operator_says_so() -> None:
    _, leaf = root_and_leaf()
    (anchor,) = sort(anchors=[leaf]).endorsements.anchors
    assert anchor.subject == x509.read_certificate(leaf).subject


def test_requests_and_keys_are_anchors_by_their_key_alone() -> None:
    request = host().root.csr_envelope
    assert request is not None
    certificate = host().idevid[Algorithm.ECC]
    spki = x509.read_certificate(certificate).spki
    (anchor,) = sort(endorsements=[pem("PUBLIC KEY", spki)]).endorsements.anchors
    assert (anchor.spki, anchor.subject) == (spki, b"")
    verdict = appraise(
        host().token(), using=verifier(endorsements=sort(endorsements=[spki]).endorsements)
    )
    assert verdict.host is not None, verdict.reasons


def test_the_epoch_follows_the_anchors_whatever_their_order() -> None:
    first, second = (hosts.manufacturer_certificate(algorithm) for algorithm in Algorithm)
    one = sort(endorsements=[first, second]).endorsements.epoch
    assert one == sort(endorsements=[second, first]).endorsements.epoch
    assert one != sort(endorsements=[first]).endorsements.epoch


def test_pem_jwk_crl_and_manifests_are_told_apart() -> None:
    root = Authority("root", rsa_key("root"))
    key = x509.read_certificate(hosts.manufacturer_certificate(Algorithm.ECC)).spki
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        "d": "not read at all",
    }
    found = sort(
        endorsements=[
            pem("CERTIFICATE", root.certify(root)) + pem("X509 CRL", root.revocation_list(7)),
            json.dumps(jwk).encode(),
            json.dumps({"keys": [jwk]}).encode(),
            key,
        ],
        evidence=[good_corim(), host().token()],
    )
    assert len(found.endorsements.certificates) == 1
    assert len(found.endorsements.revocations) == 1
    assert len(found.signers) == 3
    assert [piece.name for piece in found.pieces] == ["evidence 1"]
    assert [file.name for file in found.accompanying] == ["evidence 0"]
    assert found.references == ()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"nothing", "no endorsement"),
        (pem("PRIVATE KEY", b"secret"), "a private key"),
        (pem("CERTIFICATE", b"junk"), "its content is no certificate"),
        (pem("RSA SOMETHING", b"junk"), "unknown kind"),
        (b"-----BEGIN CERTIFICATE-----\n###\n-----END CERTIFICATE-----", "no base64"),
        (b'{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}', "no public key"),
    ],
)
def test_an_endorsement_that_is_none_is_refused_by_name(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match="endorsements 0") as refused:
        sort(endorsements=[data])
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@given_by(st.binary(max_size=200))
def test_evidence_of_no_kind_stays_evidence(data: bytes) -> None:
    found = sort(evidence=[data])
    assert found.pieces or found.endorsements != sort().endorsements or found.accompanying


def test_a_folder_stands_for_its_files(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"2")
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / ".hidden").write_bytes(b"3")
    assert [file.data for file in given.read_files([tmp_path])] == [b"1", b"2"]
    with pytest.raises(InputError, match="no files"):
        (tmp_path / "empty").mkdir()
        given.read_files([tmp_path / "empty"])


def test_certificates_beside_a_report_are_its_collateral() -> None:
    platform = Platform()
    report = platform.evidence().data
    chain = [platform.signer_certificate.data, platform.ask_certificate.data]
    found = sort(evidence=[report, *chain])
    assert [piece.data for piece in found.pieces] == [report]
    assert {file.data for file in found.endorsements.certificates} == set(chain)
    layers = [host().idevid[Algorithm.ECC], *host().attester.chain(Algorithm.ECC)]
    assert [piece.data for piece in sort(evidence=layers).pieces] == layers


# --- conceptual message wrappers --------------------------------------------------------------


def test_a_wrapper_is_unwrapped_and_its_types_select_the_families() -> None:
    platform = Platform()
    report = platform.evidence(report_data=hosts.NONCE.ljust(64, b"\0")).data
    kind = "application/vnd.amd.sev-snp.attestation-report"
    signer = platform.signer_certificate.data
    collection = Collection(
        (
            ("report", Record(kind, report)),
            ("vcek", Record("application/pkix-cert", signer, MessageKind.ENDORSEMENTS)),
            ("values", Record("application/rim+cbor", good_corim(), MessageKind.REFERENCE_VALUES)),
        )
    )
    for data in (cmw.encode_cbor(collection), cmw.encode_json(collection)):
        found = sort(evidence=[data])
        assert [(piece.media_type, piece.data) for piece in found.pieces] == [(kind, report)]
        assert [file.data for file in found.endorsements.certificates] == [signer]
        assert [file.data for file in found.accompanying] == [good_corim()]
        assert not found.endorsements.anchors


def test_a_type_that_does_not_fit_the_bytes_is_refused() -> None:
    kind = "application/vnd.amd.sev-snp.attestation-report"
    with pytest.raises(EvidenceError, match="no known family"):
        registry.select([Piece(host().token(), "token", kind)], FAMILIES)
    (selection,) = registry.select([Piece(host().token(), "token", "application/x")], FAMILIES)
    assert selection.family.name == "caliptra"
