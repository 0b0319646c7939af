"""Many messages under one key, with many of them on their way at once.

What `keys` does with single messages is done here with lists, by the same rules and one more:
messages never share an IV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from casemate.formats.pkcs11 import Mechanism, ReturnValue
from casemate.formats.pkcs11_wire import Bytes, Counter, Gcm, GcmMessage, Parameters
from casemate.hsm.client.algorithms import GCM_IV, GCM_TAG, Method
from casemate.hsm.client.errors import ArgumentError
from casemate.hsm.client.operations import Operation

if TYPE_CHECKING:
    from casemate.hsm.client.keys import Key

_NOT_THIS_SIGNATURE = (ReturnValue.SIGNATURE_INVALID, ReturnValue.SIGNATURE_LEN_RANGE)


def sign(key: Key, method: Method, messages: Sequence[bytes]) -> list[bytes]:
    """Return the signatures in the messages' order."""
    answers = key.partition.connection.many(
        Operation.SIGN,
        doing=f"sign with {key.label}",
        object=key.handle,
        mechanism=method.mechanism,
        parameters=[method.encoded()],
        data=messages,
    )
    return [signature for _, signature in answers]


def verify(
    key: Key, method: Method, signatures: Sequence[bytes], messages: Sequence[bytes]
) -> list[bool]:
    """Return for each message whether the signature at its place fits."""
    if len(signatures) != len(messages):
        raise ArgumentError(f"{len(signatures)} signatures for {len(messages)} messages")
    answers = key.partition.connection.many(
        Operation.VERIFY,
        doing=f"verify with {key.label}",
        object=key.handle,
        mechanism=method.mechanism,
        parameters=[method.encoded()],
        first=signatures,
        data=messages,
        tolerated=_NOT_THIS_SIGNATURE,
    )
    return [code not in _NOT_THIS_SIGNATURE for code, _ in answers]


def transform(
    key: Key,
    operation: Operation,
    mechanism: Mechanism,
    parameters: Parameters | Sequence[Parameters] | None,
    messages: Sequence[bytes],
) -> list[bytes]:
    """Encrypt or decrypt with a mechanism of the caller's choice."""
    if isinstance(parameters, Sequence):
        blocks = [one.encode() for one in parameters]
        if len(blocks) != len(messages):
            raise ArgumentError(f"{len(blocks)} parameters for {len(messages)} messages")
        if operation is Operation.ENCRYPT and any(map(_has_iv, parameters)):
            _refuse_repetition(blocks)
    else:
        blocks = [Method(mechanism, parameters).encoded()]
        if operation is Operation.ENCRYPT and len(messages) > 1 and _has_iv(parameters):
            _refuse_repetition(blocks * 2)
    if not messages:
        return []
    answers = key.partition.connection.many(
        operation,
        doing=f"{operation.name.lower()} with {key.label}",
        object=key.handle,
        mechanism=mechanism,
        parameters=blocks,
        data=messages,
    )
    return [output for _, output in answers]


def _has_iv(parameters: Parameters | None) -> bool:
    """Whether the caller chose an IV or counter block."""
    if isinstance(parameters, GcmMessage):
        return not parameters.generate
    return isinstance(parameters, Bytes | Counter | Gcm)


def _refuse_repetition(blocks: Sequence[bytes]) -> None:
    if len(set(blocks)) != len(blocks):
        raise ArgumentError(
            "two messages with the same IV or counter block",
            advice="give each message parameters of its own, or no mechanism: "
            "the partition then makes the IVs",
        )


def encrypt_gcm(
    key: Key, messages: Sequence[bytes], associated: bytes | Sequence[bytes]
) -> list[bytes]:
    """Return IV || ciphertext || tag of each, with IVs that the partition makes."""
    blocks = [
        GcmMessage(bytes(GCM_IV), one, generate=True).encode()
        for one in _for_each(associated, messages)
    ]
    answers = key.partition.connection.many(
        Operation.ENCRYPT,
        doing=f"encrypt with {key.label}",
        object=key.handle,
        mechanism=Mechanism.AES_GCM,
        parameters=blocks,
        data=messages,
        tail_first=GCM_IV,
    )
    return [output for _, output in answers]


def decrypt_gcm(
    key: Key, messages: Sequence[bytes], associated: bytes | Sequence[bytes]
) -> list[bytes]:
    """Return the plaintexts of what `encrypt_gcm` made."""
    for number, message in enumerate(messages):
        if len(message) < GCM_IV + GCM_TAG:
            raise ArgumentError(
                f"message {number} has {len(message)} bytes; "
                f"an AES-GCM message has {GCM_IV + GCM_TAG} or more"
            )
    each = _for_each(associated, messages)
    if len(each) == 1 and len(messages) != 1:
        each = list(each) * len(messages)
    answers = key.partition.connection.many(
        Operation.DECRYPT,
        doing=f"decrypt with {key.label}",
        object=key.handle,
        mechanism=Mechanism.AES_GCM,
        parameters=[
            GcmMessage(message[:GCM_IV], one, message[-GCM_TAG:]).encode()
            for message, one in zip(messages, each, strict=True)
        ],
        data=[message[GCM_IV:-GCM_TAG] for message in messages],
    )
    return [output for _, output in answers]


def _for_each(associated: bytes | Sequence[bytes], messages: Sequence[bytes]) -> Sequence[bytes]:
    """The associated data of each message, or that of all as the only element."""
    if isinstance(associated, bytes):
        return [associated]
    if len(associated) != len(messages):
        raise ArgumentError(f"{len(associated)} associated data for {len(messages)} messages")
    return associated
