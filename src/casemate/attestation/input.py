"""What an operator gives, sorted by kind: evidence, endorsements, anchors, reference values.

Each file's kind is read from its bytes; what the operator says decides only how much it is trusted:

- given as evidence: a family's evidence, a conceptual message wrapper (its types then select the
  families), else a certificate, CRL, collateral or CoRIM that came along, and never an anchor. What
  is none of these stays evidence, to be refused as such.
- given as endorsement: PEM or DER certificates, CRLs, certificate requests, public keys, JWK, TDX
  collateral. A self-signed certificate, a request (an IDevID's) or a bare key that somebody names
  here is an anchor: whoever names it vouches for it. Bare keys also sign CoRIMs. But a chain file
  is not a word about its root: for families whose vendors' roots are pinned (SEV-SNP, TDX), a
  self-signed certificate counts only if it is a pinned one, or given as anchor.
- given as anchor: the same, and every certificate is one, whoever issued it.
- given as reference: CoRIM, CoMID; `reference.store` reads them.

A folder stands for its files, without those whose name begins with a dot.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509 as other_x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.errors import InfrastructureError, InputError
from casemate.attestation.evidence.family import Family, FamilyName, Piece
from casemate.attestation.evidence.registry import select_what_fits
from casemate.attestation.evidence.tdx import collateral as tdx
from casemate.formats import cmw, cose, x509
from casemate.formats.cmw import MessageKind
from casemate.formats.corim.manifest import CONTENT_TYPE
from casemate.formats.der_reader import DerError

LARGEST_FILE = 16 * 1024 * 1024
MOST_FILES = 10_000
#: Fields that a TDX collateral has, as dcap-qvl writes it.
_TDX_FIELDS = frozenset({"tcb_info", "qe_identity", "pck_crl"})
#: Families whose anchors may come from a chain file: those of no vendor with pinned roots.
_WITHOUT_PINNED_ROOTS = frozenset(FamilyName) - {
    FamilyName.SEV_SNP,
    FamilyName.TDX,
    FamilyName.AZURE_SNP_VTPM,
}
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
#: Encoded tags of an unsigned CoRIM (501), its predecessors (500, 502) and a CoMID (506).
_REFERENCE_TAGS = tuple(bytes((0xD9, 0x01, low)) for low in (0xF4, 0xF5, 0xF6, 0xFA))


class Kind(enum.StrEnum):
    """What bytes are, apart from evidence."""

    CERTIFICATE = "certificate"
    REVOCATION_LIST = "revocation list"
    REQUEST = "certificate request"
    PUBLIC_KEY = "public key"
    TDX_COLLATERAL = "TDX collateral"
    REFERENCE = "reference values"


_PEM_KINDS = {
    b"CERTIFICATE": Kind.CERTIFICATE,
    b"X509 CERTIFICATE": Kind.CERTIFICATE,
    b"X509 CRL": Kind.REVOCATION_LIST,
    b"CERTIFICATE REQUEST": Kind.REQUEST,
    b"NEW CERTIFICATE REQUEST": Kind.REQUEST,
    b"PUBLIC KEY": Kind.PUBLIC_KEY,
}


@dataclass(frozen=True, slots=True)
class Given:
    """Everything that was given, sorted. `signers` are keys (SPKI, DER) that may sign CoRIMs.

    `references` are those that the operator named, `accompanying` those that came with evidence.
    """

    pieces: tuple[Piece, ...]
    endorsements: Endorsements
    references: tuple[NamedBytes, ...]
    accompanying: tuple[NamedBytes, ...]
    signers: tuple[NamedBytes, ...]


@dataclass(slots=True)
class _Sorted:
    pieces: list[Piece] = field(default_factory=list)
    anchors: list[TrustAnchor] = field(default_factory=list)
    certificates: list[NamedBytes] = field(default_factory=list)
    revocations: list[NamedBytes] = field(default_factory=list)
    collateral: list[NamedBytes] = field(default_factory=list)
    references: list[NamedBytes] = field(default_factory=list)
    signers: list[NamedBytes] = field(default_factory=list)


def read_files(paths: Iterable[Path]) -> tuple[NamedBytes, ...]:
    """The files, and those of folders by name. Raises InputError."""
    files: list[NamedBytes] = []
    for path in paths:
        for file in _files(path):
            if len(files) == MOST_FILES:
                raise InputError(f"{path}: more than {MOST_FILES} files")
            files.append(read_file(file))
    return tuple(files)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(
        file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
    )
    if not found:
        raise InputError(f"{path}: the folder has no files")
    return found


def read_file(path: Path) -> NamedBytes:
    """One file, bounded. Raises InputError."""
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{path}: larger than {LARGEST_FILE} bytes")
    return NamedBytes(data, str(path))


def sort(
    *,
    evidence: Sequence[NamedBytes] = (),
    endorsements: Sequence[NamedBytes] = (),
    references: Sequence[NamedBytes] = (),
    anchors: Sequence[NamedBytes] = (),
    families: Sequence[Family],
    stale_until: datetime | None = None,
    require_revocation: bool = False,
) -> Given:
    """Sort everything by kind; see the module. Raises InputError: an endorsement of no kind."""
    found = _Sorted()
    for file in evidence:
        _sort_evidence(file, families, found)
    _settle_certificates(families, found)
    for file in endorsements:
        _sort_endorsement(file, found, always=False)
    for file in anchors:
        _sort_endorsement(file, found, always=True)
    unique: dict[bytes, TrustAnchor] = {}
    for anchor in found.anchors:
        known = unique.setdefault(anchor.spki + anchor.subject, anchor)
        if not anchor.purposes or not known.purposes:
            # Named outright beside being in a chain file: for all families.
            unique[anchor.spki + anchor.subject] = replace(anchor, purposes=frozenset())
    return Given(
        pieces=tuple(found.pieces),
        endorsements=Endorsements(
            anchors=tuple(unique.values()),
            certificates=tuple(found.certificates),
            revocations=tuple(found.revocations),
            tdx_collateral=tuple(found.collateral),
            epoch=_epoch(unique.values()),
            stale_until=stale_until,
            require_revocation=require_revocation,
        ),
        references=tuple(references),
        accompanying=tuple(found.references),
        signers=tuple(found.signers),
    )


def sort_pieces(
    pieces: Sequence[Piece], families: Sequence[Family]
) -> tuple[tuple[Piece, ...], Endorsements]:
    """Sort what somebody else handed in: the evidence, and what came along with it.

    Never raises: what cannot be sorted stays evidence, to be refused as such.
    """
    try:
        found = sort(
            evidence=[NamedBytes(piece.data, piece.name) for piece in pieces], families=families
        )
        for source in found.endorsements.tdx_collateral:
            tdx.decode(source)
    except (InputError, InfrastructureError):
        return tuple(pieces), Endorsements()
    return found.pieces or tuple(pieces), found.endorsements


def _epoch(anchors: Iterable[TrustAnchor]) -> int:
    """A number that changes with the anchors, whatever process reads them."""
    digests = sorted(hashlib.sha256(anchor.digest + anchor.subject).digest() for anchor in anchors)
    return int.from_bytes(hashlib.sha256(b"".join(digests)).digest()[:8], "big")


def _sort_evidence(file: NamedBytes, families: Sequence[Family], found: _Sorted) -> None:
    if any(family.role(file.data) is not None for family in families):
        found.pieces.append(Piece(file.data, file.name))
        return
    try:
        wrapper = cmw.decode(file.data)
    except cmw.CmwError:
        pass
    else:
        _unwrap(wrapper, file.name, families, found)
        return
    try:
        parts = _kinds(file)
    except InputError:
        parts = []
    if not parts:
        found.pieces.append(Piece(file.data, file.name))
    for kind, part in parts:
        if kind is Kind.CERTIFICATE and any(family.role(part.data) for family in families):
            found.pieces.append(Piece(part.data, part.name))
        elif kind in (Kind.PUBLIC_KEY, Kind.REQUEST):
            # A key that came with evidence vouches for nothing.
            found.pieces.append(Piece(part.data, part.name))
        else:
            _place(kind, part, found)


def _settle_certificates(families: Sequence[Family], found: _Sorted) -> None:
    """Certificates are evidence by themselves, or for a family that takes other pieces with them.

    Beside evidence that takes none, such as a report and its VCEK, they are endorsements.
    """
    parts = {id(piece): _certificates(piece) for piece in found.pieces}
    others = [piece for piece in found.pieces if not parts[id(piece)]]
    if not others or len(others) == len(found.pieces):
        return
    left = list(found.pieces)
    taken: set[int] = set()
    for selection in select_what_fits(left, families):
        members = [piece for pieces in selection.pieces.values() for piece in pieces]
        if not all(parts[id(piece)] for piece in members):
            taken.update(map(id, members))
    for piece in [piece for piece in left if parts[id(piece)] and id(piece) not in taken]:
        found.pieces.remove(piece)
        found.certificates.extend(parts[id(piece)])


def _certificates(piece: Piece) -> list[NamedBytes]:
    """The certificates that a piece consists of; none if it holds anything else."""
    if piece.data[:1] not in (b"\x30", b"-"):
        return []
    try:
        parts = _kinds(NamedBytes(piece.data, piece.name))
    except InputError:
        return []
    if any(kind is not Kind.CERTIFICATE for kind, _ in parts):
        return []
    return [part for _, part in parts]


def _unwrap(wrapper: cmw.Wrapper, name: str, families: Sequence[Family], found: _Sorted) -> None:
    """Sort what a wrapper holds: evidence by its type, anything else as what came with evidence."""
    for label, record in cmw.leaves(wrapper):
        part = f"{name}/{label}" if label else name
        kind = record.indicator
        if kind is None or kind & MessageKind.EVIDENCE:
            found.pieces.append(Piece(record.value, part, record.media_type))
        elif kind & MessageKind.REFERENCE_VALUES:
            found.references.append(NamedBytes(record.value, part))
        else:
            for other, data in _kinds(NamedBytes(record.value, part)):
                _place(other, data, found)


def _sort_endorsement(file: NamedBytes, found: _Sorted, *, always: bool) -> None:
    parts = _kinds(file)
    if not parts:
        raise InputError(
            f"{file.name}: no endorsement: expected certificates, a revocation list, a certificate "
            "request, a public key (PEM, DER or JWK) or TDX collateral (JSON)"
        )
    for kind, part in parts:
        if kind is Kind.CERTIFICATE:
            anchor = _certificate_anchor(part, always=always)
            if anchor is not None:
                found.anchors.append(anchor)
        elif kind is Kind.REQUEST:
            found.anchors.append(TrustAnchor(_request_key(part), part.name))
        elif kind is Kind.PUBLIC_KEY:
            found.anchors.append(TrustAnchor(part.data, part.name))
            found.signers.append(part)
        _place(kind, part, found)


def _place(kind: Kind, part: NamedBytes, found: _Sorted) -> None:
    if kind is Kind.CERTIFICATE:
        found.certificates.append(part)
    elif kind is Kind.REVOCATION_LIST:
        found.revocations.append(part)
    elif kind is Kind.TDX_COLLATERAL:
        found.collateral.append(part)
    elif kind is Kind.REFERENCE:
        found.references.append(part)


# --- kinds ----------------------------------------------------------------------------------


def _kinds(file: NamedBytes) -> list[tuple[Kind, NamedBytes]]:
    """The parts of a file that are of a known kind; keys become SubjectPublicKeyInfo in DER."""
    data = file.data
    # JSON first: TDX collateral has PEM within its strings.
    if data.lstrip()[:1] == b"{":
        return _json(file)
    # A TDX quote has PEM within; a PEM file is text as a whole.
    if b"-----BEGIN " in data and b"\0" not in data:
        return _pem(file)
    if data[:1] == b"\x30":
        kind = _der_kind(data)
        return [] if kind is None else [(kind, file)]
    if data.startswith(_REFERENCE_TAGS) or _is_signed_reference(data):
        return [(Kind.REFERENCE, file)]
    return []


def _pem(file: NamedBytes) -> list[tuple[Kind, NamedBytes]]:
    parts = []
    blocks = list(_PEM.finditer(file.data))
    for number, block in enumerate(blocks, 1):
        name = file.name if len(blocks) == 1 else f"{file.name}, part {number}"
        label = block[1].decode("ascii")
        if "PRIVATE KEY" in label:
            raise InputError(f"{name}: a private key: give its public key")
        kind = _PEM_KINDS.get(block[1])
        if kind is None:
            raise InputError(f"{name}: PEM of an unknown kind ({label})")
        try:
            data = base64.b64decode(b"".join(block[2].split()), validate=True)
        except binascii.Error as error:
            raise InputError(f"{name}: no base64 in the PEM: {error}") from None
        if _der_kind(data) is not kind:
            raise InputError(f"{name}: PEM says {label}, its content is no {kind}")
        parts.append((kind, NamedBytes(data, name)))
    return parts


def _json(file: NamedBytes) -> list[tuple[Kind, NamedBytes]]:
    try:
        value = json.loads(file.data)
    except (ValueError, RecursionError):
        return []
    if not isinstance(value, dict):
        return []
    if value.keys() >= _TDX_FIELDS:
        return [(Kind.TDX_COLLATERAL, file)]
    keys = value["keys"] if isinstance(value.get("keys"), list) else [value]
    if not all(isinstance(key, dict) and isinstance(key.get("kty"), str) for key in keys):
        return []
    return [(Kind.PUBLIC_KEY, NamedBytes(_jwk(key, file.name), file.name)) for key in keys]


def _jwk(key: dict[str, Any], name: str) -> bytes:
    # What makes a JWK private is not read at all.
    names = ("kty", "crv", "x", "y", "n", "e")
    public: dict[str, Any] = {name: key[name] for name in names if name in key}
    try:
        read = jwt.PyJWK.from_dict(public).key
        spki: bytes = read.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: a JWK that is no public key: {error}") from None
    return spki


def _der_kind(data: bytes) -> Kind | None:
    for kind, read in (
        (Kind.CERTIFICATE, x509.read_certificate),
        (Kind.REQUEST, x509.read_request),
    ):
        try:
            read(data)
        except DerError:
            continue
        return kind
    try:
        load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        return Kind.PUBLIC_KEY
    try:
        other_x509.load_der_x509_crl(data)
    except ValueError:
        return None
    return Kind.REVOCATION_LIST


def _is_signed_reference(data: bytes) -> bool:
    try:
        message, tags = cose.decode(data)
        content = message.headers.get(cose.CONTENT_TYPE)
    except cose.CoseError:
        return False
    return tags[-1:] == (cose.TAG_SIGN1,) and content == CONTENT_TYPE


def _certificate_anchor(part: NamedBytes, *, always: bool) -> TrustAnchor | None:
    certificate = x509.read_certificate(part.data)
    if always:
        return TrustAnchor(certificate.spki, part.name, certificate.subject)
    if certificate.issuer != certificate.subject:
        return None
    return TrustAnchor(certificate.spki, part.name, certificate.subject, _WITHOUT_PINNED_ROOTS)


def _request_key(part: NamedBytes) -> bytes:
    return x509.read_request(part.data).spki
