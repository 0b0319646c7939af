"""Who asks: a bearer token, or the certificate of a mutually authenticated TLS connection.

A token that is given decides, also where there is a certificate; one that is wrong is refused and
nothing else is tried. A certificate whose chain TLS has verified is looked up by its key; one that
is not registered has the role that the service gives to holders of certificates, if it gives one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.service.database import principals
from casemate.attestation.service.database.reader import Reader
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.principals import (
    Principal,
    PrincipalRecord,
    Role,
    token_digest,
)
from casemate.formats import x509
from casemate.formats.der_reader import DerError

_SCHEME = "bearer "
_LONGEST = 512


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Finds principals. `certificate_role` is that of certificates which nobody registered."""

    reader: Reader
    clock: Callable[[], datetime]
    certificate_role: Role | None = None

    def principal(self, authorization: str | None, certificate: bytes | None) -> Principal:
        """Return who asks, by the Authorization header and the certificate (DER).

        Raises `RefusedError`, and `StoreError` where nobody can be looked up.
        """
        if authorization is not None:
            return self._by_token(authorization)
        if certificate is not None:
            return self._by_certificate(certificate)
        raise _unauthenticated("the request names no principal", "no token and no certificate")

    def _by_token(self, authorization: str) -> Principal:
        token = authorization[len(_SCHEME) :].strip()
        if authorization[: len(_SCHEME)].lower() != _SCHEME or not 0 < len(token) <= _LONGEST:
            raise _unauthenticated("the Authorization header holds no bearer token", "another form")
        digest = token_digest(token)
        record = self.reader.query(lambda db: principals.by_token(db, digest))
        return self._of(record, "the token is unknown")

    def _by_certificate(self, certificate: bytes) -> Principal:
        try:
            key = hashlib.sha256(x509.read_certificate(certificate).spki).digest()
        except DerError as error:
            raise _unauthenticated(f"the client's certificate: {error}", "a certificate") from None
        record = self.reader.query(lambda db: principals.by_key(db, key))
        if record is None and self.certificate_role is not None:
            return Principal(name=f"tls:{key.hex()[:32]}", roles=frozenset({self.certificate_role}))
        return self._of(record, "the key of the client's certificate is not registered")

    def _of(self, record: PrincipalRecord | None, otherwise: str) -> Principal:
        if record is None:
            raise _unauthenticated(otherwise, "nobody")
        principal = record.at(self.clock())
        if principal is None:
            raise _unauthenticated("the principal has expired", record.name)
        return principal


def require(principal: Principal, *roles: Role) -> Principal:
    """Return the principal if it has one of the roles; raises `RefusedError`."""
    if not principal.may(*roles):
        raise RefusedError(
            Reason.FORBIDDEN,
            "this is for principals of another role",
            where="authorization",
            expected=" or ".join(roles),
            found=", ".join(sorted(principal.roles)) or "no role",
            advice="ask an administrator for a token of that role",
        )
    return principal


def _unauthenticated(message: str, found: str) -> RefusedError:
    return RefusedError(
        Reason.UNAUTHENTICATED,
        message,
        where="authorization",
        expected="a bearer token or a registered client certificate",
        found=found,
        advice="an administrator makes tokens: casemate verifier token NAME --role ROLE",
    )
