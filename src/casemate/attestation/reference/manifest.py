"""One file of reference values, read: what it says, who stands behind it, and until when.

Taken are signed and unsigned CoRIMs, and bare CoMIDs (with or without tag 506). An unsigned file
speaks with the authority of whoever gave it, so the caller says whether that is enough.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.errors import InputError
from casemate.attestation.reference.keys import Authority
from casemate.attestation.reference.signature import SignedBy, signed_by
from casemate.formats import der_reader
from casemate.formats.cbor import Tag
from casemate.formats.corim import comid, manifest, reading
from casemate.formats.corim.comid import TAG_COMID, Comid
from casemate.formats.corim.manifest import Corim, SignedCorim, Validity
from casemate.formats.corim.measurement import TAG_OID
from casemate.formats.corim.reading import CorimError, Form, Forms

#: Profiles that are understood; a manifest of another one is refused whole (section 4.1.4).
KNOWN_PROFILES: frozenset[str] = frozenset()

_COMID_PREFIX = bytes.fromhex("d901fa")
_MAP = range(0xA0, 0xBC)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A file that was read. `signed_by` is None where it is unsigned, taken on its giver's word.

    `validities` are those of the manifest, of its signature and of its signer's certificates: all
    must hold. `forms` are those
    that the current draft does not have.
    """

    file: NamedBytes
    corim: Corim
    signed_by: SignedBy | None
    validities: tuple[Validity, ...]
    forms: frozenset[Form] = frozenset()

    @property
    def digest(self) -> bytes:
        """SHA-256 over the file's bytes."""
        return hashlib.sha256(self.file.data).digest()

    @property
    def authority(self) -> Authority:
        """Who stands behind what it says."""
        if self.signed_by is None:
            return Authority()
        return Authority(proved=frozenset({self.signed_by.key, self.signed_by.signer}))

    @property
    def owner(self) -> bytes:
        """Whose tags these are: only the same signer replaces them. The signer's key, or empty."""
        return b"" if self.signed_by is None else self.signed_by.signer

    @property
    def profile(self) -> str | None:
        """The profile as people write it: a URI or a dotted object identifier."""
        return None if self.corim.profile is None else profile_name(self.corim.profile)


def profile_name(profile: Tag) -> str:
    """A profile as people write it: its URI, or the dotted object identifier."""
    return der_reader.dotted(profile.value) if profile.number == TAG_OID else str(profile.value)


def read(
    file: NamedBytes,
    *,
    signers: Sequence[NamedBytes],
    at: datetime,
    take_unsigned: bool = False,
    profiles: Collection[str] = KNOWN_PROFILES,
) -> Manifest:
    """Read and authenticate one file. Raises InputError with the file's name and the reason.

    `signers` are public keys or certificates (DER) that may sign. A signer's own certificates are
    validated at `at`, or at the nearest time when all of them are valid: whether they and the
    manifest are valid is asked again at each appraisal.
    """
    content, forms = _decode(file)
    signer = None
    if isinstance(content, SignedCorim):
        signer = signed_by(content.envelope, signers, at=at, name=file.name)
    elif not take_unsigned:
        raise InputError(f"{file.name}: not signed: nobody stands behind its values")
    found = _manifest(file, content, forms, signer)
    if found.profile is not None and found.profile not in profiles:
        raise InputError(
            f"{file.name}: its profile {found.profile} is not known here, and without its rules "
            "the values cannot be compared"
        )
    return found


def trusted(file: NamedBytes, signer: SignedBy | None) -> Manifest:
    """A file that was authenticated before. Raises InputError if it cannot be read."""
    content, forms = _decode(file)
    return _manifest(file, content, forms, signer)


def _decode(file: NamedBytes) -> tuple[Corim | SignedCorim, Forms]:
    forms, data = Forms(), file.data
    try:
        if data.startswith(_COMID_PREFIX) or (data and data[0] in _MAP):
            return _lone(data, forms), forms
        return manifest.decode(data, forms=forms), forms
    except CorimError as error:
        raise InputError(f"{file.name}: no CoRIM or CoMID: {error}") from None


def _lone(data: bytes, forms: Forms) -> Corim:
    """A bare CoMID, as a manifest of that one tag."""
    if data.startswith(_COMID_PREFIX):
        inner = reading.root(data, "", forms).tagged(TAG_COMID)[1].octets()
        tag = comid.decode(inner, forms=forms)
    else:
        tag = comid.decode(data, forms=forms)
    return Corim(id=tag.identity.id, tags=(tag,))


def _manifest(
    file: NamedBytes, content: Corim | SignedCorim, forms: Forms, signer: SignedBy | None
) -> Manifest:
    corim, named = (
        (content.corim, content.signer) if isinstance(content, SignedCorim) else (content, None)
    )
    validities = (
        corim.validity,
        None if named is None else named.validity,
        None if signer is None else signer.validity,
    )
    return Manifest(
        file,
        corim,
        signer,
        tuple(validity for validity in validities if validity is not None),
        frozenset(forms.seen),
    )


def comids(found: Manifest) -> tuple[Comid, ...]:
    """The CoMIDs of a manifest."""
    return tuple(tag for tag in found.corim.tags if isinstance(tag, Comid))
