"""The administration: what is in force, who may ask, which principal speaks for a host."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.service.database import documents, hosts, principals
from casemate.attestation.service.database.documents import Document, Kind
from casemate.attestation.service.errors import Reason, RefusedError
from casemate.attestation.service.inputs import InForce, Inputs
from casemate.attestation.service.principals import (
    TOKEN_BYTES,
    Principal,
    PrincipalRecord,
    Role,
    check_name,
    make_token,
    token_digest,
)
from casemate.attestation.service.service import Service
from casemate.attestation.service.trust import Standing


@dataclass(slots=True, kw_only=True)
class Administration:
    """Changes what the service works with. `renew` hands a new verifier to the workers."""

    service: Service
    inputs: Inputs
    in_force: InForce
    renew: Callable[[InForce], Awaitable[None]]

    async def add_document(
        self, kind: Kind, name: str, data: bytes, principal: Principal
    ) -> Document:
        """Import a version. Raises `RefusedError` for what is no document of its kind."""
        check_name(name)
        at = self.service.clock()

        def apply(db: sqlite3.Connection) -> Document:
            self.inputs.check(db, kind, NamedBytes(data, name), at)
            return documents.add(
                db, kind=kind, name=name, data=data, at=at, principal=principal.name
            )

        return await self.service.change(apply)

    async def set_active(
        self, kind: Kind, name: str, version: int, *, active: bool, principal: Principal
    ) -> tuple[Document, int]:
        """Put a version in force or out of it; returns it, and the epoch that holds now."""
        at = self.service.clock()

        def apply(db: sqlite3.Connection) -> tuple[Document, InForce]:
            found = documents.find(db, kind, name, version)
            if found is None:
                raise no_document(kind, name, version)
            changed = self.inputs.activate(
                db, found[0], active=active, at=at, principal=principal.name
            )
            return replace(found[0], active=active), changed

        document, changed = await self.service.change(apply)
        if changed.epoch > self.in_force.epoch:
            self.in_force = changed
            await self.renew(changed)
        return document, changed.epoch

    async def make_principal(
        self,
        name: str,
        roles: frozenset[Role],
        *,
        token: bool,
        key: bytes | None,
        expires: datetime | None,
    ) -> tuple[PrincipalRecord, str | None]:
        """Make a principal, or make it anew; returns it and the text of its token."""
        record, text = new_principal(
            name,
            roles,
            randomness=self.service.randomness(TOKEN_BYTES) if token else None,
            key=key,
            created=self.service.clock(),
            expires=expires,
        )
        try:
            await self.service.change(lambda db: principals.put(db, record))
        except sqlite3.IntegrityError:
            raise RefusedError(
                Reason.CONFLICT,
                "another principal has this key",
                where="key",
                advice="remove the other principal, or give this one a key of its own",
            ) from None
        return record, text

    async def remove_principal(self, name: str) -> None:
        """Forget a principal; its hosts stay its own. Raises `RefusedError` where there is none."""
        if not await self.service.change(lambda db: principals.remove(db, name)):
            raise RefusedError(
                Reason.NOT_FOUND, f"there is no principal {name[:140]!r}", where="name"
            )

    async def set_owner(self, host: str, principal: str) -> None:
        """Say who speaks for a host; a host that nobody knew is enrolled. Its trust stays."""
        check_name(host)
        check_name(principal)

        def apply(db: sqlite3.Connection) -> None:
            row = hosts.find(db, host)
            if row is None:
                hosts.put(db, Standing(host=host, principal=principal), None)
            else:
                hosts.put(db, replace(row.standing, principal=principal), row.appraisal)

        await self.service.change(apply)

    async def remove_host(self, host: str) -> None:
        """Forget a host. Raises `RefusedError` where there is none."""
        if not await self.service.change(lambda db: hosts.remove(db, host)):
            raise no_host(host)


def new_principal(
    name: str,
    roles: frozenset[Role],
    *,
    randomness: bytes | None,
    key: bytes | None,
    created: datetime,
    expires: datetime | None,
) -> tuple[PrincipalRecord, str | None]:
    """Return a principal, and its token's text where randomness (32 bytes) for one is given."""
    if randomness is None and key is None:
        raise RefusedError(
            Reason.UNUSABLE,
            "a principal without token and key could never be authenticated",
            where="key",
            expected="a token, a key or both",
        )
    text = None if randomness is None else make_token(randomness)
    record = PrincipalRecord(
        name=check_name(name),
        roles=roles,
        token=None if text is None else token_digest(text),
        key=key,
        created=created,
        expires=expires,
    )
    return record, text


def no_document(kind: Kind, name: str, version: int) -> RefusedError:
    """The refusal where there is no such version."""
    return RefusedError(
        Reason.NOT_FOUND,
        f"there is no {kind} {name[:140]!r} of version {version}",
        where=kind.value,
        advice="list them to see what there is",
    )


def no_host(host: str) -> RefusedError:
    """The refusal where there is no such host."""
    return RefusedError(
        Reason.NOT_FOUND,
        f"no host {host[:140]!r} is known",
        where="host",
        expected="a host's name, as its verdicts say it: kind and digest of its key",
        advice="list them: GET /v1/hosts",
    )
