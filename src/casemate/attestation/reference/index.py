"""Finding the triples that speak of an environment without looking at all of them.

A triple is filed under one attribute of its environment (its class id if it has one), under each
of its measurement keys, and there under its digests: so a set that holds a thousand versions of
one firmware costs an appraisal no more than one that holds a few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from casemate.attestation.reference.comparison import describe
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import Environment, Measurement, MeasurementValues
from casemate.formats.corim.triples import (
    ConditionalTriple,
    KeyTriple,
    MeasurementTriple,
    SeriesTriple,
)

if TYPE_CHECKING:
    from casemate.attestation.reference.store import StoredTag

Element = int | str | Tag | None
#: One attribute of an environment and its value: where triples are filed.
Place = tuple[str, object]
_ORDER = ("class_id", "instance", "model", "vendor", "group", "layer", "index")


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A reference triple of a tag. `name` is what verdicts call it."""

    tag: StoredTag
    triple: MeasurementTriple
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class KeyReference:
    """An identity or attest-key triple; `kind` is how people call its keys."""

    tag: StoredTag
    triple: KeyTriple
    kind: str
    name: str


Augmenting = MeasurementTriple | ConditionalTriple | SeriesTriple


@dataclass(frozen=True, slots=True, eq=False)
class Augmentation:
    """A triple that adds endorsed values to an environment where its conditions are met."""

    tag: StoredTag
    triple: Augmenting
    name: str


@dataclass(slots=True)
class _Slot:
    """The references that measure one element of the environments filed in one place."""

    all: list[tuple[Reference, Measurement]] = field(default_factory=list)
    by_digest: dict[bytes, list[tuple[Reference, Measurement]]] = field(default_factory=dict)
    without_digests: list[tuple[Reference, Measurement]] = field(default_factory=list)


class Index:
    """All triples of a set, by where they apply."""

    def __init__(self, tags: Iterable[StoredTag]) -> None:
        self._slots: dict[tuple[Place, Element], _Slot] = {}
        self._references: dict[Place, list[Reference]] = {}
        self._keys: dict[Place, list[KeyReference]] = {}
        self._augmentations: dict[Place, list[Augmentation]] = {}
        self._texts: dict[int, str] = {}
        self.has_keys = False
        #: Whether a comparison's outcome depends on the keys that evidence was verified with.
        self.depends_on_keys = False
        self.has_augmentations = False
        for tag in tags:
            self._add(tag)

    def candidates(
        self, environment: Environment, key: Element, values: MeasurementValues
    ) -> Iterator[tuple[Reference, Measurement]]:
        """References that the values could meet; whether they cover the environment is left."""
        for place in places(environment):
            slot = self._slots.get((place, key))
            if slot is None:
                continue
            for digest in values.digests:
                yield from slot.by_digest.get(digest.value, ())
            yield from slot.without_digests

    def about(
        self, environment: Environment, key: Element
    ) -> Iterator[tuple[Reference, Measurement]]:
        """Every reference that measures this element and covers the environment."""
        for place in places(environment):
            slot = self._slots.get((place, key))
            for reference, measurement in slot.all if slot else ():
                if reference.triple.environment.covers(environment):
                    yield reference, measurement

    def references(self, environment: Environment) -> Iterator[Reference]:
        """Every reference triple that covers the environment."""
        for place in places(environment):
            for reference in self._references.get(place, ()):
                if reference.triple.environment.covers(environment):
                    yield reference

    def keys(self, environment: Environment) -> Iterator[KeyReference]:
        """The key triples that cover the environment."""
        for place in places(environment):
            for reference in self._keys.get(place, ()):
                if reference.triple.environment.covers(environment):
                    yield reference

    def augmentations(self, environments: Iterable[Environment]) -> list[Augmentation]:
        """Triples whose first condition is filed under one of the environments, each once."""
        found = {
            id(augmentation): augmentation
            for environment in environments
            for place in places(environment)
            for augmentation in self._augmentations.get(place, ())
        }
        return list(found.values())

    def text(self, measurement: Measurement) -> str:
        """One of the set's measurements as people read it, made once."""
        text = self._texts.get(id(measurement))
        if text is None:
            text = self._texts[id(measurement)] = describe(measurement.values)
        return text

    def _add(self, tag: StoredTag) -> None:
        triples = tag.comid.triples
        for number, triple in enumerate(triples.reference):
            reference = Reference(tag, triple, f"{tag.name}, reference {number}")
            place = places(triple.environment)[0]
            self._references.setdefault(place, []).append(reference)
            for measurement in triple.measurements:
                self.depends_on_keys |= bool(measurement.authorized_by)
                slot = self._slots.setdefault((place, measurement.key), _Slot())
                slot.all.append((reference, measurement))
                digests = measurement.values.digests
                for digest in digests:
                    slot.by_digest.setdefault(digest.value, []).append((reference, measurement))
                if not digests:
                    slot.without_digests.append((reference, measurement))
        for kind, key_triples in (
            ("identity key", triples.identity),
            ("attestation key", triples.attest_key),
        ):
            for number, key_triple in enumerate(key_triples):
                self.has_keys = self.depends_on_keys = True
                self._keys.setdefault(places(key_triple.environment)[0], []).append(
                    KeyReference(tag, key_triple, kind, f"{tag.name}, {kind} {number}")
                )
        augmenting: list[tuple[str, Environment, Augmenting]] = [
            *(("endorsed", triple.environment, triple) for triple in triples.endorsed),
            *(
                ("conditional", triple.conditions[0].environment, triple)
                for triple in triples.conditional
            ),
            *(("series", triple.environment, triple) for triple in triples.series),
        ]
        for number, (kind, environment, augmentation) in enumerate(augmenting):
            self.has_augmentations = True
            self._augmentations.setdefault(places(environment)[0], []).append(
                Augmentation(tag, augmentation, f"{tag.name}, {kind} {number}")
            )


def places(environment: Environment) -> list[Place]:
    """Where a triple for this environment may be filed, the most telling attribute first."""
    return [(name, value) for name in _ORDER if (value := getattr(environment, name)) is not None]
