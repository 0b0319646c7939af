"""The certificate chain of a Caliptra device, from an anchor of the operator's down to a leaf.

    manufacturer -> IDevID -> LDevID -> FMC alias -> RT alias -> DPE leaf

The anchor is a manufacturer's certificate (or any above it), or the IDevID itself, by certificate
or request. Certificates between the two may come with the evidence or as endorsements; nothing is
trusted for coming along.

Checks, in order, each with its own error. For every certificate under its issuer, top down:
the issuer's key signed it; it names the issuer by the issuer's own name; it names the issuer's key;
the issuer is an authority with room in its path length; its algorithm is the chain's one. Then for
every layer: its place in the order, key purposes, key usages, constraints, no unknown critical
extension; from LDevID to RT alias its name and key identifier follow from its key; the UEID is the
same wherever it stands (a DPE leaf has the label of its key in that place). Last what depends on
time: validity at the time of appraisal, revocation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from casemate.attestation.checks import Check, Checklist
from casemate.attestation.endorsements import TrustAnchor
from casemate.attestation.evidence.caliptra.anchors import index_of as anchor_index
from casemate.attestation.evidence.caliptra.layers import Layer, Role, read_layer
from casemate.attestation.evidence.caliptra.signatures import (
    PublicKey,
    SignatureError,
    read_key,
    verify_certificate,
)
from casemate.attestation.evidence.family import Component, Context, FamilyName, Host
from casemate.attestation.latest import Latest
from casemate.attestation.revocation import require_unrevoked
from casemate.attestation.x509_path import Path, PathCertificate
from casemate.attestation.x509_path import indexes_of as certificate_indexes
from casemate.formats import dice, x509
from casemate.formats.der_reader import DerError

#: Certificates of one chain, those that were endorsed included.
LONGEST = 12

#: Bytes at the end of a leaf that tell its chain from others, but for those made to look alike.
_END = 48
_TIME = "%Y-%m-%d %H:%M:%S"
#: The key purposes that a layer has; of an IDevID at least these.
_PURPOSES = {
    Role.IDEVID: frozenset({dice.KP_IDENTITY_INIT, dice.KP_ECA}),
    Role.LDEVID: frozenset({dice.KP_IDENTITY_LOC, dice.KP_ECA}),
    Role.FMC: frozenset({dice.KP_ECA, dice.KP_ATTEST_LOC}),
    Role.RUNTIME: frozenset({dice.KP_ECA}),
    Role.EXPORTED: frozenset({dice.KP_ECA}),
    Role.LEAF: frozenset({dice.KP_ATTEST_LOC}),
    Role.PARTITION: frozenset({dice.KP_ATTEST_LOC}),
}
#: Layers that end a chain: they sign data and no certificate.
_ENDS = (Role.LEAF, Role.PARTITION)
#: Layers whose name and key identifier Caliptra's firmware makes of their key.
_NAMED = (Role.LDEVID, Role.FMC, Role.RUNTIME)
#: Which layer may stand directly above another.
_ABOVE = {
    Role.AUTHORITY: (Role.AUTHORITY,),
    Role.IDEVID: (Role.AUTHORITY,),
    Role.LDEVID: (Role.IDEVID,),
    Role.FMC: (Role.LDEVID,),
    Role.RUNTIME: (Role.FMC,),
    Role.EXPORTED: (Role.RUNTIME,),
    Role.LEAF: (Role.RUNTIME,),
    Role.PARTITION: (Role.EXPORTED, Role.RUNTIME),
}


@dataclass(frozen=True)
class Chain:
    """A verified chain: its layers, the topmost first; `anchor` vouches for the first.

    What follows from the layers is worked out once: a chain is recalled with its host's next nonce.
    So is `device`, the component that was made last of the chain and what came with it.
    """

    layers: tuple[Layer, ...]
    anchor: TrustAnchor
    device: Latest[Component] = field(init=False, default_factory=Latest, compare=False, repr=False)

    @property
    def leaf(self) -> Layer:
        """The last certificate."""
        return self.layers[-1]

    @cached_property
    def _by_role(self) -> dict[Role, Layer]:
        return {layer.role: layer for layer in reversed(self.layers)}

    def layer(self, role: Role) -> Layer | None:
        """The first layer with a role, if it is there."""
        return self._by_role.get(role)

    @cached_property
    def firmware(self) -> tuple[Layer, Layer, Layer] | None:
        """FMC alias, RT alias and DPE leaf, where it has all of them and ends with the leaf."""
        fmc, runtime, leaf = map(self.layer, (Role.FMC, Role.RUNTIME, Role.LEAF))
        if fmc is None or runtime is None or leaf is not self.leaf:
            return None
        return fmc, runtime, leaf

    @cached_property
    def measured(self) -> tuple[tuple[str, bool, bytes], ...]:
        """What its certificates state of firmware: each layer's role and TcbInfos (DER)."""
        return tuple(
            (layer.role.value, layer.multiple, layer.tcb_info_bytes) for layer in self.layers
        )

    @cached_property
    def keys(self) -> tuple[bytes, ...]:
        """The device's own keys (SubjectPublicKeyInfo, DER), the last one first."""
        own = [layer for layer in reversed(self.layers) if layer.role is not Role.AUTHORITY]
        return tuple(dict.fromkeys((*(layer.certificate.spki for layer in own), self.initial_key)))

    @property
    def initial_key(self) -> bytes:
        """The IDevID's SubjectPublicKeyInfo; the anchor's where it signed the LDevID."""
        initial = self.layer(Role.IDEVID)
        return self.anchor.spki if initial is None else initial.certificate.spki

    @cached_property
    def valid_from(self) -> datetime:
        """The latest beginning of a certificate."""
        return max(layer.not_before for layer in self.layers)

    @cached_property
    def valid_until(self) -> datetime:
        """The earliest end of a certificate."""
        return min(layer.not_after for layer in self.layers)

    @cached_property
    def host(self) -> Host:
        """Whose chain it is."""
        return Host(hashlib.sha256(self.initial_key).digest(), "idevid")

    @cached_property
    def ueid(self) -> bytes | None:
        """The UEID that its certificates state."""
        return next((layer.ueid for layer in self.layers if layer.ueid is not None), None)


def read_chain(
    certificates: Iterable[bytes], context: Context, checks: Checklist
) -> tuple[Layer, ...]:
    """Read certificates (DER) in the order in which they came. Raises EvidenceError."""
    layers = []
    for position, data in enumerate(certificates):
        try:
            layers.append(context.certificates.read(data, read_layer, context.certificates))
        except (DerError, SignatureError) as error:
            checks.refuse("certificate", f"certificate {position} of the chain: {error}")
    return tuple(layers)


def verify_chain(
    layers: Sequence[Layer], context: Context, checks: Checklist, *, family: FamilyName
) -> Chain:
    """Verify a chain given the topmost first. Raises EvidenceError, InfrastructureError.

    Infrastructure it is only where there is no anchor at all for this family: evidence cannot
    cause that.
    """
    checks.require("chain-length", 0 < len(layers) <= LONGEST, f"{len(layers)} certificates")
    chain = _anchored(layers, context, checks, family)
    _check_layer(None, chain.layers[0], chain, checks)
    _check_below(chain, 0, context, checks)
    return chain


@dataclass(frozen=True, slots=True)
class _Known:
    """A chain that was verified, its checks, and the anchors that it was verified with."""

    certificates: tuple[bytes, ...]
    chain: Chain
    checks: tuple[Check, ...]
    anchors: tuple[TrustAnchor, ...]


def recalled_chain(
    certificates: tuple[bytes, ...], context: Context, checks: Checklist, *, family: FamilyName
) -> Chain:
    """`verify_chain` of certificates (DER, the leaf first), or what came of the same ones before.

    All but time follows from the certificates and the anchors. Where revocation is looked at too,
    nothing is recalled.
    """
    endorsements = context.endorsements
    plain = not (endorsements.revocations or endorsements.require_revocation)
    # Looked for by the end of the leaf, a part of its signature, and then compared.
    end = certificates[0][-_END:] if certificates else b""
    key = (_Known, end, id(endorsements.anchors), endorsements.epoch, str(family))
    known: _Known | None = context.certificates.recall(key) if plain else None
    if (
        known is not None
        and known.certificates == certificates
        and known.chain.valid_from <= context.at <= known.chain.valid_until
    ):
        checks.adopt(known.checks)
        return known.chain
    before = len(checks.passed)
    layers = read_chain(reversed(certificates), context, checks)
    chain = verify_chain(layers, context, checks, family=family)
    if plain:
        found = _Known(certificates, chain, checks.passed[before:], endorsements.anchors)
        context.certificates.keep(key, found)
    return chain


def extend_chain(
    chain: Chain, below: Sequence[Layer], context: Context, checks: Checklist
) -> Chain:
    """Verify another branch under the RT alias of a verified chain. Raises EvidenceError."""
    end = next(n for n, layer in enumerate(chain.layers) if layer.role is Role.RUNTIME)
    branch = Chain((*chain.layers[: end + 1], *below), chain.anchor)
    _check_below(branch, end, context, checks)
    return branch


def _check_below(chain: Chain, verified: int, context: Context, checks: Checklist) -> None:
    """All checks of the layers behind a position, and those of the whole."""
    for issuer, layer in zip(chain.layers[verified:], chain.layers[verified + 1 :], strict=False):
        _check_link(issuer, layer, context, checks)
    for above, layer in zip(chain.layers[verified:], chain.layers[verified + 1 :], strict=False):
        _check_layer(above, layer, chain, checks)
    _check_path_lengths(chain.layers, checks)
    _check_time(chain, context, checks)


def _anchored(
    layers: Sequence[Layer], context: Context, checks: Checklist, family: FamilyName
) -> Chain:
    anchors = anchor_index(context.endorsements, family)
    path = list(layers)
    while True:
        for position, layer in enumerate(path):
            if (own := anchors.by_key.get(layer.certificate.spki)) is not None:
                # The operator named this very key: what stands above it does not matter.
                below = tuple(path[position + 1 :])
                checks.require(
                    "anchor", bool(below), f"{layer.title} is the anchor itself: nothing to verify"
                )
                _check_under_anchor(own, layer, below[0], context, checks)
                return Chain(below, own)
        top = path[0]
        for anchor in anchors.candidates(top):
            if _signs(anchor.spki, top, context):
                _require_position(anchor, top, checks)
                checks.note("anchor", f"{anchor.name} signed {top.title}")
                return Chain(tuple(path), anchor)
        above = _endorsed_issuer(top, context) if len(path) < LONGEST else None
        if above is None:
            checks.refuse(
                "anchor",
                f"{top.title} ({top.common_name}) is not signed by any of the {anchors.count} "
                "anchors: the chain ends at somebody who was not named, or a certificate above is "
                "missing (of an LDevID, its IDevID's: give it as an endorsement)",
                expected=anchors.names,
                found=_name(top.certificate.issuer),
            )
        path.insert(0, above)


def _signs(spki: bytes, layer: Layer, context: Context) -> bool:
    try:
        key = context.certificates.read(spki, read_key)
        _verify(layer, key, context)
    except (DerError, SignatureError):
        return False
    return True


def _require_position(anchor: TrustAnchor, top: Layer, checks: Checklist) -> None:
    checks.require(
        "anchor-layer",
        top.role in (Role.AUTHORITY, Role.IDEVID, Role.LDEVID),
        f"{anchor.name} signed {top.title}, which must hang on the layer above it",
    )


def _check_under_anchor(
    anchor: TrustAnchor, own: Layer, below: Layer, context: Context, checks: Checklist
) -> None:
    """The certificate of the anchor's own key came along: what is below it hangs on that key."""
    _require_position(anchor, below, checks)
    if not _signs(anchor.spki, below, context):
        checks.refuse(f"{below.slug}-signature", f"{below.title} is not signed by {anchor.name}")
    checks.require(
        f"{below.slug}-issuer-name",
        below.certificate.issuer == (anchor.subject or own.certificate.subject),
        f"{below.title} names the issuer {_name(below.certificate.issuer)}, "
        f"but the anchor is called {_name(anchor.subject or own.certificate.subject)}",
    )


def _endorsed_issuer(layer: Layer, context: Context) -> Layer | None:
    name = layer.certificate.issuer
    indexes = certificate_indexes(context.endorsements)
    for endorsed in (found for index in indexes for found in index.with_subject(name)):
        try:
            found = context.certificates.read(endorsed.der, read_layer, context.certificates)
        except (DerError, SignatureError):
            continue
        if found.der != layer.der and _signs(found.certificate.spki, layer, context):
            return found
    return None


def _verify(layer: Layer, key: PublicKey, context: Context) -> None:
    context.certificates.check_digests(
        layer.digest,
        key.digest,
        context.endorsements.epoch,
        lambda: verify_certificate(layer.certificate.signed, key),
    )


def _check_link(issuer: Layer, layer: Layer, context: Context, checks: Checklist) -> None:
    slug, certificate = layer.slug, layer.certificate
    try:
        _verify(layer, issuer.key, context)
    except SignatureError as error:
        checks.refuse(
            f"{slug}-signature",
            f"the signature of {layer.title} does not verify under the {issuer.role.value} key: "
            f"{error}",
        )
    if certificate.issuer != issuer.certificate.subject:
        checks.refuse(
            f"{slug}-issuer-name",
            f"the signature of {layer.title} verifies under the {issuer.role.value} key, but its "
            f"issuer name is not the {issuer.role.value}'s subject",
            expected=_name(issuer.certificate.subject),
            found=_name(certificate.issuer),
        )
    if layer.issuer_key_id is None or layer.issuer_key_id != issuer.key_id:
        checks.refuse(
            f"{slug}-issuer-key",
            f"{layer.title} names another key identifier than the {issuer.role.value} certificate "
            "has",
            expected="none" if issuer.key_id is None else issuer.key_id.hex(),
            found="none" if layer.issuer_key_id is None else layer.issuer_key_id.hex(),
        )
    if not (issuer.authority and issuer.signs_certificates):
        checks.refuse(
            f"{slug}-issuer-authority",
            f"{issuer.title} is not one of an authority that signs certificates",
        )
    if layer.key.algorithm is not issuer.key.algorithm:
        checks.refuse(
            f"{slug}-algorithm",
            f"{layer.title} has a key for {layer.key.algorithm.value} under one for "
            f"{issuer.key.algorithm.value}",
        )
    checks.note(f"{slug}-issuer", f"the {issuer.role.value} key signed {layer.title}")


def _check_layer(above: Layer | None, layer: Layer, chain: Chain, checks: Checklist) -> None:
    role, slug = layer.role, layer.slug
    if above is not None and above.role not in _ABOVE[role]:
        checks.refuse(f"{slug}-place", f"{layer.title} stands under {above.title}")
    purposes = _PURPOSES.get(role)
    if purposes is not None and not (
        purposes <= layer.purposes if role is Role.IDEVID else purposes == layer.purposes
    ):
        checks.refuse(
            f"{slug}-purposes",
            f"{layer.title} does not have the key purposes of its layer",
            expected=", ".join(sorted(purposes)),
            found=", ".join(sorted(layer.purposes)) or "none",
        )
    if role in _ENDS:
        usage = layer.signs_data and not layer.signs_certificates and not layer.authority
    else:
        usage = layer.authority and layer.signs_certificates
    if not usage:
        checks.refuse(
            f"{slug}-usage", f"{layer.title} does not have the constraints and usages of its layer"
        )
    if layer.unknown_critical:
        checks.refuse(
            f"{slug}-extensions",
            f"{layer.title} has critical extensions that are not known",
            found=", ".join(layer.unknown_critical),
        )
    if role in _NAMED and not layer.named_after_key:
        checks.refuse(
            f"{slug}-key-name",
            f"the name or key identifier of {layer.title} does not follow from its key",
        )
    if role in _NAMED and layer.ueid is None:
        checks.refuse(f"{slug}-ueid-stated", f"{layer.title} states no UEID")
    if role is not Role.LEAF and layer.ueid not in (None, chain.ueid):
        checks.refuse(
            f"{slug}-ueid",
            f"{layer.title} states another UEID than those above it",
            expected="" if chain.ueid is None else chain.ueid.hex(),
            found="" if layer.ueid is None else layer.ueid.hex(),
        )
    checks.note(f"{slug}-layer", f"{layer.title} has what its layer must have")


def _check_path_lengths(layers: tuple[Layer, ...], checks: Checklist) -> None:
    """RFC 5280, 4.2.1.9: how many authorities may stand below one; the last is not counted."""
    for position, layer in enumerate(layers):
        between = len(layers) - position - 2
        if layer.path_length is not None and between > layer.path_length:
            checks.refuse(
                f"{layer.slug}-path-length",
                f"{layer.title} allows {layer.path_length} authorities below it",
                expected=str(layer.path_length),
                found=str(between),
            )
    checks.note("path-length", "no path length is exceeded")


def _check_time(chain: Chain, context: Context, checks: Checklist) -> None:
    for layer in chain.layers:
        if not layer.not_before <= context.at <= layer.not_after:
            checks.refuse(
                f"{layer.slug}-validity",
                f"{layer.title} is not valid at the time of appraisal",
                expected=f"{layer.not_before:{_TIME}} to {layer.not_after:{_TIME}}",
                found=f"{context.at:{_TIME}}",
            )
    checks.note("validity", "every certificate of the chain is valid at the time of appraisal")
    endorsements = context.endorsements
    if endorsements.revocations or endorsements.require_revocation:
        path = Path(
            tuple(
                PathCertificate(layer.der, layer.certificate, layer.title)
                for layer in reversed(chain.layers)
            ),
            chain.anchor.name,
            chain.anchor.spki,
        )
        require_unrevoked(path, checks, endorsements=endorsements, at=context.at)


def _name(name: bytes) -> str:
    try:
        return ", ".join(text for _, text in x509.read_name(name))
    except DerError:
        return name.hex()
