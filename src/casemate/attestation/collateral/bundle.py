"""Bundles: a store's items in one file, for verifiers without a network.

A tar archive (readable with `tar tf`): `index.json` first, with the description of every item, then
`blobs/<sha-256>` for each content. Reading trusts nothing in it: sizes are bounded, names must be
those of the index, digests are recomputed, and an item enters the store only when the whole bundle
has been read without fault. What is newer in the store stays.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from casemate.attestation.collateral.sources import ContentError, valid_until
from casemate.attestation.collateral.store import (
    LARGEST_ITEM,
    CollateralStore,
    Description,
    Item,
    read_description,
)
from casemate.attestation.errors import InputError
from casemate.formats import strict_json
from casemate.formats.strict_json import JsonError

_INDEX = "index.json"
_FORMAT = "casemate collateral bundle"
_VERSION = 1
MOST_ITEMS = 1_000_000
#: A description has about 400 bytes.
_LARGEST_INDEX = 512 * 1024 * 1024

#: Called with the number of items done and of all.
Progress = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import: items that entered, and how many were no newer than the store's."""

    entered: tuple[Item, ...]
    kept: int


def write_bundle(items: Iterable[Item], path: Path, *, progress: Progress = _silent) -> int:
    """Write items to a new file; their number. The same items make the same bytes.

    Raises InputError: the file cannot be written.
    """
    chosen = sorted(items, key=lambda item: (item.kind.value, item.key))
    index = {
        "format": _FORMAT,
        "version": _VERSION,
        "items": [item.describe() for item in chosen],
    }
    blobs = {item.digest.hex(): item.data for item in chosen}
    temporary = path.with_name(path.name + ".part")
    try:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
            _add(archive, _INDEX, json.dumps(index, indent=1).encode())
            for done, digest in enumerate(sorted(blobs), 1):
                _add(archive, f"blobs/{digest}", blobs[digest])
                progress(done, len(blobs))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: the bundle cannot be written: {error.strerror}") from None
    return len(chosen)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def is_bundle(data: bytes) -> bool:
    """Whether bytes begin as a bundle does."""
    return data.startswith(_INDEX.encode() + b"\0") and data[257:262] == b"ustar"


def read_bundle(path: Path, *, progress: Progress = _silent) -> tuple[Item, ...]:
    """All items of a bundle. Raises InputError: what is wrong with it, and where."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r|") as archive:
            return _read(archive, path, progress)
    except tarfile.TarError as error:
        raise InputError(f"{path}: no bundle: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: the bundle cannot be read: {error.strerror}") from None


def _read(archive: tarfile.TarFile, path: Path, progress: Progress) -> tuple[Item, ...]:
    first = archive.next()
    if first is None or first.name != _INDEX:
        raise InputError(f"{path}: no bundle: it does not begin with {_INDEX}")
    descriptions = _read_index(_content(archive, first, _LARGEST_INDEX, path), path)
    wanted: dict[str, list[Description]] = {}
    for description in descriptions:
        wanted.setdefault(description.sha256, []).append(description)
    total = len(wanted)
    items: list[Item] = []
    while (entry := archive.next()) is not None:
        digest = entry.name.removeprefix("blobs/")
        described = wanted.pop(digest, None) if entry.name != digest else None
        if described is None:
            raise InputError(f"{path}: {entry.name!r} is not in its index, or stands twice")
        data = _content(archive, entry, LARGEST_ITEM, path)
        for description in described:
            items.append(_item(description, data, path))
        progress(total - len(wanted), total)
    if wanted:
        raise InputError(f"{path}: the bundle ends, but {len(wanted)} contents are missing")
    return tuple(items)


def _read_index(data: bytes, path: Path) -> list[Description]:
    try:
        value = json.loads(data) if len(data) > strict_json.LARGEST else strict_json.decode(data)
        if value["format"] != _FORMAT or value["version"] != _VERSION:
            raise ValueError("another format or version")
        entries = value["items"]
        if not isinstance(entries, list) or len(entries) > MOST_ITEMS:
            raise ValueError(f"expected a list of at most {MOST_ITEMS} items")
        return [read_description(entry) for entry in entries]
    except (JsonError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: {_INDEX}: {error}") from None


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, limit: int, path: Path) -> bytes:
    if not entry.isreg() or not 0 <= entry.size <= limit:
        raise InputError(f"{path}: {entry.name!r} is no file of at most {limit} bytes")
    file: IO[bytes] | None = archive.extractfile(entry)
    data = b"" if file is None else file.read(limit + 1)
    if len(data) != entry.size:
        raise InputError(f"{path}: {entry.name!r} is cut off")
    return data


def _item(description: Description, data: bytes, path: Path) -> Item:
    """The item, with the end that its content says: a description may not prolong it."""
    try:
        item = description.with_content(data)
        end = valid_until(description.kind, data)
    except (ValueError, ContentError) as error:
        raise InputError(f"{path}: {description.kind.value} {description.key}: {error}") from None
    if end != item.valid_until:
        raise InputError(
            f"{path}: {description.kind.value} {description.key}: the bundle says that it is valid "
            f"until {item.valid_until}, its content says {end}"
        )
    return item


def import_items(items: Iterable[Item], store: CollateralStore) -> Imported:
    """Put items into a store, unless it has newer ones. Raises InfrastructureError."""
    entered: list[Item] = []
    kept = 0
    for item in items:
        held = store.get(item.kind, item.key)
        if held is not None and held.fetched_at >= item.fetched_at:
            kept += 1
            continue
        store.put(item)
        entered.append(item)
    return Imported(tuple(entered), kept)
