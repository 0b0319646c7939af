"""CoRIM: a concise reference integrity manifest, unsigned (tag 501) or signed (tag 18, COSE_Sign1).

A manifest is a list of tags with a validity. Its signer stands in the protected header, as
corim-meta (label 8) or CWT claims (label 15). Decoding a signed manifest verifies nothing:
`casemate.attestation.reference.signature` does. Source: draft-ietf-rats-corim, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from casemate.formats import cbor, cose
from casemate.formats.cbor import Tag
from casemate.formats.corim import comid
from casemate.formats.corim.comid import TAG_COMID, Comid, Entity, TagIdentity
from casemate.formats.corim.measurement import Digest
from casemate.formats.corim.reading import (
    MOST_ITEMS,
    TAG_TIME,
    TAG_URI,
    CorimError,
    Form,
    Forms,
    Node,
    extended,
    root,
)
from casemate.formats.corim.triples import tag_id
from casemate.formats.corim.values import digest, profile

TAG_CORIM, TAG_COSWID, TAG_TAG_LIST = 501, 505, 508
_OLD_OUTER, _OLD_SIGNED = 500, 502
CONTENT_TYPE = "application/rim+cbor"
#: Labels of the protected header.
CORIM_META, CWT_CLAIMS, PAYLOAD_HASH = 8, 15, 258
_ISSUER, _EXPIRES, _NOT_BEFORE = 1, 4, 5


@dataclass(frozen=True, slots=True)
class Validity:
    """From when (None: since ever) until when something holds; times have zones."""

    not_before: datetime | None
    not_after: datetime

    def holds(self, at: datetime) -> bool:
        """Whether it holds at that time."""
        return at <= self.not_after and (self.not_before is None or self.not_before <= at)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where more may be found, and the digests that it must then have."""

    places: tuple[str, ...]
    digests: tuple[Digest, ...] = ()


@dataclass(frozen=True, slots=True)
class TagList:
    """A CoTL: which tags are to be considered active while it is valid."""

    identity: TagIdentity
    tags: tuple[TagIdentity, ...]
    validity: Validity


@dataclass(frozen=True, slots=True)
class PassedThrough:
    """A tag that is kept as it came: a CoSWID (505), or of a kind that is not known here."""

    number: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Corim:
    """A corim-map. `profile` is Tag(32, URI) or Tag(111, OID); `id` a text or 16 bytes."""

    id: str | bytes
    tags: tuple[Comid | TagList | PassedThrough, ...]
    dependent: tuple[Locator, ...] = ()
    profile: Tag | None = None
    validity: Validity | None = None
    entities: tuple[Entity, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()

    @property
    def name(self) -> str:
        """How people call it: the text, or the UUID in hexadecimal digits."""
        return self.id if isinstance(self.id, str) else self.id.hex()


@dataclass(frozen=True, slots=True)
class Signer:
    """Who says that they signed, and for how long the signature holds."""

    name: str
    uri: str | None = None
    validity: Validity | None = None


@dataclass(frozen=True, slots=True)
class SignedCorim:
    """A signed manifest: its envelope, who it says that signed it, and the manifest."""

    envelope: cose.Sign1
    signer: Signer | None
    corim: Corim


def decode(data: bytes, *, forms: Forms | None = None) -> Corim | SignedCorim:
    """A manifest, signed or not. Raises CorimError; `forms` says which other forms are taken."""
    forms = Forms() if forms is None else forms
    node = root(data, "", forms)
    if _is_tag(node, _OLD_OUTER):
        node.form(Form.OLD_OUTER_TAGS, "tag 501 or 18")
        node = node.tagged(_OLD_OUTER)[1]
    if _is_tag(node, _OLD_SIGNED):
        node.form(Form.OLD_OUTER_TAGS, "tag 18")
        node = node.tagged(_OLD_SIGNED)[1]
        if not isinstance(node.value, Tag):
            node = Node(Tag(cose.TAG_SIGN1, node.value), node.path, forms)
    if _is_tag(node, TAG_CORIM):
        return _corim(node)
    number, _ = node.tagged(TAG_CORIM, cose.TAG_SIGN1)
    return _signed(cbor.encode(Tag(number, node.value.value)), forms)


def decode_unsigned(data: bytes, *, forms: Forms | None = None) -> Corim:
    """An unsigned manifest (tag 501). Raises CorimError."""
    return _corim(root(data, "", Forms() if forms is None else forms))


def encode(corim: Corim) -> bytes:
    """An unsigned manifest, in its tag 501."""
    result: dict[int, Any] = {0: corim.id, 1: [_encode_tag(tag) for tag in corim.tags]}
    if corim.dependent:
        result[2] = [_encode_locator(locator) for locator in corim.dependent]
    if corim.profile is not None:
        result[3] = corim.profile
    if corim.validity is not None:
        result[4] = _encode_validity(corim.validity)
    if corim.entities:
        result[5] = [comid.encode_entity(entity) for entity in corim.entities]
    return cbor.encode(Tag(TAG_CORIM, extended(result, corim.extensions)))


def protected_header(algorithm: int, signer: Signer, *, key_id: bytes | None = None) -> bytes:
    """The protected header of a signed manifest: algorithm (COSE's number), type, corim-meta."""
    meta: dict[int, Any] = {0: {0: signer.name}}
    if signer.uri is not None:
        meta[0][1] = Tag(TAG_URI, signer.uri)
    if signer.validity is not None:
        meta[1] = _encode_validity(signer.validity)
    header: dict[int | str, Any] = {
        cose.ALGORITHM: algorithm,
        cose.CONTENT_TYPE: CONTENT_TYPE,
        CORIM_META: cbor.encode(meta),
    }
    if key_id is not None:
        header[cose.KEY_ID] = key_id
    return cose.protected_header(header)


def _is_tag(node: Node, number: int) -> bool:
    return isinstance(node.value, Tag) and node.value.number == number


def _signed(data: bytes, forms: Forms) -> SignedCorim:
    try:
        envelope, _ = cose.decode(data, most_items=MOST_ITEMS)
        headers = envelope.headers
    except cose.CoseError as error:
        raise CorimError("signed", str(error)) from None
    header = Node(headers, "signed.protected", forms)
    if PAYLOAD_HASH in headers:
        header.refuse("a hash envelope: the manifest that it names is not here")
    if headers.get(cose.CONTENT_TYPE) != CONTENT_TYPE:
        header.within(headers.get(cose.CONTENT_TYPE), "content-type").refuse(
            f"expected {CONTENT_TYPE}"
        )
    payload = root(envelope.payload, "", forms)
    if _is_tag(payload, _OLD_OUTER):
        payload.form(Form.OLD_OUTER_TAGS, "tag 501")
        payload = payload.tagged(_OLD_OUTER)[1]
    return SignedCorim(envelope, _signer(header), _corim(payload))


def _signer(header: Node) -> Signer | None:
    meta, claims = (
        _meta(header.within(header.value[CORIM_META], "corim-meta"))
        if CORIM_META in header.value
        else None,
        _cwt_claims(header.within(header.value[CWT_CLAIMS], "cwt-claims"))
        if CWT_CLAIMS in header.value
        else None,
    )
    if meta is not None and claims is not None:
        if (meta.name, meta.validity) != (claims.name, claims.validity):
            header.refuse("corim-meta and CWT claims name different signers or times")
        return meta
    if meta is None and claims is None:
        header.form(Form.NO_SIGNER, "corim-meta or CWT claims")
    return meta or claims


def _meta(node: Node) -> Signer:
    found = root(node.octets(), node.path, node.forms).fields({0: "signer", 1: "validity"})
    signer = found["signer"].fields({0: "name", 1: "uri"}, extensible=True)
    return Signer(
        signer["name"].text(), signer.maybe("uri", Node.uri), found.maybe("validity", _validity)
    )


def _cwt_claims(node: Node) -> Signer:
    if not isinstance(node.value, dict):
        node.refuse("expected a map")

    def time(key: int, name: str) -> datetime | None:
        found = node.value.get(key)
        return None if found is None else node.within(Tag(TAG_TIME, found), name).time()

    name = node.within(node.value.get(_ISSUER), "issuer").text()
    not_before, not_after = time(_NOT_BEFORE, "not-before"), time(_EXPIRES, "expires")
    if not_after is None:
        if not_before is None:
            return Signer(name)
        not_after = datetime.max.replace(tzinfo=UTC)
    return Signer(name, None, Validity(not_before, not_after))


def _corim(node: Node) -> Corim:
    _, inner = node.tagged(TAG_CORIM)
    names = {0: "id", 1: "tags", 2: "dependent", 3: "profile", 4: "validity", 5: "entities"}
    found = inner.fields(names, extensible=True)
    return Corim(
        id=tag_id(found["id"]),
        tags=found["tags"].all("", _tag),
        dependent=found.list("dependent", "", _locator),
        profile=found.maybe("profile", profile),
        validity=found.maybe("validity", _validity),
        entities=found.list("entities", "", comid.entity),
        extensions=found.extensions,
    )


def _tag(node: Node) -> Comid | TagList | PassedThrough:
    if not isinstance(node.value, Tag):
        node.refuse("expected a tagged byte string")
    number, content = node.value.number, Node(node.value.value, node.path, node.forms).octets()
    if number == TAG_COMID:
        return comid.decode(content, path=node.path, forms=node.forms)
    if number == TAG_TAG_LIST:
        found = root(content, node.path, node.forms).fields(
            {0: "identity", 1: "tags", 2: "validity"}
        )
        return TagList(
            comid.identity(found["identity"]),
            found["tags"].all("", comid.identity),
            _validity(found["validity"]),
        )
    root(content, node.path, node.forms)
    return PassedThrough(number, content)


def _encode_tag(tag: Comid | TagList | PassedThrough) -> Tag:
    if isinstance(tag, Comid):
        return Tag(TAG_COMID, comid.encode(tag))
    if isinstance(tag, PassedThrough):
        return Tag(tag.number, tag.data)
    content = {
        0: comid.encode_identity(tag.identity),
        1: [comid.encode_identity(listed) for listed in tag.tags],
        2: _encode_validity(tag.validity),
    }
    return Tag(TAG_TAG_LIST, cbor.encode(content))


def _validity(node: Node) -> Validity:
    found = node.fields({0: "not-before", 1: "not-after"})
    return Validity(found.maybe("not-before", Node.time), found["not-after"].time())


def _encode_validity(value: Validity) -> dict[int, Any]:
    result = {1: Tag(TAG_TIME, int(value.not_after.timestamp()))}
    if value.not_before is not None:
        result[0] = Tag(TAG_TIME, int(value.not_before.timestamp()))
    return result


def _locator(node: Node) -> Locator:
    found = node.fields({0: "href", 1: "thumbprint"})
    places = found["href"]
    several = isinstance(places.value, list)
    thumbprint = found.found.get("thumbprint")
    digests: tuple[Digest, ...] = ()
    if thumbprint is not None:
        first = (
            thumbprint.value[0] if isinstance(thumbprint.value, list) and thumbprint.value else 0
        )
        digests = thumbprint.all("", digest) if isinstance(first, list) else (digest(thumbprint),)
    return Locator(places.all("", Node.uri) if several else (places.uri(),), digests)


def _encode_locator(value: Locator) -> dict[int, Any]:
    places = [Tag(TAG_URI, place) for place in value.places]
    digests = [[item.algorithm, item.value] for item in value.digests]
    result: dict[int, Any] = {0: places[0] if len(places) == 1 else places}
    if digests:
        result[1] = digests[0] if len(digests) == 1 else digests
    return result
