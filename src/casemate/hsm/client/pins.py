"""The PINs of a partition: the security officer's first, then the user's.

PIN bytes go from here to silicon and are kept nowhere. A wrong one is counted, on disk, before it
is compared; after a few the same peer must wait, longer each time.
"""

from __future__ import annotations

from pathlib import Path

from casemate import _silicon
from casemate.formats.pkcs11 import User
from casemate.hsm.client.errors import NotReachableError, for_result
from casemate.hsm.client.operations import Operation
from casemate.hsm.client.partition import Partition

_LABEL_BYTES = 32


def initialise(path: Path, *, label: str, so_pin: bytes) -> None:
    """Set the security officer's PIN of the partition at this socket, and its token label.

    A partition that has one already wants the same again; then all its objects are destroyed
    (C_InitToken). It needs a connection without a session, so it makes one of its own.
    """
    padded = label.encode().ljust(_LABEL_BYTES)
    try:
        client = _silicon.Client(path)
        code, *_ = client.call(Operation.INIT_TOKEN, first=padded, data=so_pin)
    except OSError as error:
        raise NotReachableError(
            f"partition {label!r} does not answer: {error}",
            where=str(path),
            advice="look whether the module runs: casemate status",
        ) from error
    client.close()
    if code:
        raise for_result(code, doing="set the security officer's PIN", where=str(path))


def set_user_pin(partition: Partition, *, so_pin: bytes, pin: bytes) -> None:
    """As the security officer set the user's PIN: the first one, or in place of a locked one."""
    partition.login(so_pin, user=User.SO)
    try:
        partition.connection.call(Operation.INIT_PIN, doing="set the user PIN", data=pin)
    finally:
        partition.logout()


def change_pin(partition: Partition, *, old: bytes, new: bytes) -> None:
    """Change the user's PIN."""
    partition.connection.call(Operation.SET_PIN, doing="change the PIN", first=old, data=new)
