"""Reference values for tests: made of what a host's own verified evidence measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.family import Component, Measured
from casemate.attestation.reference import store
from casemate.attestation.reference.store import ReferenceSet
from casemate.formats.corim import manifest
from casemate.formats.corim.comid import Comid, TagIdentity
from casemate.formats.corim.manifest import Corim
from casemate.formats.corim.measurement import Environment, Measurement
from casemate.formats.corim.triples import MeasurementTriple, Triples

AT = datetime(2026, 1, 1, tzinfo=UTC)


def corim_of(
    components: Iterable[Component],
    *,
    tag: str = "good host",
    wanted: Callable[[Measured], bool] = lambda measured: not measured.optional,
) -> bytes:
    """An unsigned CoRIM with what these components measured as its reference values."""
    environments: dict[Environment, list[Measurement]] = {}
    for component in components:
        for measured in filter(wanted, component.measured):
            environments.setdefault(measured.environment, []).append(measured.measurement)
    triples = tuple(
        MeasurementTriple(environment, tuple(measurements))
        for environment, measurements in environments.items()
    )
    comid = Comid(identity=TagIdentity(tag), triples=Triples(reference=triples))
    return manifest.encode(Corim(id=tag, tags=(comid,)))


def references_of(*manifests: bytes) -> ReferenceSet:
    """A set of unsigned manifests."""
    files = [NamedBytes(data, f"corim {number}") for number, data in enumerate(manifests)]
    return store.load(files, signers=(), at=AT, take_unsigned=True)
