"""Certificates, leaves and quotes as files of their own; the golden chain that must not hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding

from casemate.attestation.endorsements import Endorsements, TrustAnchor
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import FamilyName, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.formats import pcr_quote, x509
from casemate.rot.evidence import leaf_certificate
from casemate.rot.identity import Algorithm
from tests.attestation import hosts
from tests.rot.devices import golden


@cache
def host(number: int = 1) -> hosts.Host:
    return hosts.boot(number)


def chain(algorithm: Algorithm = Algorithm.ECC, number: int = 1) -> tuple[bytes, ...]:
    """IDevID, LDevID, FMC alias, RT alias."""
    return (host(number).idevid[algorithm], *host(number).attester.chain(algorithm))


def leaf(algorithm: Algorithm = Algorithm.ECC, number: int = 1) -> bytes:
    return leaf_certificate(host(number).attester, algorithm)


def quote(algorithm: Algorithm = Algorithm.ECC, number: int = 1) -> bytes:
    return pcr_quote.encode(host(number).attester.quote(algorithm, hosts.NONCE))


def verify(pieces: Sequence[bytes], **changes: Any) -> Verified:
    (selection,) = select([Piece(data) for data in pieces], families())
    return selection.family.verify(selection.pieces, hosts.context(**changes))


def refused(pieces: Sequence[bytes], **changes: Any) -> EvidenceError:
    with pytest.raises(EvidenceError) as caught:
        verify(pieces, **changes)
    return caught.value


def names(verified: Verified) -> list[str]:
    return [component.name for component in verified.components]


def test_golden_certificates_whose_signature_verifies_but_whose_names_do_not_chain() -> None:
    request = x509.read_request(golden("idevid_csr_ecc.der"))
    endorsed = Endorsements(anchors=(TrustAnchor(request.spki, "idevid_csr_ecc.der"),))
    pieces = [golden("ldevid_cert_ecc.der"), golden("fmc_alias_cert_ecc.der")]
    error = refused(pieces, endorsements=endorsed, at=datetime(2026, 11, 23, tzinfo=UTC))
    assert error.check.name == "fmc-alias-issuer-name"
    assert "verifies under the LDevID key, but its issuer name is not" in error.check.sentence
    # The certificate above it is good by itself.
    verified = verify(pieces[:1], endorsements=endorsed)
    assert verified.family is FamilyName.CALIPTRA_CERTIFICATES
    assert names(verified) == ["device"]


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_bare_chain_as_far_down_as_it_goes(algorithm: Algorithm) -> None:
    certificates = chain(algorithm)
    verified = verify(list(reversed(certificates)))
    assert verified.family is FamilyName.CALIPTRA_CERTIFICATES
    assert names(verified) == ["device", "fmc", "runtime"]
    assert names(verify(certificates[:3])) == ["device", "fmc"]
    assert verified.host == verify(certificates[:2]).host
    pem = b"".join(
        pyca.load_der_x509_certificate(data).public_bytes(Encoding.PEM) for data in certificates
    )
    assert verify([pem]).components == verified.components


def test_an_idevid_may_be_the_anchor() -> None:
    certificates = chain()
    own = x509.read_certificate(certificates[0])
    by_key = Endorsements(anchors=(TrustAnchor(own.spki, "request"),))
    by_name = Endorsements(anchors=(TrustAnchor(own.spki, "certificate", subject=own.subject),))
    expected = verify(certificates).host
    for endorsed in (by_key, by_name):
        assert verify(certificates, endorsements=endorsed).host == expected
        assert verify(certificates[1:], endorsements=endorsed).host == expected
        error = refused(chain(number=2)[1:], endorsements=endorsed)
        assert error.check.name == "anchor"
    wrong_name = Endorsements(anchors=(TrustAnchor(own.spki, "other", subject=own.issuer),))
    assert refused(certificates[1:], endorsements=wrong_name).check.name == "anchor"
    # A layer below the IDevID is no anchor: nothing of the device would be known.
    below = x509.read_certificate(certificates[1])
    local = Endorsements(anchors=(TrustAnchor(below.spki, "LDevID", subject=below.subject),))
    assert refused(certificates, endorsements=local).check.name == "anchor-layer"
    assert refused(certificates[2:], endorsements=local).check.name == "anchor-layer"


def test_an_endorsed_certificate_may_stand_between() -> None:
    certificates = chain()
    assert refused(certificates[1:]).check.name == "anchor"
    endorsed = hosts.endorsed(certificates[0])
    assert verify(certificates[1:], endorsements=endorsed).host == verify(certificates).host


def test_anchors_may_be_for_other_families() -> None:
    anchors = tuple(
        dataclasses.replace(anchor, purposes=frozenset({"sev-snp"}))
        for anchor in hosts.endorsements().anchors
    )
    with pytest.raises(InfrastructureError, match="no anchor"):
        verify(chain(), endorsements=Endorsements(anchors=anchors))


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_dpe_leaf_shows_the_module(algorithm: Algorithm) -> None:
    verified = verify([leaf(algorithm), *chain(algorithm)])
    assert verified.family is FamilyName.DPE_LEAF
    assert names(verified) == ["device", "fmc", "runtime", "module"]
    assert refused([leaf(algorithm), *chain(algorithm, 2)]).check.name == "dpe-leaf-signature"


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_quote_with_its_log_and_certificates(algorithm: Algorithm) -> None:
    log = host().attester.log()
    certificates = b"".join(chain(algorithm))
    verified = verify([quote(algorithm), log, certificates])
    assert verified.family is FamilyName.CALIPTRA
    assert names(verified) == ["device", "fmc", "runtime"]
    assert verified.components[0].facts["debug_locked"] is True
    with_leaf = verify([quote(algorithm), log, certificates, leaf(algorithm)])
    assert names(with_leaf) == ["device", "fmc", "runtime", "module"]
    without_log = verify([quote(algorithm), certificates])
    assert "debug_locked" not in without_log.components[0].facts
    with pytest.raises(InfrastructureError, match="certificates of the device"):
        verify([quote(algorithm), log])


def test_the_parts_of_two_hosts_do_not_fit() -> None:
    log, other = host().attester.log(), hosts.boot(2, firmware_svn_fuse=7)
    mine = b"".join(chain())
    assert refused([quote(number=2), log, mine]).check.name == "quote-signature"
    assert refused([quote(), other.attester.log(), mine]).check.name == "log-pcr-0"
    assert refused([quote(Algorithm.MLDSA), log, mine]).check.name == "quote-algorithm"
    assert refused([quote(), log, mine], nonce=bytes(32)).check.name == "quote-nonce"
    assert refused([quote(), quote(number=2), log, mine]).check.name == "pieces"
    assert refused([quote(), log, mine, leaf(number=2)]).check.name == "dpe-leaf-signature"
    assert refused([quote(), log, b"".join(chain()[:2])]).check.name == "chain-layers"
    both = refused([b"".join(chain()), b"".join(chain(Algorithm.MLDSA))])
    assert both.check.name == "certificates"
