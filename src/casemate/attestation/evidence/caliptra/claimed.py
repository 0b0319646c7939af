"""The concise evidence in a token, held against what certificates, quote and log say.

A triple about a layer that those cover must not say otherwise. What they do not cover, and what
says more than they do, stands on the token's signature alone: it becomes the component "software".
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable, Sequence

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra import environments
from casemate.attestation.evidence.caliptra.components import Evidence, Layers
from casemate.attestation.evidence.caliptra.device import FMC_INFO, RT_INFO, VENDOR_INFO, Firmware
from casemate.attestation.evidence.family import Component, Context, Measured
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.cbor import Tag
from casemate.formats.corim import evidence as concise
from casemate.formats.corim.measurement import (
    SHA384,
    TAG_BYTES,
    Digest,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
)
from casemate.formats.corim.reading import STRICT, CorimError, Forms
from casemate.formats.corim.triples import MeasurementTriple

_SHA384_NAMES = (SHA384, "sha-384")
_COMPARED = frozenset({"svn", "digests", "raw_value", "integrity_registers"})


def check_claims(
    encoded: Iterable[bytes],
    evidence: Evidence,
    stated: Layers,
    context: Context,
    checks: Checklist,
) -> Component | None:
    """Check every triple; the component of those that nothing else covers. Raises EvidenceError."""
    others: list[Measured] = []
    for data in encoded:
        try:
            triples = context.certificates.read(data, _read)
        except CorimError as error:
            checks.refuse("token-measurements", f"concise evidence: {error}")
        for triple in triples:
            allowed = _known(triple.environment.class_id, evidence, stated)
            for measurement in triple.measurements:
                found = {_compare(measurement.values, values) for values in allowed}
                if found == {Outcome.DIFFERS}:
                    checks.refuse(
                        "token-measurements",
                        f"the token claims of {_name(triple.environment.class_id)} what its "
                        "certificates and quote say otherwise",
                    )
                if Outcome.CONFIRMED not in found:
                    others.append(_other(triple, measurement, len(others)))
    checks.note("token-measurements", "the token's measurements are those of its chain")
    return Component(name="software", measured=tuple(others)) if others else None


def _known(
    class_id: Tag | None, evidence: Evidence, stated: Layers
) -> tuple[MeasurementValues, ...]:
    """What is known of a class: the values that a token may claim; none if nothing is."""
    if class_id is None or class_id.number != TAG_BYTES:
        return ()
    kind, pcrs, boot = class_id.value, evidence.pcrs, evidence.boot
    if kind == RT_INFO and stated.runtime is not None:
        return (_values(stated.runtime, pcrs, 2, 3),)
    if kind == FMC_INFO and kind in stated.fmc:
        return (_values(stated.fmc[kind], pcrs, 0, 1),)
    if kind in stated.fmc:
        raw = boot.status_bytes if kind == VENDOR_INFO and boot is not None else None
        return (_values(stated.fmc[kind], None, raw=raw),)
    return tuple(
        MeasurementValues(svn=Svn(node.svn), digests=(Digest(SHA384, node.current),))
        for node in evidence.nodes[1:]
        if environments.of_firmware(node.kind).class_id == class_id
    )


def _values(
    firmware: Firmware, pcrs: Sequence[bytes] | None, *registers: int, raw: bytes | None = None
) -> MeasurementValues:
    quoted = () if pcrs is None else tuple((i, (Digest(SHA384, pcrs[i]),)) for i in registers)
    return MeasurementValues(
        svn=None if firmware.svn is None else Svn(firmware.svn),
        digests=(Digest(SHA384, firmware.digest),),
        raw_value=None if raw is None else RawValue(raw),
        integrity_registers=quoted,
    )


def _read(data: bytes) -> tuple[MeasurementTriple, ...]:
    return concise.decode(data, forms=Forms(STRICT)).measured


class Outcome(enum.Enum):
    """A claim against what is known: confirmed, beyond it in some value, or different."""

    CONFIRMED = enum.auto()
    BEYOND = enum.auto()
    DIFFERS = enum.auto()


def _compare(claimed: MeasurementValues, known: MeasurementValues) -> Outcome:
    """A claim may say less than is known; DIFFERS wins over BEYOND."""
    pairs: list[tuple[object, object]] = [
        (getattr(claimed, name), getattr(known, name)) for name in ("svn", "raw_value")
    ]
    own, registers = _digests(known.digests), dict(known.integrity_registers)
    pairs.extend((value, own.get(kind)) for kind, value in _digests(claimed.digests).items())
    for index, digests in claimed.integrity_registers:
        quoted = _digests(registers.get(index, ()))
        pairs.extend((value, quoted.get(kind)) for kind, value in _digests(digests).items())
    stated = [(value, other) for value, other in pairs if value is not None]
    if any(other is not None and value != other for value, other in stated):
        return Outcome.DIFFERS
    rest = (
        getattr(claimed, field.name)
        for field in dataclasses.fields(claimed)
        if field.name not in _COMPARED
    )
    beyond = any(other is None for _, other in stated) or any(
        value not in (None, ()) for value in rest
    )
    return Outcome.BEYOND if beyond else Outcome.CONFIRMED


def _digests(digests: Iterable[Digest]) -> dict[int | str, bytes]:
    return {
        SHA384 if digest.algorithm in _SHA384_NAMES else digest.algorithm: digest.value
        for digest in digests
    }


def _other(triple: MeasurementTriple, measurement: Measurement, number: int) -> Measured:
    class_id = triple.environment.class_id
    label = f"claim {number}" if class_id is None else _name(class_id)
    return Measured(
        label=label,
        environment=triple.environment,
        measurement=measurement,
        claim=TrustClaim.EXECUTABLES,
    )


def _name(class_id: Tag | None) -> str:
    value = None if class_id is None else class_id.value
    if isinstance(value, bytes):
        return value.decode() if value.isascii() and value.decode().isprintable() else value.hex()
    return str(value)
