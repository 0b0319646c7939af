"""How a service is set up: everything that the operator chooses, with its defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from casemate.attestation.collateral.sources import Sources
from casemate.attestation.errors import InputError
from casemate.attestation.service.http.envelope import Limits
from casemate.attestation.service.principals import Role
from casemate.audit.spool import Durability, SpoolLimits

#: Addresses on which bearer tokens may travel without TLS.
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Certificate and key of the server (PEM files); the CAs that sign clients' certificates.

    `required` refuses connections without a client certificate.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralSettings:
    """Vendors' collateral: the folder, and whether what is not in it is fetched, and from whom.

    `plain_hosts` are those that may be asked over plain HTTP, `patience` is how long an appraisal
    waits for a source that limits questions.
    """

    folder: Path
    fetch: bool = False
    sources: Sources = field(default_factory=Sources)
    plain_hosts: frozenset[str] = frozenset()
    patience: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A service. `folder` holds database, spool and the results' key, where they are not named.

    `stale_for` takes collateral that has ended for so long (None: not at all), `require_revocation`
    wants a CRL or OCSP response of every issuer on a vendor's path. `signing_key` is a PEM file
    (P-384); one is made there if there is none. `retention` None keeps appraisals for ever.
    Evidence is kept for `evidence_age` (None: not at all) and up to `evidence_limit` bytes.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8460
    tls: Tls | None = None
    certificate_role: Role | None = None
    workers: int = 1
    maximum_age: timedelta = timedelta(hours=24)
    challenge_lifetime: timedelta = timedelta(minutes=5)
    result_lifetime: timedelta = timedelta(minutes=10)
    enrol_on_first_use: bool = True
    require_signed_references: bool = False
    collateral: CollateralSettings | None = None
    stale_for: timedelta | None = None
    require_revocation: bool = False
    retention: timedelta | None = None
    evidence_age: timedelta | None = timedelta(days=90)
    evidence_limit: int = 10 << 30
    issuer: str | None = None
    signing_key: Path | None = None
    durability: Durability = Durability.SYNC
    spool_limits: SpoolLimits = field(default_factory=SpoolLimits)
    limits: Limits = field(default_factory=Limits)
    open_metrics: bool = False
    connections: int = 1000

    def __post_init__(self) -> None:
        if self.tls is None and self.host not in LOOPBACK:
            raise InputError(
                f"{self.host}: tokens and evidence do not travel in the clear: give a certificate "
                "(--tls-certificate, --tls-key), or serve on 127.0.0.1 behind a proxy"
            )
        for name, lowest in (("workers", 1), ("connections", 1)):
            if getattr(self, name) < lowest:
                raise InputError(f"{name} is {getattr(self, name)}; it is at least {lowest}")
        for name in ("maximum_age", "challenge_lifetime", "result_lifetime"):
            if getattr(self, name) <= timedelta(0):
                raise InputError(f"{name} must be longer than nothing")

    @property
    def database(self) -> Path:
        """The database."""
        return self.folder / "verifier.db"

    @property
    def spool(self) -> Path:
        """The folder of the event spool."""
        return self.folder / "events"

    @property
    def key_file(self) -> Path:
        """The results' key."""
        return self.signing_key or self.folder / "result-key.pem"

    @property
    def published_keys(self) -> Path:
        """The public keys that results were and are signed with."""
        return published_keys(self.folder)


def published_keys(folder: Path) -> Path:
    """The file of the published keys in a service's folder."""
    return folder / "result-keys.json"
