"""Boots a host's device and starts the module that its manifest authorises."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from casemate.formats.mailbox import CommandId, MailboxStatus, RequestFrame
from casemate.rot.device_folder import DeviceFolder
from casemate.rot.launch import authorization, process
from casemate.rot.launch.alias_authority import AliasAuthority
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
    #: One mailbox command at a time, whoever asks.
    turn: threading.Lock = field(default_factory=threading.Lock)
    _authority: AliasAuthority | None = None

    @property
    def device(self) -> MailboxDevice:
        """The device behind the mailbox."""
        return self.mailbox.device

    def authorize(self, manifest: bytes, parts: tuple[Part, ...]) -> None:
        """Set the manifest and have every part authorised; see `authorization.authorize`."""
        authorization.authorize(self.run, manifest, parts)

    def run(self, command: int, body: bytes) -> bytes:
        """Run one mailbox command as the privileged user; see `authorization.Run`."""
        with self.turn:
            return authorization.local(self.mailbox, self.user)(command, body)

    def start(
        self,
        parts: tuple[Part, ...],
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the module with its sealing secret. `authorize` comes first.

        The secret goes from this process's silicon to the module's, in sealed memory. For as long
        as both processes live, this one certifies the module's partitions (`alias_authority`).
        Raises BootError before a manifest is set.
        """
        root = self.device.root
        slot = root.sealing_secret(self.device.authorizations.svn, _SEALING_CONTEXT)
        descriptor = root.crypto.to_descriptor(slot)
        ours, theirs = socket.socketpair()
        try:
            root.crypto.erase(slot)
            authority = self._new_authority()
            started = process.start(
                parts,
                arguments,
                secret=descriptor,
                certifier=theirs.fileno(),
                environment=environment,
                log=log,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(descriptor)
            theirs.close()
        authority.serve(ours)
        return started

    def _new_authority(self) -> AliasAuthority:
        """The CA for a module that starts now; the one of a module before it ends."""
        if self._authority is not None:
            self._authority.revoke()
            self._authority = None
        self._authority = AliasAuthority(self.run)
        return self._authority


def boot(folder: DeviceFolder, bundle: bytes, *, user: int) -> Host:
    """Power a device on and load its firmware. Raises BootError, MailboxError, RotError."""
    mailbox = Mailbox(MailboxDevice.power_on(folder.anchor.open(), folder.fuse_file.read()))
    answer = mailbox.execute(RequestFrame(0, CommandId.FIRMWARE_LOAD, bundle))
    if answer.status is MailboxStatus.FAILURE:
        raise MailboxError(
            answer.error, "the device does not boot the bundle; `casemate bundle verify` says why"
        )
    return Host(mailbox, user)
