"""Asks the device's SoC manifest about each part before it may run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from casemate.formats import soc_manifest as sm
from casemate.formats.mailbox import (
    CommandId,
    MailboxStatus,
    RequestFrame,
    open_response,
    seal_request,
)
from casemate.rot.errors import RotError
from casemate.rot.launch.image import Part
from casemate.rot.mailbox.errors import MailboxError
from casemate.rot.mailbox.mailbox import Mailbox
from casemate.rot.soc_manifest.authorize import Result, Source

#: Runs one mailbox command and returns the response's body; raises MailboxError where the device
#: refuses: `MailboxClient.run`, or `local` for a device in this process.
Run = Callable[[int, bytes], bytes]


def local(mailbox: Mailbox, user: int) -> Run:
    """Commands to a device in this process, as one user."""

    def run(command: int, body: bytes) -> bytes:
        answer = mailbox.execute(RequestFrame(user, command, seal_request(command, body)))
        if answer.status is MailboxStatus.FAILURE:
            raise MailboxError(answer.error, CommandId(command).name)
        return open_response(answer.payload)[1]

    return run


@dataclass(frozen=True, slots=True)
class Refusal:
    """A part that the manifest does not authorise, and what the manifest says of it."""

    part: str
    result: str
    found: bytes
    expected: bytes | None


class LaunchRefusedError(RotError):
    """The module's firmware is not the one that the manifest authorises: which part, and why."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        expected = "nothing" if refusal.expected is None else refusal.expected.hex()
        super().__init__(
            f"{refusal.part}: {refusal.result}; the manifest expects SHA-384 {expected}, "
            f"found {refusal.found.hex()}: reinstall the module, or sign a manifest for this one"
        )


def entries(parts: tuple[Part, ...]) -> tuple[sm.ImageMetadata, ...]:
    """What a manifest says of these parts: their ids and digests, to be compared, never ignored."""
    return tuple(
        sm.ImageMetadata(
            fw_id=part.name.fw_id,
            component_id=part.name.fw_id,
            flags=sm.ImageMetadata.flags_of(source=Source.IN_REQUEST),
            digest=part.digest,
        )
        for part in parts
    )


def authorize(run: Run, manifest: bytes, parts: tuple[Part, ...]) -> None:
    """Set the manifest, then have every part authorised and its measurement stashed in DPE.

    Raises MailboxError if the device refuses the manifest, LaunchRefusedError at the first part
    that is not authorised.
    """
    run(CommandId.SET_AUTH_MANIFEST, len(manifest).to_bytes(4, "little") + manifest)
    known = {entry.fw_id: entry.digest for entry in sm.SocManifest.decode(manifest).entries}
    for part in parts:
        body = (
            part.name.fw_id.to_bytes(4, "little")
            + part.digest
            + bytes(48)
            + bytes(4)  # svn
            + bytes(4)  # flags: SKIP_STASH is not used
            + Source.IN_REQUEST.to_bytes(4, "little")
            + bytes(4)  # size
        )
        answer = run(CommandId.AUTHORIZE_AND_STASH, body)
        code = int.from_bytes(answer[-4:], "little")
        if code not in (Result.AUTHORIZED, Result.AUTHORIZED_OWNER_ONLY):
            known_result = code in Result._value2member_map_
            raise LaunchRefusedError(
                Refusal(
                    part=part.name.value,
                    result=Result(code).name if known_result else f"0x{code:08x}",
                    found=part.digest,
                    expected=known.get(part.name.fw_id),
                )
            )
