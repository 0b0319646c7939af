"""Manifests, keys and claims for the tests of reference values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from casemate.attestation.endorsements import NamedBytes
from casemate.attestation.evidence.family import Component, Measured
from casemate.attestation.reference.store import ReferenceSet, load
from casemate.attestation.trust_vector import TrustClaim
from casemate.formats import base64url, cose
from casemate.formats.cbor import Tag
from casemate.formats.corim import manifest
from casemate.formats.corim.comid import Comid, LinkedTag, TagIdentity
from casemate.formats.corim.manifest import Corim, PassedThrough, Signer, TagList, Validity
from casemate.formats.corim.measurement import (
    SHA384,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    Svn,
    SvnKind,
)
from casemate.formats.corim.triples import MeasurementTriple, Triples

NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ec.derive_private_key(7, ec.SECP384R1())
OTHER_KEY = ec.derive_private_key(8, ec.SECP384R1())


def environment(name: str = "fw") -> Environment:
    return Environment(class_id=Tag(560, name.encode()))


def digest(number: int = 1) -> Digest:
    return Digest(SHA384, number.to_bytes(48, "big"))


def values(
    number: int | None = 1, *, svn: int | None = None, least: bool = False
) -> MeasurementValues:
    kind = SvnKind.MINIMUM if least else SvnKind.EXACT
    return MeasurementValues(
        digests=() if number is None else (digest(number),),
        svn=None if svn is None else Svn(svn, kind),
    )


def triple(
    *measured: MeasurementValues | Measurement, at: Environment | None = None
) -> MeasurementTriple:
    return MeasurementTriple(
        environment() if at is None else at,
        tuple(one if isinstance(one, Measurement) else Measurement(values=one) for one in measured),
    )


def tag(
    triples: Triples | Sequence[MeasurementTriple],
    *,
    name: str = "tag",
    version: int = 0,
    links: Sequence[LinkedTag] = (),
) -> Comid:
    content = triples if isinstance(triples, Triples) else Triples(reference=tuple(triples))
    return Comid(identity=TagIdentity(name, version), triples=content, linked_tags=tuple(links))


def corim(
    *tags: Comid | TagList | PassedThrough,
    name: str = "corim",
    validity: Validity | None = None,
    profile: Tag | None = None,
) -> Corim:
    return Corim(id=name, tags=tags, validity=validity, profile=profile)


def unsigned(content: Corim, name: str = "a.corim") -> NamedBytes:
    return NamedBytes(manifest.encode(content), name)


def signed(
    content: Corim,
    *,
    key: ec.EllipticCurvePrivateKey = KEY,
    signer: Signer | None = None,
    name: str = "signed.corim",
    chain: Sequence[bytes] = (),
) -> NamedBytes:
    protected = manifest.protected_header(cose.ESP384, signer or Signer("Example signer"))
    payload = manifest.encode(content)
    made = key.sign(cose.to_be_signed(protected, payload), ec.ECDSA(hashes.SHA384()))
    r, s = utils.decode_dss_signature(made)
    signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
    headers: dict[int | str, list[bytes]] = {cose.X5CHAIN: list(chain)} if chain else {}
    return NamedBytes(cose.encode(cose.Sign1(protected, payload, signature, headers)), name)


def spki(key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_jwk(fields: dict[str, str]) -> bytes:
    """The public key (DER) of a JWK on P-256."""
    x, y = (int.from_bytes(base64url.decode(fields[name]), "big") for name in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def references(*triples: MeasurementTriple, content: Triples | None = None) -> ReferenceSet:
    whole = Triples(reference=triples) if content is None else content
    if whole == Triples():
        return ReferenceSet()
    return load([unsigned(corim(tag(whole)))], signers=(), at=NOW, take_unsigned=True)


def claim(
    found: MeasurementValues | Measurement,
    *,
    at: Environment | None = None,
    label: str = "firmware",
    optional: bool = False,
) -> Measured:
    return Measured(
        label=label,
        environment=environment() if at is None else at,
        measurement=found if isinstance(found, Measurement) else Measurement(values=found),
        claim=TrustClaim.EXECUTABLES,
        optional=optional,
    )


def component(*measured: Measured, name: str = "host") -> Component:
    return Component(name=name, measured=measured)
