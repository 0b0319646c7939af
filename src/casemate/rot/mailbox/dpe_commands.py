"""Mailbox commands around the DPE: invoking it, tags, extended certificates, exported CDIs.

INVOKE_DPE adds rules of its own to those of the DPE: who may create contexts and how many, that
only PL0 gets X.509 certificates and exported CDIs, and that PL1 cannot make contexts for PL0.
A command that the DPE refuses is a success of the mailbox: the DPE's status is in the answer.
"""

from __future__ import annotations

import struct

from casemate.formats import mailbox_messages as messages
from casemate.formats.dpe import (
    CertificateFormat,
    CertifiedKey,
    CertifyKey,
    Command,
    DeriveContext,
    DeriveFlags,
    DpeFormatError,
    InitializeContext,
    InitializeFlags,
    Profile,
    Status,
    decode_command,
    encode_failure,
    encode_response,
)
from casemate.rot.dpe.errors import DpeError
from casemate.rot.errors import KeyVaultError
from casemate.rot.mailbox.device import (
    TOTAL_CONTEXT_LIMIT,
    MailboxDevice,
    Reply,
    decode,
)
from casemate.rot.mailbox.errors import Code, MailboxError

_LENGTH = struct.Struct("<I")
_MLDSA_HEAD = struct.Struct("<IIIII")
_DPE_HEADER = struct.Struct("<III")
_CHUNK_HEAD = struct.Struct("<16sII")

_EXTERNAL_RESPONSE = 1 << 31
_ADD_DEVICE_INFO = 1 << 31
_EXTENDED_EXTERNAL_RESPONSE = 1 << 30
_CHUNKS_USE_MLDSA = 1 << 31
_SIGN_MU, _SIGN_RAW = 0, 1
_CERTIFY_KEY_CODE = 9
_LEAST_PL0_CONTEXTS = 2


def invoke_ecc(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """INVOKE_DPE_ECC384: a length, and a DPE command of up to 512 bytes."""
    if len(body) > _LENGTH.size + messages.LARGEST_DPE_COMMAND:
        raise MailboxError(Code.RUNTIME_INSUFFICIENT_MEMORY, f"{len(body)} bytes of request")
    (size,) = _LENGTH.unpack_from(body.ljust(_LENGTH.size, b"\0"))
    return _invoke(device, user, Profile.P384_SHA384, _padded(body[_LENGTH.size :], size))


def invoke_mldsa(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """INVOKE_DPE_MLDSA87: flags, where to write the answer, a length and a DPE command."""
    if len(body) > _MLDSA_HEAD.size + messages.LARGEST_DPE_COMMAND:
        raise MailboxError(Code.RUNTIME_INSUFFICIENT_MEMORY, f"{len(body)} bytes of request")
    flags, *_, size = _MLDSA_HEAD.unpack_from(body.ljust(_MLDSA_HEAD.size, b"\0"))
    command = _padded(body[_MLDSA_HEAD.size :], size)
    if flags & _EXTERNAL_RESPONSE:
        device.require_privilege(user)
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS, "answers leave through the mailbox only"
        )
    return _invoke(device, user, Profile.ML_DSA_87, command)


def _padded(data: bytes, size: int) -> bytes:
    """Return `size` bytes of a command; what was not sent is zeros, as in the chip's buffer."""
    if size > messages.LARGEST_DPE_COMMAND:
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS,
            f"a DPE command has up to {messages.LARGEST_DPE_COMMAND} bytes, announced {size}",
        )
    return data[:size].ljust(size, b"\0")


def _invoke(device: MailboxDevice, user: int, profile: Profile, data: bytes) -> Reply:
    try:
        command = decode_command(profile, data)
    except DpeFormatError as error:
        raise MailboxError(Code.RUNTIME_DPE_COMMAND_DESERIALIZATION_FAILED, str(error)) from None
    _check_permission(device, user, command)
    try:
        response = device.runtime_dpe.instance(profile).run(user, command)
        answer = encode_response(profile, response)
    except DpeError as error:
        answer = encode_failure(profile, error.status)
    except KeyVaultError:
        answer = encode_failure(profile, Status.CRYPTO_LIBRARY_ERROR)
    device.drop_stale_tags()
    return Reply(messages.encode_sized(answer))


def _check_permission(device: MailboxDevice, user: int, command: Command) -> None:
    privileged = device.is_privileged(user)
    match command:
        case InitializeContext() if command.flags & InitializeFlags.SIMULATION:
            device.require_context_room(privileged=privileged)
        case DeriveContext():
            flags = command.flags
            moves = bool(flags & DeriveFlags.CHANGE_LOCALITY)
            for_privileged = device.is_privileged(command.target_locality) if moves else privileged
            if not flags & DeriveFlags.RECURSIVE:
                device.require_context_room(privileged=for_privileged)
            if moves and command.target_locality == device.root.firmware.pl0_pauser:
                device.require_privilege(user)
            if flags & DeriveFlags.EXPORT_CDI:
                device.require_privilege(user)
        case CertifyKey() if command.format == CertificateFormat.X509:
            device.require_privilege(user)


# --- certificates beside INVOKE_DPE ---------------------------------------------------------


def certify_key_extended_ecc(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """CERTIFY_KEY_EXTENDED_ECC384: CertifyKey, with the device information on request."""
    request = decode(messages.CertifyKeyExtended, body)
    return _certify_extended(device, user, Profile.P384_SHA384, request.flags, request.certify_key)


def certify_key_extended_mldsa(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """CERTIFY_KEY_EXTENDED_MLDSA87: the same in the other profile."""
    request = decode(messages.CertifyKeyExtendedMldsa, body)
    if request.flags & _EXTENDED_EXTERNAL_RESPONSE:
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS, "answers leave through the mailbox only"
        )
    return _certify_extended(device, user, Profile.ML_DSA_87, request.flags, request.certify_key)


def _certify_extended(
    device: MailboxDevice, user: int, profile: Profile, flags: int, certify_key: bytes
) -> Reply:
    device.require_privilege(user)
    info = device.device_info if flags & _ADD_DEVICE_INFO else None
    certified = _certify(device, user, profile, _certify_command(profile, certify_key), info)
    return Reply(messages.encode_sized(encode_response(profile, certified)))


def certify_key_chunks(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """CERTIFY_KEY_CHUNKS: a part of CertifyKey's answer; the whole is made anew each time."""
    request = decode(messages.CertifyKeyChunks, body)
    profile = Profile.ML_DSA_87 if request.flags & _CHUNKS_USE_MLDSA else Profile.P384_SHA384
    command = _certify_command(profile, request.certify_key)
    if command.format == CertificateFormat.X509:
        device.require_privilege(user)
    certified = _certify(device, user, profile, command, None)
    answer = encode_response(profile, certified)
    offset = min(request.offset, len(answer))
    room = min(messages.LARGEST_CHUNK, request.max_size or messages.LARGEST_CHUNK)
    chunk = answer[offset : offset + room]
    remaining = len(answer) - offset - len(chunk)
    return Reply(_CHUNK_HEAD.pack(certified.handle, len(chunk), remaining) + chunk)


def _certify_command(profile: Profile, body: bytes) -> CertifyKey:
    header = _DPE_HEADER.pack(0x44504543, _CERTIFY_KEY_CODE, profile)
    command = decode_command(profile, header + body)
    if not isinstance(command, CertifyKey):
        raise MailboxError(Code.RUNTIME_DPE_COMMAND_DESERIALIZATION_FAILED)
    return command


def _certify(
    device: MailboxDevice,
    user: int,
    profile: Profile,
    command: CertifyKey,
    device_info: bytes | None,
) -> CertifiedKey:
    instance = device.runtime_dpe.instance(profile)
    try:
        answer = instance.run(user, command, device_info=device_info)
    except (DpeError, KeyVaultError) as error:
        raise MailboxError(Code.RUNTIME_CERTIFY_KEY_EXTENDED_FAILED, str(error)) from None
    if not isinstance(answer, CertifiedKey):
        raise MailboxError(Code.RUNTIME_INTERNAL)
    return answer


def add_subject_alt_name(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """ADD_SUBJECT_ALT_NAME: "manufacturer:product:serial", for CERTIFY_KEY_EXTENDED."""
    most = 128
    if len(body) > _LENGTH.size + most:
        raise MailboxError(Code.RUNTIME_INSUFFICIENT_MEMORY, f"{len(body)} bytes of request")
    (size,) = _LENGTH.unpack_from(body.ljust(_LENGTH.size, b"\0"))
    if size > most:
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS, f"up to {most} bytes, announced {size}"
        )
    info = body[_LENGTH.size :][:size].ljust(size, b"\0")
    if not info.isascii() or info.count(b":") != 2:
        raise MailboxError(
            Code.RUNTIME_DMTF_DEVICE_INFO_VALIDATION_FAILED,
            "expected ASCII with two colons: manufacturer:product:serial",
        )
    device.device_info = info
    return Reply()


# --- exported CDIs --------------------------------------------------------------------------


def sign_with_exported_ecdsa(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """SIGN_WITH_EXPORTED_ECDSA: a signature over a digest with the key of an exported CDI."""
    request = decode(messages.SignWithExportedEcdsa, body, Code.RUNTIME_MAILBOX_INVALID_PARAMS)
    device.require_privilege(user)
    keys = device.runtime_dpe.instance(Profile.P384_SHA384).keys
    try:
        with keys.exported_signer(request.exported_cdi) as signer:
            signature = signer.sign_prepared(request.digest)
            return Reply(messages.ExportedSignature(signer.public_key, signature).encode())
    except DpeError as error:
        raise MailboxError(
            Code.RUNTIME_SIGN_WITH_EXPORTED_ECDSA_KEY_DERIVIATION_FAILED, str(error)
        ) from None


def sign_with_exported_mldsa(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """SIGN_WITH_EXPORTED_MLDSA: the same over an external mu (64 bytes) or a message."""
    request = decode(messages.SignWithExportedMldsa, body, Code.RUNTIME_MAILBOX_INVALID_PARAMS)
    device.require_privilege(user)
    fits = {_SIGN_MU: request.size == 64, _SIGN_RAW: request.size <= len(request.data)}
    if not fits.get(request.sign_type, False):
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS,
            f"type {request.sign_type} (0 mu, 1 message) with {request.size} bytes",
        )
    data = request.data[: request.size]
    keys = device.runtime_dpe.instance(Profile.ML_DSA_87).keys
    try:
        with keys.exported_signer(request.exported_cdi) as signer:
            prepared = request.sign_type == _SIGN_MU
            signature = signer.sign_prepared(data) if prepared else signer.sign(data)
            answer = messages.ExportedMldsaSignature(signer.public_key, signature)
            return Reply(answer.encode())
    except DpeError as error:
        raise MailboxError(
            Code.RUNTIME_SIGN_WITH_EXPORTED_MLDSA_KEY_DERIVIATION_FAILED, str(error)
        ) from None


def revoke_exported_cdi_handle(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """REVOKE_EXPORTED_CDI_HANDLE: wipe an exported CDI; its place is free again."""
    request = decode(messages.RevokeExportedCdi, body, Code.RUNTIME_MAILBOX_INVALID_PARAMS)
    device.require_privilege(user)
    keys = device.runtime_dpe.instance(Profile.P384_SHA384).keys
    try:
        keys.exported.clear(keys.crypto, request.exported_cdi)
    except DpeError as error:
        raise MailboxError(Code.RUNTIME_REVOKE_EXPORTED_CDI_HANDLE_NOT_FOUND, str(error)) from None
    return Reply()


# --- tags and limits ------------------------------------------------------------------------


def tag_tci(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """DPE_TAG_TCI: a name for a context, by which anyone can read its measurement."""
    request = decode(messages.TagTci, body)
    if request.tag in device.tags.values():
        raise MailboxError(Code.RUNTIME_DUPLICATE_TAG, f"tag 0x{request.tag:x} is taken")
    try:
        index = device.contexts.find(request.handle, user)
    except DpeError as error:
        raise MailboxError(Code.RUNTIME_TAGGING_FAILURE, str(error)) from None
    if index in device.tags:
        raise MailboxError(Code.RUNTIME_CONTEXT_ALREADY_TAGGED)
    device.tags[index] = request.tag
    return Reply()


def get_tagged_tci(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """DPE_GET_TAGGED_TCI: the measurement of the context with a tag."""
    request = decode(messages.GetTaggedTci, body)
    for index, tag in device.tags.items():
        if tag == request.tag and index in device.contexts:
            tci = device.contexts[index].tci
            return Reply(messages.TaggedTci(tci.cumulative, tci.current, tci.svn).encode())
    raise MailboxError(Code.RUNTIME_TAGGING_FAILURE, f"no context has tag 0x{request.tag:x}")


def reallocate_context_limits(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """REALLOCATE_DPE_CONTEXT_LIMITS: share the contexts between PL0 and PL1 anew."""
    total = TOTAL_CONTEXT_LIMIT
    pl0 = decode(messages.ReallocateContextLimits, body).pl0_limit
    device.require_privilege(user)
    used_pl0, used_pl1 = device.used_contexts()
    for refused, code in (
        (pl0 < _LEAST_PL0_CONTEXTS, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_LESS_THAN_MIN),
        (pl0 > total, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_GREATER_THAN_MAX),
        (pl0 < used_pl0, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_LESS_THAN_USED),
        (total - pl0 < used_pl1, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL1_LESS_THAN_USED),
    ):
        if refused:
            raise MailboxError(
                code, f"asked for {pl0} of {total}; in use: PL0 {used_pl0}, PL1 {used_pl1}"
            )
    device.pl0_context_limit, device.pl1_context_limit = pl0, total - pl0
    return Reply(messages.ContextLimits(pl0, total - pl0).encode())
