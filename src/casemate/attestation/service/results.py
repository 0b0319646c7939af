"""Results as they are kept and given out: the claims set once, compressed; the signature beside it.

A signed result (JWT) is header, claims and signature, and its claims hold the whole verdict. So the
claims are kept as JSON, and the envelope (header and signature, joined as in the JWT) makes the
very same token of them again, years later, whatever became of the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.document import document
from casemate.attestation.appraisal.result import Signer
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.service import events
from casemate.attestation.service.database import appraisals
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.trust import Outcome
from casemate.formats import base64url


class ResultMaker:
    """How results are made. It can be sent to a worker process, with a signer that can."""

    def __init__(
        self, signer: Signer | None, *, lifetime: timedelta, issuer: str | None = None
    ) -> None:
        """`signer` None: results are not signed."""
        self.signer = signer
        self.lifetime = lifetime
        self.issuer = issuer

    def __call__(self, verdict: Verdict) -> Appraised:
        """`make`, as workers call it."""
        return self.make(verdict)

    def make(self, verdict: Verdict) -> Appraised:
        """Return what is kept and told of a verdict.

        Raises `InfrastructureError` where the signer cannot sign: nothing goes out unsigned.
        """
        if self.signer is None:
            token = envelope = None
            found: Mapping[str, Any] = document(verdict)
            text = claims = _encode(found)
        else:
            signed = result.sign(verdict, self.signer, lifetime=self.lifetime, issuer=self.issuer)
            token, claims = signed.token, signed.payload
            envelope = f"{signed.header_text}.{signed.signature_text}".encode()
            found = events.document_of(signed.claims)
            text = _encode(found)
        return Appraised(
            outcome=Outcome(
                state=verdict.state,
                host=None if verdict.host is None else verdict.host.name,
                answered=verdict.nonce,
                at=verdict.at,
                valid_until=verdict.valid_until,
            ),
            correlation_id=verdict.correlation_id,
            policy=verdict.policy.digest,
            references=verdict.references,
            document=text,
            token=token,
            claims=appraisals.compress(claims),
            envelope=envelope,
            event=events.of_document(found, verdict.at),
        )

    def cwt(self, claims: bytes) -> bytes | None:
        """Return the result of decompressed claims as a CWT, None where results are not signed."""
        if self.signer is None:
            return None
        return result.claims_to_cwt(json.loads(claims), self.signer)


def _encode(found: Mapping[str, Any]) -> bytes:
    return json.dumps(found, separators=(",", ":")).encode()


def token_of(claims: bytes, envelope: bytes | None) -> str | None:
    """Return the signed result of decompressed claims, None where it was not signed."""
    if envelope is None:
        return None
    header, signature = envelope.decode().split(".")
    return f"{header}.{base64url.encode(claims)}.{signature}"
