"""The report of Azure's host compatibility layer (HCL): a hardware report and the runtime's claims.

Integers are little-endian. Header, 32 bytes: "HCLA", version 1, size of the report without padding,
request type 2, status, 12 reserved. Hardware report, 1184 bytes: SEV-SNP's, or a TD report and
zeros. Runtime data header, 20 bytes: size of this header and the claims, version 1, type of the
hardware report, hash of the claims, size of the claims. Claims: JSON. Zeros up to the end.

The hardware report's report data begins with the hash of the claims, exactly those bytes.

Source: Microsoft, "Azure confidential VM guest attestation design", section "HCL report"; layout
checked against kinvolk/azure-cvm-tooling and confidential-containers/trustee.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casemate.formats import strict_json, tpm
from casemate.formats.strict_json import JsonError
from casemate.formats.tpm import TpmError

MAGIC = b"HCLA"
HARDWARE_REPORT_SIZE = 1184
LARGEST = 64 * 1024
VERSION, REQUEST_TYPE = 1, 2
_HEADER = struct.Struct("<4sIIII12s")
_RUNTIME_HEADER = struct.Struct("<IIIII")
ATTESTATION_KEY = "HCLAkPub"


class HclError(ValueError):
    """Bytes that are no HCL report; the message names the field."""


class ReportType(enum.IntEnum):
    """Which hardware made the report within."""

    SEV_SNP = 2
    TDX = 4


class HashType(enum.IntEnum):
    """The hash of the claims in the report data; `name` in lower case is hashlib's."""

    SHA256 = 1
    SHA384 = 2
    SHA512 = 3


@dataclass(frozen=True, slots=True)
class HclReport:
    """The parts: the hardware report's bytes, its kind, the claims' bytes and their hash."""

    hardware_report: bytes
    kind: ReportType
    hash_type: HashType
    claims: bytes


def decode(data: bytes) -> HclReport:
    """The parts of a report. Raises HclError."""
    if not _HEADER.size <= len(data) <= LARGEST:
        raise HclError(f"{len(data)} bytes are no HCL report")
    magic, version, size, request, status, reserved = _HEADER.unpack_from(data)
    for name, found, expected in (
        ("magic", magic, MAGIC),
        ("version", version, VERSION),
        ("request type", request, REQUEST_TYPE),
        ("status", status, 0),
        ("reserved", reserved, bytes(12)),
    ):
        if found != expected:
            raise HclError(f"{name}: expected {expected!r}, found {found!r}")
    start = _HEADER.size + HARDWARE_REPORT_SIZE
    claims_start = start + _RUNTIME_HEADER.size
    if claims_start > len(data):
        raise HclError("cut off before the claims")
    total, version, kind, hash_type, claims_size = _RUNTIME_HEADER.unpack_from(data, start)
    end = claims_start + claims_size
    if end > len(data):
        raise HclError(f"claims: {claims_size} bytes, but the report ends")
    for name, found, expected in (
        ("size", size, end),
        ("runtime data size", total, _RUNTIME_HEADER.size + claims_size),
        ("runtime data version", version, 1),
    ):
        if found != expected:
            raise HclError(f"{name}: expected {expected}, found {found}")
    if any(data[end:]):
        raise HclError("the bytes after the claims are not zero")
    try:
        return HclReport(
            data[_HEADER.size : start],
            ReportType(kind),
            HashType(hash_type),
            data[claims_start:end],
        )
    except ValueError as error:
        raise HclError(f"runtime data: {error}") from None


def encode(report: HclReport, *, padded_size: int = 2600) -> bytes:
    """A report's bytes, padded with zeros."""
    claims_size = len(report.claims)
    runtime = _RUNTIME_HEADER.pack(
        _RUNTIME_HEADER.size + claims_size, 1, report.kind, report.hash_type, claims_size
    )
    size = _HEADER.size + HARDWARE_REPORT_SIZE + len(runtime) + claims_size
    header = _HEADER.pack(MAGIC, VERSION, size, REQUEST_TYPE, 0, bytes(12))
    hardware = report.hardware_report.ljust(HARDWARE_REPORT_SIZE, b"\0")
    return (header + hardware + runtime + report.claims).ljust(padded_size, b"\0")


def signed_ranges(data: bytes) -> tuple[range, range]:
    """Where the hardware report and the claims stand in a well-formed report."""
    start = _HEADER.size + HARDWARE_REPORT_SIZE + _RUNTIME_HEADER.size
    return (
        range(_HEADER.size, _HEADER.size + HARDWARE_REPORT_SIZE),
        range(start, start + len(decode(data).claims)),
    )


@dataclass(frozen=True, slots=True)
class RuntimeClaims:
    """What the runtime claims: the vTPM's attestation key (SPKI), the VM's settings, user data.

    `user_data` (64 bytes) is what the guest asked to be bound; older runtimes have none.
    """

    attestation_key: bytes
    configuration: Mapping[str, bool | int | str]
    user_data: bytes | None


def decode_claims(data: bytes) -> RuntimeClaims:
    """The claims from their JSON. Raises HclError."""
    try:
        value = strict_json.decode(data)
    except JsonError as error:
        raise HclError(f"claims: {error}") from None
    if not isinstance(value, dict):
        raise HclError("claims: expected an object")
    configuration = value.get("vm-configuration", {})
    if not isinstance(configuration, dict):
        raise HclError("claims: vm-configuration: expected an object")
    plain = {k: v for k, v in configuration.items() if isinstance(v, bool | int | str)}
    return RuntimeClaims(_attestation_key(value.get("keys")), plain, _user_data(value))


def _attestation_key(keys: Any) -> bytes:
    found = [
        key
        for key in (keys if isinstance(keys, list) else [])
        if isinstance(key, dict) and key.get("kid") == ATTESTATION_KEY
    ]
    if len(found) != 1 or found[0].get("kty") != "RSA":
        raise HclError(f"claims: expected one RSA key {ATTESTATION_KEY}")
    try:
        return tpm.rsa_spki(_number(found[0].get("n")), _number(found[0].get("e")))
    except TpmError as error:
        raise HclError(f"claims: {ATTESTATION_KEY}: {error}") from None


def _number(text: Any) -> int:
    if not isinstance(text, str) or not 1 <= len(text) <= 2048:
        raise HclError(f"claims: {ATTESTATION_KEY}: expected numbers in base64url")
    return int.from_bytes(decode_base64url(text), "big")


def decode_base64url(text: str) -> bytes:
    """Bytes of base64url in its one form (RFC 4648, unpadded or padded). Raises HclError."""
    bare = text.rstrip("=")
    try:
        data = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except (binascii.Error, ValueError):
        raise HclError("malformed base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != bare.encode():
        raise HclError("malformed base64url")
    return data


def _user_data(value: Mapping[str, Any]) -> bytes | None:
    text = value.get("user-data")
    if text is None:
        return None
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{128}", text):
        raise HclError("claims: user-data: expected 64 bytes in hexadecimal")
    return bytes.fromhex(text)
