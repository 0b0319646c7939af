"""The mailbox's codec: checksums, frames and bodies."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.formats import mailbox
from casemate.formats import mailbox_messages as messages
from casemate.formats.mailbox import CommandId, MailboxFormatError, MailboxStatus

u32 = st.integers(0, 2**32 - 1)
FIXED = [
    kind
    for kind in vars(messages).values()
    if isinstance(kind, type) and issubclass(kind, messages.Fixed) and kind is not messages.Fixed
]


@given(u32, st.binary(max_size=300))
def test_a_sealed_request_adds_up_to_zero_and_opens(command: int, body: bytes) -> None:
    payload = mailbox.seal_request(command, body)
    (stated,) = struct.unpack_from("<I", payload)
    total = stated + sum(command.to_bytes(4, "little")) + sum(body)
    assert total % 2**32 == 0
    assert mailbox.open_request(command, payload) == body


@given(st.binary(max_size=300), st.sampled_from(mailbox.FipsStatus))
def test_a_sealed_response_opens(body: bytes, status: mailbox.FipsStatus) -> None:
    assert mailbox.open_response(mailbox.seal_response(body, status)) == (status, body)


@given(st.binary(min_size=1, max_size=100), st.data())
def test_one_changed_byte_is_seen(body: bytes, data: st.DataObject) -> None:
    payload = bytearray(mailbox.seal_request(CommandId.EXTEND_PCR, body))
    at = data.draw(st.integers(0, len(payload) - 1))
    payload[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(mailbox.ChecksumError, match="expected 0x"):
        mailbox.open_request(CommandId.EXTEND_PCR, bytes(payload))


def test_a_checksum_known_from_the_outside() -> None:
    # The empty CAPABILITIES request ("CAPS"): minus the sum of its four letters.
    assert mailbox.seal_request(CommandId.CAPABILITIES, b"") == struct.pack(
        "<I", 2**32 - sum(b"CAPS")
    )


def test_what_is_too_short_says_so() -> None:
    with pytest.raises(MailboxFormatError, match="4 bytes of checksum, got 3"):
        mailbox.open_request(1, bytes(3))
    with pytest.raises(MailboxFormatError, match="8 bytes of header, got 7"):
        mailbox.open_response(bytes(7))


@given(u32, u32, st.binary(max_size=100))
def test_frames_read_back(user: int, command: int, payload: bytes) -> None:
    frame = mailbox.RequestFrame(user, command, payload).encode()
    assert mailbox.decode_request_header(frame[:16]) == (user, command, len(payload))
    assert frame[16:] == payload
    answer = mailbox.ResponseFrame(MailboxStatus.FAILURE, command, payload).encode()
    header = mailbox.decode_response_header(answer[:16])
    assert header == (MailboxStatus.FAILURE, command, len(payload))


@given(st.binary(max_size=32))
def test_no_bytes_crash_the_frames(data: bytes) -> None:
    for prefix in (b"", b"CMBQ", b"CMBR"):
        for decode in (mailbox.decode_request_header, mailbox.decode_response_header):
            with contextlib.suppress(MailboxFormatError):
                decode(prefix + data)


def test_frames_that_are_none() -> None:
    long = struct.pack("<4sIII", b"CMBQ", 0, 0, mailbox.LARGEST_PAYLOAD + 1)
    with pytest.raises(MailboxFormatError, match="length at offset 12"):
        mailbox.decode_request_header(long)
    with pytest.raises(MailboxFormatError, match="magic at offset 0"):
        mailbox.decode_response_header(long)
    with pytest.raises(MailboxFormatError, match="status at offset 4"):
        mailbox.decode_response_header(struct.pack("<4sIII", b"CMBR", 9, 0, 0))


@pytest.mark.parametrize("kind", FIXED, ids=lambda kind: kind.__name__)
def test_bodies_have_one_size_and_read_back(kind: type[messages.Fixed]) -> None:
    size = kind.LAYOUT.size
    body = bytes(index % 251 for index in range(size))
    if kind is messages.ExportedMldsaSignature:
        body = body[:-1] + b"\0"
    assert kind.decode(body).encode() == body
    for wrong in (body[:-1], body + b"\0"):
        with pytest.raises(MailboxFormatError, match=kind.__name__):
            kind.decode(wrong)


@given(st.binary(max_size=100), st.binary(max_size=10))
def test_sized_data_reads_back_with_room_behind(data: bytes, room: bytes) -> None:
    assert messages.decode_sized(messages.encode_sized(data) + room) == data


def test_sized_data_cut_short() -> None:
    with pytest.raises(MailboxFormatError, match="5 bytes announced, 4 are there"):
        messages.decode_sized(struct.pack("<I", 5) + b"four")
    with pytest.raises(MailboxFormatError, match="4 bytes expected"):
        messages.decode_sized(b"")


def test_words_are_swapped_twice_to_the_same() -> None:
    digest = bytes(range(48))
    assert messages.swap_words(digest)[:8] == bytes([3, 2, 1, 0, 7, 6, 5, 4])
    assert messages.swap_words(messages.swap_words(digest)) == digest


def test_command_letters() -> None:
    assert mailbox.command_letters(CommandId.INVOKE_DPE_ECC384) == "DPEC"
    assert mailbox.command_letters(1) == "0x00000001"
