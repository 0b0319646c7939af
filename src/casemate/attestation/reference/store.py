"""The set of reference manifests that appraisals use: immutable, with a digest.

Which tags of a set are in force at a time:
- the manifest and its signature are valid then;
- no tag of the same signer takes its place: one with the same id and a higher version, or one that
  names it with the relation `replaces`, from the time on from which that one is valid. A tag that
  was replaced stays so when the newer one ends: what was corrected does not come back;
- where the same signer has tag lists (CoTL), one that is valid then lists it.

A set is asked with a time of appraisal, so that a long-running verifier needs no reload for values
that begin or end. Two different tags of one signer with the same id and version are refused.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.reference import manifest as manifests
from casemate.attestation.reference.index import Index
from casemate.attestation.reference.keys import Authority
from casemate.attestation.reference.manifest import KNOWN_PROFILES, Manifest
from casemate.attestation.reference.signature import SignedBy
from casemate.formats import cbor
from casemate.formats.cbor import CborError
from casemate.formats.corim import comid
from casemate.formats.corim.comid import Comid, Relation, TagIdentity
from casemate.formats.corim.manifest import TagList, Validity

T = TypeVar("T")
_EVER = datetime.min.replace(tzinfo=UTC)
_PACKED = 1
_MOST_PACKED, _LARGEST_SET = 10_000_000, 1 << 30


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A CoMID of a set. `replaced_from` is when another takes its place, `by` that one's name.

    `listed` are the validities of the tag lists that name it, None where its signer has no lists.
    """

    manifest: Manifest
    comid: Comid
    replaced_from: datetime | None = None
    by: str | None = None
    listed: tuple[Validity, ...] | None = None

    @property
    def name(self) -> str:
        """How verdicts call it: id, version if it is not 0, and file."""
        identity = self.comid.identity
        version = f" v{identity.version}" if identity.version else ""
        return f"{identity.name}{version} ({self.manifest.file.name})"

    @property
    def authority(self) -> Authority:
        """Who stands behind it."""
        return self.manifest.authority

    def turns(self) -> Iterator[datetime]:
        """The times at which it may begin or end to be in force."""
        for validity in (*self.manifest.validities, *(self.listed or ())):
            yield validity.not_after
            if validity.not_before is not None:
                yield validity.not_before
        if self.replaced_from is not None:
            yield self.replaced_from

    def why_not(self, at: datetime) -> str | None:
        """Why it is not in force at that time, None if it is."""
        for validity in self.manifest.validities:
            if validity.not_before is not None and at < validity.not_before:
                return f"not valid before {validity.not_before:%Y-%m-%d %H:%M}"
            if at > validity.not_after:
                return f"not valid after {validity.not_after:%Y-%m-%d %H:%M}"
        if self.replaced_from is not None and self.replaced_from <= at:
            return f"replaced by {self.by}"
        if self.listed is not None and not any(validity.holds(at) for validity in self.listed):
            return "on no valid tag list of its signer"
        return None


class ReferenceSet:
    """Manifests and their index; equal sets have equal digests, whatever their order."""

    __slots__ = ("_turns", "digest", "index", "manifests", "tags")

    def __init__(self, found: Iterable[Manifest] = ()) -> None:
        """Raises InputError for two different tags of one signer with the same id and version."""
        unique = {(entry.digest, entry.owner): entry for entry in found}
        self.manifests: tuple[Manifest, ...] = tuple(unique[key] for key in sorted(unique))
        self.digest: bytes = hashlib.sha256(
            b"".join(digest + hashlib.sha256(owner).digest() for digest, owner in sorted(unique))
        ).digest()
        self.tags: tuple[StoredTag, ...] = _resolve(self.manifests)
        self.index = Index(self.tags)
        self._turns: list[datetime] = sorted({turn for tag in self.tags for turn in tag.turns()})

    @property
    def epoch(self) -> int:
        """A number (63 bits) that changes with the set, the same in every process."""
        return int.from_bytes(self.digest[:8], "big") >> 1

    def period(self, at: datetime) -> tuple[int, int]:
        """Equal for two times between which nothing of the set begins or ends to be in force."""
        return bisect_left(self._turns, at), bisect_right(self._turns, at)

    def pack(self) -> bytes:
        """The whole set as bytes, for a database or another process."""
        return cbor.encode(
            [
                _PACKED,
                [
                    [
                        entry.file.name,
                        entry.file.data,
                        None if entry.signed_by is None else _pack_signer(entry.signed_by),
                    ]
                    for entry in self.manifests
                ],
            ]
        )

    @classmethod
    def unpack(cls, data: bytes) -> ReferenceSet:
        """A set that `pack` made; signatures were verified before. Raises InputError."""
        try:
            version, entries = cbor.decode(data, most_items=_MOST_PACKED, largest=_LARGEST_SET)
            if version != _PACKED:
                raise ValueError(f"version {version}")
            found = [
                manifests.trusted(
                    NamedBytes(_of_type(bytes, content), _of_type(str, name)),
                    None if signer is None else _unpack_signer(signer),
                )
                for name, content, signer in entries
            ]
        except (CborError, ValueError, TypeError, OverflowError, OSError) as error:
            raise InputError(f"no packed reference set: {error}") from None
        return cls(found)

    def __reduce__(self) -> tuple[Any, ...]:
        return ReferenceSet.unpack, (self.pack(),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReferenceSet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"ReferenceSet({len(self.manifests)} manifests, {self.digest.hex()[:16]})"


def _pack_signer(found: SignedBy) -> list[Any]:
    validity = found.validity
    times = (
        None
        if validity is None or validity.not_before is None
        else [int(validity.not_before.timestamp()), int(validity.not_after.timestamp())]
    )
    return [found.signer, found.name, found.key, times]


def _unpack_signer(packed: list[Any]) -> SignedBy:
    signer, name, key, times = packed
    validity = None
    if times is not None:
        begins, ends = (datetime.fromtimestamp(_of_type(int, second), UTC) for second in times)
        validity = Validity(begins, ends)
    return SignedBy(_of_type(bytes, signer), _of_type(str, name), _of_type(bytes, key), validity)


def _of_type(kind: type[T], value: Any) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def load(
    files: Iterable[NamedBytes],
    *,
    signers: Sequence[NamedBytes],
    at: datetime,
    take_unsigned: bool = False,
    profiles: Collection[str] = KNOWN_PROFILES,
) -> ReferenceSet:
    """Read files into a set, each authenticated as `manifest.read` says. Raises InputError.

    `take_unsigned` is for files that the operator gave by hand; never set it for what came along
    with evidence.
    """
    return ReferenceSet(
        manifests.read(file, signers=signers, at=at, take_unsigned=take_unsigned, profiles=profiles)
        for file in files
    )


def _resolve(found: Sequence[Manifest]) -> tuple[StoredTag, ...]:
    """The tags with what takes their place, and the lists that they are on."""
    tags: dict[tuple[bytes, str | bytes, int], tuple[Manifest, Comid]] = {}
    for entry in found:
        for tag in manifests.comids(entry):
            key = (entry.owner, tag.identity.id, tag.identity.version)
            other = tags.setdefault(key, (entry, tag))
            if comid.encode(other[1]) != comid.encode(tag):
                raise InputError(
                    f"{entry.file.name}: the tag {tag.identity.name} (version "
                    f"{tag.identity.version}) says something else in {other[0].file.name}; a "
                    "changed tag needs a higher version"
                )
    lists = _lists(found)
    by_owner: dict[bytes, list[tuple[Manifest, Comid]]] = {}
    for (owner, _, _), pair in tags.items():
        by_owner.setdefault(owner, []).append(pair)
    return tuple(
        stored
        for owner, pairs in by_owner.items()
        for stored in _of_one_owner(pairs, lists.get(owner))
    )


def _of_one_owner(
    pairs: Sequence[tuple[Manifest, Comid]], lists: Sequence[TagList] | None
) -> Iterable[StoredTag]:
    newer: dict[str | bytes, list[tuple[Manifest, Comid]]] = {}
    for entry, tag in pairs:
        newer.setdefault(tag.identity.id, []).append((entry, tag))
        for link in tag.linked_tags:
            if link.relation is Relation.REPLACES and link.target != tag.identity.id:
                newer.setdefault(link.target, []).append((entry, tag))
    listed: dict[TagIdentity, list[Validity]] = {}
    for each in lists or ():
        for identity in each.tags:
            listed.setdefault(identity, []).append(each.validity)
    for entry, tag in pairs:
        places = [
            (_begins(other_entry), other)
            for other_entry, other in newer[tag.identity.id]
            if other.identity.id != tag.identity.id or other.identity.version > tag.identity.version
        ]
        begins, by = min(places, key=lambda place: place[0], default=(None, None))
        yield StoredTag(
            entry,
            tag,
            begins,
            None if by is None else f"{by.identity.name} v{by.identity.version}",
            None if lists is None else tuple(listed.get(tag.identity, ())),
        )


def _begins(entry: Manifest) -> datetime:
    return max((v.not_before for v in entry.validities if v.not_before is not None), default=_EVER)


def _lists(found: Sequence[Manifest]) -> dict[bytes, list[TagList]]:
    lists: dict[bytes, list[TagList]] = {}
    for entry in found:
        for tag in entry.corim.tags:
            if isinstance(tag, TagList):
                lists.setdefault(entry.owner, []).append(tag)
    return lists
