"""Mailbox commands about the SoC manifest: setting it, asking it, and measuring what it allows.

The checks and the answers are those of `casemate.rot.soc_manifest`. What is authorised is stashed
in the DPE before the answer says yes; where that fails, so does the command.
"""

from __future__ import annotations

import struct

from casemate.rot.dpe.errors import DpeError
from casemate.rot.fuses import SVN_BITS
from casemate.rot.mailbox.device import MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError
from casemate.rot.soc_manifest import verify
from casemate.rot.soc_manifest.authorize import Request, authorize

_LENGTH = struct.Struct("<I")
_AUTHORIZE = struct.Struct("<I48s48sIIII")
_IMAGE_INFO = struct.Struct("<6I48s")
#: The identifier of the companion processor's firmware, and the type under which it is measured.
_COMPANION_ID = 2
_COMPANION_TYPE = int.from_bytes(b"MCFW", "big")


def _manifest(device: MailboxDevice, user: int, body: bytes, most: int) -> bytes:
    device.require_privilege(user)
    if len(body) < _LENGTH.size:
        raise MailboxError(Code.RUNTIME_MAILBOX_INVALID_PARAMS, "the length is missing")
    (size,) = _LENGTH.unpack_from(body)
    if size > most or size > len(body) - _LENGTH.size:
        raise MailboxError(
            Code.RUNTIME_MAILBOX_INVALID_PARAMS,
            f"a manifest of up to {most} bytes; {size} announced, {len(body) - 4} sent",
        )
    return body[_LENGTH.size : _LENGTH.size + size]


def set_manifest(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """SET_AUTH_MANIFEST."""
    manifest = _manifest(device, user, body, verify.MAX_SIZE)
    authorizations = verify.set_manifest(
        device.authorizations, manifest, device.firmware_manifest, device.root.fuses
    )
    # Fuses that check no SVN let any number through; the sealing ladder has 128 steps.
    device.root.set_soc_manifest_svn(min(authorizations.svn, SVN_BITS))
    device.authorizations = authorizations
    return Reply()


def verify_manifest(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """VERIFY_AUTH_MANIFEST: the same checks, and nothing is set."""
    manifest = _manifest(device, user, body, verify.MAX_SIZE)
    verify.set_manifest(
        device.authorizations, manifest, device.firmware_manifest, device.root.fuses
    )
    return Reply()


def set_owner_manifest(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """SET_OWNER_AUTH_MANIFEST."""
    manifest = _manifest(device, user, body, verify.OWNER_MAX_SIZE)
    device.authorizations = verify.set_owner_manifest(
        device.authorizations, manifest, device.firmware_manifest, device.root.fuses
    )
    return Reply()


def authorize_and_stash(device: MailboxDevice, user: int, body: bytes) -> Reply:
    """AUTHORIZE_AND_STASH: a refusal is a successful response; only two codes mean yes."""
    if len(body) != _AUTHORIZE.size:
        raise MailboxError(
            Code.RUNTIME_INSUFFICIENT_MEMORY, f"{_AUTHORIZE.size} bytes expected, got {len(body)}"
        )
    fw_id, measurement, _context, svn, flags, source, image_size = _AUTHORIZE.unpack(body)
    request = Request(
        fw_id=fw_id,
        measurement=measurement,
        svn=svn,
        flags=flags,
        source=source,
        image_size=image_size,
    )
    answer = authorize(device.authorizations, request, privileged=device.is_privileged(user))
    if answer.stash is not None:
        device.require_context_room(privileged=True)
        kind = _COMPANION_TYPE if answer.stash.fw_id == _COMPANION_ID else answer.stash.fw_id
        try:
            device.runtime_dpe.stash(
                answer.stash.measurement, metadata=kind.to_bytes(4, "little"), svn=answer.stash.svn
            )
        except DpeError as error:
            raise MailboxError(
                Code.RUNTIME_AUTH_AND_STASH_MEASUREMENT_DPE_ERROR, str(error)
            ) from None
    return Reply(answer.result.to_bytes(4, "little"))


def get_image_info(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """GET_IMAGE_INFO: what the manifest says about one image."""
    if len(body) != _LENGTH.size:
        raise MailboxError(
            Code.RUNTIME_INSUFFICIENT_MEMORY, f"4 bytes of identifier expected, got {len(body)}"
        )
    (fw_id,) = _LENGTH.unpack(body)
    found = device.authorizations.find(fw_id)
    if found is None:
        raise MailboxError(
            Code.RUNTIME_IMAGE_METADATA_NOT_FOUND, f"no manifest lists image 0x{fw_id:x}"
        )
    image, _ = found
    low = 0xFFFFFFFF
    return Reply(
        _IMAGE_INFO.pack(
            image.component_id,
            image.flags,
            image.load_address >> 32,
            image.load_address & low,
            image.staging_address >> 32,
            image.staging_address & low,
            image.digest,
        )
    )
