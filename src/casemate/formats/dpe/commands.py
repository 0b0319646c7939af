"""DPE commands: dataclasses, and their packed little-endian encoding.

A command is a header (magic, command code, profile: three u32) and a body of fixed size. Bytes
behind the body are ignored, as the reference implementation does: a transport may pad.

Flags and the format of CertifyKey keep whatever number came in. Whether a value is allowed is the
state machine's question, not the codec's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from casemate.formats.dpe.constants import (
    COMMAND_MAGIC,
    DEFAULT_HANDLE,
    DIGEST_SIZE,
    HANDLE_SIZE,
    NO_DERIVE_FLAGS,
    NO_ROTATE_FLAGS,
    NO_SIGN_FLAGS,
    RAW_MESSAGE_SIZE,
    CommandCode,
    DeriveFlags,
    InitializeFlags,
    Profile,
    RotateFlags,
    SignFlags,
    Status,
)

_HEADER = struct.Struct("<III")
_INITIALIZE = struct.Struct("<I")
_DERIVE = struct.Struct(f"<{HANDLE_SIZE}s{DIGEST_SIZE}sIIII")
_CERTIFY = struct.Struct(f"<{HANDLE_SIZE}sII{DIGEST_SIZE}s")
_SIGN_HEAD = struct.Struct(f"<{HANDLE_SIZE}s{DIGEST_SIZE}sI")
_SIGN_RAW = struct.Struct(f"<I{RAW_MESSAGE_SIZE}s")
_ROTATE = struct.Struct(f"<{HANDLE_SIZE}sI")
_DESTROY = struct.Struct(f"<{HANDLE_SIZE}s")
_CHAIN = struct.Struct("<II")
_UPDATE = struct.Struct(f"<{HANDLE_SIZE}s{DIGEST_SIZE}sIII")


class DpeFormatError(ValueError):
    """Bytes that are no command or no response; `status` is what a DPE answers to them."""

    def __init__(self, message: str, status: Status = Status.INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class GetProfile:
    """Ask for version, vendor, number of contexts and features. Any profile may be named."""


@dataclass(frozen=True, slots=True)
class InitializeContext:
    """Make the default context, once, or a simulation context."""

    flags: InitializeFlags


@dataclass(frozen=True, slots=True)
class DeriveContext:
    """Add a measurement: as a child context, into the context itself, or as an exported CDI."""

    handle: bytes
    measurement: bytes
    flags: DeriveFlags = NO_DERIVE_FLAGS
    tci_type: int = 0
    target_locality: int = 0
    svn: int = 0


@dataclass(frozen=True, slots=True)
class CertifyKey:
    """Ask for a certificate or a CSR for the key that `label` selects in a context."""

    handle: bytes
    label: bytes
    format: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign with the key that `label` selects in a context.

    `to_be_signed` is a SHA-384 digest (P-384), an external mu (ML-DSA-87), or with IS_RAW, which
    only ML-DSA-87 knows, a message of up to 1024 bytes.
    """

    handle: bytes
    label: bytes
    to_be_signed: bytes
    flags: SignFlags = NO_SIGN_FLAGS

    def is_raw(self, profile: Profile) -> bool:
        """Whether `to_be_signed` is a whole message, for an instance of this profile."""
        return _is_raw(profile, self.flags)


@dataclass(frozen=True, slots=True)
class RotateContextHandle:
    """Exchange a handle for a fresh one, or for the default handle."""

    handle: bytes
    flags: RotateFlags = NO_ROTATE_FLAGS


@dataclass(frozen=True, slots=True)
class DestroyContext:
    """Destroy a context and everything derived from it."""

    handle: bytes = DEFAULT_HANDLE


@dataclass(frozen=True, slots=True)
class GetCertificateChain:
    """Ask for up to 2048 bytes of the chain above the leaf, from `offset`."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class UpdateContextMeasurement:
    """Extend the child of type `tci_type` with the authority of its parent."""

    parent_handle: bytes
    measurement: bytes
    tci_type: int
    reserved: int = 0
    reserved_svn: int = 0


Command = (
    GetProfile
    | InitializeContext
    | DeriveContext
    | CertifyKey
    | Sign
    | RotateContextHandle
    | DestroyContext
    | GetCertificateChain
    | UpdateContextMeasurement
)

_CODES: dict[type[Command], CommandCode] = {
    GetProfile: CommandCode.GET_PROFILE,
    InitializeContext: CommandCode.INITIALIZE_CONTEXT,
    DeriveContext: CommandCode.DERIVE_CONTEXT,
    CertifyKey: CommandCode.CERTIFY_KEY,
    Sign: CommandCode.SIGN,
    RotateContextHandle: CommandCode.ROTATE_CONTEXT_HANDLE,
    DestroyContext: CommandCode.DESTROY_CONTEXT,
    GetCertificateChain: CommandCode.GET_CERTIFICATE_CHAIN,
    UpdateContextMeasurement: CommandCode.UPDATE_CONTEXT_MEASUREMENT,
}


def command_code(command: Command) -> CommandCode:
    """Return the code under which a command travels."""
    return _CODES[type(command)]


def decode_command(profile: Profile, data: bytes) -> Command:
    """Return the command in `data`, for an instance of `profile`.

    Raises DpeFormatError: INVALID_COMMAND for a header that is short, of another magic, of another
    profile (GetProfile excepted: its caller cannot know) or with an unknown code; INVALID_ARGUMENT
    for a body that is too short, or a raw message longer than 1024 bytes.
    """
    if len(data) < _HEADER.size:
        raise DpeFormatError(
            f"a DPE command begins with {_HEADER.size} bytes of header, got {len(data)} bytes",
            Status.INVALID_COMMAND,
        )
    magic, code, for_profile = _HEADER.unpack_from(data)
    if magic != COMMAND_MAGIC:
        raise DpeFormatError(
            f"magic at offset 0: expected 0x{COMMAND_MAGIC:08x}, found 0x{magic:08x}",
            Status.INVALID_COMMAND,
        )
    if code not in _DECODERS:
        raise DpeFormatError(
            f"command code at offset 4: 0x{code:x} is not one", Status.INVALID_COMMAND
        )
    if code != CommandCode.GET_PROFILE and for_profile != profile:
        raise DpeFormatError(
            f"profile at offset 8: this instance is {profile.value}, found {for_profile}",
            Status.INVALID_COMMAND,
        )
    return _DECODERS[code](profile, data[_HEADER.size :])


def encode_command(profile: Profile, command: Command) -> bytes:
    """Return the bytes of a command; raises DpeFormatError for a field that does not fit."""
    header = _HEADER.pack(COMMAND_MAGIC, command_code(command), profile)
    try:
        return header + _body(profile, command)
    except struct.error as error:
        raise DpeFormatError(f"{type(command).__name__}: a number does not fit: {error}") from None


def _body(profile: Profile, command: Command) -> bytes:
    match command:
        case GetProfile():
            return b""
        case InitializeContext():
            return _INITIALIZE.pack(command.flags)
        case DeriveContext():
            return _DERIVE.pack(
                _fixed("handle", command.handle, HANDLE_SIZE),
                _fixed("measurement", command.measurement, DIGEST_SIZE),
                command.flags,
                command.tci_type,
                command.target_locality,
                command.svn,
            )
        case CertifyKey():
            return _CERTIFY.pack(
                _fixed("handle", command.handle, HANDLE_SIZE),
                command.flags,
                command.format,
                _fixed("label", command.label, DIGEST_SIZE),
            )
        case Sign():
            return _sign_body(profile, command)
        case RotateContextHandle():
            return _ROTATE.pack(_fixed("handle", command.handle, HANDLE_SIZE), command.flags)
        case DestroyContext():
            return _fixed("handle", command.handle, HANDLE_SIZE)
        case GetCertificateChain():
            return _CHAIN.pack(command.offset, command.size)
        case UpdateContextMeasurement():
            return _UPDATE.pack(
                _fixed("parent handle", command.parent_handle, HANDLE_SIZE),
                _fixed("measurement", command.measurement, DIGEST_SIZE),
                command.reserved,
                command.tci_type,
                command.reserved_svn,
            )


def _sign_body(profile: Profile, command: Sign) -> bytes:
    head = _SIGN_HEAD.pack(
        _fixed("handle", command.handle, HANDLE_SIZE),
        _fixed("label", command.label, DIGEST_SIZE),
        command.flags,
    )
    if not _is_raw(profile, command.flags):
        return head + _fixed("data to be signed", command.to_be_signed, profile.to_be_signed_size)
    if len(command.to_be_signed) > RAW_MESSAGE_SIZE:
        raise DpeFormatError(
            f"a raw message has up to {RAW_MESSAGE_SIZE} bytes, got {len(command.to_be_signed)}"
        )
    return head + _SIGN_RAW.pack(len(command.to_be_signed), command.to_be_signed)


def _is_raw(profile: Profile, flags: int) -> bool:
    return profile is Profile.ML_DSA_87 and bool(flags & SignFlags.IS_RAW)


def _fixed(name: str, value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise DpeFormatError(f"{name}: {size} bytes expected, got {len(value)}")
    return value


def _fields(name: str, layout: struct.Struct, body: bytes, offset: int = 0) -> tuple[Any, ...]:
    if len(body) - offset < layout.size:
        raise DpeFormatError(
            f"{name}: {offset + layout.size} bytes of body expected, got {len(body)}"
        )
    return layout.unpack_from(body, offset)


def _get_profile(_profile: Profile, _body: bytes) -> GetProfile:
    return GetProfile()


def _initialize(_profile: Profile, body: bytes) -> InitializeContext:
    (flags,) = _fields("InitializeContext", _INITIALIZE, body)
    return InitializeContext(InitializeFlags(flags))


def _derive(_profile: Profile, body: bytes) -> DeriveContext:
    handle, measurement, flags, tci_type, locality, svn = _fields("DeriveContext", _DERIVE, body)
    return DeriveContext(handle, measurement, DeriveFlags(flags), tci_type, locality, svn)


def _certify(_profile: Profile, body: bytes) -> CertifyKey:
    handle, flags, output, label = _fields("CertifyKey", _CERTIFY, body)
    return CertifyKey(handle, label, output, flags)


def _sign(profile: Profile, body: bytes) -> Sign:
    handle, label, flags = _fields("Sign", _SIGN_HEAD, body)
    if not _is_raw(profile, flags):
        layout = struct.Struct(f"{profile.to_be_signed_size}s")
        (to_be_signed,) = _fields("Sign", layout, body, _SIGN_HEAD.size)
        return Sign(handle, label, to_be_signed, SignFlags(flags))
    size, message = _fields("Sign (raw)", _SIGN_RAW, body, _SIGN_HEAD.size)
    if size > RAW_MESSAGE_SIZE:
        raise DpeFormatError(f"Sign: a raw message has up to {RAW_MESSAGE_SIZE} bytes, got {size}")
    return Sign(handle, label, message[:size], SignFlags(flags))


def _rotate(_profile: Profile, body: bytes) -> RotateContextHandle:
    handle, flags = _fields("RotateContextHandle", _ROTATE, body)
    return RotateContextHandle(handle, RotateFlags(flags))


def _destroy(_profile: Profile, body: bytes) -> DestroyContext:
    return DestroyContext(*_fields("DestroyContext", _DESTROY, body))


def _chain(_profile: Profile, body: bytes) -> GetCertificateChain:
    return GetCertificateChain(*_fields("GetCertificateChain", _CHAIN, body))


def _update(_profile: Profile, body: bytes) -> UpdateContextMeasurement:
    handle, measurement, reserved, tci_type, reserved_svn = _fields(
        "UpdateContextMeasurement", _UPDATE, body
    )
    return UpdateContextMeasurement(handle, measurement, tci_type, reserved, reserved_svn)


_DECODERS: dict[int, Callable[[Profile, bytes], Command]] = {
    CommandCode.GET_PROFILE: _get_profile,
    CommandCode.INITIALIZE_CONTEXT: _initialize,
    CommandCode.DERIVE_CONTEXT: _derive,
    CommandCode.CERTIFY_KEY: _certify,
    CommandCode.SIGN: _sign,
    CommandCode.ROTATE_CONTEXT_HANDLE: _rotate,
    CommandCode.DESTROY_CONTEXT: _destroy,
    CommandCode.GET_CERTIFICATE_CHAIN: _chain,
    CommandCode.UPDATE_CONTEXT_MEASUREMENT: _update,
}
