"""TDX quotes of both versions under a root of the tests' own, and real ones."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import EvidenceError, InfrastructureError
from casemate.attestation.evidence.family import Context, Piece, Verified
from casemate.attestation.evidence.registry import families, select
from casemate.attestation.evidence.tdx import ROLE, Tdx
from casemate.attestation.input import sort
from casemate.formats import tdx_quote
from tests.attestation import real_data
from tests.attestation.tdx_maker import (
    AT,
    DEBUG,
    ENDS,
    SERIAL_PCK,
    SERIAL_PCK_CA,
    TdxPlatform,
)

FAMILY = Tdx()
GOOD = TdxPlatform()


def verify(piece: Piece, context: Context) -> Verified:
    return FAMILY.verify({ROLE: (piece,)}, context)


def refused(piece: Piece, context: Context) -> str:
    with pytest.raises(EvidenceError) as caught:
        verify(piece, context)
    return caught.value.check.name


@pytest.mark.parametrize(("version", "body_15"), [(4, False), (5, False), (5, True)])
def test_authentic_quotes(version: int, body_15: bool) -> None:
    nonce = b"n" * 32
    piece = GOOD.evidence(version=version, body_15=body_15, report_data=nonce.ljust(64, b"\0"))
    verified = verify(piece, GOOD.context(nonce=nonce))
    assert (verified.nonce, verified.host.kind) == (nonce, "pck")
    assert verified.valid_until == ENDS
    (component,) = verified.components
    facts = component.facts
    assert (facts["tcb_status"], facts["advisories"], facts["debug"]) == ("UpToDate", "", False)
    assert (facts["quote_version"], facts["collateral_stale"]) == (version, False)
    assert facts["fmspc"] == GOOD.fmspc
    by_key = {found.measurement.key: found for found in component.measured}
    assert by_key["mrtd"].measurement.values.digests[0].value == b"\x22" * 48
    assert by_key["rtmr1"].measurement.values.digests[0].value == b"\x31" * 48
    assert [by_key[key].optional for key in ("mrtd", "rtmr0", "rtmr2", "xfam")] == [
        False,
        False,
        True,
        True,
    ]
    assert ("mrservicetd" in by_key) == body_15


def test_the_tcb_level_is_a_fact() -> None:
    old = TdxPlatform(status="OutOfDate", advisories=("INTEL-SA-00001", "INTEL-SA-00002"))
    facts = verify(old.evidence(), old.context()).components[0].facts
    assert facts["tcb_status"] == "OutOfDate"
    assert facts["advisories"] == "INTEL-SA-00001,INTEL-SA-00002"
    revoked = TdxPlatform(status="Revoked")
    assert refused(revoked.evidence(), revoked.context()) == "tcb-revoked"
    below = TdxPlatform(cpu_svn=2)
    assert refused(below.evidence(), below.context()) == "tcb-level"


def test_debug_mode() -> None:
    assert refused(GOOD.evidence(attributes=DEBUG), GOOD.context()) == "debug"


def test_another_nonce_is_not_answered() -> None:
    assert verify(GOOD.evidence(), GOOD.context(nonce=b"x")).nonce is None


def test_a_root_that_is_named_as_a_certificate() -> None:
    root = GOOD.root_certificate.public_bytes(Encoding.DER)
    given_ = sort(
        anchors=[NamedBytes(root, "root.der")],
        endorsements=[GOOD.collateral()],
        families=families(),
    )
    assert verify(GOOD.evidence(), Context(at=AT, endorsements=given_.endorsements)).checks
    chains = json.loads(GOOD.collateral().data)
    shortened = {
        name: value[: value.index("-----END") + len("-----END CERTIFICATE-----\n")]
        for name, value in chains.items()
        if name.endswith("_chain")
    }
    rootless = Endorsements(
        anchors=given_.endorsements.anchors, tdx_collateral=(GOOD.collateral(**shortened),)
    )
    with pytest.raises(InfrastructureError, match="lack the certificate of the root"):
        verify(GOOD.evidence(), Context(at=AT, endorsements=rootless))


def test_collateral_that_is_missing_or_stale() -> None:
    evidence = GOOD.evidence()
    with pytest.raises(InfrastructureError, match="no TDX collateral for FMSPC b0c06f000000"):
        verify(evidence, GOOD.context(tdx_collateral=()))
    other = TdxPlatform(fmspc=b"\1" * 6).collateral()
    with pytest.raises(InfrastructureError, match="no TDX collateral"):
        verify(evidence, GOOD.context(tdx_collateral=(other,)))
    late = ENDS + timedelta(days=40)
    with pytest.raises(InfrastructureError, match="ended on 2026-07-01"):
        verify(evidence, GOOD.context(at=late))
    with pytest.raises(InfrastructureError, match="ended"):
        verify(evidence, GOOD.context(at=late, stale_until=ENDS))
    accepted = GOOD.context(at=late, stale_until=ENDS - timedelta(days=1))
    verified = verify(evidence, accepted)
    assert verified.components[0].facts["collateral_stale"] is True
    with pytest.raises(InfrastructureError, match="issued by 2026-05-01"):
        verify(evidence, GOOD.context(at=datetime(2026, 5, 1, tzinfo=UTC)))


def test_a_certificate_that_expired_although_collateral_may_be_stale() -> None:
    platform = TdxPlatform(pck_ends=datetime(2026, 7, 10, tzinfo=UTC))
    context = platform.context(at=datetime(2026, 8, 1, tzinfo=UTC), stale_until=AT)
    assert refused(platform.evidence(), context) == "expired"


def _changed(**changes: Any) -> Context:
    return GOOD.context(tdx_collateral=(GOOD.collateral(**changes),))


@pytest.mark.parametrize(
    "changes",
    [
        {"tcb_info": GOOD.tcb_info().replace('"svn":3', '"svn":2')},
        {"qe_identity": GOOD.qe_identity().replace('"isvsvn":4', '"isvsvn":1')},
        {"tcb_info_signature": "11" * 64},
        {"root_ca_crl": TdxPlatform("b").root.revocation_list(ends=ENDS).hex()},
        {"pck_crl": TdxPlatform("b").pck_ca.revocation_list(ends=ENDS).hex()},
        {
            "tcb_info_issuer_chain": json.loads(TdxPlatform("b").collateral().data)[
                "tcb_info_issuer_chain"
            ]
        },
        {"tcb_info": "no JSON"},
        {"pck_crl": "00"},
        {"qe_identity_issuer_chain": ""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_forged_collateral_is_no_fault_of_the_evidence(changes: dict[str, str]) -> None:
    with pytest.raises(InfrastructureError, match=r"not authentic|cannot be read"):
        verify(GOOD.evidence(), _changed(**changes))


def test_collateral_is_known_among_the_files_of_an_operator() -> None:
    collateral = GOOD.collateral()
    given = sort(
        evidence=[NamedBytes(GOOD.evidence().data, "quote.bin")],
        endorsements=[collateral],
        families=families(),
        require_revocation=True,
    )
    assert given.endorsements.tdx_collateral == (collateral,)
    assert given.endorsements.require_revocation
    assert [piece.name for piece in given.pieces] == ["quote.bin"]


def test_revocation() -> None:
    for serial in (SERIAL_PCK, SERIAL_PCK_CA):
        platform = TdxPlatform(revoked=(serial,))
        if serial == SERIAL_PCK:
            assert refused(platform.evidence(), platform.context()) == "revoked"
        else:
            with pytest.raises(InfrastructureError, match="revoked"):
                verify(platform.evidence(), platform.context())


def test_a_root_that_nobody_named() -> None:
    assert refused(GOOD.evidence(), GOOD.context(anchors=())) == "anchor"
    for_snp = dataclasses.replace(GOOD.anchor, purposes=frozenset({"sev-snp"}))
    assert refused(GOOD.evidence(), GOOD.context(anchors=(for_snp,))) == "anchor"


def test_signatures_of_another_platform() -> None:
    other = TdxPlatform("b")
    report = GOOD.report()
    mixed = GOOD.quote(report)
    foreign = other.quote(report)
    quote = tdx_quote.decode(mixed)
    size = quote.signed_size + 4
    swapped = mixed[:size] + foreign[size : size + 128] + mixed[size + 128 :]
    assert refused(Piece(swapped), GOOD.context()) == "quoting-enclave"
    old_enclave = GOOD.quote(report, qe_svn=1)
    assert refused(Piece(old_enclave), GOOD.context()) in {"tcb-level", "quoting-enclave"}


def test_what_is_no_quote() -> None:
    good = GOOD.evidence().data
    for data in (b"", good[:-5], good + b"\1", b"\3" + good[1:], good[:2] + b"\3" + good[3:]):
        assert refused(Piece(data), GOOD.context()) == "form"
    verify(Piece(good + bytes(64)), GOOD.context())
    (selection,) = select([Piece(good)], families())
    assert selection.family.name is FAMILY.name


_QUOTES = {version: GOOD.evidence(version=version, body_15=version == 5).data for version in (4, 5)}
_CONTEXT = GOOD.context()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([4, 5]), st.data())
def test_a_bit_in_what_is_signed(version: int, data: st.DataObject) -> None:
    quote = bytearray(_QUOTES[version])
    covered = data.draw(st.sampled_from(FAMILY.covered(ROLE, bytes(quote))))
    quote[data.draw(st.sampled_from(covered))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EvidenceError):
        verify(Piece(bytes(quote)), _CONTEXT)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 6000), st.integers(0, 7))
def test_a_bit_elsewhere_never_changes_the_claims(position: int, bit: int) -> None:
    quote = bytearray(_QUOTES[4])
    quote[-1 - position % 3000] ^= 1 << bit
    try:
        after = verify(Piece(bytes(quote)), _CONTEXT)
    except EvidenceError:
        return
    assert after.components == verify(Piece(_QUOTES[4]), _CONTEXT).components


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for prefix in (b"", _QUOTES[4][:48], _QUOTES[5][:700], _QUOTES[4][:1300]):
        try:
            tdx_quote.decode(prefix + data)
        except tdx_quote.TdxQuoteError:
            continue


def _real(identifier: str, **changes: Any) -> tuple[Piece, Context]:
    case = real_data.case(identifier)
    sources = tuple(
        NamedBytes((real_data.data_folder() / name).read_bytes(), name)
        for name in case["endorsements"]
    )
    endorsements = Endorsements(tdx_collateral=sources, **changes)
    (piece,) = real_data.pieces(case)
    return piece, Context(at=real_data.time_of(case), endorsements=endorsements)


def test_a_real_quote_with_current_collateral() -> None:
    piece, context = _real("tdx-current")
    facts = verify(piece, context).components[0].facts
    assert (facts["tcb_status"], facts["debug"]) == ("UpToDate", False)
    flipped = bytearray(piece.data)
    flipped[200] ^= 1
    assert refused(Piece(bytes(flipped)), context) == "signature"


def test_a_real_quote_with_stale_collateral() -> None:
    with pytest.raises(InfrastructureError, match="ended on 2025-07-19"):
        verify(*_real("tdx-stale-collateral"))
    piece, context = _real("tdx-stale-collateral", stale_until=datetime(2025, 7, 1, tzinfo=UTC))
    assert verify(piece, context).components[0].facts["collateral_stale"] is True
