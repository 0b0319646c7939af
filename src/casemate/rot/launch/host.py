"""Boots a host's device and starts the module that its manifest authorises."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casemate.formats.mailbox import CommandId, MailboxStatus, RequestFrame
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.launch import authorization, process
from casemate.rot.launch.image import Part
from casemate.rot.mailbox.device import MailboxDevice
from casemate.rot.mailbox.errors import MailboxError
from casemate.rot.mailbox.mailbox import Mailbox

#: What the module's sealing secret is derived for: one context for all modules of this design.
_SEALING_CONTEXT = b"casemate module sealing v1"


@dataclass(slots=True)
class Host:
    """A device that runs its firmware. Make it with `boot`."""

    mailbox: Mailbox
    user: int

    @property
    def device(self) -> MailboxDevice:
        """The device behind the mailbox."""
        return self.mailbox.device

    def authorize(self, manifest: bytes, parts: tuple[Part, ...]) -> None:
        """Set the manifest and have every part authorised; see `authorization.authorize`."""
        authorization.authorize(authorization.local(self.mailbox, self.user), manifest, parts)

    def start(
        self,
        parts: tuple[Part, ...],
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the module with its sealing secret. `authorize` comes first.

        The secret goes from this process's silicon to the module's, in sealed memory. Raises
        BootError before a manifest is set.
        """
        root = self.device.root
        slot = root.sealing_secret(self.device.authorizations.svn, _SEALING_CONTEXT)
        descriptor = root.crypto.to_descriptor(slot)
        try:
            root.crypto.erase(slot)
            return process.start(
                parts, arguments, secret=descriptor, environment=environment, log=log
            )
        finally:
            os.close(descriptor)


def boot(folder: DeviceFolder, bundle: bytes, *, user: int) -> Host:
    """Power a device on and load its firmware. Raises BootError, MailboxError, RotError."""
    mailbox = Mailbox(MailboxDevice.power_on(folder.anchor.open(), folder.fuse_file.read()))
    answer = mailbox.execute(RequestFrame(0, CommandId.FIRMWARE_LOAD, bundle))
    if answer.status is MailboxStatus.FAILURE:
        raise MailboxError(
            answer.error, "the device does not boot the bundle; `casemate bundle verify` says why"
        )
    return Host(mailbox, user)
