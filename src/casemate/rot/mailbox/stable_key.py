"""CM_DERIVE_STABLE_KEY: a key that stays the same whatever firmware runs.

The root hangs below the IDevID (type 1) or the LDevID (type 2); the owner's (type 3) is of chips
in subsystem mode. The key leaves only encrypted, as a CMK: AES-256-GCM under a key of this boot,
which nothing else can open; commands that would use it are not part of this device. Its bytes are
worth something to a double of the chip, which is why there is this command at all.

The key itself goes into the CMK, so it works on the model only: with a host's silicon, whose
secrets never reach Python, it answers as a device without it.

Source: caliptra-sw, runtime/src/cryptographic_mailbox.rs, drivers/src/cmac_kdf.rs.
"""

from __future__ import annotations

import os
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from casemate.formats import mailbox_messages as messages
from casemate.rot.boot import RootOfTrust, StableKeyKind
from casemate.rot.crypto import ModelCrypto
from casemate.rot.mailbox.device import MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError

_UNENCRYPTED_CMK = struct.Struct("<HHB3sQ64s")
_ENCRYPTED_CMK = struct.Struct("<I16s12s80s16s")
_VERSION, _USAGE_HMAC, _KEY_SIZE = 1, 1, 64
_OWNER = 3


def derive(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """CM_DERIVE_STABLE_KEY while the firmware runs."""
    return _derive(
        device,
        body,
        Code.RUNTIME_MAILBOX_INVALID_PARAMS,
        Code.RUNTIME_UNIMPLEMENTED_COMMAND,
    )


def derive_in_rom(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """The same before the firmware runs."""
    return _derive(
        device,
        body,
        Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH,
        Code.FW_PROC_MAILBOX_INVALID_COMMAND,
    )


def _stable_key(root: RootOfTrust, kind: StableKeyKind, info: bytes) -> bytes:
    """Return the key (64 bytes) for a purpose (32 bytes)."""
    slot = root.stable_key(kind, info)
    try:
        with os.fdopen(root.crypto.to_descriptor(slot), "rb") as secret:
            return secret.read()
    finally:
        root.crypto.erase(slot)


def _derive(device: MailboxDevice, body: bytes, wrong_size: Code, missing: Code) -> Reply:
    if len(body) != messages.DeriveStableKey.LAYOUT.size:
        raise MailboxError(wrong_size, f"36 bytes expected, got {len(body)}")
    request = messages.DeriveStableKey.decode(body)
    if request.key_type == _OWNER:
        raise MailboxError(Code.CMB_STABLE_OWNER_KEY_NOT_AVAILABLE)
    if request.key_type not in list(StableKeyKind):
        raise MailboxError(Code.DOT_INVALID_KEY_TYPE, f"type {request.key_type}; 1 and 2 exist")
    if not isinstance(device.root.crypto, ModelCrypto):
        raise MailboxError(missing, "not with a host's silicon")
    kind = StableKeyKind(request.key_type)
    return Reply(_wrap(device, _stable_key(device.root, kind, request.info)))


def _wrap(device: MailboxDevice, key: bytes) -> bytes:
    """Return an encrypted CMK (128 bytes): domain, metadata, IV, ciphertext and tag."""
    plain = _UNENCRYPTED_CMK.pack(_VERSION, _KEY_SIZE, _USAGE_HMAC, bytes(3), 0, key)
    iv = device.random(12)
    sealed = AESGCM(device.cmk_key).encrypt(iv, plain, None)
    return _ENCRYPTED_CMK.pack(0, bytes(16), iv, sealed[:-16], sealed[-16:])
