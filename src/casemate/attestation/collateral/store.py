"""The store: items of collateral in a folder, by content, with digests and times.

    <folder>/blobs/<sha-256 of the content>
    <folder>/items/<kind>/<sha-256 of the key>.json

An item's file names its content, where it came from and when, and until when it is valid. Both are
written to a file of their own, synced and renamed, so that a reader sees all of an item or nothing.
A blob whose digest is not its name is left out and said so: collateral is fetched again, never
guessed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from casemate.attestation.collateral.wanted import Kind
from casemate.attestation.errors import InfrastructureError
from casemate.attestation.files import write_whole
from casemate.formats import strict_json
from casemate.formats.strict_json import JsonError

LARGEST_ITEM = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One item. `valid_until` is None where its content says nothing; `source` is a URL or file."""

    kind: Kind
    key: str
    data: bytes
    fetched_at: datetime
    valid_until: datetime | None
    source: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content."""
        return hashlib.sha256(self.data).digest()

    def is_valid(self, at: datetime) -> bool:
        """Whether it has not ended at a time."""
        return self.valid_until is None or at <= self.valid_until

    def describe(self) -> dict[str, Any]:
        """Its description without its content, as files and bundles have it."""
        return {
            "kind": self.kind.value,
            "key": self.key,
            "sha256": self.digest.hex(),
            "size": len(self.data),
            "fetched_at": self.fetched_at.isoformat(),
            "valid_until": None if self.valid_until is None else self.valid_until.isoformat(),
            "source": self.source,
        }


@dataclass(frozen=True, slots=True)
class Description:
    """What an item's file says of it."""

    kind: Kind
    key: str
    sha256: str
    size: int
    fetched_at: datetime
    valid_until: datetime | None
    source: str

    def with_content(self, data: bytes) -> Item:
        """The item. Raises ValueError: the content is another one."""
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise ValueError("its content does not have the digest that is noted")
        return Item(
            kind=self.kind,
            key=self.key,
            data=data,
            fetched_at=self.fetched_at,
            valid_until=self.valid_until,
            source=self.source,
        )


def read_description(value: Any) -> Description:
    """A description from its JSON object. Raises ValueError."""
    try:
        found = Description(
            Kind(value["kind"]),
            value["key"],
            value["sha256"],
            value["size"],
            datetime.fromisoformat(value["fetched_at"]),
            None if value["valid_until"] is None else datetime.fromisoformat(value["valid_until"]),
            value["source"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no description of an item: {error}") from None
    texts = (found.key, found.sha256, found.source)
    if not all(isinstance(text, str) and len(text) <= 4096 for text in texts):
        raise ValueError("no description of an item: expected texts")
    if len(found.sha256) != 64 or set(found.sha256) - set("0123456789abcdef"):
        raise ValueError("no description of an item: expected a digest in hexadecimal")
    if not isinstance(found.size, int) or not 0 <= found.size <= LARGEST_ITEM:
        raise ValueError(f"an item of {found.size} bytes; at most {LARGEST_ITEM} are taken")
    if found.fetched_at.tzinfo is None or (found.valid_until and not found.valid_until.tzinfo):
        raise ValueError("no description of an item: a time has no zone")
    return found


class CollateralStore:
    """The folder. Processes may share it: what is written appears whole, the last one stays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, kind: Kind, key: str) -> Item | None:
        """One item, None if it is not there or not whole. Raises InfrastructureError."""
        path = self._item_file(kind, key)
        try:
            return self._load(path)
        except FileNotFoundError:
            return None
        except ValueError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from None

    def put(self, item: Item) -> None:
        """Store an item, over an older one of its name. Raises InfrastructureError."""
        blob = self.folder / "blobs" / item.digest.hex()
        try:
            if not blob.exists():
                write_whole(blob, item.data)
            text = json.dumps(item.describe(), indent=1).encode()
            write_whole(self._item_file(item.kind, item.key), text)
        except OSError as error:
            raise InfrastructureError(
                f"{self.folder}: collateral cannot be stored: {error.strerror}",
                advice="see that the folder is writable and the disk has room",
            ) from None

    def __iter__(self) -> Iterator[Item]:
        """All whole items, by kind and key. Raises InfrastructureError."""
        return iter(self.scan()[0])

    def scan(self, kinds: Iterable[Kind] = tuple(Kind)) -> tuple[list[Item], list[str]]:
        """All whole items of the kinds, and a sentence for each that is broken.

        Raises InfrastructureError.
        """
        folder = self.folder / "items"
        items: list[Item] = []
        broken: list[str] = []
        try:
            for path in [path for kind in kinds for path in sorted((folder / kind).glob("*.json"))]:
                try:
                    items.append(self._load(path))
                except FileNotFoundError:
                    broken.append(f"{path.name}: its content is missing")
                except ValueError as error:
                    broken.append(f"{path.name}: {error}")
        except OSError as error:
            raise _unreadable(folder, error) from None
        return sorted(items, key=lambda item: (item.kind.value, item.key)), broken

    def modified(self, kinds: Iterable[Kind]) -> tuple[int, ...]:
        """When each kind's folder was last written to (ns), 0: there is none.

        Raises InfrastructureError. Two writes in one tick of the file system's clock look like one:
        `stamp` tells them apart.
        """
        times: list[int] = []
        for kind in kinds:
            folder = self.folder / "items" / kind
            try:
                times.append(folder.stat().st_mtime_ns)
            except FileNotFoundError:
                times.append(0)
            except OSError as error:
                raise _unreadable(folder, error) from None
        return tuple(times)

    def stamp(self, kinds: Iterable[Kind]) -> tuple[object, ...]:
        """What changes whenever an item of the kinds does. Raises InfrastructureError.

        It costs one look into each kind's folder: an item's file is never written twice.
        """
        kinds = tuple(kinds)
        seen: list[object] = [self.modified(kinds)]
        for kind in kinds:
            folder = self.folder / "items" / kind
            try:
                with os.scandir(folder) as entries:
                    seen.append(frozenset((entry.name, entry.inode()) for entry in entries))
            except FileNotFoundError:
                seen.append(None)
            except OSError as error:
                raise _unreadable(folder, error) from None
        return tuple(seen)

    def _load(self, path: Path) -> Item:
        try:
            found = read_description(strict_json.decode(path.read_bytes()))
        except JsonError as error:
            raise ValueError(str(error)) from None
        if self._item_file(found.kind, found.key) != path:
            raise ValueError("it is the description of another item")
        return found.with_content((self.folder / "blobs" / found.sha256).read_bytes())

    def _item_file(self, kind: Kind, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / "items" / kind / f"{name}.json"


def _unreadable(path: Path, error: OSError) -> InfrastructureError:
    return InfrastructureError(
        f"{path}: collateral cannot be read: {error.strerror}",
        advice="see who owns the folder and that the disk is well",
    )
