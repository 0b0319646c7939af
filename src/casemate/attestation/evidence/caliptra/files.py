"""Files of certificates as evidence: in DER or PEM, in any order, put into that of the layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from casemate.attestation.checks import Checklist
from casemate.attestation.evidence.caliptra.bundle import read_bundle
from casemate.attestation.evidence.caliptra.chain import read_chain
from casemate.attestation.evidence.caliptra.layers import Layer, Role, read_layer
from casemate.attestation.evidence.caliptra.signatures import SignatureError
from casemate.attestation.evidence.family import Context, Piece
from casemate.formats.der_reader import DerError

_ORDER = list(Role)
#: Layers whose certificate is covered only by an anchor above it: they may be the anchor.
_MAY_BE_ANCHOR = frozenset({Role.AUTHORITY, Role.IDEVID})


def roles_of(data: bytes) -> frozenset[Role]:
    """The layers whose certificates a file holds; none if one of them does not parse."""
    found = set()
    for certificate in read_bundle(data):
        try:
            found.add(read_layer(certificate).role)
        except (DerError, SignatureError):
            return frozenset()
    return frozenset(found)


def read_files(pieces: Iterable[Piece], context: Context, checks: Checklist) -> tuple[Layer, ...]:
    """The certificates of all files, the topmost first, each once. Raises EvidenceError."""
    unique = dict.fromkeys(part for piece in pieces for part in read_bundle(piece.data))
    layers = sorted(read_chain(unique, context, checks), key=lambda layer: _ORDER.index(layer.role))
    authorities = [layer for layer in layers if layer.role is Role.AUTHORITY]
    below = layers[len(authorities) :]
    for upper, lower in pairwise(below):
        checks.require(
            "certificates",
            upper.role is not lower.role,
            f"there are two {lower.role.value} certificates; the chain of one device is appraised",
        )
    above = _by_issue(authorities, below)
    checks.require(
        "certificates",
        len(above) == len(authorities),
        "there are certificates that do not lead to the device's: give those of its chain alone",
        found=", ".join(layer.common_name for layer in authorities if layer not in above),
    )
    return (*above, *below)


def _by_issue(authorities: Sequence[Layer], below: Sequence[Layer]) -> list[Layer]:
    """Those authorities that lead down to the first layer below, by their names."""
    ordered: list[Layer] = []
    wanted = below[0].certificate.issuer if below else None
    for _ in authorities:
        issuer = next((one for one in authorities if one.certificate.subject == wanted), None)
        if issuer is None or issuer in ordered:
            break
        ordered.insert(0, issuer)
        wanted = issuer.certificate.issuer
    return ordered


def covered_certificates(data: bytes) -> tuple[range, ...]:
    """The ranges of a DER file that signatures cover, whatever the anchor.

    Not a certificate that may be the anchor itself, nor one that signs itself; of a PEM file
    nothing, because more than one text says the same.
    """
    certificates = read_bundle(data)
    if b"".join(certificates) != data:
        return ()
    found, start = [], 0
    for certificate in certificates:
        end = start + len(certificate)
        if is_covered(certificate):
            found.append(range(start, end))
        start = end
    return tuple(found)


def is_covered(certificate: bytes) -> bool:
    """Whether a certificate is covered by a signature, whatever the anchor."""
    try:
        layer = read_layer(certificate)
    except (DerError, SignatureError):
        return False
    own = layer.certificate
    return layer.role not in _MAY_BE_ANCHOR and own.issuer != own.subject
