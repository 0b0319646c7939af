"""Mailbox commands that verify signatures under a public key that comes with them."""

from __future__ import annotations

import struct

from casemate.formats import mailbox_messages as messages
from casemate.formats.mailbox import FipsStatus
from casemate.rot.bundle.signatures import Outcome, check_ecdsa, check_lms, check_mldsa
from casemate.rot.mailbox.device import MailboxDevice, Reply, decode
from casemate.rot.mailbox.errors import Code, MailboxError

_LMS_SHA256_M24_H15, _LMOTS_SHA256_N24_W4 = 12, 7
_MLDSA_KEY, _MLDSA_SIGNATURE = 2592, 4628
_LENGTH = struct.Struct("<I")


def ecdsa(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """ECDSA384_SIGNATURE_VERIFY over a digest that the caller made."""
    return _ecdsa(body, Code.RUNTIME_INSUFFICIENT_MEMORY, Code.RUNTIME_ECDSA_VERIFY_FAILED)


def ecdsa_in_rom(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """The same before the firmware runs."""
    wrong_size = Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH
    return _ecdsa(body, wrong_size, Code.ROM_ECDSA_VERIFY_FAILED)


def _ecdsa(body: bytes, wrong_size: Code, wrong: Code) -> Reply:
    request = decode(messages.EcdsaVerify, body, wrong_size)
    match check_ecdsa(request.digest, request.public_key, request.signature):
        case Outcome.GOOD:
            return Reply(fips_status=FipsStatus.USER_SUPPLIED_DIGEST)
        case Outcome.MALFORMED:
            raise MailboxError(
                Code.DRIVER_ECC384_SCALAR_RANGE_CHECK_FAILED, "r or s is out of range"
            )
        case Outcome.WRONG:
            raise MailboxError(wrong, "the key did not sign this digest")


def lms(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """LMS_SIGNATURE_VERIFY over a digest that the caller made: SHA256/192, height 15, W4 only."""
    request = decode(messages.LmsVerify, body)
    for kind, expected, code in (
        (
            request.key_tree_type,
            _LMS_SHA256_M24_H15,
            Code.RUNTIME_LMS_VERIFY_INVALID_LMS_ALGORITHM,
        ),
        (
            request.key_ots_type,
            _LMOTS_SHA256_N24_W4,
            Code.RUNTIME_LMS_VERIFY_INVALID_LMOTS_ALGORITHM,
        ),
        (request.tree_type, _LMS_SHA256_M24_H15, Code.RUNTIME_LMS_VERIFY_INVALID_LMS_ALGORITHM),
    ):
        if kind != expected:
            raise MailboxError(code, f"type {expected} expected, found {kind}")
    key_types = struct.pack(">II", request.key_tree_type, request.key_ots_type)
    key = key_types + request.key_identifier + request.key_digest
    tree_type = request.tree_type.to_bytes(4, "big")
    signature = request.q.to_bytes(4, "big") + request.ots + tree_type + request.tree_path
    match check_lms(request.digest, key, signature):
        case Outcome.GOOD:
            return Reply(fips_status=FipsStatus.USER_SUPPLIED_DIGEST)
        case Outcome.MALFORMED:
            raise MailboxError(
                Code.DRIVER_LMS_SIGNATURE_LMOTS_DOESNT_MATCH_PUBKEY_LMOTS,
                "the signature's one-time type is not the key's",
            )
        case Outcome.WRONG:
            raise MailboxError(Code.RUNTIME_LMS_VERIFY_FAILED, "the key did not sign this digest")


def mldsa(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """MLDSA87_SIGNATURE_VERIFY over a message of up to 4096 bytes, empty context."""
    return _mldsa(body, Code.RUNTIME_MAILBOX_INVALID_PARAMS, Code.RUNTIME_MLDSA_VERIFY_FAILED)


def mldsa_in_rom(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """The same before the firmware runs."""
    wrong_size = Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH
    return _mldsa(body, wrong_size, Code.ROM_MLDSA_VERIFY_FAILED)


def _mldsa(body: bytes, wrong_size: Code, wrong: Code) -> Reply:
    head = _MLDSA_KEY + _MLDSA_SIGNATURE
    if len(body) < head + _LENGTH.size:
        raise MailboxError(wrong_size, f"key, signature and length expected, got {len(body)} bytes")
    (size,) = _LENGTH.unpack_from(body, head)
    message = body[head + _LENGTH.size :]
    if size > messages.LARGEST_MESSAGE or size > len(message):
        raise MailboxError(wrong_size, f"{size} bytes of message announced, got {len(message)}")
    key, signature = body[:_MLDSA_KEY], body[_MLDSA_KEY:head]
    if check_mldsa(message[:size], key, signature) is not Outcome.GOOD:
        raise MailboxError(wrong, "the key did not sign this message")
    return Reply()
