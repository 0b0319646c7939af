"""Evidence that is kept: the same verdict comes of it later, whatever has changed since."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.attestation.appraisal import policy
from casemate.attestation.appraisal.document import document
from casemate.attestation.client import Appraisal, VerifierError
from casemate.attestation.collateral.files import items_of
from casemate.attestation.collateral.store import CollateralStore
from casemate.attestation.collateral.supply import Supply
from casemate.attestation.collateral.wanted import for_evidence
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.evidence.family import Piece
from casemate.attestation.evidence.registry import families
from casemate.attestation.input import sort
from casemate.attestation.service import keeping, reproof
from casemate.attestation.service.configuration import CollateralSettings
from casemate.attestation.service.database import appraisals, connection, evidence, schema
from casemate.attestation.service.database.evidence import KeptEvidence
from casemate.attestation.service.keeping import KeptError, Standing, Terms
from casemate.attestation.service.pruning import prune
from casemate.attestation.states import State
from casemate.attestation.verifier import Verifier
from tests.attestation import sev_snp_maker, tdx_maker
from tests.attestation.references import corim_of, references_of
from tests.attestation.service import test_collateral as tee
from tests.attestation.service.running import Running, attest, prepare, running
from tests.attestation.verifiers import host, verified

TERMS = Terms(
    epochs=(1,), nonce=b"n" * 32, require_revocation=False, require_signed_references=True
)


def number(appraisal: Appraisal) -> int:
    return int(appraisal.id.rsplit("-", 1)[1])


def reprove(folder: Path, appraisal: Appraisal) -> reproof.Reproof:
    with closing(connection.open_reader(folder / "verifier.db")) as db:
        return reproof.reprove(db, number(appraisal))


def put_in_force(service: Running, collection: str, name: str, data: bytes) -> None:
    with service.client("admin") as admin:
        version = admin.add_document(collection, name, data)["version"]
        admin.set_active(collection, name, version)


def spoiled(data: bytes) -> bytes:
    return data[:-5] + bytes((data[-5] ^ 1,)) + data[-4:]


def test_every_verdict_can_be_made_again_after_everything_changed(tmp_path: Path) -> None:
    collateral = tmp_path / "collateral"
    folder = tmp_path / "v"
    tee.bring(collateral, *tee.CHAIN)
    made: dict[State, list[Appraisal]] = {state: [] for state in State}
    from_folder = CollateralSettings(folder=collateral)
    with running(folder, collateral=from_folder, stale_for=timedelta(days=5)) as service:
        prepare(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            kept = [
                attest(attester, 1),
                attest(attester, 1, spoil=spoiled),
                attester.submit([b"noise", os.urandom(30)], attester.challenge()),
                attester.submit([host(2).token()], None),
                attest(reader, 2),
            ]
            tee.begin(service)
            kept.append(tee.attest(attester))
            tee.bring(collateral, tee.SNP.signer_certificate)
            kept.append(tee.attest(attester))
            tee.bring(collateral, tee.revoking_crl())
            kept.append(tee.attest(attester))
            along = [each.data for each in (tee.SNP.signer_certificate, *tee.CHAIN)]
            kept.append(tee.attest(attester, *along))
            tee.bring(collateral, tee.TDX.collateral(), at=tdx_maker.AT)
            service.clock.at = tdx_maker.ENDS + timedelta(days=3)
            kept.append(tee.attest_tdx(attester))
        for each in kept:
            made[each.state].append(each)
        assert all(made[state] for state in State), {s: len(made[s]) for s in made}

        # Everything changes: policy, references, anchors, collateral, time.
        put_in_force(service, "policies", "strict", policy.built_in_text("default"))
        components = verified(host().token()).components
        put_in_force(service, "references", "good", corim_of(components, tag="next release"))
        with service.client("admin") as admin:
            admin.set_active("anchors", "amd", 1, active=False)
        shutil.rmtree(collateral)
        service.clock.move(timedelta(days=60))
        for each in kept:
            found = reprove(folder, each)
            assert found.holds, (each.state, found.differences, found.made["reasons"])
            assert found.states == (each.state, each.state)
    # Also from a copy, without the service.
    shutil.copytree(folder, tmp_path / "copy")
    assert reprove(tmp_path / "copy", kept[0]).holds


def test_what_was_changed_or_is_missing_is_said(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        prepare(service)
        with service.client("attester") as attester:
            first, second = attest(attester, 1), attest(attester, 2)
    path = tmp_path / "verifier.db"

    def changed(statement: str, *values: object) -> None:
        with closing(sqlite3.connect(path)) as db, db:
            db.execute(statement, values)

    with (
        pytest.raises(InputError, match="no appraisal of number 99"),
        closing(connection.open_reader(path)) as db,
    ):
        reproof.reprove(db, 99)
    changed("UPDATE blobs SET data = ? WHERE size = (SELECT max(size) FROM blobs)",
            appraisals.compress(b"other evidence"))  # fmt: skip
    with pytest.raises(InputError, match="it was changed"):
        for each in (first, second):
            reprove(tmp_path, each)
    changed("DELETE FROM blobs")
    with pytest.raises(InputError, match="is missing"):
        reprove(tmp_path, first)
    changed("DELETE FROM kept")
    with pytest.raises(InputError, match="--keep-evidence"):
        reprove(tmp_path, first)


def test_another_policy_under_the_same_epoch_is_noticed(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        prepare(service)
        with service.client("attester") as attester:
            made = attest(attester, 1)
    with closing(sqlite3.connect(tmp_path / "verifier.db")) as db, db:
        db.execute(
            "UPDATE documents SET data = ? WHERE kind = 'policy'",
            (policy.built_in_text("default"),),
        )
    with pytest.raises(InputError, match="the database was changed"):
        reprove(tmp_path, made)


def test_a_relying_party_can_judge_by_itself(tmp_path: Path) -> None:
    """The material alone, by the commands' own functions, gives the service's verdict."""
    collateral = tmp_path / "collateral"
    tee.bring(collateral, tee.SNP.signer_certificate, *tee.CHAIN)
    at = sev_snp_maker.AT
    with running(tmp_path / "v", collateral=CollateralSettings(folder=collateral)) as service:
        tee.begin(service)
        with service.client("attester") as attester, service.client("reader") as reader:
            made = tee.attest(attester)
            files = reader.material(made.id)
    folders: dict[str, list[NamedBytes]] = {}
    for name, data in files.items():
        folders.setdefault(name.split("/")[0], []).append(NamedBytes(data, name))
    assert len(folders["collateral"]) == 3 and "endorsements" not in folders

    store = CollateralStore(tmp_path / "theirs")
    for item in items_of(folders["collateral"], at=at):
        store.put(item)
    supply = Supply(store)
    given_ = sort(evidence=folders["evidence"], anchors=folders["anchors"], families=families())
    verifier = Verifier(
        given_.endorsements.with_(supply.standing()),
        references_of(),
        policy.read(folders["policy"][0].data, "policy"),
    )
    nonce = bytes.fromhex(made.document["nonce"])
    along = supply.supply(for_evidence(given_.pieces))
    verdict = verifier.appraise(
        given_.pieces, at=at, nonce=nonce, correlation_id="theirs", along=along
    )
    theirs, same = document(verdict), ("state", "reasons", "host", "policy", "references", "nonce")
    assert {name: theirs[name] for name in same} == {name: made.document[name] for name in same}


def test_the_built_in_policy_is_among_the_material(tmp_path: Path) -> None:
    with (
        running(tmp_path) as service,
        service.client("attester") as attester,
        service.client("reader") as reader,
    ):
        made = attester.submit([b"noise"], None)
        files = reader.material(made.id)
        with pytest.raises(VerifierError, match="no appraisal"):
            reader.material("1a2b3c4d-1")
    assert files["evidence/1"] == b"noise"
    assert files["policy/1"] == policy.built_in_text("default")
    assert set(files) == {"evidence/1", "policy/1", "terms.json"}


def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path) -> None:
    with running(tmp_path, evidence_age=None) as service:
        prepare(service)
        with service.client("attester") as attester:
            made = attest(attester, 1)
        assert service.open.service.reader.query(evidence.size) == (0, 0)
    with pytest.raises(InputError, match="is not kept"):
        reprove(tmp_path, made)


def test_evidence_goes_by_age_and_by_size_and_noise_goes_first(tmp_path: Path) -> None:
    with running(tmp_path, evidence_age=timedelta(days=1), evidence_limit=100_000) as service:
        prepare(service)
        query = service.open.service.reader.query
        with service.client("attester") as attester:
            old = attest(attester, 1)
            service.clock.move(timedelta(days=2))
            good = attest(attester, 1)
            noise = [attester.submit([os.urandom(40_000)], attester.challenge()) for _ in range(4)]
            assert query(evidence.size)[0] == 6
            assert asyncio.run(prune(service.open.service))[2] == 3
            count, size = query(evidence.size)
            assert count == 3 and size <= 100_000
            for gone in (old, *noise[:2]):
                with pytest.raises(InputError, match="is not kept"):
                    reprove(tmp_path, gone)
            for left in (good, *noise[2:]):
                assert reprove(tmp_path, left).holds
            assert asyncio.run(prune(service.open.service))[2] == 0


# --- the store by itself --------------------------------------------------------------------

_CONTENTS = [os.urandom(8) for _ in range(6)]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 5), min_size=1), st.booleans()), min_size=1, max_size=12
    ),
    st.integers(0, 12),
    st.integers(0, 400),
)
def test_no_content_is_lost_and_none_is_left_over(
    uses: list[tuple[set[int], bool]], pruned: int, limit: int
) -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(db)
    start = datetime.fromisoformat("2026-11-25T00:00:00Z")
    for place, (contents, counted) in enumerate(uses):
        pieces = [Piece(_CONTENTS[each], str(each)) for each in sorted(contents)]
        kept = keeping.make(pieces, None, None, TERMS)
        at = start + timedelta(days=place)
        evidence.keep(db, kept, appraisal=place + 1, at=at, counted=counted)
    evidence.prune(db, start + timedelta(days=pruned), 100)
    evidence.shrink(db, limit, 100)
    count, size = evidence.size(db)
    assert size <= limit or count == 0
    left = {row[0]: row[1] for row in db.execute("SELECT appraisal, counted FROM kept")}
    assert all(place > pruned for place in left)
    if any(counted == 0 for counted in left.values()):
        # What counted goes last.
        alive = {place + 1 for place, (_, counted) in enumerate(uses) if counted}
        assert {place for place in alive if place > pruned} <= left.keys()
    used: set[bytes] = set()
    for place in left:
        found = evidence.find(db, place)
        assert found is not None
        pieces_ = keeping.read(found).pieces
        assert [piece.data for piece in pieces_] == [
            _CONTENTS[n] for n in sorted(uses[place - 1][0])
        ]
        used |= {piece.digest for piece in pieces_}
    assert {row[0] for row in db.execute("SELECT digest FROM blobs")} == used
    db.close()


_SOURCES = st.lists(
    st.builds(NamedBytes, st.binary(max_size=20), st.text(max_size=8)), max_size=3
).map(tuple)
_ENDORSEMENTS = st.builds(
    Endorsements, certificates=_SOURCES, revocations=_SOURCES, tdx_collateral=_SOURCES
)


@given(
    st.lists(st.builds(Piece, st.binary(max_size=40), st.text(max_size=8)), max_size=4),
    _ENDORSEMENTS,
    _ENDORSEMENTS,
)
def test_what_is_kept_is_read(
    pieces: list[Piece], along: Endorsements, standing: Endorsements
) -> None:
    kept = expanded(keeping.make(pieces, along, Standing.of(standing), TERMS))
    found = keeping.read(kept)
    assert found.pieces == tuple(pieces) and found.terms == TERMS
    assert (found.along or Endorsements()) == along and found.standing == standing


@given(st.binary(max_size=200), st.data())
def test_reading_is_total(noise: bytes, data: st.DataObject) -> None:
    good = expanded(keeping.make([Piece(b"x", "x")], None, None, TERMS))
    place = data.draw(st.integers(0, len(good.terms) - 1))
    flipped = good.terms[:place] + bytes((good.terms[place] ^ 1,)) + good.terms[place + 1 :]
    for terms in (noise, flipped, b"{}", b"[]", b"1"):
        try:
            keeping.read(KeptEvidence(terms, good.contents))
        except KeptError:
            continue


def expanded(kept: KeptEvidence) -> KeptEvidence:
    """As the database gives it back."""
    expand = appraisals.expand
    contents = {digest: expand(data) for digest, data in kept.contents.items()}
    return KeptEvidence(expand(kept.terms), contents)
