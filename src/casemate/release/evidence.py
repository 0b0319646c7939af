"""What a host sends to be given a key: evidence, with the report of a wrapping key bound to it."""

from __future__ import annotations

from casemate.formats import x509
from casemate.formats.key_binding import key_binding
from casemate.hsm.client import Key, Partition
from casemate.rot.attester import Attester
from casemate.rot.evidence import evidence, leaf_certificate
from casemate.rot.identity import Algorithm


def evidence_with_key(
    attester: Attester,
    partition: Partition,
    key: Key,
    *,
    nonce: bytes,
    token_id: bytes,
    anchor: str,
    idevid_certificate: bytes | None,
) -> bytes:
    """An EAT (ECC) for a nonce that proves where a key lives, as `rot.evidence` makes it.

    The key report's data is the digest of nonce, DPE leaf key and partition key. Raises RotError,
    or the client's errors.
    """
    leaf = x509.read_certificate(leaf_certificate(attester, Algorithm.ECC))
    chain = partition.certificate_chain()
    identity = x509.read_certificate(chain[0])
    report = key.attest(key_binding(nonce, leaf.spki, identity.spki))
    return evidence(
        attester,
        nonce=nonce,
        token_id=token_id,
        algorithm=Algorithm.ECC,
        anchor=anchor,
        idevid_certificate=idevid_certificate,
        key_report=report,
        partition_chain=tuple(chain),
    )
