"""Comparison of single values (draft-ietf-rats-corim, section 9.4.6, "Rules of Comparison").

A condition (a reference value) is met by an entry (a claim) if every attribute of the condition is
in the entry and satisfied there; what else the entry has is not looked at. An attribute without a
rule, such as a profile's extension, is never satisfied. Also here: values as people read them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from operator import attrgetter
from typing import Any

from casemate.attestation.reference.keys import public_key
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    Digest,
    Flag,
    IntRange,
    MeasurementValues,
    RawValue,
    Svn,
    SvnKind,
    Version,
)

#: Other names of the same algorithms: COSE's numbers, and texts of the IANA registry.
_ALGORITHMS: dict[int | str, int | str] = {
    -16: 1,
    -43: 7,
    -44: 8,
    "sha-256": 1,
    "sha-384": 7,
    "sha-512": 8,
    "sha3-256": 10,
    "sha3-384": 11,
    "sha3-512": 12,
}
_ALGORITHM_NAMES: dict[int | str, str] = {
    1: "SHA-256",
    7: "SHA-384",
    8: "SHA-512",
    10: "SHA3-256",
    11: "SHA3-384",
    12: "SHA3-512",
}


def algorithm_of(digest: Digest) -> int | str:
    """The digest's algorithm under one name, whatever name it came with."""
    return _ALGORITHMS.get(digest.algorithm, digest.algorithm)


def differences(condition: MeasurementValues, entry: MeasurementValues) -> tuple[str, ...]:
    """The attributes of the condition that the entry does not satisfy; none: it is met."""
    found = tuple(
        name
        for (name, rule), wanted, claimed in zip(
            _RULES.items(), _COMPARED(condition), _COMPARED(entry), strict=True
        )
        if wanted is not None and wanted != () and not rule(wanted, claimed)
    )
    return (*found, "extensions") if condition.extensions else found


def satisfies(condition: MeasurementValues, entry: MeasurementValues) -> bool:
    """Whether the entry meets the condition."""
    return not differences(condition, entry)


def _digests(condition: tuple[Digest, ...], entry: tuple[Digest, ...]) -> bool:
    if len(condition) == len(entry) == 1:
        return condition[0].value == entry[0].value and algorithm_of(condition[0]) == algorithm_of(
            entry[0]
        )
    wanted = {algorithm_of(digest): digest.value for digest in condition}
    found = {algorithm_of(digest): digest.value for digest in entry}
    if len(wanted) != len(condition) or len(found) != len(entry):
        return False
    # All shared algorithms must agree, or a weak one could vouch for what a strong one denies.
    shared = wanted.keys() & found.keys()
    return bool(shared) and all(wanted[name] == found[name] for name in shared)


def _svn(condition: Svn, entry: Svn | None) -> bool:
    if entry is None:
        return False
    if entry.kind is SvnKind.EXACT and condition.kind is SvnKind.MINIMUM:
        return condition.value <= entry.value
    return condition == entry


def _flags(condition: tuple[tuple[int, bool], ...], entry: tuple[tuple[int, bool], ...]) -> bool:
    return set(condition) <= set(entry)


def _raw_value(condition: RawValue, entry: RawValue | None) -> bool:
    if entry is None or entry.mask is not None or len(entry.value) != len(condition.value):
        return False
    if condition.mask is None:
        return condition.value == entry.value
    if len(condition.mask) != len(condition.value):
        return False
    return all(
        (wanted ^ found) & mask == 0
        for wanted, found, mask in zip(condition.value, entry.value, condition.mask, strict=True)
    )


def _version(condition: Version, entry: Version | None) -> bool:
    return (
        entry is not None
        and condition.version == entry.version
        and condition.scheme in (None, entry.scheme)
    )


def _crypto_keys(condition: tuple[Tag, ...], entry: tuple[Tag, ...]) -> bool:
    return condition == entry[: len(condition)]


_Registers = tuple[tuple[int | str, tuple[Digest, ...]], ...]


def _registers(condition: _Registers, entry: _Registers) -> bool:
    found = dict(entry)
    return all(
        register in found and _digests(digests, found[register]) for register, digests in condition
    )


def _int_range(condition: IntRange, entry: IntRange | None) -> bool:
    if entry is None:
        return False
    low = condition.minimum is None or (
        entry.minimum is not None and entry.minimum >= condition.minimum
    )
    high = condition.maximum is None or (
        entry.maximum is not None and entry.maximum <= condition.maximum
    )
    return low and high


def _equal(condition: object, entry: object) -> bool:
    return condition == entry


_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "digests": _digests,
    "svn": _svn,
    "raw_value": _raw_value,
    "flags": _flags,
    "version": _version,
    "integrity_registers": _registers,
    "int_range": _int_range,
    "crypto_keys": _crypto_keys,
    "mac_address": _equal,
    "ip_address": _equal,
    "serial_number": _equal,
    "ueid": _equal,
    "uuid": _equal,
    "name": _equal,
}
_COMPARED = attrgetter(*_RULES)


# --- values as people read them --------------------------------------------------------------


def describe(values: MeasurementValues, only: Collection[str] | None = None) -> str:
    """The values as one line, or those of the named attributes; "nothing" if there are none."""
    parts = [
        text(value)
        for (name, text), value in zip(_TEXTS.items(), _SHOWN(values), strict=True)
        if value is not None and value != () and (only is None or name in only)
    ]
    return ", ".join(parts) or "nothing"


def _digests_text(digests: tuple[Digest, ...]) -> str:
    if len(digests) == 1:
        return _digest_text(digests[0])
    return " and ".join(map(_digest_text, digests))


def _digest_text(digest: Digest) -> str:
    name = _ALGORITHM_NAMES.get(algorithm_of(digest)) or f"digest {digest.algorithm}"
    return f"{name} {digest.value.hex()}"


def _svn_text(svn: Svn) -> str:
    return f"SVN at least {svn.value}" if svn.kind is SvnKind.MINIMUM else f"SVN {svn.value}"


def _raw_text(raw: RawValue) -> str:
    mask = "" if raw.mask is None else f" under the mask {raw.mask.hex()}"
    return f"{raw.value.hex() or 'no bytes'}{mask}"


def _flags_text(flags: tuple[tuple[int, bool], ...]) -> str:
    return ", ".join(f"{_flag_name(flag)} {'yes' if fact else 'no'}" for flag, fact in flags)


def _flag_name(flag: int) -> str:
    return flag.name.lower().replace("_", "-") if isinstance(flag, Flag) else f"flag {flag}"


def _registers_text(registers: _Registers) -> str:
    return ", ".join(f"register {name} {_digests_text(found)}" for name, found in registers)


def _range_text(value: IntRange) -> str:
    if value.minimum is not None and value.minimum == value.maximum:
        return str(value.minimum)
    low = "" if value.minimum is None else f"from {value.minimum}"
    high = "" if value.maximum is None else f"up to {value.maximum}"
    return " ".join(filter(None, (low, high))) or "any number"


def _key_text(key: Tag) -> str:
    spki = public_key(key)
    if isinstance(key.value, Digest):
        return f"key with {_digests_text((key.value,))}"
    shown = spki if spki is not None else key.value
    return f"key {shown.hex() if isinstance(shown, bytes) else shown!r}"


_TEXTS: dict[str, Callable[[Any], str]] = {
    "digests": _digests_text,
    "svn": _svn_text,
    "version": lambda version: f"version {version.version}",
    "raw_value": _raw_text,
    "flags": _flags_text,
    "int_range": _range_text,
    "integrity_registers": _registers_text,
    "crypto_keys": lambda keys: ", ".join(map(_key_text, keys)),
    "mac_address": lambda value: f"MAC {value.hex(':')}",
    "ip_address": lambda value: f"IP {value.hex()}",
    "serial_number": lambda value: f"serial number {value}",
    "ueid": lambda value: f"UEID {value.hex()}",
    "uuid": lambda value: f"UUID {value.hex()}",
    "name": lambda value: f"name {value}",
    "extensions": lambda found: ", ".join(
        f"extension {key} (no rule to compare it)" for key, _ in found
    ),
}
_SHOWN = attrgetter(*_TEXTS)
