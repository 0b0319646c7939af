"""The operator's anchors for Caliptra devices, found by what a certificate says of its issuer.

An anchor with a name is looked up by it. One without (an IDevID request, a bare key) by the
serialNumber of the issuer's name, which Caliptra's firmware makes of the issuer's key; a few
nameless ones are also tried where an issuer was named by its maker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from casemate.attestation.endorsements import Endorsements, TrustAnchor
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.evidence.caliptra.layers import Layer, Role
from casemate.attestation.evidence.family import FamilyName
from casemate.formats import x509
from casemate.formats.der_reader import DerError

#: Nameless anchors that are tried one by one.
MOST_TRIED = 16
_NAMELESS_ISSUE = frozenset({Role.AUTHORITY, Role.IDEVID, Role.LDEVID})


class AnchorIndex:
    """The anchors for one family."""

    def __init__(self, anchors: Sequence[TrustAnchor]) -> None:
        self.count = len(anchors)
        self.names = ", ".join(anchor.name for anchor in anchors[:4])
        self.by_key = {anchor.spki: anchor for anchor in anchors}
        self._by_subject: dict[bytes, list[TrustAnchor]] = {}
        self._by_serial: dict[str, list[TrustAnchor]] = {}
        self._nameless = [anchor for anchor in anchors if not anchor.subject]
        for anchor in anchors:
            if anchor.subject:
                self._by_subject.setdefault(anchor.subject, []).append(anchor)
            elif (serial := _serial_number(anchor.spki)) is not None:
                self._by_serial.setdefault(serial, []).append(anchor)

    def candidates(self, layer: Layer) -> Sequence[TrustAnchor]:
        """The anchors that a certificate's issuer may be; the signature decides."""
        issuer = layer.certificate.issuer
        found = self._by_subject.get(issuer, [])
        if not self._nameless or layer.role not in _NAMELESS_ISSUE:
            return found
        named = self._by_serial.get(_stated_serial_number(issuer), [])
        return [*found, *(named or self._nameless[:MOST_TRIED])]


def index_of(endorsements: Endorsements, family: FamilyName) -> AnchorIndex:
    """The anchors for a family, indexed when first asked for.

    Raises InfrastructureError if there is none: evidence cannot cause that.
    """
    key = f"caliptra-anchors:{family.value}"
    # All anchors are in the first layer.
    derived = endorsements.layers[0].derived
    index = derived.get(key)
    if not isinstance(index, AnchorIndex):
        index = AnchorIndex(
            [
                anchor
                for anchor in endorsements.anchors
                if not anchor.purposes or family.value in anchor.purposes
            ]
        )
        derived[key] = index
    if not index.count:
        raise InfrastructureError(
            "there is no anchor for Caliptra devices",
            advice="give the manufacturer's certificate, or the device's IDevID certificate or "
            "request, as an endorsement",
        )
    return index


def _serial_number(spki: bytes) -> str | None:
    """What Caliptra's firmware calls a subject with this key."""
    try:
        return hashlib.sha256(x509.read_public_key(spki)[1]).hexdigest().upper()
    except DerError:
        return None


def _stated_serial_number(name: bytes) -> str:
    try:
        return dict(x509.read_name(name)).get(x509.OID_SERIAL_NUMBER, "")
    except DerError:
        return ""
