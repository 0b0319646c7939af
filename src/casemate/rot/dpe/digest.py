"""The digest of a context: SHA-384 over everything that its keys depend on.

From the context up to the root, each contributes its measurement (108 bytes) and whether it allows
X.509 (1 byte). If any of them asked for it, what GetProfile answers follows, then the certificate
chain. So a key changes with every measurement above it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from casemate.formats.dpe import ProfileInfo, encode_response
from casemate.rot.dpe.contexts import Context


def context_digest(
    path: Sequence[Context], profile_info: ProfileInfo, certificate_chain: bytes
) -> bytes:
    """Return the digest (48 bytes) of the first context of `path`, which leads up to its root."""
    digest = hashlib.sha384()
    for context in path:
        digest.update(context.tci.encode())
        digest.update(b"\x01" if context.allow_x509 else b"\x00")
    if any(context.uses_internal_info for context in path):
        digest.update(encode_response(profile_info.profile, profile_info))
        digest.update(profile_info.profile.to_bytes(4, "little"))
    if any(context.uses_internal_dice for context in path):
        digest.update(certificate_chain)
    return digest.digest()
