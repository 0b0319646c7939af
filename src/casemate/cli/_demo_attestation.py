"""The second half of the demonstration: challenge, verdict, release, handshake, refusal."""

from __future__ import annotations

import os
import re
import secrets
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from casemate.attestation.appraisal.appraise import appraise
from casemate.attestation.appraisal.policy import Policy, built_in
from casemate.attestation.appraisal.verdict import Comparison, Verdict
from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.evidence.family import Context, Piece
from casemate.attestation.reference.release import values_of
from casemate.attestation.reference.signature import sign
from casemate.attestation.reference.store import ReferenceSet, load
from casemate.attestation.states import State
from casemate.cli import _demo_module
from casemate.cli._demo_root import CHANGED_FILE, MeasuredHost
from casemate.cli._demo_tls import serve_tls
from casemate.cli._story import Story
from casemate.formats import cose, x509
from casemate.formats.corim.comid import Comid, TagIdentity
from casemate.formats.corim.manifest import Corim, Signer, Validity
from casemate.formats.corim.triples import Triples
from casemate.hsm.client import Algorithm, KeyPair, Partition, Purpose, connect
from casemate.hsm.client.certificates import pem, self_signed
from casemate.hsm.errors import Code, ModuleError
from casemate.release import gate, transfer
from casemate.release.errors import ReleaseRefusedError
from casemate.release.evidence import evidence_with_key
from casemate.rot.attester import MailboxAttester
from casemate.rot.identity import Algorithm as RotAlgorithm

#: What the relying party's TLS key is called, wherever it is.
_TLS = "tls"


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Holds the TLS key in a module of its own, and decides who is given it."""

    broker: Partition
    key: KeyPair
    certificate: Path
    endorsements: Endorsements
    references: ReferenceSet
    policy: Policy

    @classmethod
    @contextmanager
    def started(cls, story: Story, base: Path, host: MeasuredHost) -> Iterator[RelyingParty]:
        """Start its module, make the TLS key there, and get reference values for the host."""
        folders = _demo_module.folders_below(base)
        process = story.step(
            "start the relying party's own module",
            lambda: _demo_module.unmeasured(folders, "broker"),
            tell=lambda process: f"process {process.pid}, partition broker",
        )
        with (
            _demo_module.ended(process),
            connect(str(folders.partition_socket("broker"))) as broker,
        ):
            key = story.step(
                "make the TLS key in partition broker",
                lambda: broker.generate(Algorithm.P256, label=_TLS, id=b"\x02", extractable=True),
                tell=lambda _: "P-256; leaves wrapped or not at all",
            )
            references = story.step(
                "make reference values of bundle and manifest",
                lambda: _reference_values(host, broker),
                tell=lambda made: f"CoRIM, signed in the partition, set {made.digest.hex()[:16]}",
            )
            yield cls(
                broker=broker,
                key=key,
                certificate=_certificate(key, base / "localhost.pem"),
                endorsements=Endorsements(anchors=(_manufacturer(host),)),
                references=references,
                policy=built_in("development"),
            )

    def appraise(self, token: bytes, nonce: bytes) -> Verdict:
        """Appraise a host's answer to a nonce."""
        return appraise(
            [Piece(token, "evidence of the host")],
            context=Context(at=datetime.now(UTC), endorsements=self.endorsements, nonce=nonce),
            references=self.references,
            policy=self.policy,
            correlation_id=str(uuid.uuid4()),
        )

    def release(self, verdict: Verdict, nonce: bytes) -> transfer.ReleasedKey:
        """Wrap the TLS key to the key of an affirming verdict. Raises ReleaseRefusedError."""
        recipient = gate.recipient(verdict, nonce=nonce, now=datetime.now(UTC))
        return transfer.wrap(self.broker, self.key.private, recipient)


@dataclass(frozen=True, slots=True)
class _CorimKey:
    """A P-384 key in a partition that signs reference values."""

    pair: KeyPair
    algorithm: int = cose.ES384

    @property
    def spki(self) -> bytes:
        """Its SubjectPublicKeyInfo."""
        return self.pair.public.public_key_info()

    def sign(self, message: bytes) -> bytes:
        """ECDSA with SHA-384, r || s."""
        return self.pair.private.sign(message)


def _reference_values(host: MeasuredHost, broker: Partition) -> ReferenceSet:
    """What a host will claim that runs this bundle and this manifest, as a signed CoRIM."""
    at = datetime.now(UTC).replace(microsecond=0)
    values = values_of(host.release.bundle, [host.release.manifest])
    tag = Comid(
        identity=TagIdentity("casemate demonstration"), triples=Triples(reference=values.triples)
    )
    validity = Validity(at, at + timedelta(days=1))
    signer = _CorimKey(broker.generate(Algorithm.P384, label="reference values"))
    signed = sign(
        Corim(id="casemate demonstration", tags=(tag,), validity=validity),
        signer,
        Signer("relying party", validity=validity),
    )
    return load(
        [NamedBytes(signed, "reference values")],
        signers=[NamedBytes(signer.spki, "relying party")],
        at=at,
    )


def attested_release(
    story: Story,
    host: MeasuredHost,
    web: Partition,
    relying_party: RelyingParty,
    base: Path,
) -> None:
    """A host that runs what it should is given the key and serves; a changed one is not."""
    wrapping = story.step(
        "make a wrapping key in partition web",
        lambda: _wrapping_key(web),
        tell=lambda _: "RSA-2048, unwraps keys and does nothing else",
    )
    verdict, nonce = _appraised(story, host, web, wrapping, relying_party)
    if verdict.state is not State.AFFIRMING:
        raise ModuleError(Code.INTERNAL, f"the host was not affirmed: {verdict.reasons[0]}")
    released = story.step(
        "release: wrap the TLS key to the host's key",
        lambda: relying_party.release(verdict, nonce),
        tell=lambda made: f"{len(made.wrapped)} bytes, CKM_RSA_AES_KEY_WRAP, verdict affirming",
    )
    pair = story.step(
        "unwrap it in partition web",
        lambda: transfer.unwrap(web, wrapping.private, released, label=_TLS, id=b"\x02"),
        tell=lambda _: "from vault to vault; host memory saw it wrapped only",
    )
    serve_tls(story, pair, _demo_module.folders_below(base), relying_party.certificate)
    _changed_host(story, host, relying_party, base)


def _changed_host(
    story: Story, host: MeasuredHost, relying_party: RelyingParty, base: Path
) -> None:
    changed, _ = story.step(
        "change one byte of the module; boot again",
        lambda: host.with_changed_file(base / "changed"),
        tell=lambda made: f"refused to start: {made[1].refusal.part} ({CHANGED_FILE})",
    )
    folders = _demo_module.folders_below(base / "changed")
    process = story.step(
        "an insider signs a manifest for it; start",
        lambda: _demo_module.wait(
            changed.start(_demo_module.arguments(folders, "web")), folders, "web"
        ),
        tell=lambda process: f"process {process.pid} runs the changed module",
    )
    with (
        _demo_module.ended(process),
        connect(str(folders.partition_socket("web"))) as web,
    ):
        verdict, nonce = _appraised(story, changed, web, _wrapping_key(web), relying_party)
        story.step(
            "ask for the TLS key again",
            lambda: _refused(relying_party, verdict, nonce),
        )


def _appraised(
    story: Story,
    host: MeasuredHost,
    web: Partition,
    wrapping: KeyPair,
    relying_party: RelyingParty,
) -> tuple[Verdict, bytes]:
    nonce = story.step(
        "challenge the host", lambda: secrets.token_bytes(32), tell=lambda n: n.hex()[:16] + "..."
    )
    token = story.step(
        "evidence of host and wrapping key",
        lambda: evidence_with_key(
            MailboxAttester(host.host.run),
            web,
            wrapping.private,
            nonce=nonce,
            token_id=os.urandom(16),
            anchor=host.device.anchor.name,
            idevid_certificate=host.device.certificate("idevid_cert", RotAlgorithm.ECC),
        ),
        tell=lambda token: f"EAT of {len(token):,} bytes",
    )
    verdict = story.step(
        "appraise it against the reference values",
        lambda: relying_party.appraise(token, nonce),
        tell=lambda made: made.state.upper(),
    )
    for line in _reasons(verdict):
        story.say(f"{'':14}{line}")
    return verdict, nonce


def _reasons(verdict: Verdict) -> list[str]:
    claims = [
        (component.name, claim) for component in verdict.components for claim in component.claims
    ]
    met = sum(claim.comparison is Comparison.MET for _, claim in claims)
    lines = [
        f"{met} of {len(claims)} claims met their reference values; policy {verdict.policy.name}"
    ]
    for component, claim in claims:
        if claim.comparison is Comparison.DIFFERS:
            expected = claim.expected[0] if claim.expected else "nothing"
            lines.append(
                _short(f"{component}, {claim.label}: found {claim.found}, expected {expected}")
            )
    return lines


def _short(text: str) -> str:
    """A sentence with its digests cut to 16 digits."""
    return re.sub(r"[0-9a-f]{17,}", lambda found: found.group()[:16] + "...", text)


def _refused(relying_party: RelyingParty, verdict: Verdict, nonce: bytes) -> str:
    try:
        relying_party.release(verdict, nonce)
    except ReleaseRefusedError as error:
        return _short(f"refused: {error}; {error.reasons[0]}")
    raise ModuleError(Code.INTERNAL, "a changed module was given the key")


def _wrapping_key(web: Partition) -> KeyPair:
    return web.generate(Algorithm.RSA_2048, label="wrapping", purpose=Purpose.WRAPPING)


def _manufacturer(host: MeasuredHost) -> TrustAnchor:
    certificate = x509.read_certificate(
        host.device.certificate("manufacturer_ca", RotAlgorithm.ECC)
    )
    return TrustAnchor(certificate.spki, "the manufacturer's CA", certificate.subject)


def _certificate(pair: KeyPair, path: Path) -> Path:
    now = datetime.now(UTC)
    made = self_signed(
        pair.private,
        subject="CN=localhost",
        names=["localhost"],
        not_before=now - timedelta(minutes=5),
        not_after=now + timedelta(days=1),
    )
    path.write_text(pem(made, "CERTIFICATE"))
    return path
