"""Endorsements of what a store holds: certificates, CRLs, OCSP responses and TDX collateral.

No anchor comes from a store: a root in it counts only if its key is pinned
(`attestation.vendor_anchors`) or the operator named it elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from casemate.attestation.collateral.sources import certificates_of
from casemate.attestation.collateral.store import Item
from casemate.attestation.collateral.wanted import Kind
from casemate.attestation.endorsements import Endorsements, NamedBytes

_CERTIFICATES = {Kind.VCEK, Kind.AMD_CHAIN, Kind.CERTIFICATE}
_REVOCATIONS = {Kind.AMD_CRL, Kind.CRL, Kind.OCSP}


def add_items(endorsements: Endorsements, items: Iterable[Item]) -> Endorsements:
    """The endorsements, and the items as further ones. Raises ContentError: a broken chain."""
    certificates = list(endorsements.certificates)
    revocations = list(endorsements.revocations)
    tdx = list(endorsements.tdx_collateral)
    for item in items:
        name = f"collateral {item.kind.value} {_short(item.key)}"
        if item.kind in _CERTIFICATES:
            certificates += [NamedBytes(der, name) for der in certificates_of(item.data)]
        elif item.kind in _REVOCATIONS:
            revocations.append(NamedBytes(item.data, name))
        elif item.kind is Kind.TDX:
            tdx.append(NamedBytes(item.data, name))
    return replace(
        endorsements,
        certificates=tuple(certificates),
        revocations=tuple(revocations),
        tdx_collateral=tuple(tdx),
    )


def _short(key: str) -> str:
    return key if len(key) <= 60 else f"{key[:40]}...{key[-16:]}"
