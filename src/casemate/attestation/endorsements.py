"""Endorsements: what somebody else says about attesters, given with or before the evidence.

Certificates, keys and vendor collateral by kind, and the anchors that trust ends at. Nothing is
trusted for standing here: a family looks for what it needs and verifies it up to an anchor. The
exceptions are `anchors`: the operator named them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class NamedBytes:
    """Bytes and where they came from."""

    data: bytes
    name: str


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A key that trust ends at.

    `spki` is its SubjectPublicKeyInfo (DER); `subject` the name (DER) under which it issues, empty
    where only the key is known (an IDevID request, a JWK); `purposes` are families' names, empty
    for all.
    """

    spki: bytes
    name: str
    subject: bytes = b""
    purposes: frozenset[str] = frozenset()

    @property
    def digest(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).digest()


#: Where `Endorsements.derived` keeps the parts that it was made of.
_LAYERS = "layers"


@dataclass(frozen=True, slots=True)
class Endorsements:
    """Everything that verification may look into.

    `certificates` and `revocations` (CRLs, OCSP responses) are DER. `tdx_collateral` is JSON as
    dcap-qvl takes it.
    `epoch` changes whenever `anchors` do: caches of verified certificates are keyed by it.
    `stale_until` is the policy for stale collateral: None refuses it, a time accepts collateral
    that ended after it. `require_revocation` is the one for missing CRLs: every issuer must have
    one. A certificate that a CRL at hand lists is revoked in any case. `absent` are sentences about
    collateral that was looked for and could not be had: a verdict that misses some cites them.

    `derived` is for indexes that verification makes of the rest once; it never changes a result.
    """

    anchors: tuple[TrustAnchor, ...] = ()
    certificates: tuple[NamedBytes, ...] = ()
    revocations: tuple[NamedBytes, ...] = ()
    tdx_collateral: tuple[NamedBytes, ...] = ()
    epoch: int = 0
    stale_until: datetime | None = None
    require_revocation: bool = False
    absent: tuple[str, ...] = ()
    derived: dict[str, Any] = field(init=False, default_factory=dict, compare=False, repr=False)

    def with_(self, along: Endorsements) -> Endorsements:
        """These, and what is there for one appraisal alone: never its anchors.

        Its `stale_until` holds where it has one. What was derived from these serves on (`layers`):
        a store of many certificates is not read again for each host that brings its own.
        """
        if along.is_empty:
            return self
        made = replace(
            self,
            certificates=(*self.certificates, *along.certificates),
            revocations=(*self.revocations, *along.revocations),
            tdx_collateral=(*self.tdx_collateral, *along.tdx_collateral),
            stale_until=along.stale_until or self.stale_until,
            absent=(*self.absent, *along.absent),
        )
        made.derived[_LAYERS] = (*self.layers, replace(along, anchors=()))
        return made

    @property
    def is_empty(self) -> bool:
        """Whether they say nothing, anchors apart."""
        return not (
            self.certificates
            or self.revocations
            or self.tdx_collateral
            or self.stale_until
            or self.absent
        )

    @property
    def layers(self) -> tuple[Endorsements, ...]:
        """The parts that indexes are made of, each by itself; the first has all anchors."""
        found: tuple[Endorsements, ...] = self.derived.get(_LAYERS, (self,))
        return found
