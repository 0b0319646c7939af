"""Comparing an attester's claims with a set of reference values.

    matched = compare(components, references, at=now, keys=verified_keys)
    matched.claims["runtime"]  # a ClaimVerdict for each measured thing

The rules (draft-ietf-rats-corim, section 9.4): a reference triple is met by an environment that it
covers if each of its measurements is met by a claim of that environment with the same key. Triples
are alternatives. A claim is:
- met, if a triple that measures it is met as a whole;
- different, if triples speak of it and none is met. It is then shown beside the one that comes
  closest; what that one demands and the attester does not claim at all differs too. Where nothing
  in an environment meets a whole triple, claims that agree with the closest one stand as met, so
  that a person sees what differs: some other claim of that environment then always does;
- without reference, if no triple in force speaks of it.

Identity and attest-key triples are references for the attester itself: one of their keys must be
among the keys that its evidence was verified with. Endorsed values become facts, and never claims:
see `augmentation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from casemate.attestation.appraisal.verdict import ClaimVerdict, Comparison
from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.reference import augmentation
from casemate.attestation.reference.augmentation import Claimed
from casemate.attestation.reference.comparison import describe, differences, satisfies
from casemate.attestation.reference.index import Element, Index, KeyReference, Reference
from casemate.attestation.reference.keys import Authority, is_key
from casemate.attestation.reference.store import ReferenceSet, StoredTag
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import Digest, Environment, Measurement

#: Triples looked at to find the closest, and values shown as expected.
_MOST_COMPARED = 256
_MOST_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Matched:
    """By component: the claims' verdicts, and endorsed facts ("endorsed_version").

    `notes` are sentences about references that are not in force, where a claim met none that are.
    """

    claims: Mapping[str, tuple[ClaimVerdict, ...]]
    facts: Mapping[str, Mapping[str, Fact]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def compare(
    components: Sequence[Component],
    references: ReferenceSet,
    *,
    at: datetime,
    keys: Iterable[bytes] = (),
) -> Matched:
    """Compare all claims of one attester. `keys` (DER) are those its evidence was verified with."""
    comparing = _Comparing(components, references.index, at, frozenset(keys))
    claims = {component.name: comparing.claims(component) for component in components}
    facts: dict[str, dict[str, Fact]] = {}
    if references.index.has_augmentations:
        facts = augmentation.facts(
            components, comparing.claimed(), references.index, comparing.in_force
        )
    return Matched(claims, facts, tuple(dict.fromkeys(comparing.notes)))


@dataclass(frozen=True, slots=True)
class _Closest:
    """The triple that an environment comes closest to, and what of it is missing there."""

    reference: Reference
    missing: tuple[Measurement, ...]


class _Comparing:
    """One comparison: the claims by environment, and what was found out about them so far."""

    def __init__(
        self,
        components: Sequence[Component],
        index: Index,
        at: datetime,
        keys: frozenset[bytes],
    ) -> None:
        self.notes: list[str] = []
        self._index = index
        self._at = at
        self._keys = keys
        self._environments: dict[Environment, list[Measured]] = {}
        self._reasons: dict[int, str | None] = {}
        self._closest: dict[Environment, _Closest | None] = {}
        self._missing_told: set[Environment] = set()
        self._whole: dict[Environment, dict[int, tuple[Reference, Measurement]]] = {}
        for component in components:
            for measured in component.measured:
                self._environments.setdefault(measured.environment, []).append(measured)

    def claimed(self) -> list[Claimed]:
        """Every claim, and every claim again that met a reference, under its signer's authority."""
        found = []
        for environment, together in self._environments.items():
            for measured in together:
                measurement = measured.measurement
                found.append(
                    Claimed(
                        environment,
                        measurement,
                        Authority(frozenset(measurement.authorized_by), self._keys),
                    )
                )
                match = self._whole_matches(environment).get(id(measured))
                if match is not None:
                    found.append(Claimed(environment, measurement, match[0].tag.authority))
        return found

    def in_force(self, tag: StoredTag) -> bool:
        """Whether a tag is in force."""
        if id(tag) not in self._reasons:
            self._reasons[id(tag)] = tag.why_not(self._at)
        return self._reasons[id(tag)] is None

    def _speaks(self, tag: StoredTag) -> bool:
        """The same, for a claim that nothing met: a note says why a tag is not in force."""
        if self.in_force(tag):
            return True
        self.notes.append(f"the reference values {tag.name} are {self._reasons[id(tag)]}")
        return False

    def claims(self, component: Component) -> tuple[ClaimVerdict, ...]:
        """The verdicts on one component's claims, and on its keys."""
        verdicts: list[ClaimVerdict] = []
        for measured in component.measured:
            verdicts.extend(self._claim(measured))
        if self._index.has_keys:
            environments = dict.fromkeys(measured.environment for measured in component.measured)
            verdicts.extend(self._identity(environments, component))
        return tuple(verdicts)

    def _claim(self, measured: Measured) -> Iterable[ClaimVerdict]:
        environment = measured.environment
        whole = self._whole_matches(environment)
        if id(measured) in whole:
            yield self._met(measured, *whole[id(measured)])
            return
        closest = self._closest_to(environment)
        if closest is not None and environment not in self._missing_told:
            self._missing_told.add(environment)
            for measurement in closest.missing:
                yield self._missing(measured, closest.reference, measurement)
        about = self._index.about(environment, measured.measurement.key)
        in_force = list(islice((one for one in about if self._speaks(one[0].tag)), _MOST_COMPARED))
        if not in_force:
            if not measured.optional:
                yield ClaimVerdict(
                    label=measured.label,
                    found=describe(measured.measurement.values),
                    comparison=Comparison.NO_REFERENCE,
                    claim=measured.claim,
                )
            return
        if closest is not None and not whole:
            for measurement in closest.reference.triple.measurements:
                if self._meets(measurement, measured):
                    yield self._met(measured, closest.reference, measurement)
                    return
        yield self._different(measured, in_force)

    def _whole_matches(self, environment: Environment) -> dict[int, tuple[Reference, Measurement]]:
        """The claims of an environment (by id) that a triple measures which is met as a whole."""
        found = self._whole.get(environment)
        if found is None:
            matches = (
                (id(measured), self._whole_match(measured))
                for measured in self._environments[environment]
            )
            found = {place: match for place, match in matches if match is not None}
            self._whole[environment] = found
        return found

    def _whole_match(self, measured: Measured) -> tuple[Reference, Measurement] | None:
        own = measured.measurement
        for reference, measurement in self._index.candidates(
            measured.environment, own.key, own.values
        ):
            if (
                satisfies(measurement.values, own.values)
                and reference.triple.environment.covers(measured.environment)
                and self._authorized(measurement, own)
                and self.in_force(reference.tag)
                and self._others_met(reference, measurement, measured.environment)
            ):
                return reference, measurement
        return None

    def _others_met(self, reference: Reference, but: Measurement, environment: Environment) -> bool:
        if len(reference.triple.measurements) == 1:
            return True
        together = self._environments[environment]
        return all(
            measurement is but or any(self._meets(measurement, other) for other in together)
            for measurement in reference.triple.measurements
        )

    def _meets(self, condition: Measurement, measured: Measured) -> bool:
        own = measured.measurement
        return (
            condition.key == own.key
            and satisfies(condition.values, own.values)
            and self._authorized(condition, own)
        )

    def _authorized(self, condition: Measurement, own: Measurement) -> bool:
        if not condition.authorized_by:
            return True
        authority = Authority(frozenset(own.authorized_by), self._keys)
        return authority.has_all(condition.authorized_by)

    def _closest_to(self, environment: Environment) -> _Closest | None:
        """The triple in force of which the environment meets most; None: nothing of any."""
        if environment in self._closest:
            return self._closest[environment]
        together = self._environments[environment]
        best: _Closest | None = None
        best_met = 0.0
        in_force = (
            reference
            for reference in self._index.references(environment)
            # A triple of one measurement is never met in part.
            if len(reference.triple.measurements) > 1 and self.in_force(reference.tag)
        )
        for reference in islice(in_force, _MOST_COMPARED):
            measurements = reference.triple.measurements
            meeting = [
                [self._meets(measurement, measured) for measured in together]
                for measurement in measurements
            ]
            met = sum(map(any, meeting)) / len(measurements)
            if met > best_met:
                # Keys of claims that meet nothing here: they will be shown as different.
                different = {
                    measured.measurement.key
                    for measured, *meets in zip(together, *meeting, strict=True)
                    if not any(meets)
                }
                missing = tuple(
                    measurement
                    for measurement, meets in zip(measurements, meeting, strict=True)
                    if not any(meets) and measurement.key not in different
                )
                best, best_met = _Closest(reference, missing), met
        self._closest[environment] = best
        return best

    def _different(
        self, measured: Measured, about: Sequence[tuple[Reference, Measurement]]
    ) -> ClaimVerdict:
        own = measured.measurement
        ranked = sorted(
            (
                (differences(measurement.values, own.values), reference, measurement)
                for reference, measurement in about
            ),
            # Of equal counts, the one whose digest agrees is the closer one.
            key=lambda entry: (len(entry[0]), "digests" in entry[0]),
        )
        attributes, nearest, nearest_measurement = ranked[0]
        if attributes:
            expected: dict[str, None] = {}
            for _, _, measurement in ranked:
                expected[describe(measurement.values, attributes)] = None
                if len(expected) == _MOST_SHOWN:
                    break
            found = describe(own.values, attributes)
        elif not self._authorized(nearest_measurement, own):
            expected = {"the authority that the reference values name": None}
            found = f"{describe(own.values)}, by another authority"
        else:
            expected = {"the same together with the triple's other measurements": None}
            found = describe(own.values)
        return ClaimVerdict(
            label=measured.label,
            found=found,
            comparison=Comparison.DIFFERS,
            claim=measured.claim,
            reference=nearest.name,
            expected=tuple(expected),
        )

    def _met(
        self, measured: Measured, reference: Reference, measurement: Measurement
    ) -> ClaimVerdict:
        return ClaimVerdict(
            label=measured.label,
            found=describe(measured.measurement.values),
            comparison=Comparison.MET,
            claim=measured.claim,
            reference=reference.name,
            expected=(self._index.text(measurement),),
        )

    def _missing(
        self, beside: Measured, reference: Reference, measurement: Measurement
    ) -> ClaimVerdict:
        return ClaimVerdict(
            label=f"{beside.label}: {_element(measurement.key)}",
            found="nothing",
            comparison=Comparison.DIFFERS,
            claim=beside.claim,
            reference=reference.name,
            expected=(self._index.text(measurement),),
        )

    def _identity(
        self, environments: Iterable[Environment], component: Component
    ) -> Iterable[ClaimVerdict]:
        found: dict[str, list[KeyReference]] = {}
        for environment in environments:
            for reference in self._index.keys(environment):
                if self._speaks(reference.tag) and self._applies(reference, environment):
                    found.setdefault(reference.kind, []).append(reference)
        for kind, references in found.items():
            met = next(
                (
                    (reference, spki)
                    for reference in references
                    for key in reference.triple.keys
                    for spki in self._keys
                    if is_key(key, spki)
                ),
                None,
            )
            if met is not None:
                yield ClaimVerdict(
                    label=kind,
                    found=met[1].hex(),
                    comparison=Comparison.MET,
                    claim=TrustClaim.INSTANCE_IDENTITY,
                    reference=met[0].name,
                )
                continue
            keys = [key for reference in references for key in reference.triple.keys]
            yield ClaimVerdict(
                label=kind,
                found=f"none of the endorsed keys among the {len(self._keys)} of its evidence",
                comparison=Comparison.DIFFERS,
                claim=TrustClaim.INSTANCE_IDENTITY,
                reference=references[0].name,
                expected=tuple(_shown(key) for key in keys[:_MOST_SHOWN]),
            )

    def _applies(self, reference: KeyReference, environment: Environment) -> bool:
        """Whether what the triple asks of the environment is there, apart from the keys."""
        triple = reference.triple
        if triple.element is None and not triple.authorized_by:
            return True
        return any(
            (triple.element is None or measured.measurement.key == triple.element)
            and Authority(frozenset(measured.measurement.authorized_by), self._keys).has_all(
                triple.authorized_by
            )
            for measured in self._environments[environment]
        )


def _element(key: Element) -> str:
    if isinstance(key, Tag):
        return bytes(key.value).hex()
    return "the measurement without a key" if key is None else f"measurement {key}"


def _shown(key: Tag) -> str:
    value = key.value
    if isinstance(value, Digest):
        return f"key with digest {value.value.hex()}"
    text = value.hex() if isinstance(value, bytes) else str(value)
    return " ".join(text.split())
