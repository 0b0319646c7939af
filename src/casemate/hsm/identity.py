"""A partition's identity: the certificate of the key that signs its key reports.

The key follows from the partition's masking key, in silicon. Until the root of trust certifies it,
the certificate is self-signed: a verifier that has seen it once knows the partition again, and
learns nothing about the host.
"""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, datetime

from casemate import _silicon
from casemate.formats import der, x509

#: RFC 5280, 4.1.2.5: a certificate without a well-defined expiration.
_NO_EXPIRATION = "99991231235959Z"
_POSITIVE = 0x7F


def fingerprint(partition: _silicon.Partition) -> str:
    """Return the SHA-256 of the identity key's SubjectPublicKeyInfo: what a verifier may pin."""
    return hashlib.sha256(x509.spki_p384(partition.identity_public_point())).hexdigest()


def self_signed(partition: _silicon.Partition, *, created: int) -> bytes:
    """Return the certificate (DER) of the partition's identity key, signed by itself.

    `created` (seconds since 1970) is when the partition was made: the certificate says the same
    after every restart, but for the signature.
    """
    spki = x509.spki_p384(partition.identity_public_point())
    key_id = hashlib.sha256(spki).digest()[:20]
    name = x509.name(f"Casemate partition {partition.name}", uuid.UUID(bytes=partition.id).hex)
    serial = hashlib.sha256(b"serial" + spki).digest()[:16]
    tbs = der.sequence(
        der.explicit(0, der.integer(2)),
        der.unsigned(bytes((serial[0] & _POSITIVE | 1,)) + serial[1:]),
        x509.ECDSA_SHA384,
        name,
        der.sequence(
            der.element(0x17, f"{datetime.fromtimestamp(created, UTC):%y%m%d%H%M%SZ}".encode()),
            der.generalized_time(_NO_EXPIRATION),
        ),
        name,
        spki,
        der.explicit(
            3,
            x509.extension_list(
                (x509.key_usage(digital_signature=True), x509.subject_key_id(key_id))
            ),
        ),
    )
    signature = partition.identity_sign(tbs)
    return x509.join(tbs, x509.ECDSA_SHA384, x509.ecdsa_signature(signature))
