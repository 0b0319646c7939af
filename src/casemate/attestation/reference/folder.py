"""A folder of reference manifests: the files as they came, and the keys that may sign them.

    DIR/<name>-<12 digits of its SHA-256>.corim     a manifest
    DIR/signers/<16 digits of its SHA-256>.der      a public key (SubjectPublicKeyInfo)

Each file is authenticated before it is written, and appears whole or not at all. Whoever may write
to the folder decides what is trusted. `casemate appraise --reference DIR` reads its manifests.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.files import write_whole
from casemate.attestation.reference import manifest as manifests
from casemate.attestation.reference.manifest import KNOWN_PROFILES, Manifest
from casemate.attestation.reference.store import ReferenceSet

LARGEST_FILE = 4 * 1024 * 1024
MOST_FILES = 10_000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Imported:
    """A manifest that now stands in the folder; `new` is false if it did before."""

    manifest: Manifest
    path: Path
    new: bool


class ReferenceFolder:
    """The folder; it is made when something is first imported."""

    def __init__(self, path: Path, *, profiles: frozenset[str] = KNOWN_PROFILES) -> None:
        self.path = path
        self._profiles = profiles

    @property
    def signers(self) -> tuple[NamedBytes, ...]:
        """The keys that may sign (DER). Raises InfrastructureError."""
        folder = self.path / "signers"
        return tuple(NamedBytes(_read(path), path.stem) for path in _files(folder, ".der"))

    def load(self, at: datetime) -> ReferenceSet:
        """Every manifest of the folder. Raises InputError, InfrastructureError."""
        signers = self.signers
        return ReferenceSet(
            manifests.read(
                NamedBytes(_read(path), path.name),
                signers=signers,
                at=at,
                take_unsigned=True,
                profiles=self._profiles,
            )
            for path in _files(self.path, ".corim")
        )

    def add_signer(self, spki: bytes) -> None:
        """Let a key (DER) sign from now on. Raises InfrastructureError."""
        folder = self.path / "signers"
        _write(folder / f"{hashlib.sha256(spki).hexdigest()[:16]}.der", spki)

    def add(
        self,
        file: NamedBytes,
        *,
        signers: Sequence[NamedBytes],
        at: datetime,
        take_unsigned: bool = False,
    ) -> Imported:
        """Authenticate a manifest and put it into the folder.

        `signers` (DER) may sign it, besides the folder's own. Raises InputError: it cannot be read
        or authenticated, or contradicts what is there; InfrastructureError: the folder.
        """
        found = manifests.read(
            file,
            signers=(*self.signers, *signers),
            at=at,
            take_unsigned=take_unsigned,
            profiles=self._profiles,
        )
        stem = _NOT_IN_NAMES.sub("-", Path(file.name).stem).strip("-.") or "manifest"
        path = self.path / f"{stem[:60]}-{found.digest.hex()[:12]}.corim"
        there = self.load(at)
        for other in there.manifests:
            if other.digest == found.digest:
                return Imported(found, self.path / other.file.name, new=False)
        ReferenceSet((*there.manifests, found))
        if found.signed_by is not None:
            self.add_signer(found.signed_by.signer)
        _write(path, file.data)
        return Imported(found, path, new=True)


def _files(folder: Path, suffix: str) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix == suffix)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InfrastructureError(f"{folder}: {error.strerror}") from None
    if len(found) > MOST_FILES:
        raise InputError(f"{folder}: more than {MOST_FILES} files")
    return [path for path in found if not path.name.startswith(".")]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: more than {LARGEST_FILE} bytes")
    return data


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise InfrastructureError(f"{path}: {error.strerror}") from None
