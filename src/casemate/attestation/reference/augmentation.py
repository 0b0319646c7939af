"""What endorsers add to an attester: endorsed values, where their conditions are met.

Conditions look at what is claimed (under the attester's authority), at claims that met a reference
value (under the signer's), and at what was endorsed before; so triples are tried until nothing new
comes (draft-ietf-rats-corim, sections 9.4.1 to 9.4.4). Of a series the first item counts. What
comes out are facts that policies read, named after the attribute: `endorsed_version`,
`endorsed_svn`, `endorsed_is_secure`; after the measurement key too where there is one
("endorsed_firmware_svn"). They are never taken for claims.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from casemate.attestation.evidence.family import Component, Fact
from casemate.attestation.reference.comparison import satisfies
from casemate.attestation.reference.index import Augmentation, Index
from casemate.attestation.reference.keys import Authority
from casemate.attestation.reference.store import StoredTag
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import Environment, Flag, Measurement
from casemate.formats.corim.triples import ConditionalTriple, MeasurementTriple, SeriesTriple

#: Rounds of trying all triples: more than any chain of endorsements that is meant.
_MOST_ROUNDS = 16
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim in its environment, and who stands behind it."""

    environment: Environment
    measurement: Measurement
    authority: Authority


def facts(
    components: Sequence[Component],
    claimed: Sequence[Claimed],
    index: Index,
    in_force: Callable[[StoredTag], bool],
) -> dict[str, dict[str, Fact]]:
    """Endorsed facts by component."""
    state = list(claimed)
    waiting: list[Augmentation] = []
    for _ in range(_MOST_ROUNDS):
        # Endorsements can name environments of their own, under which more is filed.
        environments = dict.fromkeys(entry.environment for entry in state)
        done = {id(entry) for entry in waiting}
        found = [
            entry
            for entry in index.augmentations(environments)
            if id(entry) not in done and in_force(entry.tag)
        ]
        added = False
        for entry in found:
            additions = list(_additions(entry, state))
            if additions:
                waiting.append(entry)
                state.extend(additions)
                added = True
        if not added:
            break
    return _by_component(components, state[len(claimed) :])


def _additions(entry: Augmentation, state: Sequence[Claimed]) -> Iterator[Claimed]:
    """What a triple adds, nothing if its conditions are not met."""
    triple = entry.triple
    authority = entry.tag.authority
    if isinstance(triple, ConditionalTriple):
        if all(
            any(_holds(condition, environment, state) for environment in _covered(condition, state))
            for condition in triple.conditions
        ):
            for endorsement in triple.endorsements:
                yield from _of(endorsement, state, authority)
    elif isinstance(triple, SeriesTriple):
        for environment in dict.fromkeys(
            claim.environment for claim in state if triple.environment.covers(claim.environment)
        ):
            yield from _series(triple, environment, state, authority)
    else:
        yield from _of(triple, state, authority)


def _series(
    triple: SeriesTriple, environment: Environment, state: Sequence[Claimed], authority: Authority
) -> Iterator[Claimed]:
    if not _all_met(triple.claims, environment, state, triple.authorized_by):
        return
    for item in triple.series:
        if _all_met(item.condition, environment, state, triple.authorized_by):
            for measurement in item.addition:
                yield Claimed(environment, measurement, authority)
            return


def _of(
    endorsement: MeasurementTriple, state: Sequence[Claimed], authority: Authority
) -> Iterator[Claimed]:
    """Endorsed values, in the attester's environments that they cover, or in their own."""
    covered = list(_covered(endorsement, state)) or [endorsement.environment]
    for environment in covered:
        for measurement in endorsement.measurements:
            yield Claimed(environment, measurement, authority)


def _covered(triple: MeasurementTriple, state: Sequence[Claimed]) -> Iterable[Environment]:
    return dict.fromkeys(
        claim.environment for claim in state if triple.environment.covers(claim.environment)
    )


def _holds(
    condition: MeasurementTriple, environment: Environment, state: Sequence[Claimed]
) -> bool:
    return _all_met(condition.measurements, environment, state, ())


def _all_met(
    conditions: Sequence[Measurement],
    environment: Environment,
    state: Sequence[Claimed],
    authorized_by: Sequence[Tag],
) -> bool:
    """Whether each condition is met in that environment; `authorized_by` overrules its own."""
    here = [claim for claim in state if claim.environment == environment]
    return all(
        any(
            claim.measurement.key == condition.key
            and satisfies(condition.values, claim.measurement.values)
            and claim.authority.has_all(authorized_by or condition.authorized_by)
            for claim in here
        )
        for condition in conditions
    )


def _by_component(
    components: Sequence[Component], endorsed: Sequence[Claimed]
) -> dict[str, dict[str, Fact]]:
    result: dict[str, dict[str, Fact]] = {}
    for component in components:
        environments = {measured.environment for measured in component.measured}
        for claim in endorsed:
            if claim.environment in environments:
                result.setdefault(component.name, {}).update(_facts(claim.measurement))
    return result


def _facts(measurement: Measurement) -> Iterator[tuple[str, Fact]]:
    key = measurement.key
    label = "" if key is None or isinstance(key, Tag) else _NOT_IN_NAMES.sub("_", str(key).lower())
    prefix = f"endorsed_{label}_" if label.strip("_") else "endorsed_"
    values = measurement.values
    if values.version is not None:
        yield f"{prefix}version", values.version.version
    if values.svn is not None:
        yield f"{prefix}svn", values.svn.value
    if values.raw_value is not None:
        yield f"{prefix}raw_value", values.raw_value.value
    if values.name is not None:
        yield f"{prefix}name", values.name
    if values.serial_number is not None:
        yield f"{prefix}serial_number", values.serial_number
    for digest in values.digests:
        yield f"{prefix}digest_{digest.algorithm}", digest.value
    for flag, fact in values.flags:
        name = flag.name.lower() if isinstance(flag, Flag) else f"flag_{flag}"
        yield f"{prefix}{name}", fact
