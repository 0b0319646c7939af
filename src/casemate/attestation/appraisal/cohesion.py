"""Whether several pieces of evidence are one host's, of one session, and answer the nonce.

Each piece is authentic by itself by now. What is left is an attacker who puts together good parts
of two good hosts, or of two moments of one. The rules, in order:

1. Every nonce that is answered is the verifier's, or without one, the same.
2. A binding's value is the same wherever it stands; so is a host's key among those of one kind.
3. Where an EAT is among them, the report data of every other piece is the `key_binding` digest of
   its nonce, its leaf key and the partition key, or the piece shares a key with it.
4. All pieces hang together by such ties: two that nothing ties are no evidence of one host.
5. With a verifier's nonce, every piece answers it, itself or by rule 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from casemate.attestation.checks import Check, Checklist
from casemate.attestation.evidence.bindings import DPE_LEAF_KEY, PARTITION_KEY, REPORT_DATA
from casemate.attestation.evidence.family import Verified
from casemate.formats.key_binding import key_binding


def check(verified: Sequence[Verified], nonce: bytes | None) -> tuple[Check, ...]:
    """The checks that all passed. Raises EvidenceError for the first that did not."""
    checks = Checklist()
    answered = _nonces(verified, nonce, checks)
    _same_values(verified, checks)
    committed = _commitments(verified, answered, checks)
    _ties(verified, committed, checks)
    if nonce is not None:
        for each in verified:
            if each.nonce != nonce and id(each) not in committed:
                checks.refuse(
                    "freshness",
                    f"{each.family}: the evidence does not answer the nonce of this appraisal"
                    + _report_data(each),
                    expected=nonce.hex(),
                )
            checks.note("freshness", f"{each.family} answers the nonce", expected=nonce.hex())
    return checks.passed


def _nonces(verified: Sequence[Verified], nonce: bytes | None, checks: Checklist) -> bytes | None:
    expected = nonce
    for each in verified:
        if each.nonce is None:
            continue
        if expected is None:
            expected = each.nonce
        checks.equal(
            "nonce",
            expected=expected,
            found=each.nonce,
            what=f"{each.family}: nonce",
            otherwise=f"{each.family}: the evidence answers another nonce",
        )
    return expected


def _same_values(verified: Sequence[Verified], checks: Checklist) -> None:
    if len(verified) < 2:
        return
    values: dict[str, tuple[bytes, Verified]] = {}
    for each in verified:
        shared = {name: value for name, value in each.bindings.items() if name != REPORT_DATA}
        shared[f"host key ({each.host.kind})"] = each.host.key_digest
        for name, value in shared.items():
            if name not in values:
                values[name] = (value, each)
                continue
            other, owner = values[name]
            checks.require(
                "one-host",
                value == other,
                f"{each.family} and {owner.family} are of two hosts or two sessions: they differ "
                f"in their {name.replace('-', ' ')}",
                passed=f"{each.family} and {owner.family} share their {name.replace('-', ' ')}",
            )


def _commitments(
    verified: Sequence[Verified], nonce: bytes | None, checks: Checklist
) -> frozenset[int]:
    """The pieces (by id) whose report data commits to nonce, leaf key and partition key."""
    others = [v for v in verified if REPORT_DATA in v.bindings and DPE_LEAF_KEY not in v.bindings]
    leaf = next((v.bindings[DPE_LEAF_KEY] for v in verified if DPE_LEAF_KEY in v.bindings), None)
    if leaf is None or nonce is None or not others:
        return frozenset()
    partition = next(
        (v.bindings[PARTITION_KEY] for v in verified if PARTITION_KEY in v.bindings), b""
    )
    digest = key_binding(nonce, leaf, partition)
    committed = set()
    for each in others:
        data = each.bindings[REPORT_DATA]
        checks.require(
            "binding",
            data == digest.ljust(len(data), b"\0"),
            f"{each.family}: its report data does not commit to this EAT: it was made for another "
            "nonce, host or partition",
            passed=f"{each.family} commits to nonce, leaf key and partition key of the EAT",
            expected=digest.hex(),
            found=data.hex(),
        )
        committed.add(id(each))
    return frozenset(committed)


def _ties(verified: Sequence[Verified], committed: frozenset[int], checks: Checklist) -> None:
    if len(verified) < 2:
        return
    groups: list[tuple[set[int], set[bytes]]] = []
    for each in verified:
        group = ({id(each)}, _keys(each, committed))
        touching = [other for other in groups if other[1] & group[1]]
        groups = [other for other in groups if other not in touching]
        for other in touching:
            group[0].update(other[0])
            group[1].update(other[1])
        groups.append(group)
    names = {id(each): each.family for each in verified}
    apart = [" with ".join(sorted(names[one] for one in members)) for members, _ in groups]
    checks.require(
        "one-host",
        len(groups) == 1,
        f"nothing shows that these are one host's: {' and '.join(apart)}",
        passed="all of the evidence is tied together",
    )


def _keys(each: Verified, committed: frozenset[int]) -> set[bytes]:
    keys = {value for name, value in each.bindings.items() if name != REPORT_DATA}
    if id(each) in committed or DPE_LEAF_KEY in each.bindings:
        keys.add(b"committed to the EAT")
    return keys | {each.host.key_digest}


def _report_data(each: Verified) -> str:
    data = each.bindings.get(REPORT_DATA)
    return "" if data is None else f"; its report data is {data.hex()}"
