"""Triples of a CoMID (draft-ietf-rats-corim, section 5.1.4.3 on): what is said about environments.

A triple links an environment to measurements, keys, software tags or other environments. Types and
their codec; what a triple means for an appraisal is `casemate.attestation.reference.matching`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from casemate.formats.cbor import Tag
from casemate.formats.corim import values
from casemate.formats.corim.measurement import Environment, Measurement
from casemate.formats.corim.reading import Node, extended

#: A tag's id: a text, or the 16 bytes of a UUID.
TagId = str | bytes


@dataclass(frozen=True, slots=True)
class MeasurementTriple:
    """Measurements of one environment: reference values, endorsed values, a condition."""

    environment: Environment
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class KeyTriple:
    """Keys of one environment: identity keys, attestation keys. `element` and `authorized_by`
    narrow what the environment must hold for the keys to be looked at.
    """

    environment: Environment
    keys: tuple[Tag, ...]
    element: int | str | Tag | None = None
    authorized_by: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainTriple:
    """Environments that belong to another (membership), or that it depends on (dependency)."""

    domain: Environment
    members: tuple[Environment, ...]


@dataclass(frozen=True, slots=True)
class CoswidTriple:
    """Software identification tags of an environment, by their ids."""

    environment: Environment
    tag_ids: tuple[TagId, ...]


@dataclass(frozen=True, slots=True)
class ConditionalTriple:
    """Endorsements that hold where all conditions are met."""

    conditions: tuple[MeasurementTriple, ...]
    endorsements: tuple[MeasurementTriple, ...]


@dataclass(frozen=True, slots=True)
class SeriesItem:
    """One step of a series: what must be met, and what then is added to the environment."""

    condition: tuple[Measurement, ...]
    addition: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class SeriesTriple:
    """Endorsements of one environment, of which the first whose condition is met holds.

    `claims` must be met by all of them; `authorized_by` says who must stand behind those.
    """

    environment: Environment
    claims: tuple[Measurement, ...]
    series: tuple[SeriesItem, ...]
    authorized_by: tuple[Tag, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Triples:
    """A triples-map. `extensions` are kinds that this model does not name, as encoded CBOR."""

    reference: tuple[MeasurementTriple, ...] = ()
    endorsed: tuple[MeasurementTriple, ...] = ()
    identity: tuple[KeyTriple, ...] = ()
    attest_key: tuple[KeyTriple, ...] = ()
    dependency: tuple[DomainTriple, ...] = ()
    membership: tuple[DomainTriple, ...] = ()
    coswid: tuple[CoswidTriple, ...] = ()
    series: tuple[SeriesTriple, ...] = ()
    conditional: tuple[ConditionalTriple, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()


_NAMES = {
    0: "reference",
    1: "endorsed",
    2: "identity",
    3: "attest-key",
    4: "dependency",
    5: "membership",
    6: "coswid",
    8: "series",
    10: "conditional",
}
T = TypeVar("T")


def tag_id(node: Node) -> TagId:
    """A tag's id."""
    return node.text() if isinstance(node.value, str) else node.octets((16,))


def decode(node: Node) -> Triples:
    """A triples-map. Raises CorimError."""
    found = node.fields(_NAMES, extensible=True)
    found.some()

    def read(name: str, one: Callable[[Node], T]) -> tuple[T, ...]:
        inner = found.found.get(name)
        return () if inner is None else inner.all("", one)

    return Triples(
        reference=read("reference", measurement_triple),
        endorsed=read("endorsed", measurement_triple),
        identity=read("identity", _keys),
        attest_key=read("attest-key", _keys),
        dependency=read("dependency", domain_triple),
        membership=read("membership", domain_triple),
        coswid=read("coswid", _coswid),
        series=read("series", _series),
        conditional=read("conditional", _conditional),
        extensions=found.extensions,
    )


def encode(triples: Triples) -> dict[int, Any]:
    """A triples-map ready to be encoded."""
    lists: dict[int, list[Any]] = {
        0: [encode_measurement_triple(triple) for triple in triples.reference],
        1: [encode_measurement_triple(triple) for triple in triples.endorsed],
        2: [_encode_keys(triple) for triple in triples.identity],
        3: [_encode_keys(triple) for triple in triples.attest_key],
        4: [encode_domain_triple(triple) for triple in triples.dependency],
        5: [encode_domain_triple(triple) for triple in triples.membership],
        6: [
            [values.encode_environment(triple.environment), list(triple.tag_ids)]
            for triple in triples.coswid
        ],
        8: [_encode_series(triple) for triple in triples.series],
        10: [_encode_conditional(triple) for triple in triples.conditional],
    }
    present = {number: entries for number, entries in lists.items() if entries}
    return extended(present, triples.extensions)


def measurement_triple(node: Node) -> MeasurementTriple:
    """An environment and its measurements."""
    environment, measurements = node.record("environment", "measurement")
    return MeasurementTriple(
        values.environment(environment), measurements.all("", values.measurement)
    )


def encode_measurement_triple(triple: MeasurementTriple) -> list[Any]:
    """The same ready to be encoded."""
    return [values.encode_environment(triple.environment), _measurements(triple.measurements)]


def _measurements(measurements: tuple[Measurement, ...]) -> list[dict[int, Any]]:
    return [values.encode_measurement(measurement) for measurement in measurements]


def _keys(node: Node) -> KeyTriple:
    environment, keys, *rest = node.record("environment", "keys", "conditions", optional=1)
    element, authorized_by = None, None
    for conditions in rest:
        found = conditions.fields({0: "key", 1: "authorized-by"})
        found.some()
        element = found.maybe("key", values.element)
        authorized_by = found.maybe("authorized-by", values.keys)
    return KeyTriple(
        values.environment(environment),
        keys.all("", values.key),
        element,
        authorized_by or (),
    )


def _encode_keys(triple: KeyTriple) -> list[Any]:
    conditions: dict[int, Any] = {}
    if triple.element is not None:
        conditions[0] = triple.element
    if triple.authorized_by:
        conditions[1] = values.encode_keys(triple.authorized_by)
    return [
        values.encode_environment(triple.environment),
        values.encode_keys(triple.keys),
        *([conditions] if conditions else []),
    ]


def domain_triple(node: Node) -> DomainTriple:
    """An environment and others."""
    domain, members = node.record("domain", "members")
    return DomainTriple(values.environment(domain), members.all("", values.environment))


def encode_domain_triple(triple: DomainTriple) -> list[Any]:
    """The same ready to be encoded."""
    return [
        values.encode_environment(triple.domain),
        [values.encode_environment(member) for member in triple.members],
    ]


def _coswid(node: Node) -> CoswidTriple:
    environment, ids = node.record("environment", "tag-ids")
    return CoswidTriple(values.environment(environment), ids.all("", tag_id))


def _conditional(node: Node) -> ConditionalTriple:
    conditions, endorsements = node.record("conditions", "endorsements")
    return ConditionalTriple(
        conditions.all("", measurement_triple), endorsements.all("", measurement_triple)
    )


def _encode_conditional(triple: ConditionalTriple) -> list[Any]:
    return [
        [encode_measurement_triple(condition) for condition in triple.conditions],
        [encode_measurement_triple(endorsement) for endorsement in triple.endorsements],
    ]


def _series(node: Node) -> SeriesTriple:
    common, series = node.record("condition", "series")
    environment, claims, *authority = common.record(
        "environment", "measurement", "authorized-by", optional=1
    )
    return SeriesTriple(
        values.environment(environment),
        claims.all("", values.measurement, least=0),
        series.all("", _series_item),
        values.keys(authority[0]) if authority else (),
    )


def _series_item(node: Node) -> SeriesItem:
    condition, addition = node.record("condition", "addition")
    return SeriesItem(condition.all("", values.measurement), addition.all("", values.measurement))


def _encode_series(triple: SeriesTriple) -> list[Any]:
    common: list[Any] = [
        values.encode_environment(triple.environment),
        _measurements(triple.claims),
    ]
    if triple.authorized_by:
        common.append(values.encode_keys(triple.authorized_by))
    return [
        common,
        [[_measurements(item.condition), _measurements(item.addition)] for item in triple.series],
    ]
