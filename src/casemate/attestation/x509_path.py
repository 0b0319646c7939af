"""X.509 paths (RFC 5280) from a certificate up to an anchor, for families that are not DICE.

    signer = read(NamedBytes(der, "vcek.pem"))
    path = build(signer, endorsements, checks, trusted=keys, certificates=context.certificates)
    validate(path, checks, endorsements=endorsements, at=context.at)

Building looks for issuers among the endorsements: by name (byte for byte), then by signature, until
it meets an anchor: a key that is pinned or that the operator named. A certificate whose issuer
nobody brought is missing collateral (InfrastructureError); one whose issuer is there and did not
sign it, or a path that ends at a root that nobody named, is refused (EvidenceError).

Certificates are read by our own strict reader, whatever their serial number (AMD's are 0).
`x509_validation` has the second half: what RFC 5280 asks of a path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.checks import Checklist
from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.signatures import SignatureError, scheme_of, verify
from casemate.formats import x509
from casemate.formats.der_reader import DerError

LONGEST_PATH = 8
#: Certificates of one subject that are tried as an issuer.
MOST_CANDIDATES = 16


@dataclass(frozen=True)
class PathCertificate:
    """A certificate: its bytes, its fields and where it came from (`name`).

    What is read from the fields is read when first asked for, and kept: an endorsed certificate
    serves many appraisals. So there are no slots.
    """

    der: bytes
    fields: x509.Certificate
    name: str

    @cached_property
    def common_name(self) -> str:
        """Its subject's common name, for people."""
        return common_name(self.fields.subject)

    @property
    def title(self) -> str:
        """How people call it: its common name and its file."""
        return f"{self.common_name} ({self.name})"

    @cached_property
    def not_before(self) -> datetime:
        """The start of its validity."""
        return _time(self.fields.not_before)

    @cached_property
    def not_after(self) -> datetime:
        """The end of its validity."""
        return _time(self.fields.not_after)


@dataclass(frozen=True, slots=True)
class Path:
    """Certificates from the signer up to the anchor; the last may be the anchor's own.

    `anchor` names the anchor, `anchor_spki` is its key: it signed the last certificate.
    """

    certificates: tuple[PathCertificate, ...]
    anchor: str
    anchor_spki: bytes

    @property
    def valid_until(self) -> datetime:
        """The earliest end of a certificate on it."""
        return min(certificate.not_after for certificate in self.certificates)


def read(source: NamedBytes) -> PathCertificate:
    """A certificate from DER. Raises DerError, also for a validity that is no time."""
    found = PathCertificate(source.data, x509.read_certificate(source.data), source.name)
    # Read here, where whoever calls expects a refusal; kept for whoever asks.
    _ = found.not_before, found.not_after
    return found


def common_name(name: bytes) -> str:
    """The common name of a name (DER), or all of it where there is none; for people."""
    try:
        attributes = x509.read_name(name)
    except DerError:
        return name.hex()
    for oid, text in attributes:
        if oid == x509.OID_COMMON_NAME:
            return text
    return ", ".join(text for _, text in attributes) or "an empty name"


def _time(text: str) -> datetime:
    """The time of fourteen digits and Z, as the certificate's reader has checked them."""
    try:
        year, month, day, hour, minute, second = (
            int(text[start:end]) for start, end in pairwise((0, 4, 6, 8, 10, 12, 14))
        )
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise DerError(f"malformed time {text!r}", 0) from None


class CertificateIndex:
    """Endorsed certificates by subject, read once. Those that do not parse are left out."""

    def __init__(self, sources: Sequence[NamedBytes]) -> None:
        self.all: list[PathCertificate] = []
        self._by_subject: dict[bytes, list[PathCertificate]] = {}
        for source in sources:
            try:
                certificate = read(source)
                _ = certificate.not_before, certificate.not_after
            except DerError:
                continue
            self.all.append(certificate)
            self._by_subject.setdefault(certificate.fields.subject, []).append(certificate)

    def with_subject(self, name: bytes) -> Sequence[PathCertificate]:
        """Certificates with this subject (DER), at most `MOST_CANDIDATES`."""
        return self._by_subject.get(name, ())[:MOST_CANDIDATES]


def indexes_of(endorsements: Endorsements) -> tuple[CertificateIndex, ...]:
    """The endorsements' certificates, an index for each layer, made when first asked for."""
    return tuple(map(_index_of, endorsements.layers))


def _index_of(layer: Endorsements) -> CertificateIndex:
    found = layer.derived.get("x509-path")
    if not isinstance(found, CertificateIndex):
        found = layer.derived["x509-path"] = CertificateIndex(layer.certificates)
    return found


def trusted_keys(
    endorsements: Endorsements, pinned: Mapping[bytes, str], purpose: str
) -> dict[bytes, str]:
    """The anchors for one family: SHA-256 of their keys, with their names."""
    named = {
        anchor.digest: anchor.name
        for anchor in endorsements.anchors
        if not anchor.purposes or purpose in anchor.purposes
    }
    return {**pinned, **named}


def build(
    signer: PathCertificate,
    endorsements: Endorsements,
    checks: Checklist,
    *,
    trusted: Mapping[bytes, str],
    certificates: VerifiedCertificates,
    extra: Sequence[PathCertificate] = (),
    is_whole: bool = False,
) -> Path:
    """The path of a signer. `extra` are certificates that came with the evidence.

    `is_whole` says that they should be all: then a missing issuer is the evidence's fault.
    `trusted` are the anchors, as `trusted_keys` has them. Raises EvidenceError and
    InfrastructureError as the module says.
    """
    builder = _Builder(endorsements, checks, trusted, certificates, extra=extra, is_whole=is_whole)
    return builder.path([signer])


class _Builder:
    def __init__(
        self,
        endorsements: Endorsements,
        checks: Checklist,
        trusted: Mapping[bytes, str],
        certificates: VerifiedCertificates,
        *,
        extra: Sequence[PathCertificate],
        is_whole: bool,
    ) -> None:
        self._indexes = indexes_of(endorsements)
        self._checks = checks
        self._trusted = trusted
        self._named = {
            anchor.subject: anchor
            for anchor in endorsements.anchors
            if anchor.subject and anchor.digest in trusted
        }
        self._cache = certificates
        self._epoch = endorsements.epoch
        self._extra = extra
        self._is_whole = is_whole

    def path(self, chain: list[PathCertificate]) -> Path:
        """Climb one issuer at a time; the signature decides between several of one name."""
        while True:
            last = chain[-1]
            own = _digest(last.fields.spki)
            if own in self._trusted:
                return Path(tuple(chain), self._trusted[own], last.fields.spki)
            if len(chain) == LONGEST_PATH:
                self._checks.refuse("path", f"the path is longer than {LONGEST_PATH} certificates")
            if last.fields.issuer == last.fields.subject:
                self._checks.refuse(
                    "anchor",
                    f"the path ends at {last.title}, which is no anchor: its key is neither pinned "
                    "nor named by the operator",
                    found=own.hex(),
                )
            if (anchor := self._named.get(last.fields.issuer)) is not None and self._signed_by(
                last, anchor.spki
            ):
                return Path(tuple(chain), anchor.name, anchor.spki)
            chain.append(self._issuer(last))

    def _issuer(self, child: PathCertificate) -> PathCertificate:
        name = child.fields.issuer
        candidates = [
            *(extra for extra in self._extra if extra.fields.subject == name),
            *(found for index in self._indexes for found in index.with_subject(name)),
        ]
        for candidate in candidates:
            if self._signed_by(child, candidate.fields.spki):
                return candidate
        if not candidates and name not in self._named:
            missing = (
                f"the certificate of {common_name(name)}, which issued {child.title}, is missing"
            )
            if self._is_whole:
                self._checks.refuse("path", missing)
            raise InfrastructureError(
                missing, advice="give it as an endorsement, or fetch it: casemate collateral fetch"
            )
        return self._checks.refuse(
            "path-signature",
            f"the signature of {child.title} does not verify under the key of its issuer "
            f"{common_name(name)}",
        )

    def _signed_by(self, child: PathCertificate, spki: bytes) -> bool:
        try:
            self._cache.check(
                child.der, spki, self._epoch, lambda: _verify_certificate(child.fields, spki)
            )
        except SignatureError:
            return False
        return True


def _digest(spki: bytes) -> bytes:
    return hashlib.sha256(spki).digest()


def _verify_certificate(certificate: x509.Certificate, spki: bytes) -> None:
    signed = certificate.signed
    verify(spki, scheme_of(signed.algorithm, signed.parameters), signed.signature, signed.tbs)
