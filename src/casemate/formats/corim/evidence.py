"""Concise evidence (TCG DICE, concise-evidence.cddl): what an attester says about environments.

Bare, as OCP evidence tokens carry it, or in its tag 571.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from casemate.formats import cbor
from casemate.formats.cbor import Tag
from casemate.formats.corim import triples, values
from casemate.formats.corim.measurement import TAG_OID, TAG_UUID, Environment
from casemate.formats.corim.reading import Forms, Node, extended, root
from casemate.formats.corim.triples import DomainTriple, KeyTriple, MeasurementTriple

TAG_EVIDENCE = 571


@dataclass(frozen=True, slots=True)
class SoftwareEvidence:
    """Evidence of software: a CoSWID evidence entry (encoded CBOR), and the tag that it is of."""

    evidence: bytes
    tag_id: str | bytes | None = None
    authorized_by: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class SoftwareTriple:
    """The evidence of software in one environment."""

    environment: Environment
    evidence: tuple[SoftwareEvidence, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConciseEvidence:
    """A concise-evidence-map. `id` is Tag(37, ...) or Tag(111, ...), `profile` Tag(32 or 111)."""

    measured: tuple[MeasurementTriple, ...] = ()
    identity: tuple[KeyTriple, ...] = ()
    dependency: tuple[DomainTriple, ...] = ()
    membership: tuple[DomainTriple, ...] = ()
    software: tuple[SoftwareTriple, ...] = ()
    attest_key: tuple[KeyTriple, ...] = ()
    id: Tag | None = None
    profile: Tag | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()
    triple_extensions: tuple[tuple[int, bytes], ...] = ()


_TRIPLES = {
    0: "evidence",
    1: "identity",
    2: "dependency",
    3: "membership",
    4: "coswid",
    5: "attest-key",
}


def decode(data: bytes, *, path: str = "", forms: Forms | None = None) -> ConciseEvidence:
    """Concise evidence, with or without its tag. Raises CorimError with paths below `path`."""
    node = root(data, path, Forms() if forms is None else forms)
    if isinstance(node.value, Tag):
        node = node.tagged(TAG_EVIDENCE)[1]
    found = node.fields({0: "triples", 1: "id", 2: "profile"}, extensible=True)
    inner = found["triples"].fields(_TRIPLES, extensible=True)
    inner.some()
    return ConciseEvidence(
        measured=inner.list("evidence", "", triples.measurement_triple),
        identity=inner.list("identity", "", _keys),
        dependency=inner.list("dependency", "", triples.domain_triple),
        membership=inner.list("membership", "", triples.domain_triple),
        software=inner.list("coswid", "", _software),
        attest_key=inner.list("attest-key", "", _keys),
        id=found.maybe("id", lambda item: values.choice(item, (TAG_UUID, TAG_OID))),
        profile=found.maybe("profile", values.profile),
        extensions=found.extensions,
        triple_extensions=inner.extensions,
    )


def encode(evidence: ConciseEvidence, *, tagged: bool = False) -> bytes:
    """Concise evidence, bare or in its tag."""
    lists: dict[int, list[Any]] = {
        0: [triples.encode_measurement_triple(triple) for triple in evidence.measured],
        1: [_encode_keys(triple) for triple in evidence.identity],
        2: [triples.encode_domain_triple(triple) for triple in evidence.dependency],
        3: [triples.encode_domain_triple(triple) for triple in evidence.membership],
        4: [_encode_software(triple) for triple in evidence.software],
        5: [_encode_keys(triple) for triple in evidence.attest_key],
    }
    present = {number: entries for number, entries in lists.items() if entries}
    result: dict[int, Any] = {0: extended(present, evidence.triple_extensions)}
    if evidence.id is not None:
        result[1] = evidence.id
    if evidence.profile is not None:
        result[2] = evidence.profile
    content = extended(result, evidence.extensions)
    return cbor.encode(Tag(TAG_EVIDENCE, content) if tagged else content)


def _keys(node: Node) -> KeyTriple:
    environment, keys = node.record("environment", "keys")
    return KeyTriple(values.environment(environment), keys.all("", values.key))


def _encode_keys(triple: KeyTriple) -> list[Any]:
    return [values.encode_environment(triple.environment), values.encode_keys(triple.keys)]


def _software(node: Node) -> SoftwareTriple:
    environment, entries = node.record("environment", "evidence")
    return SoftwareTriple(values.environment(environment), entries.all("", _software_evidence))


def _software_evidence(node: Node) -> SoftwareEvidence:
    found = node.fields({0: "tag-id", 1: "evidence", 2: "authorized-by"})
    entry = found["evidence"]
    if not isinstance(entry.value, dict):
        entry.refuse("expected a map")
    return SoftwareEvidence(
        cbor.encode(entry.value),
        found.maybe("tag-id", triples.tag_id),
        found.maybe("authorized-by", values.keys) or (),
    )


def _encode_software(triple: SoftwareTriple) -> list[Any]:
    entries = []
    for item in triple.evidence:
        entry: dict[int, Any] = {1: cbor.decode(item.evidence)}
        if item.tag_id is not None:
            entry[0] = item.tag_id
        if item.authorized_by:
            entry[2] = values.encode_keys(item.authorized_by)
        entries.append(entry)
    return [values.encode_environment(triple.environment), entries]
