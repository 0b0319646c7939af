"""The contract of a family of evidence, and what passes in and out of it.

In: the pieces of one piece of evidence by role (an Azure composite has a report and a quote), and a
Context: time of appraisal, nonce, anchors, endorsements, collateral, quirks. Out: Verified, with
the components, their measurements (compared with reference values) and facts (read by policies).

What a family's `verify` may raise, and nothing else:
- EvidenceError: the bytes do not parse, a signature, binding or certificate is wrong.
- InfrastructureError: an endorsement or collateral that it needs is missing or stale.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from casemate.attestation.certificates import VerifiedCertificates
from casemate.attestation.checks import Check
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.latest import Latest
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats.corim.measurement import Environment, Measurement


class FamilyName(enum.StrEnum):
    """Every family, by the name that the command line and verdicts use."""

    CALIPTRA = "caliptra"
    CALIPTRA_CERTIFICATES = "caliptra-certificates"
    DPE_LEAF = "dpe-leaf"
    OCP_EAT = "ocp-eat"
    KEY_REPORT = "key-report"
    SEV_SNP = "sev-snp"
    TDX = "tdx"
    TPM = "tpm"
    AZURE_SNP_VTPM = "azure-snp-vtpm"


class Quirk(enum.StrEnum):
    """Deviations from a standard that exist in the wild; off by default, reported when used."""

    OCP_PROFILE_SPEC_EXAMPLE = "ocp-profile-of-the-specification-example"
    OCP_PROFILE_REFERENCE_VERIFIER = "ocp-profile-of-the-reference-verifier"
    COSE_ES384 = "cose-algorithm-es384"
    NO_CONTENT_TYPE = "cose-without-content-type"
    NO_ISSUER_OR_ID = "eat-without-issuer-or-id"


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of evidence and where they came from (a file's name), for errors and reports.

    `media_type` is what a conceptual message wrapper says they are, None without one.
    """

    data: bytes
    name: str = "evidence"
    media_type: str | int | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.data).digest()


_NOTHING: Mapping[str, bytes] = {}
#: What a policy may read of a component: plain values by name.
Fact = bool | int | str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measured thing: its place, its values, and the trust claim that it supports.

    `label` is how a person calls it ("runtime firmware"); `claim` is the AR4SI claim that a match
    affirms and a mismatch contraindicates. `optional` marks what is compared where a reference
    value stands, and not missed where none does (a version, a mode that facts tell as well).
    """

    label: str
    environment: Environment
    measurement: Measurement
    claim: TrustClaim
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A component of the attester, a submodule of the result: what it claims, verified.

    `name` is unique in one verdict ("fmc", "runtime", "module", "sev-snp"). `checks` are those that
    belong to it alone. `judged` is the judge's: the component of a host that comes again is mostly
    the same object.
    """

    name: str
    measured: tuple[Measured, ...] = ()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    checks: tuple[Check, ...] = ()
    judged: Latest[Any] = field(init=False, default_factory=Latest, compare=False, repr=False)


@dataclass(frozen=True)
class Host:
    """Who attested: the key that its verified chain says, never a name that it claims.

    `key_digest` is SHA-256 (32 bytes) of the SubjectPublicKeyInfo of the longest-lived key that is
    its own (IDevID, or LDevID without it; a VCEK; a TPM's attestation key); `kind` says which.
    """

    key_digest: bytes
    kind: str

    @cached_property
    def name(self) -> str:
        """How stores and people call it: kind and 32 hexadecimal digits."""
        return f"{self.kind}:{self.key_digest.hex()[:32]}"


class Verified(NamedTuple):
    """Authentic evidence. `nonce` is the verifier's that it answers, None where it carries none.

    `bindings` are further values that the evidence commits to, by name (for example the digest of a
    DPE leaf key): evidence of several families from one host must agree in them. `forms` are the
    spellings and quirks that were seen. `valid_until` is the earliest end of a certificate or
    collateral that it rests on. `keys` are SubjectPublicKeyInfos (DER) of the attester's own keys
    on its verified chain: identity and attest-key triples are held against them.

    A tuple, as Verdict is.
    """

    family: FamilyName
    pieces: tuple[Piece, ...]
    host: Host
    components: tuple[Component, ...]
    checks: tuple[Check, ...]
    nonce: bytes | None = None
    bindings: Mapping[str, bytes] = _NOTHING
    forms: tuple[str, ...] = ()
    valid_until: datetime | None = None
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What evidence is verified with. `at` is the time of appraisal, with its zone.

    `nonce` is what the verifier asked for, None where freshness is not part of the question.
    `certificates` is the cache of verified certificates; it never changes a result.
    """

    at: datetime
    endorsements: Endorsements
    nonce: bytes | None = None
    quirks: frozenset[Quirk] = frozenset()
    certificates: VerifiedCertificates = field(default_factory=VerifiedCertificates)


class Family(Protocol):
    """One family of evidence."""

    @property
    def name(self) -> FamilyName:
        """Its name."""
        ...

    @property
    def media_types(self) -> tuple[str | int, ...]:
        """Media types and CoAP content formats by which a conceptual message wrapper selects it."""
        ...

    @property
    def required(self) -> frozenset[str]:
        """The roles that its evidence must have."""
        ...

    def role(self, data: bytes) -> str | None:
        """Which of its pieces these bytes are, judged by the bytes alone; None: none of them."""
        ...

    def verify(self, pieces: Mapping[str, tuple[Piece, ...]], context: Context) -> Verified:
        """Parse and verify; see the module's contract for what it raises."""
        ...

    def covered(self, role: str, data: bytes) -> tuple[range, ...]:
        """The byte ranges of a well-formed piece that its signatures (or digests) cover."""
        ...
