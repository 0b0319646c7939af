"""Manifests as people read them, and as JSON: where each triple applies and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from casemate.attestation.reference.comparison import describe
from casemate.attestation.reference.manifest import Manifest
from casemate.attestation.reference.store import StoredTag
from casemate.formats import der_reader
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import TAG_OID, TAG_UUID, Digest, Environment, Measurement
from casemate.formats.corim.triples import Triples

#: What a row of an explanation has: kind of triple, environment, what it says.
Row = tuple[str, str, str]


def environment_text(environment: Environment) -> str:
    """An environment on one line."""
    parts = []
    for name, value in (
        ("", environment.class_id),
        ("vendor ", environment.vendor),
        ("model ", environment.model),
        ("layer ", environment.layer),
        ("index ", environment.index),
        ("instance ", environment.instance),
        ("group ", environment.group),
    ):
        if value is not None:
            parts.append(name + (type_text(value) if isinstance(value, Tag) else str(value)))
    return ", ".join(parts)


def type_text(tag: Tag) -> str:
    """A class id, instance, group or key: text where it is printable, else what it is."""
    value = tag.value
    if tag.number == TAG_OID:
        return der_reader.dotted(value)
    if isinstance(value, Digest):
        return f"digest {value.value.hex()}"
    if isinstance(value, bytes):
        plain = value.isascii() and value.decode("ascii", "replace").isprintable() and value
        return value.decode() if plain and tag.number != TAG_UUID else value.hex()
    return " ".join(str(value).split())


def rows(triples: Triples) -> Iterator[Row]:
    """Every triple, one row for each thing that it says."""
    for kind, found in (("reference", triples.reference), ("endorsed", triples.endorsed)):
        for triple in found:
            for measurement in triple.measurements:
                yield kind, environment_text(triple.environment), measurement_text(measurement)
    for kind, keys in (
        ("identity key", triples.identity),
        ("attestation key", triples.attest_key),
    ):
        for each in keys:
            for key in each.keys:
                yield kind, environment_text(each.environment), type_text(key)
    for conditional in triples.conditional:
        conditions = " and ".join(
            f"{environment_text(each.environment)}: "
            + ", ".join(map(measurement_text, each.measurements))
            for each in conditional.conditions
        )
        for endorsement in conditional.endorsements:
            said = ", ".join(map(measurement_text, endorsement.measurements))
            place = environment_text(endorsement.environment)
            yield "conditional", place, f"{said}, if {conditions}"
    for series in triples.series:
        for item in series.series:
            said = ", ".join(map(measurement_text, item.addition))
            wanted = ", ".join(map(measurement_text, (*series.claims, *item.condition)))
            yield "series", environment_text(series.environment), f"{said}, if {wanted}"
    for kind, domains in (
        ("depends on", triples.dependency),
        ("has members", triples.membership),
    ):
        for domain in domains:
            members = "; ".join(map(environment_text, domain.members))
            yield kind, environment_text(domain.domain), members
    for coswid in triples.coswid:
        names = ", ".join(one if isinstance(one, str) else one.hex() for one in coswid.tag_ids)
        yield "software", environment_text(coswid.environment), names


def measurement_text(measurement: Measurement) -> str:
    """A measurement on one line, its key first."""
    key = measurement.key
    label = "" if key is None else f"{type_text(key) if isinstance(key, Tag) else key}: "
    return label + describe(measurement.values)


def tag_document(tag: StoredTag, at: datetime) -> dict[str, Any]:
    """A tag of a set as JSON: its name, origin, state at a time, and its triples' rows."""
    reason = tag.why_not(at)
    return {
        "tag": tag.comid.identity.name,
        "version": tag.comid.identity.version,
        "in_force": reason is None,
        "reason": reason,
        "triples": [
            {"kind": kind, "environment": place, "says": said}
            for kind, place, said in rows(tag.comid.triples)
        ],
        "manifest": manifest_document(tag.manifest),
    }


def manifest_document(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON, without its tags."""
    signed = manifest.signed_by
    return {
        "id": manifest.corim.name,
        "file": manifest.file.name,
        "sha256": manifest.digest.hex(),
        "profile": manifest.profile,
        "signed_by": None if signed is None else signed.name,
        "signer_key": None if signed is None else signed.signer.hex(),
        "entities": [entity.name for entity in manifest.corim.entities],
        "not_before": _latest(manifest),
        "not_after": _earliest(manifest),
        "forms": sorted(form.value for form in manifest.forms),
    }


def _latest(manifest: Manifest) -> str | None:
    begins = [v.not_before for v in manifest.validities if v.not_before is not None]
    return max(begins).isoformat() if begins else None


def _earliest(manifest: Manifest) -> str | None:
    ends = [validity.not_after for validity in manifest.validities]
    return min(ends).isoformat() if ends else None
