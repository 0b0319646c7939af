"""Results as they are kept and given out: the claims set once, the signature beside it.

A signed result (JWT) is header, claims and signature, and its claims hold the whole verdict. So the
claims are kept as JSON (`database.appraisals` says how), and the envelope (header and signature,
joined as in the JWT) makes the very same token of them again, years later, whatever became of the
key.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import timedelta
from functools import partial
from typing import Any

from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.result import Signer
from casemate.attestation.appraisal.serialise import ByJudgement, Serialiser, Text
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.service import events
from casemate.attestation.service.database import appraisals
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.trust import Outcome
from casemate.formats import base64url

#: Frames that a process remembers: some 15 KB for each kind of host that it appraises.
MOST_FRAMES = 256


class ResultMaker:
    """How results are made. It can be sent to a worker process, with a signer that can.

    Each process keeps what texts of hosts of a kind share; it changes no result.
    """

    def __init__(
        self, signer: Signer | None, *, lifetime: timedelta, issuer: str | None = None
    ) -> None:
        """`signer` None: results are not signed."""
        self.signer = signer
        self.lifetime = lifetime
        self.issuer = issuer
        self._texts = Serialiser()
        self._requirements = ByJudgement(events.requirement)
        self._frames = _Frames()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without what it keeps."""
        return partial(ResultMaker, self.signer, lifetime=self.lifetime, issuer=self.issuer), ()

    def __call__(self, verdict: Verdict) -> Appraised:
        """`make`, as workers call it."""
        return self.make(verdict)

    def make(self, verdict: Verdict) -> Appraised:
        """Return what is kept and told of a verdict.

        Raises `InfrastructureError` where the signer cannot sign: nothing goes out unsigned.
        """
        envelope = None
        if self.signer is None:
            text = self._texts.document(verdict)
        else:
            text = self._texts.claims(verdict, lifetime=self.lifetime, issuer=self.issuer)
            signed = result.sign(text.whole, self.signer)
            envelope = f"{signed.header_text}.{signed.signature_text}".encode()
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
            claims=text.whole,
            place=text.place,
            kept=self._frames.keep(text),
            envelope=envelope,
            finding=events.finding_of(
                verdict, [self._requirements.of(part) for part in verdict.components]
            ),
        )

    def cwt(self, claims: bytes) -> bytes | None:
        """Return the result of decompressed claims as a CWT, None where results are not signed."""
        if self.signer is None:
            return None
        return result.claims_to_cwt(json.loads(claims), self.signer)


class _Frames:
    """The frames that came twice: from then on they are kept apart from what is between."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, appraisals.Frame | None] = OrderedDict()
        # The one that came last, by its parts: the next one is mostly the same.
        self._last: tuple[list[str], appraisals.Frame] | None = None

    def keep(self, text: Text) -> appraisals.Kept:
        """How a text is kept."""
        if self._last is not None and self._last[0] == text.shared:
            return appraisals.Kept(text.own, self._last[1])
        frame = text.frame
        if frame not in self._known:
            self._known[frame] = None
            if len(self._known) > MOST_FRAMES:
                self._known.popitem(last=False)
            return appraisals.Kept(appraisals.compress(text.whole))
        found = self._known[frame] = self._known[frame] or appraisals.Frame.of(frame)
        self._known.move_to_end(frame)
        self._last = text.shared, found
        return appraisals.Kept(text.own, found)


def token_of(claims: bytes, envelope: bytes | None) -> str | None:
    """Return the signed result of decompressed claims, None where it was not signed."""
    if envelope is None:
        return None
    header, signature = envelope.decode().split(".")
    return f"{header}.{base64url.encode(claims)}.{signature}"
