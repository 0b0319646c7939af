"""DPE responses: dataclasses, and their packed little-endian encoding.

A response is a header (magic, status, profile: three u32) and, on success, a body; a failure is
the header alone. Certificates are written with their own length, not padded to the largest.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from casemate.formats.dpe.commands import (
    CertifyKey,
    Command,
    DeriveContext,
    DestroyContext,
    DpeFormatError,
    GetCertificateChain,
    GetProfile,
    InitializeContext,
    RotateContextHandle,
    Sign,
    UpdateContextMeasurement,
)
from casemate.formats.dpe.constants import (
    CERTIFICATE_CHUNK_SIZE,
    EXPORTED_CDI_SIZE,
    HANDLE_SIZE,
    RESPONSE_MAGIC,
    DeriveFlags,
    Profile,
    Status,
    Support,
    status_name,
)

_HEADER = struct.Struct("<III")
_PROFILE = struct.Struct("<HHIIII")
_HANDLE = struct.Struct(f"<{HANDLE_SIZE}s")
_TWO_HANDLES = struct.Struct(f"<{HANDLE_SIZE}s{HANDLE_SIZE}s")
_EXPORTED = struct.Struct(f"<{HANDLE_SIZE}s{HANDLE_SIZE}s{EXPORTED_CDI_SIZE}sI")
_CHUNK = struct.Struct(f"<I{CERTIFICATE_CHUNK_SIZE}s")


class DpeCommandError(Exception):
    """A DPE answered with a status other than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the DPE answered {status_name(status)} (0x{status:x})")
        self.status = status


@dataclass(frozen=True, slots=True)
class ProfileInfo:
    """What an instance is: the answer to GetProfile."""

    profile: Profile
    major_version: int
    minor_version: int
    vendor_id: int
    vendor_sku: int
    max_tci_nodes: int
    support: Support


@dataclass(frozen=True, slots=True)
class NewHandle:
    """A handle: the answer to InitializeContext and RotateContextHandle."""

    handle: bytes


@dataclass(frozen=True, slots=True)
class DerivedContext:
    """The child's handle, and the parent's (all ones when the parent was not retained)."""

    handle: bytes
    parent_handle: bytes


@dataclass(frozen=True, slots=True)
class ExportedCdi:
    """A CDI that stays inside, the bearer handle to it, and a CA certificate for its key."""

    parent_handle: bytes
    exported_cdi: bytes = field(repr=False)
    certificate: bytes


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """The context's next handle, the public key and its certificate or CSR, both DER."""

    handle: bytes
    public_key: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Signature:
    """The context's next handle, and r and s, or an ML-DSA-87 signature of 4627 bytes."""

    handle: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ContextDestroyed:
    """Nothing but success."""


@dataclass(frozen=True, slots=True)
class CertificateChunk:
    """Up to 2048 bytes of the chain; fewer mean its end."""

    chunk: bytes


@dataclass(frozen=True, slots=True)
class UpdatedMeasurement:
    """The next handles of the child that was extended and of its parent."""

    handle: bytes
    parent_handle: bytes


Response = (
    ProfileInfo
    | NewHandle
    | DerivedContext
    | ExportedCdi
    | CertifiedKey
    | Signature
    | ContextDestroyed
    | CertificateChunk
    | UpdatedMeasurement
)


def encode_failure(profile: Profile, status: int) -> bytes:
    """Return the header that reports a failure."""
    return _HEADER.pack(RESPONSE_MAGIC, status, profile)


def encode_response(profile: Profile, response: Response) -> bytes:
    """Return the bytes of a successful response."""
    return _HEADER.pack(RESPONSE_MAGIC, Status.SUCCESS, profile) + _body(profile, response)


def _body(profile: Profile, response: Response) -> bytes:
    match response:
        case ProfileInfo():
            return _PROFILE.pack(
                response.major_version,
                response.minor_version,
                response.vendor_id,
                response.vendor_sku,
                response.max_tci_nodes,
                response.support,
            )
        case NewHandle():
            return response.handle
        case DerivedContext() | UpdatedMeasurement():
            return response.handle + response.parent_handle
        case ExportedCdi():
            return (
                _EXPORTED.pack(
                    b"\xff" * HANDLE_SIZE,
                    response.parent_handle,
                    response.exported_cdi,
                    len(response.certificate),
                )
                + response.certificate
            )
        case CertifiedKey():
            size = struct.pack("<I", len(response.certificate))
            return response.handle + response.public_key + size + response.certificate
        case Signature():
            pad = b"\0" if profile is Profile.ML_DSA_87 else b""
            return response.handle + response.signature + pad
        case ContextDestroyed():
            return b""
        case CertificateChunk():
            return _CHUNK.pack(len(response.chunk), response.chunk)


def decode_response(profile: Profile, command: Command, data: bytes) -> Response:
    """Return the response to `command` in `data`.

    Raises DpeCommandError where the DPE reports a failure, DpeFormatError where the bytes are no
    response to that command. GetProfile answers for any profile, the others only for `profile`.
    """
    magic, status, answered = _fields("header", _HEADER, data)
    if magic != RESPONSE_MAGIC:
        raise DpeFormatError(
            f"magic at offset 0: expected 0x{RESPONSE_MAGIC:08x}, found 0x{magic:08x}"
        )
    if status != Status.SUCCESS:
        raise DpeCommandError(status)
    body = data[_HEADER.size :]
    if isinstance(command, GetProfile):
        return _profile_info(answered, body)
    if answered != profile:
        raise DpeFormatError(
            f"profile at offset 8: asked profile {profile.value}, profile {answered} answered"
        )
    match command:
        case InitializeContext() | RotateContextHandle():
            return NewHandle(*_fields("handle", _HANDLE, body))
        case DeriveContext() if command.flags & DeriveFlags.EXPORT_CDI:
            _, parent, exported, size = _fields("exported CDI", _EXPORTED, body)
            return ExportedCdi(parent, exported, _tail(body, _EXPORTED.size, size))
        case DeriveContext():
            return DerivedContext(*_fields("handles", _TWO_HANDLES, body))
        case CertifyKey():
            layout = struct.Struct(f"<{HANDLE_SIZE}s{profile.public_key_size}sI")
            handle, public_key, size = _fields("certified key", layout, body)
            return CertifiedKey(handle, public_key, _tail(body, layout.size, size))
        case Sign():
            layout = struct.Struct(f"<{HANDLE_SIZE}s{profile.signature_size}s")
            return Signature(*_fields("signature", layout, body))
        case DestroyContext():
            return ContextDestroyed()
        case GetCertificateChain():
            size, chunk = _fields("certificate chunk", _CHUNK, body)
            return CertificateChunk(_tail(chunk, 0, size))
        case UpdateContextMeasurement():
            return UpdatedMeasurement(*_fields("handles", _TWO_HANDLES, body))


def _profile_info(answered: int, body: bytes) -> ProfileInfo:
    try:
        profile = Profile(answered)
    except ValueError:
        known = ", ".join(f"{p.value} ({p.name})" for p in Profile)
        raise DpeFormatError(
            f"profile at offset 8: {answered} is not one this product speaks: {known}"
        ) from None
    major, minor, vendor, sku, nodes, support = _fields("profile", _PROFILE, body)
    return ProfileInfo(profile, major, minor, vendor, sku, nodes, Support(support))


def _fields(name: str, layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) < layout.size:
        raise DpeFormatError(f"{name}: {layout.size} bytes expected, got {len(data)}")
    return layout.unpack_from(data)


def _tail(body: bytes, offset: int, size: int) -> bytes:
    if len(body) - offset < size:
        raise DpeFormatError(
            f"certificate at offset {offset}: {size} bytes announced, {len(body) - offset} there"
        )
    return body[offset : offset + size]
