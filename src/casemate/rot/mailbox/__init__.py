"""The mailbox of a Caliptra 2.x device, in software: commands, errors, a socket and its client.

`MailboxDevice.power_on` makes a device, `Mailbox` answers its commands, `casemate.rot.mailbox.
server` puts it on a Unix socket and `casemate.rot.mailbox.client` talks to that.
"""

from casemate.rot.mailbox.device import MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError, code_name
from casemate.rot.mailbox.mailbox import Mailbox

__all__ = ["Code", "Mailbox", "MailboxDevice", "MailboxError", "Reply", "code_name"]
