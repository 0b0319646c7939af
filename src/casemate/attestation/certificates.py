"""A cache of verified certificates: a signature that was checked once is not checked again.

The key is SHA-256 of the certificate, SHA-256 of the issuer's key and the epoch of the trust store
(an anchor that goes takes what hung on it). Only what follows from the bytes is kept: validity in
time and revocation are looked at in every appraisal. Bounded: the half that was not used for
longest goes. Failures are not kept.

Beside it, what was read from bytes (a certificate's fields), and what followed from values that
come again with every host of a fleet: both depend on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

#: Entries kept at most, some 150 bytes each: a fleet's shared upper certificates and a working set
#: of hosts' own.
DEFAULT_CAPACITY = 32_768
#: Readings kept at most; a chain is the largest of them, some 40 KiB.
READ_CAPACITY = 256
#: Bytes of an epoch in an entry.
_EPOCH = 8

_T = TypeVar("_T")


@dataclass(slots=True)
class VerifiedCertificates:
    """The cache; each process has its own. `hits` and `misses` are for metrics."""

    capacity: int = DEFAULT_CAPACITY
    hits: int = 0
    misses: int = 0
    read_capacity: int = READ_CAPACITY
    # Sets of short strings take a fifth of the memory of an OrderedDict of tuples.
    _entries: set[bytes] = field(default_factory=set)
    _older: set[bytes] = field(default_factory=set)
    _kept: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict)
    _read: OrderedDict[tuple[object, bytes], Any] = field(default_factory=OrderedDict)

    def check(
        self, certificate: bytes, issuer_spki: bytes, epoch: int, verify: Callable[[], None]
    ) -> None:
        """Run `verify` (which raises if the signature is wrong) unless it passed before.

        `certificate` and `issuer_spki` are DER.
        """
        digests = hashlib.sha256(certificate).digest(), hashlib.sha256(issuer_spki).digest()
        self.check_digests(*digests, epoch, verify)

    def check_digests(
        self, certificate: bytes, issuer_spki: bytes, epoch: int, verify: Callable[[], None]
    ) -> None:
        """The same for those who know the SHA-256 of both already."""
        key = b"".join((certificate, issuer_spki, epoch.to_bytes(_EPOCH, "big")))
        if key in self._entries:
            self.hits += 1
            return
        if key in self._older:
            self.hits += 1
        else:
            self.misses += 1
            verify()
        self._entries.add(key)
        if len(self._entries) > self.capacity // 2:
            self._older, self._entries = self._entries, set()

    def recall(self, key: Hashable) -> Any:
        """What `keep` was given for an equal key; None if nothing."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: Hashable, value: Any) -> None:
        """Keep what follows from the key alone; it must be immutable."""
        self._kept[key] = value
        if len(self._kept) > self.read_capacity:
            self._kept.popitem(last=False)

    def read(self, data: bytes, parse: Callable[..., _T], *arguments: object) -> _T:
        """`parse(data, *arguments)`, or what it returned before for the same bytes.

        `parse` is a function of a module (its identity is part of the key) that returns something
        immutable; what it raises passes through. Arguments must not change what it returns.
        """
        key = (parse, hashlib.sha256(data).digest())
        if key in self._read:
            self._read.move_to_end(key)
            found: _T = self._read[key]
            return found
        result = parse(data, *arguments)
        self._read[key] = result
        if len(self._read) > self.read_capacity:
            self._read.popitem(last=False)
        return result
