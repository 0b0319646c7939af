"""Opening debug on a device in manufacture: a token whose SHA-512 is fused.

The chip hashes the token's bytes as they come and compares with the fuse. What opens then is
another device: the next cold reset reads every secret as all ones (`casemate.rot.ladder`), and the
device status, and so every firmware key and certificate, says that debug is open.

A production device asks for a challenge signed by a key of the SoC's; this model has no such keys
and refuses.

Source: caliptra-sw rom/dev/src/flow/debug_unlock.rs.
"""

from __future__ import annotations

import hashlib
import hmac

from casemate.rot.errors import BootError
from casemate.rot.fuses import Fuses, Lifecycle, burn

INVALID_TOKEN = 0xA000_0002


def open_debug_in_manufacturing(fuses: Fuses, token: bytes) -> Fuses:
    """Return what the device reads at its next cold reset, with debug open.

    Raises BootError: another lifecycle, no token fused, or another token (with the public code).
    """
    if fuses.lifecycle is not Lifecycle.MANUFACTURING:
        raise BootError(
            "a debug token opens a device in the manufacturing lifecycle only; "
            f"this one is in {fuses.lifecycle.name.lower()}"
        )
    if not any(fuses.debug_unlock_token_hash):
        raise BootError("no debug token is fused: debug cannot be opened", INVALID_TOKEN)
    digest = hashlib.sha512(token).digest()
    if not hmac.compare_digest(digest, fuses.debug_unlock_token_hash):
        raise BootError("this is not the debug token of this device", INVALID_TOKEN)
    return burn(fuses, debug_locked=False)
