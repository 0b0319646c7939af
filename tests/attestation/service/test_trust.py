"""Trust: random histories of evidence, in the database and against the rules said another way."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)

from casemate.attestation.evidence.family import Host
from casemate.attestation.service.database import challenges, connection, hosts
from casemate.attestation.service.database.appraisals import Kept
from casemate.attestation.service.principals import Principal, Role
from casemate.attestation.service.record import Appraised, Recorded, record
from casemate.attestation.service.trust import (
    Challenge,
    Effect,
    Outcome,
    Standing,
    Trust,
    TrustRules,
    TrustState,
    trust_at,
)
from casemate.attestation.states import State
from casemate.audit.ocsf import ComplianceStatus, Finding, Severity

BEGIN = datetime(2026, 11, 25, tzinfo=UTC)
MAXIMUM_AGE = timedelta(hours=1)
LIFETIME = timedelta(minutes=5)
RULES = TrustRules(maximum_age=MAXIMUM_AGE)
HOSTS = {name: Host(name.encode().ljust(32, b"."), "idevid") for name in ("h1", "h2")}
PRINCIPALS = {
    "p1": Principal(name="p1", roles=frozenset({Role.ATTESTER})),
    "p2": Principal(name="p2", roles=frozenset({Role.ATTESTER})),
    "reader": Principal(name="reader", roles=frozenset({Role.RELYING_PARTY})),
}


FINDING = Finding(
    uid="",
    correlation="c",
    at=BEGIN,
    title="t",
    message="m",
    status=ComplianceStatus.PASS,
    severity=Severity.LOW,
    control="c",
)


def appraised(
    state: State,
    *,
    at: datetime,
    host: Host | None,
    nonce: bytes | None,
    valid_until: datetime | None = None,
) -> Appraised:
    return Appraised(
        outcome=Outcome(
            state=state,
            host=None if host is None else host.name,
            answered=nonce,
            at=at,
            valid_until=valid_until,
        ),
        correlation_id="c",
        policy=bytes(32),
        references=bytes(32),
        claims=b"{}",
        place=slice(0, 2),
        kept=Kept(b""),
        envelope=None,
        finding=FINDING,
    )


@dataclass(frozen=True)
class Handed:
    """One piece of evidence as it was handed in, for the second telling of the rules."""

    by: str
    host: str | None
    state: State
    nonce: int | None
    answers: bool
    at: datetime
    valid_until: datetime | None


class Fleet(RuleBasedStateMachine):
    """Two hosts, two attesters, one relying party; anything may be handed in by anybody."""

    nonces = Bundle("nonces")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "verifier.db"
        connection.create(path)
        self.db = connection.open_writer(path)
        self.now = BEGIN
        self.issued: dict[int, Challenge] = {}
        self.history: list[Handed] = []

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    @initialize(target=nonces)
    def first(self) -> object:
        return multiple(*(self.challenge(who) for who in ("p1", "p2")))

    @rule(target=nonces, who=st.sampled_from(sorted(PRINCIPALS)))
    def ask(self, who: str) -> int:
        return self.challenge(who)

    def challenge(self, who: str) -> int:
        made = challenges.issue(
            self.db,
            value=os.urandom(32),
            principal=who,
            issued=self.now,
            expires=self.now + LIFETIME,
        )
        self.issued[made.number] = made
        return made.number

    @rule(minutes=st.sampled_from([0, 1, 4, 5, 30, 59, 60, 61]))
    def wait(self, minutes: int) -> None:
        before = {name: self.trust(name) for name in HOSTS}
        self.now += timedelta(minutes=minutes)
        for name, earlier in before.items():
            later = self.trust(name)
            assert later.state is earlier.state or (
                later.state is TrustState.EXPIRED
                and earlier.state in (TrustState.AFFIRMING, TrustState.WARNING)
            )

    @rule(
        by=st.sampled_from(sorted(PRINCIPALS)),
        host=st.sampled_from([None, *HOSTS]),
        state=st.sampled_from(list(State)),
        nonce=st.none() | nonces,
        answers=st.sampled_from([True, True, True, False]),
        lasts=st.sampled_from([None, 10, 600]),
    )
    def hand_in(
        self,
        *,
        by: str,
        host: str | None,
        state: State,
        nonce: int | None,
        answers: bool,
        lasts: int | None,
    ) -> None:
        others = {name: self.trust(name) for name in HOSTS if name != host}
        mine = None if host is None else self.trust(host)
        owner = None if host is None else self.standing(host)
        self.now += timedelta(seconds=1)
        valid_until = None if lasts is None else self.now + timedelta(minutes=lasts)
        value = self.issued[nonce].value if nonce is not None and answers else os.urandom(32)
        done = record(
            self.db,
            appraised(
                state,
                at=self.now,
                host=None if host is None else HOSTS[host],
                nonce=value,
                valid_until=valid_until,
            ),
            principal=PRINCIPALS[by],
            challenge=nonce,
            rules=RULES,
        )
        self.history.append(Handed(by, host, state, nonce, answers, self.now, valid_until))
        self.never(done, others, mine, owner)

    def never(
        self,
        done: Recorded,
        others: dict[str, Trust],
        mine: Trust | None,
        owner: Standing | None,
    ) -> None:
        """What no evidence may do, said one by one."""
        handed = self.history[-1]
        for name, earlier in others.items():
            assert self.trust(name).since == earlier.since
        unchanged = (
            handed.state is State.COULD_NOT_APPRAISE
            or handed.host is None
            or handed.nonce is None
            or not handed.answers
            or handed.by == "reader"
            or (owner is not None and owner.principal != handed.by)
        )
        if unchanged:
            assert not done.effect.changes_trust
            if handed.host is not None and mine is not None:
                assert self.trust(handed.host).since == mine.since
        if done.effect.changes_trust and handed.host is not None:
            assert self.trust(handed.host).state.value == handed.state.value

    @invariant()
    def agrees_with_the_rules_told_from_the_whole_history(self) -> None:
        for name in HOSTS:
            assert self.trust(name).state is self.told(name), self.history

    def told(self, name: str) -> TrustState:
        """Trust from the whole history, without any state kept in between."""
        used: set[int] = set()
        fresh = []
        for handed in self.history:
            if handed.nonce is None:
                continue
            nonce = self.issued[handed.nonce]
            first = handed.nonce not in used
            if handed.state is not State.COULD_NOT_APPRAISE:
                used.add(handed.nonce)
                in_time = nonce.issued <= handed.at < nonce.expires
                if first and in_time and handed.answers and nonce.principal == handed.by:
                    fresh.append(handed)
        fresh = [handed for handed in fresh if handed.host == name and handed.by != "reader"]
        good = [handed for handed in fresh if handed.state in (State.AFFIRMING, State.WARNING)]
        if not good:
            return TrustState.UNKNOWN
        owner = good[0].by
        mine = [handed for handed in fresh[fresh.index(good[0]) :] if handed.by == owner]
        last = max(mine, key=lambda handed: handed.nonce or 0)
        if last.state is State.CONTRAINDICATED:
            return TrustState.CONTRAINDICATED
        ends = [last.at + MAXIMUM_AGE, *([last.valid_until] if last.valid_until else [])]
        return TrustState(last.state.value) if self.now < min(ends) else TrustState.EXPIRED

    @invariant()
    def lists_agree_with_single_answers(self) -> None:
        listed = {
            row.standing.host: state
            for state in TrustState
            for row in hosts.page(self.db, now=self.now, state=state)
        }
        for name, host in HOSTS.items():
            assert listed.get(host.name, TrustState.UNKNOWN) is self.trust(name).state
        counted = hosts.count(self.db, self.now)
        assert sum(counted.values()) == len(listed)

    def standing(self, name: str) -> Standing | None:
        row = hosts.find(self.db, HOSTS[name].name)
        return None if row is None else row.standing

    def trust(self, name: str) -> Trust:
        return trust_at(self.standing(name), self.now)


TestFleet = Fleet.TestCase
TestFleet.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.fixture
def db(tmp_path: Path) -> sqlite3.Connection:
    connection.create(tmp_path / "v.db")
    return connection.open_writer(tmp_path / "v.db")


def hand_in(
    db: sqlite3.Connection,
    nonce: Challenge,
    state: State = State.AFFIRMING,
    *,
    by: str = "p1",
    at: datetime = BEGIN,
    host: Host | None = HOSTS["h1"],
    rules: TrustRules = RULES,
) -> Recorded:
    return record(
        db,
        appraised(state, at=at, host=host, nonce=nonce.value),
        principal=PRINCIPALS[by],
        challenge=nonce.number,
        rules=rules,
    )


def nonce_for(db: sqlite3.Connection, by: str = "p1", at: datetime = BEGIN) -> Challenge:
    return challenges.issue(
        db, value=os.urandom(32), principal=by, issued=at, expires=at + LIFETIME
    )


def test_each_refusal_has_its_own_effect(db: sqlite3.Connection) -> None:
    first = nonce_for(db)
    assert hand_in(db, first).effect is Effect.ENROLLED
    assert hand_in(db, first).effect is Effect.NONCE_USED
    assert hand_in(db, nonce_for(db, "p2")).effect is Effect.FOREIGN_NONCE
    assert hand_in(db, nonce_for(db, "p2"), by="p2").effect is Effect.FOREIGN_HOST
    assert hand_in(db, nonce_for(db, "reader"), by="reader").effect is Effect.NOT_ATTESTER
    assert hand_in(db, nonce_for(db), at=BEGIN + LIFETIME).effect is Effect.NONCE_EXPIRED
    assert hand_in(db, replace(nonce_for(db), value=bytes(32))).effect is Effect.NOT_ANSWERED
    assert hand_in(db, nonce_for(db), host=None).effect is Effect.NOT_AUTHENTIC
    older, newer = nonce_for(db), nonce_for(db)
    assert hand_in(db, newer, State.CONTRAINDICATED).effect is Effect.COUNTED
    assert hand_in(db, older).effect is Effect.SUPERSEDED
    for effect in Effect:
        assert effect.sentence


def test_a_bad_first_verdict_enrols_nobody(db: sqlite3.Connection) -> None:
    assert hand_in(db, nonce_for(db), State.CONTRAINDICATED).effect is Effect.NOT_ENROLLED
    closed = TrustRules(maximum_age=MAXIMUM_AGE, enrol_on_first_use=False)
    assert hand_in(db, nonce_for(db), rules=closed).effect is Effect.NOT_ENROLLED
    hosts.put(db, Standing(host=HOSTS["h1"].name, principal="p1"), None)
    assert hand_in(db, nonce_for(db), State.CONTRAINDICATED, rules=closed).effect is Effect.COUNTED


def test_a_fault_of_the_verifier_leaves_the_nonce(db: sqlite3.Connection) -> None:
    nonce = nonce_for(db)
    assert hand_in(db, nonce, State.COULD_NOT_APPRAISE).effect is Effect.VERIFIER_FAILED
    assert hand_in(db, nonce).effect is Effect.ENROLLED


def test_trust_does_not_hold_before_its_appraisal(db: sqlite3.Connection) -> None:
    standing = hand_in(db, nonce_for(db)).standing
    assert trust_at(standing, BEGIN).state is TrustState.AFFIRMING
    assert trust_at(standing, BEGIN - timedelta(seconds=1)).state is TrustState.EXPIRED
    assert trust_at(standing, BEGIN + MAXIMUM_AGE).state is TrustState.EXPIRED
