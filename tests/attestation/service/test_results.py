"""Results as they are kept: apart from what hosts of a kind share, and given out whole again."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.document import document
from casemate.attestation.appraisal.result import PemSigner
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.service import events
from casemate.attestation.service.database import appraisals, connection, schema
from casemate.attestation.service.database.appraisals import Frame, Kept
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.record import Appraised, record
from casemate.attestation.service.results import ResultMaker, token_of
from casemate.attestation.service.trust import TrustRules
from casemate.attestation.states import State
from casemate.audit.ocsf import compliance_finding
from tests.attestation import hosts
from tests.attestation.verifiers import appraise, verifier
from tests.rot.devices import firmware

LIFETIME = timedelta(minutes=5)
RULES = TrustRules(maximum_age=timedelta(hours=1))
ATTESTER = Principal(name="p", roles=frozenset({Role.ATTESTER}))


def signer() -> PemSigner:
    made = ec.generate_private_key(ec.SECP384R1())
    return PemSigner(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "key")


def verdicts() -> list[Verdict]:
    """Verdicts of all states, most of them of several hosts that answer several nonces."""
    using = verifier(certificates=VerifiedCertificates())
    bad = hosts.boot(6, code=firmware(rt=b"other"))
    good = [hosts.boot(number) for number in (1, 2, 3)]
    found = []
    for turn in range(2):
        nonce = bytes((turn,)) * 32
        found += [appraise(host.token(nonce=nonce), using=using, nonce=nonce) for host in good]
        found.append(appraise(bad.token(nonce=nonce), using=using, nonce=nonce))
        token = good[0].token(nonce=nonce)
        found.append(appraise(token, using=verifier(by="default"), nonce=nonce))
        found.append(appraise(token, using=verifier(endorsements=Endorsements()), nonce=nonce))
        found.append(appraise(b"no evidence", using=using, nonce=nonce))
    assert {verdict.state for verdict in found} == set(State)
    return found


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    path = tmp_path / "verifier.db"
    connection.create(path)
    with closing(connection.open_writer(path)) as opened:
        yield opened


def kept(db: sqlite3.Connection, made: Appraised) -> tuple[bytes, bytes | None]:
    number = record(db, made, principal=ATTESTER, challenge=None, rules=RULES).number
    found = appraisals.contents(db, number)
    assert found is not None
    return found


@pytest.mark.parametrize("signed", [True, False])
def test_what_is_read_again_is_what_was_given(db: sqlite3.Connection, signed: bool) -> None:
    make = ResultMaker(signer() if signed else None, lifetime=LIFETIME, issuer="https://v.example")
    for verdict in verdicts():
        made = make(verdict)
        claims = result.claims(verdict, lifetime=LIFETIME, issuer="https://v.example")
        plain = claims if signed else document(verdict)
        assert made.claims == json.dumps(plain, separators=(",", ":")).encode()
        assert json.loads(made.document) == document(verdict)
        assert kept(db, made) == (made.claims, made.envelope)
        token = token_of(*kept(db, made))
        if make.signer is None:
            assert token is None
        else:
            assert token is not None
            read = result.verify(token, trusted=[make.signer.spki], at=hosts.AT)
            assert read.verdict == document(verdict)


def test_hosts_of_a_kind_share_a_frame(db: sqlite3.Connection) -> None:
    make = ResultMaker(signer(), lifetime=LIFETIME)
    good = [verdict for verdict in verdicts() if verdict.state is State.AFFIRMING]
    first, *others = [make(verdict) for verdict in good]
    assert first.kept.frame is None
    assert len({made.kept.frame for made in others}) == 1
    for made in (first, *others):
        kept(db, made)
    assert db.execute("SELECT count(*) FROM frames").fetchone()[0] == 1
    size = "SELECT length(claims) FROM appraisals ORDER BY number"
    whole, *between = [row[0] for row in db.execute(size)]
    assert max(between) < whole / 2


@pytest.mark.parametrize("state", list(State))
def test_the_event_is_that_of_the_verdict_that_is_kept(state: State) -> None:
    for verdict in verdicts():
        if verdict.state is state:
            again = json.loads(json.dumps(document(verdict)))
            requirements = [events.requirement(part) for part in verdict.components]
            made = compliance_finding(events.finding_of(verdict, requirements), events.PRODUCT)
            assert made == events.of_document(again, verdict.at)


def row_of(db: sqlite3.Connection, claims: Kept) -> int:
    values: dict[str, Any] = {
        "at": hosts.AT,
        "principal": "p",
        "host": None,
        "state": State.WARNING,
        "effect": "no-nonce",
        "challenge": None,
        "correlation": "c",
        "policy": bytes(32),
        "reference": bytes(32),
        "envelope": None,
    }
    return appraisals.insert(db, claims=claims, **values)


def test_frames_go_with_the_last_appraisal_that_has_them(db: sqlite3.Connection) -> None:
    one, other = Frame.of(b"a\0b"), Frame.of(b"c\0d")
    numbers = [row_of(db, Kept(b"x", frame)) for frame in (one, other, one)]
    assert appraisals.prune_frames(db) == 0
    db.execute("DELETE FROM appraisals WHERE number = ?", (numbers[0],))
    assert appraisals.prune_frames(db) == 0
    db.execute("DELETE FROM appraisals WHERE number = ?", (numbers[2],))
    assert appraisals.prune_frames(db) == 1
    assert appraisals.contents(db, numbers[1]) == (b"cxd", None)
    number = row_of(db, Kept(b"y", one))
    assert appraisals.contents(db, number) == (b"ayb", None)


def test_a_frame_that_an_appraisal_has_cannot_be_taken_away(db: sqlite3.Connection) -> None:
    row_of(db, Kept(b"x", Frame.of(b"a\0b")))
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("DELETE FROM frames")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE frames SET data = x'00'", "a damaged one"),
        ("UPDATE appraisals SET claims = x'780079'", "damaged verdict: a frame with 1 gaps"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM frames", "its frame 1 is missing"),
    ],
)
def test_a_damaged_verdict_is_none(db: sqlite3.Connection, damage: str, message: str) -> None:
    number = row_of(db, Kept(b"x", Frame.of(b"a\0b")))
    db.executescript(damage)
    with pytest.raises(sqlite3.DatabaseError, match=message):
        appraisals.contents(db, number)


def test_an_older_database_keeps_its_verdicts(tmp_path: Path) -> None:
    path = tmp_path / "verifier.db"
    claims = appraisals.compress(b'{"state":"affirming"}')
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.executescript(schema.STEPS[0])
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.execute(
            "INSERT INTO appraisals (at, principal, state, effect, correlation, policy, reference,"
            " claims) VALUES (0, 'p', 'affirming', 'no-nonce', 'c', x'00', x'00', ?)",
            (claims,),
        )
    connection.create(path)
    with closing(connection.open_writer(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == schema.SCHEMA_VERSION
        assert appraisals.contents(db, 1) == (b'{"state":"affirming"}', None)
        number = row_of(db, Kept(b"x", Frame.of(b"a\0b")))
        assert appraisals.contents(db, number) == (b"axb", None)
