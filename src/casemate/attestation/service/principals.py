"""Principals: who may ask the service for what.

A principal is authenticated by a bearer token (32 random bytes in base64url; only its SHA-256 is
kept) or by the key of its TLS certificate. Its roles say what it may do.
"""

from __future__ import annotations

import base64
import enum
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.service.errors import Reason, RefusedError

TOKEN_BYTES = 32
TOKEN_PREFIX = "cmv_"  # noqa: S105 (what a leaked token is recognised by, no secret)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


class Role(enum.StrEnum):
    """What a principal may do.

    ATTESTER: be challenged, hand in its evidence, see its own hosts and results. RELYING_PARTY: see
    every host's trust and results, and appraise evidence without changing trust (background check).
    ADMINISTRATOR: principals, hosts, references, policies, anchors, endorsements.
    """

    ATTESTER = "attester"
    RELYING_PARTY = "relying-party"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated peer."""

    name: str
    roles: frozenset[Role]

    def may(self, *roles: Role) -> bool:
        """Whether it has one of the roles."""
        return not self.roles.isdisjoint(roles)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalRecord:
    """A principal as it is kept: `token` and `key` are SHA-256 of the token's text and of the
    certificate's SubjectPublicKeyInfo, None where it has none. `expires` None: never.
    """

    name: str
    roles: frozenset[Role]
    token: bytes | None
    key: bytes | None
    created: datetime
    expires: datetime | None = None

    def at(self, time: datetime) -> Principal | None:
        """The principal, None where it has expired."""
        if self.expires is not None and time >= self.expires:
            return None
        return Principal(name=self.name, roles=self.roles)


def check_name(name: str) -> str:
    """Return a name that a principal may have; raises `RefusedError`."""
    if not _NAME.fullmatch(name):
        raise RefusedError(
            Reason.UNUSABLE,
            f"{name[:140]!r} cannot be a principal's name",
            where="name",
            expected="1 to 128 letters, digits and . _ : @ -, a letter or digit first",
            advice="choose another name",
        )
    return name


def make_token(randomness: bytes) -> str:
    """Return the text of a token made of 32 random bytes."""
    if len(randomness) != TOKEN_BYTES:
        raise ValueError(f"expected {TOKEN_BYTES} random bytes, found {len(randomness)}")
    return TOKEN_PREFIX + base64.urlsafe_b64encode(randomness).rstrip(b"=").decode()


def token_digest(token: str) -> bytes:
    """Return what is kept of a token. It is random throughout, so one SHA-256 hides it."""
    return hashlib.sha256(token.encode()).digest()
