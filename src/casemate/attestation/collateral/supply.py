"""The supply: what one appraisal takes of a store. The one place where evidence meets collateral.

A store has two parts:

- What evidence names (VCEKs, AMD's chains and CRLs, TDX collateral) is looked up for the evidence
  that needs it, and fetched where there is a cache: a store of a whole fleet is never read whole.
- What nothing names stands by itself (certificates and revocation lists that came as files): it is
  there for every appraisal.

The supply judges nothing. What has ended goes out too: verification knows the policy for stale
collateral, and a certificate on a CRL is revoked even if that CRL has ended. What could not be had
is a sentence in `Endorsements.absent`; whether it matters, verification finds out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from casemate.attestation.collateral.cache import CollateralCache
from casemate.attestation.collateral.endorse import add_items
from casemate.attestation.collateral.sources import ContentError
from casemate.attestation.collateral.store import CollateralStore, Item
from casemate.attestation.collateral.wanted import Kind, Wanted
from casemate.attestation.endorsements import Endorsements
from casemate.attestation.errors import InfrastructureError

#: Kinds that no evidence names.
STANDING = (Kind.CERTIFICATE, Kind.CRL, Kind.OCSP)
#: Sentences about what is absent at most.
MOST_SAID = 8


class Supply:
    """The supply of one store; without a cache nothing is fetched. Threads may share it."""

    def __init__(self, store: CollateralStore, cache: CollateralCache | None = None) -> None:
        self.store = store
        self.cache = cache

    def stamp(self) -> object:
        """What changes whenever `standing` does. Raises InfrastructureError."""
        return self.store.stamp(STANDING)

    def standing(self) -> Endorsements:
        """What is there for every appraisal. Raises InfrastructureError."""
        items, broken = self.store.scan(STANDING)
        return _endorse(items, [f"broken collateral: {sentence}" for sentence in broken])

    def needs_fetching(self, needed: Iterable[Wanted]) -> bool:
        """Whether `supply` would ask a source, and so may take long."""
        return self.cache is not None and not all(map(self.cache.is_at_hand, needed))

    def supply(self, needed: Iterable[Wanted]) -> Endorsements:
        """What evidence needs, fetched where it must and can be; waits for that."""
        items: list[Item] = []
        absent: list[str] = []
        for wanted in needed:
            try:
                item = self._get(wanted, absent)
            except InfrastructureError as error:
                absent.append(str(error))
            else:
                items += [] if item is None else [item]
        return _endorse(items, absent)

    def _get(self, wanted: Wanted, absent: list[str]) -> Item | None:
        if self.cache is not None:
            try:
                return self.cache.get(wanted)
            except InfrastructureError as error:
                absent.append(str(error))
                return self.store.get(wanted.kind, wanted.key)
        item = self.store.get(wanted.kind, wanted.key)
        if item is None:
            absent.append(f"there is no {wanted.kind.value} {wanted.key} in the collateral")
        return item


def _endorse(items: Iterable[Item], absent: list[str]) -> Endorsements:
    made = Endorsements()
    for item in items:
        try:
            made = add_items(made, [item])
        except ContentError as error:
            absent.append(f"{item.kind.value} {item.key}: {error}")
    more = [f"and {len(absent) - MOST_SAID} more"] if len(absent) > MOST_SAID else []
    return replace(made, absent=(*absent[:MOST_SAID], *more))
