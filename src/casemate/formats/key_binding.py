"""What ties a key report to an EAT: one digest over the nonce, the DPE leaf key, the partition key.

A partition puts the digest into the report data of its key report (zero-padded to 128 bytes). A
verifier computes it from the nonce that it sent, the leaf that signed the EAT and the partition's
certificate: a report taken from another host, partition or session does not fit.
"""

from __future__ import annotations

import hashlib

DIGEST_SIZE = 48
_LABEL = b"casemate key report binding v1"


def key_binding(nonce: bytes, leaf_public_key: bytes, partition_public_key: bytes) -> bytes:
    """SHA-384 (48 bytes) over a label and the three values, each with its length before it.

    Keys are SubjectPublicKeyInfo in DER.
    """
    digest = hashlib.sha384(_LABEL)
    for value in (nonce, leaf_public_key, partition_public_key):
        digest.update(len(value).to_bytes(4, "big") + value)
    return digest.digest()
