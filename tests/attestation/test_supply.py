"""The supply: what one appraisal takes of a store, and what it says of what is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from casemate.attestation.collateral.files import items_of
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.supply import MOST_SAID, Supply
from casemate.attestation.collateral.wanted import Kind, for_evidence
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.family import Context, Piece
from casemate.attestation.evidence.sev_snp import ROLE, SevSnp
from casemate.attestation.evidence.tdx import Tdx
from tests.attestation.sev_snp_maker import AT, Platform
from tests.attestation.tdx_maker import AT as TDX_AT
from tests.attestation.tdx_maker import TdxPlatform

SNP, TDX = Platform(), TdxPlatform()
CHAIN = (SNP.ask_certificate, SNP.ark_certificate)


def bring(store: CollateralStore, *files: NamedBytes) -> None:
    for item in items_of(files, at=AT):
        store.put(item)


def test_evidence_gets_what_it_names_and_nothing_of_others(tmp_path: Path) -> None:
    store = CollateralStore(tmp_path)
    fleet = [Platform(chip=bytes((n,)) * 64) for n in range(5)]
    theirs = [chip.signer_certificate for chip in fleet]
    bring(store, *theirs, *CHAIN, TDX.collateral())
    supply = Supply(store)
    standing = supply.standing()
    assert len(standing.certificates) == 2 and not standing.absent

    report = fleet[3].evidence()
    found = supply.supply(for_evidence([report]))
    assert [each.data for each in found.certificates] == [theirs[3].data]
    assert not found.anchors and not found.tdx_collateral
    anchors = Endorsements(anchors=(SNP.ark.anchor, TDX.anchor))
    whole = anchors.with_(standing).with_(found)
    assert SevSnp().verify({ROLE: (report,)}, Context(at=AT, endorsements=whole)).host.kind

    quote = TDX.evidence()
    found = supply.supply(for_evidence([quote]))
    assert not found.certificates and not found.absent
    whole = anchors.with_(standing).with_(found)
    assert Tdx().verify({"quote": (quote,)}, Context(at=TDX_AT, endorsements=whole)).host.kind
    assert supply.supply(for_evidence([Piece(b"of another kind")])).is_empty


def test_the_stamp_changes_with_the_standing_part_alone(tmp_path: Path) -> None:
    store = CollateralStore(tmp_path)
    supply = Supply(store)
    seen = [supply.stamp()]
    bring(store, SNP.signer_certificate)
    assert supply.stamp() == seen[0]
    for files in (CHAIN[:1], CHAIN[:1], CHAIN[1:]):
        bring(store, *files)
        seen.append(supply.stamp())
    next((tmp_path / "items" / Kind.CERTIFICATE).iterdir()).unlink()
    seen.append(supply.stamp())
    assert len(set(map(repr, seen))) == len(seen)


def test_what_is_broken_is_said_briefly(tmp_path: Path) -> None:
    store = CollateralStore(tmp_path)
    bring(store, SNP.signer_certificate, *CHAIN)
    folder = tmp_path / "items" / Kind.CERTIFICATE
    for number in range(MOST_SAID + 3):
        (folder / f"{number}.json").write_text("{")
    standing = Supply(store).standing()
    assert len(standing.certificates) == 2
    assert len(standing.absent) == MOST_SAID + 1 and standing.absent[-1] == "and 3 more"

    (description,) = (tmp_path / "items" / Kind.VCEK).iterdir()
    value = json.loads(description.read_text())
    blob = tmp_path / "blobs" / value["sha256"]
    blob.write_bytes(blob.read_bytes() + b"x")
    found = Supply(store).supply(for_evidence([SNP.evidence()]))
    assert not found.certificates
    assert any("there is no vcek Milan/" in sentence for sentence in found.absent)


def test_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "items").write_text("no folder")
    supply = Supply(CollateralStore(tmp_path))
    with pytest.raises(InfrastructureError, match="cannot be read"):
        supply.stamp()
    found = supply.supply(for_evidence([SNP.evidence()]))
    assert "cannot be read" in found.absent[0]
