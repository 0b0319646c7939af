"""Results as they are kept and given out: the claims set once, the signature beside it.

A signed result (JWT) is header, claims and signature, and its claims hold the whole verdict. So the
claims are kept as JSON (`database.appraisals` says how), and the envelope (header and signature,
joined as in the JWT) makes the very same token of them again, years later, whatever became of the
key.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from casemate.attestation.appraisal import result
from casemate.attestation.appraisal.result import Signer
from casemate.attestation.appraisal.serialise import Serialiser, Text
from casemate.attestation.appraisal.verdict import Verdict
from casemate.attestation.service import events
from casemate.attestation.service.database import appraisals
from casemate.attestation.service.record import Appraised
from casemate.attestation.service.trust import Outcome
from casemate.audit.ocsf import Requirement
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
        self._frames = _Frames()
        self._kinds: dict[int, _Kind] = {}

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
        kind = self._kind_of(verdict, text)
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
            kept=appraisals.Kept(appraisals.compress(text.whole))
            if kind.frame is None
            else appraisals.Kept(text.own, kind.frame),
            envelope=envelope,
            finding=events.finding_of(verdict, kind.requirements),
        )

    def _kind_of(self, verdict: Verdict, text: Text) -> _Kind:
        # What is kept holds the list, so that nothing else has its identity.
        kind = self._kinds.get(id(text.shared))
        if kind is None:
            if len(self._kinds) >= MOST_FRAMES:
                self._kinds.clear()
            requirements = tuple([events.requirement(part) for part in verdict.components])
            kind = self._kinds[id(text.shared)] = _Kind(text.shared, requirements)
        if kind.frame is None:
            kind.frame = self._frames.of(text)
        return kind

    def cwt(self, claims: bytes) -> bytes | None:
        """Return the result of decompressed claims as a CWT, None where results are not signed."""
        if self.signer is None:
            return None
        return result.claims_to_cwt(json.loads(claims), self.signer)


@dataclass(slots=True)
class _Kind:
    """What is kept of verdicts whose texts have the same `shared`: what their events say of their
    components, and their frame once it came twice.
    """

    shared: list[str]
    requirements: tuple[Requirement, ...]
    frame: appraisals.Frame | None = None


class _Frames:
    """The frames that came twice: from then on they are kept apart from what is between."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, appraisals.Frame | None] = OrderedDict()

    def of(self, text: Text) -> appraisals.Frame | None:
        """The frame of a text; None if it comes for the first time."""
        frame = text.frame
        if frame not in self._known:
            self._known[frame] = None
            if len(self._known) > MOST_FRAMES:
                self._known.popitem(last=False)
            return None
        found = self._known[frame] = self._known[frame] or appraisals.Frame.of(frame)
        self._known.move_to_end(frame)
        return found


def token_of(claims: bytes, envelope: bytes | None) -> str | None:
    """Return the signed result of decompressed claims, None where it was not signed."""
    if envelope is None:
        return None
    header, signature = envelope.decode().split(".")
    return f"{header}.{base64url.encode(claims)}.{signature}"
