"""What a TPM quote claims: a component whose measurements are its PCRs.

Conventions, for reference values: the environment's class id is TCG's arc, OID 2.23.133 (content
bytes 67 81 05 under tag 111), its model "TPM 2.0". Each quoted PCR is a measurement with its number
as key and a digest for each quoted bank; PCRs in which nothing was measured are compared but not
missed. All of them together are one more measurement without key, as integrity registers, compared
where a reference value has that form. Without PCR values, the quote's digest over them is a
measurement with the key "pcr-digest".

Facts: `firmware_version`, `clock` (milliseconds), `clock_safe`, `reset_count`, `restart_count`,
`pcr00` to `pcr23` (bytes), with an event log `events` (their number) and, where firmware measured
it, `secure_boot`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from casemate.attestation.evidence.family import Component, Fact, Measured
from casemate.attestation.evidence.tpm.quote import Pcrs, VerifiedQuote
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    SHA256,
    SHA384,
    SHA512,
    TAG_OID,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    RawValue,
)
from casemate.formats.tcg_event_log import EventLog
from casemate.formats.tpm import HASHES, Algorithm

COMPONENT = "tpm"
ENVIRONMENT = Environment(class_id=Tag(TAG_OID, bytes.fromhex("678105")), model="TPM 2.0")

#: Named-information hashes; SHA-1 has no number.
_NAMED: dict[Algorithm, int | str] = {
    Algorithm.SHA1: "sha-1",
    Algorithm.SHA256: SHA256,
    Algorithm.SHA384: SHA384,
    Algorithm.SHA512: SHA512,
}
#: What PCRs hold (TCG PC Client Platform Firmware Profile, section 3.3.4; systemd for 11 to 15).
_NAMES = {
    0: "firmware",
    1: "firmware configuration",
    2: "option ROMs",
    3: "option ROM configuration",
    4: "boot loader",
    5: "boot loader configuration",
    6: "platform events",
    7: "secure boot policy",
    8: "kernel command line",
    9: "files of the boot loader",
    10: "integrity measurement of files",
    11: "unified kernel image",
    12: "kernel configuration",
    14: "shim's keys",
    15: "system identity",
}
_CONFIGURATION = {1, 3, 5, 6, 7, 8, 12, 14, 15}
_EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
_SECURE_BOOT = "SecureBoot"


def component(verified: VerifiedQuote) -> Component:
    """The component of a verified quote."""
    if verified.pcrs is None:
        measured: tuple[Measured, ...] = (_digest_alone(verified.quote.pcr_digest),)
    else:
        measured = tuple(_registers(verified.pcrs))
    return Component(name=COMPONENT, measured=measured, facts=_facts(verified))


def _digest_alone(digest: bytes) -> Measured:
    return Measured(
        label="digest of the PCRs",
        environment=ENVIRONMENT,
        measurement=Measurement(
            key="pcr-digest", values=MeasurementValues(raw_value=RawValue(digest))
        ),
        claim=TrustClaim.EXECUTABLES,
    )


def _registers(pcrs: Pcrs) -> Iterator[Measured]:
    digests: dict[int, tuple[Digest, ...]] = {}
    for bank, values in pcrs.items():
        for pcr, value in values.items():
            digests[pcr] = (*digests.get(pcr, ()), Digest(_NAMED[bank], value))
    for pcr in sorted(digests):
        name = _NAMES.get(pcr)
        yield Measured(
            label=f"PCR {pcr}" + (f", {name}" if name else ""),
            environment=ENVIRONMENT,
            measurement=Measurement(key=pcr, values=MeasurementValues(digests=digests[pcr])),
            claim=TrustClaim.CONFIGURATION if pcr in _CONFIGURATION else TrustClaim.EXECUTABLES,
            optional=all(_is_untouched(digest.value) for digest in digests[pcr]),
        )
    yield Measured(
        label="all PCRs",
        environment=ENVIRONMENT,
        measurement=Measurement(
            values=MeasurementValues(integrity_registers=tuple(sorted(digests.items())))
        ),
        claim=TrustClaim.EXECUTABLES,
        optional=True,
    )


def _is_untouched(value: bytes) -> bool:
    return value in (bytes(len(value)), b"\xff" * len(value))


def _facts(verified: VerifiedQuote) -> dict[str, Fact]:
    quote = verified.quote
    facts: dict[str, Fact] = {
        "firmware_version": quote.firmware_version,
        "clock": quote.clock,
        "clock_safe": quote.safe,
        "reset_count": quote.reset_count,
        "restart_count": quote.restart_count,
    }
    if verified.pcrs:
        first = next(iter(verified.pcrs.values()))
        facts.update({f"pcr{pcr:02d}": value for pcr, value in first.items()})
    if verified.log is not None and verified.pcrs:
        facts["events"] = len(verified.log.events)
        secure_boot = _secure_boot(verified.log, verified.pcrs)
        if secure_boot is not None:
            facts["secure_boot"] = secure_boot
    return facts


def _secure_boot(log: EventLog, pcrs: Pcrs) -> bool | None:
    """The variable SecureBoot as firmware measured it into PCR 7; None if that is not quoted."""
    banks = [bank for bank in log.banks if 7 in pcrs.get(bank, {})]
    for event in log.events:
        if event.pcr != 7 or event.type != _EV_EFI_VARIABLE_DRIVER_CONFIG or not banks:
            continue
        hash_name = HASHES[banks[0]][0]
        if event.digests.get(banks[0]) != hashlib.new(hash_name, event.data).digest():
            continue
        if (value := _variable(event.data, _SECURE_BOOT)) is not None:
            return value == b"\1"
    return None


def _variable(data: bytes, wanted: str) -> bytes | None:
    """The value of a UEFI_VARIABLE_DATA if it has this name: GUID, sizes, name in UTF-16, value."""
    if len(data) < 32:
        return None
    name_length, value_length = struct.unpack_from("<QQ", data, 16)
    name = wanted.encode("utf-16-le")
    if 2 * name_length != len(name) or data[32 : 32 + len(name)] != name:
        return None
    value = data[32 + len(name) :]
    return value if len(value) == value_length else None
