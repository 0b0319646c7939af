"""The service and vendors' collateral: looked up, fetched once for many, stale by policy alone."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from casemate.attestation.client import Appraisal, VerifierClient
from casemate.attestation.collateral.files import items_of
from casemate.attestation.collateral.sources import Sources
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.service.collateral import Collateral
from casemate.attestation.service.configuration import CollateralSettings
from casemate.attestation.states import State
from tests.attestation import tdx_maker
from tests.attestation.service.running import Running, prepare, running
from tests.attestation.sev_snp_maker import AT, Platform
from tests.attestation.tdx_maker import ENDS, TdxPlatform
from tests.attestation.vendor_services import Vendors, serving

SNP, TDX = Platform(), TdxPlatform()


def begin(service: Running, at: datetime = AT) -> None:
    """Set the clock, and name the test vendors' roots as anchors."""
    service.clock.at = at
    root = TDX.root_certificate.public_bytes(Encoding.DER)
    with service.client("admin") as admin:
        for name, data in (("amd", SNP.ark_certificate.data), ("intel", root)):
            version = admin.add_document("anchors", name, data)["version"]
            admin.set_active("anchors", name, version)


def attest(client: VerifierClient, *along: bytes, platform: Platform = SNP) -> Appraisal:
    challenge = client.challenge()
    report = platform.evidence(report_data=challenge.nonce.ljust(64, b"\0"))
    return client.submit([report.data, *along], challenge)


def attest_tdx(client: VerifierClient) -> Appraisal:
    challenge = client.challenge()
    quote = TDX.evidence(report_data=challenge.nonce.ljust(64, b"\0"))
    return client.submit([quote.data], challenge)


def bring(folder: Path, *files: NamedBytes, at: datetime = AT) -> None:
    """Import files, as `casemate collateral import` does."""
    store = CollateralStore(folder)
    for item in items_of(files, at=at):
        store.put(item)


CHAIN = (SNP.ask_certificate, SNP.ark_certificate)


def revoking_crl() -> NamedBytes:
    crl = SNP.ark.revocation_list(0x10001, issued=AT - timedelta(days=2), until=AT)
    return NamedBytes(crl, "revoked.crl")


def test_what_is_missing_is_said_and_what_is_imported_is_used_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "collateral"
    with running(tmp_path / "v", collateral=CollateralSettings(folder=folder)) as service:
        begin(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            missing = attest(attester)
            assert missing.state is State.COULD_NOT_APPRAISE
            assert "VCEK certificate of this report is missing" in missing.document["reasons"][0]
            assert any("there is no vcek Milan/" in text for text in missing.document["reasons"])
            assert "casemate collateral fetch" in missing.document["advice"][0]
            assert missing.host is None

            bring(folder, SNP.signer_certificate, *CHAIN)
            found = attest(attester)
            assert (found.state, found.effect) == (State.WARNING, "enrolled")
            name = str(found.host)
            before = reader.trust(name)

            for path in (folder / "items").rglob("*.json"):
                path.unlink()
            gone = attest(attester)
            assert gone.state is State.COULD_NOT_APPRAISE
            assert reader.trust(name) == before

            bring(folder, SNP.signer_certificate, *CHAIN, revoking_crl())
            revoked = attest(attester)
            assert revoked.state is State.CONTRAINDICATED
            assert "revoked" in revoked.document["reasons"][0]


def test_a_change_is_seen_however_soon_and_however_late(tmp_path: Path) -> None:
    """Also where the folder's time does not tell it."""
    store = CollateralStore(tmp_path)
    supplied = Collateral(Supply(store))
    folder = tmp_path / "items" / "certificate"
    for certificate in (*CHAIN, SNP.signer_certificate, *CHAIN):
        bring(tmp_path, certificate)
        # A file system whose clock stands still.
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder, ns=(10**18, time.time_ns()))
        new = certificate is not SNP.signer_certificate
        assert supplied.has_changed() == new
        if new:
            assert supplied.standing().certificates
            assert not supplied.has_changed()
    os.utime(folder, ns=(10**18, 10**18))
    assert supplied.has_changed()
    supplied.standing()
    assert not supplied.has_changed()
    # From now on only the folder's time is asked for.
    next(folder.iterdir()).unlink()
    assert supplied.has_changed()
    assert len(supplied.standing().certificates) == 1
    supplied.close()


def test_a_crl_that_has_ended_still_revokes(tmp_path: Path) -> None:
    folder = tmp_path / "collateral"
    bring(folder, SNP.signer_certificate, *CHAIN, revoking_crl())
    with running(tmp_path / "v", collateral=CollateralSettings(folder=folder)) as service:
        begin(service, AT + timedelta(days=30))
        with service.client("attester") as attester:
            assert attest(attester).state is State.CONTRAINDICATED


def test_many_hosts_of_one_chip_ask_its_vendor_once(tmp_path: Path) -> None:
    """Requests that need the same collateral share one fetch; others do not wait behind them."""
    vendors = Vendors(snp=(SNP,))
    with serving(vendors) as base:
        settings = CollateralSettings(
            folder=tmp_path / "collateral",
            fetch=True,
            sources=Sources(amd=base, intel=base, intel_root_crl=f"{base}/rootcacrl"),
            plain_hosts=frozenset({base.removeprefix("http://")}),
        )
        with running(tmp_path / "v", collateral=settings) as service:
            begin(service)
            made: list[Appraisal] = []

            def one() -> None:
                with service.client("attester") as attester:
                    made.append(attest(attester))

            threads = [threading.Thread(target=one) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert [each.state for each in made] == [State.WARNING] * 8
            components = [each.document["components"][0] for each in made]
            assert all(part["facts"]["revocation_checked"] for part in components)
            assert set(vendors.asked.values()) == {1} and len(vendors.asked) == 3
            with service.client("attester") as attester:
                other = attest(attester, platform=Platform(chip=b"\7" * 64))
                assert other.state is State.COULD_NOT_APPRAISE
                reasons = other.document["reasons"]
                assert any("not found" in text and "cannot be fetched" in text for text in reasons)
            headers = {"Authorization": f"Bearer {service.tokens['reader']}"}
            metrics = httpx.get(f"{service.url}/metrics", headers=headers, timeout=30).text
            assert 'casemate_verifier_collateral_total{what="fetches"} 4.0' in metrics
            assert "casemate_verifier_waiting_for_collateral 0.0" in metrics


@pytest.mark.parametrize(
    ("stale_for", "state"),
    [
        (None, State.COULD_NOT_APPRAISE),
        (timedelta(days=2), State.COULD_NOT_APPRAISE),
        (timedelta(days=4), State.WARNING),
    ],
)
def test_collateral_that_has_ended_is_taken_by_policy_alone(
    tmp_path: Path, stale_for: timedelta | None, state: State
) -> None:
    folder = tmp_path / "collateral"
    bring(folder, TDX.collateral(), at=tdx_maker.AT)
    settings = CollateralSettings(folder=folder)
    with running(tmp_path / "v", collateral=settings, stale_for=stale_for) as service:
        begin(service, tdx_maker.AT)
        with service.client("attester") as attester:
            before = attest_tdx(attester)
            assert before.state is State.WARNING, before.document["reasons"]
            service.clock.at = ENDS + timedelta(days=3)
            later = attest_tdx(attester)
        assert later.state is state, later.document["reasons"]
        if state is State.WARNING:
            assert later.document["components"][0]["facts"]["collateral_stale"] is True
        else:
            assert "ended" in later.document["reasons"][0]


def test_the_policy_may_require_revocation(tmp_path: Path) -> None:
    folder = tmp_path / "collateral"
    bring(folder, SNP.signer_certificate, *CHAIN)
    settings = CollateralSettings(folder=folder)
    with running(tmp_path / "v", collateral=settings, require_revocation=True) as service:
        begin(service)
        with service.client("attester") as attester:
            without = attest(attester)
            assert without.state is State.COULD_NOT_APPRAISE
            assert any("no CRL" in text for text in without.document["reasons"])
            for issuer in (SNP.ark, SNP.ask):
                crl = issuer.revocation_list(issued=AT - timedelta(days=2))
                bring(folder, NamedBytes(crl, "crl"))
            assert attest(attester).state is State.WARNING


def test_what_comes_along_is_used_for_one_appraisal_and_never_as_an_anchor(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        begin(service)
        along = [SNP.signer_certificate.data, *(each.data for each in CHAIN)]
        with service.client("attester") as attester:
            assert attest(attester, *along).state is State.WARNING
            assert attest(attester).state is State.COULD_NOT_APPRAISE
            stranger = dataclasses.replace(SNP, maker="stranger")
            theirs = [
                each.data
                for each in (
                    stranger.signer_certificate,
                    stranger.ask_certificate,
                    stranger.ark_certificate,
                )
            ]
            assert attest(attester, *theirs, platform=stranger).state is State.CONTRAINDICATED
            broken = b'{"tcb_info": 1, "qe_identity": 2, "pck_crl": 3}'
            assert attest(attester, *along, broken).state is State.CONTRAINDICATED


def test_what_comes_along_is_no_fault_of_the_verifier(tmp_path: Path) -> None:
    """A host cannot make its evidence one that could not be appraised."""
    days = timedelta(days=1)
    ended = SNP.ark.revocation_list(issued=AT - 9 * days, until=AT - days)
    forged = dataclasses.replace(SNP, maker="forger").ark.revocation_list(issued=AT - days)
    with running(tmp_path) as service:
        begin(service)
        along = [SNP.signer_certificate.data, *(each.data for each in CHAIN)]
        with service.client("attester") as attester:
            for crl in (ended, forged):
                assert attest(attester, *along, crl).state is State.WARNING
            told = attest(attester, *along, revoking_crl().data)
            assert told.state is State.CONTRAINDICATED
            # Without a chain the verifier does lack something, whatever else came.
            assert attest(attester, forged).state is State.COULD_NOT_APPRAISE


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    """What stood before still holds, health says so, and no service starts without it."""
    folder = tmp_path / "collateral"
    bring(folder, SNP.signer_certificate, *CHAIN)
    settings = CollateralSettings(folder=folder)
    with running(tmp_path / "v", collateral=settings) as service:
        prepare(service)
        begin(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            name = str(attest(attester).host)
            before = reader.trust(name)
            items = folder / "items"
            items.rename(folder / "away")
            items.write_text("no folder")
            assert attest(attester).state is State.COULD_NOT_APPRAISE
            health = reader.health()
            assert not health["ready"] and "cannot be read" in health["collateral"]
            assert reader.trust(name) == before
            items.unlink()
            (folder / "away").rename(items)
            assert attest(attester).state is State.WARNING
            assert reader.health()["ready"]
    items.rename(folder / "away")
    items.write_text("no folder")
    with (
        pytest.raises(InfrastructureError, match="cannot be read"),
        running(tmp_path / "w", collateral=settings),
    ):
        pass
