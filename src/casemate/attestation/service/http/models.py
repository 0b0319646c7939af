"""The shapes of requests and answers; the OpenAPI document is made of them.

Times are RFC 3339 in UTC, digests lower-case hexadecimal SHA-256, nonces and evidence base64url
without padding (padding and the other alphabet are read too).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from casemate.attestation.service.principals import Role
from casemate.attestation.service.trust import TrustState
from casemate.attestation.states import State

#: Pieces of evidence in one request at most.
MOST_PIECES = 64


class Strict(BaseModel):
    """A request: unknown fields are errors, not ignored."""

    model_config = ConfigDict(extra="forbid")


class Challenge(BaseModel):
    """A challenge: evidence must carry its nonce, and is handed in under its id."""

    id: str = Field(examples=["1a2b3c4d-17"])
    nonce: str = Field(description="32 bytes, base64url.")
    issued: datetime
    expires: datetime


class EvidencePiece(Strict):
    """One piece of evidence, as the attester made it."""

    data: str = Field(description="The bytes, base64url or base64.", min_length=1)
    name: str = Field(default="", max_length=200, description="For people: a file's name.")


class AppraisalRequest(Strict):
    """Evidence of one attester."""

    challenge: str | None = Field(
        default=None,
        description="The id of the challenge that the evidence answers. Without one, evidence is "
        "appraised but its age is unknown and nobody's trust changes.",
    )
    evidence: list[EvidencePiece] = Field(min_length=1, max_length=MOST_PIECES)


class AppraisalSummary(BaseModel):
    """An appraisal, as lists show it."""

    id: str
    state: State
    host: str | None = Field(description="Who attested, by verified keys; null: nothing authentic.")
    at: datetime
    principal: str = Field(description="Who handed the evidence in.")
    effect: str = Field(description="What the verdict did to the host's trust.")
    challenge: str | None
    correlation_id: str
    policy_digest: str
    references_digest: str


class Appraisal(AppraisalSummary):
    """An appraisal with its verdict and its signed result."""

    effect_meaning: str
    verdict: dict[str, Any] = Field(description="The whole verdict: docs/appraisal.md.")
    result: str | None = Field(description="The signed EAR (JWT), null where none are signed.")


class AppraisalPage(BaseModel):
    """Appraisals, the newest first."""

    appraisals: list[AppraisalSummary]
    next_cursor: str | None = Field(description="Gives the next page; null: this is the last.")


class Material(BaseModel):
    """What a verdict was made of."""

    files: dict[str, str] = Field(
        description="Contents (base64) by name: evidence/, collateral/, endorsements/, anchors/, "
        "references/, policy/ with a number each, and terms.json: docs/verifier-service.md."
    )


class HostTrust(BaseModel):
    """A host's trust at the time it was asked for."""

    host: str
    trust: TrustState
    asked: datetime
    since: datetime | None = Field(description="When the verdict that stands was made.")
    until: datetime | None = Field(description="When its trust ends by age.")
    last_good: datetime | None = Field(description="The last affirming or warning verdict.")
    principal: str = Field(description="Who speaks for the host.")
    appraisal: str | None = Field(description="The id of the verdict that stands.")


class HostPage(BaseModel):
    """Hosts, in the order in which they came."""

    hosts: list[HostTrust]
    next_cursor: str | None


class HostOwner(Strict):
    """Who speaks for a host."""

    principal: str = Field(min_length=1, max_length=128)


class Document(BaseModel):
    """A version of a reference, policy, anchor or endorsement."""

    name: str
    version: int
    digest: str
    size: int
    imported: datetime
    imported_by: str
    active: bool


class DocumentPage(BaseModel):
    """Documents, in the order of their import."""

    documents: list[Document]
    next_cursor: str | None


class Activation(BaseModel):
    """A document after its activation or deactivation, and the epoch that holds now."""

    document: Document
    epoch: int


class Epoch(BaseModel):
    """A change of what is in force."""

    epoch: int
    at: datetime
    principal: str
    action: Literal["activate", "deactivate"]
    kind: str
    name: str
    version: int


class EpochPage(BaseModel):
    """Epochs, the newest first, and what is in force now."""

    epoch: int
    policy_digest: str
    references_digest: str
    epochs: list[Epoch]
    next_cursor: str | None


class PrincipalRequest(Strict):
    """A principal to be made, or made anew: a new token ends the one before."""

    name: str = Field(min_length=1, max_length=128)
    roles: list[Role] = Field(min_length=1)
    token: bool = Field(default=True, description="Make a bearer token.")
    key: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 of the SubjectPublicKeyInfo of its client certificate.",
    )
    expires: datetime | None = None


class PrincipalSummary(BaseModel):
    """A principal."""

    name: str
    roles: list[Role]
    has_token: bool
    key: str | None
    created: datetime
    expires: datetime | None


class NewPrincipal(PrincipalSummary):
    """A principal that was just made, with its token: it is shown this once."""

    token: str | None


class PrincipalPage(BaseModel):
    """Principals by name."""

    principals: list[PrincipalSummary]
    next_cursor: str | None


class KeySet(BaseModel):
    """The keys that results are signed with (RFC 7517)."""

    keys: list[dict[str, str]]


class Health(BaseModel):
    """Whether the service works, and why it does not."""

    ready: bool
    database: str
    spool: str
    workers: str
    collateral: str
    signing: str
    epoch: int
    version: str
