"""CoMID: a concise module identifier, the tag that holds triples (draft-ietf-rats-corim, 5.1)."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from casemate.formats import cbor
from casemate.formats.cbor import Tag
from casemate.formats.corim import triples as triples_codec
from casemate.formats.corim.reading import TAG_URI, Forms, Node, extended, root
from casemate.formats.corim.triples import TagId, Triples, tag_id

TAG_COMID = 506


@dataclass(frozen=True, slots=True)
class TagIdentity:
    """A tag's id and version; a newer version takes the place of an older one."""

    id: TagId
    version: int = 0

    @property
    def name(self) -> str:
        """How people call it: the text, or the UUID in hexadecimal digits."""
        return self.id if isinstance(self.id, str) else self.id.hex()


class Relation(enum.IntEnum):
    """What a tag is to another: it adds to it, or the other must be disregarded."""

    SUPPLEMENTS = 0
    REPLACES = 1


@dataclass(frozen=True, slots=True)
class LinkedTag:
    """Another tag and the relation to it."""

    target: TagId
    relation: Relation


@dataclass(frozen=True, slots=True)
class Entity:
    """Somebody with a part in a tag or manifest. `roles` are numbers of the draft's registries."""

    name: str
    roles: tuple[int, ...]
    registration: str | None = None
    extensions: tuple[tuple[int, bytes], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comid:
    """A CoMID. `extensions` are keys that this model does not name, as encoded CBOR."""

    identity: TagIdentity
    triples: Triples
    language: str | None = None
    entities: tuple[Entity, ...] = ()
    linked_tags: tuple[LinkedTag, ...] = ()
    extensions: tuple[tuple[int, bytes], ...] = ()


def decode(data: bytes, *, path: str = "", forms: Forms | None = None) -> Comid:
    """A CoMID's bytes (without its tag 506). Raises CorimError with paths below `path`."""
    node = root(data, path, Forms() if forms is None else forms)
    names = {0: "language", 1: "identity", 2: "entities", 3: "linked-tags", 4: "triples"}
    found = node.fields(names, extensible=True)
    return Comid(
        identity=identity(found["identity"]),
        triples=triples_codec.decode(found["triples"]),
        language=found.maybe("language", Node.text),
        entities=found.list("entities", "", entity),
        linked_tags=found.list("linked-tags", "", _linked_tag),
        extensions=found.extensions,
    )


def encode(comid: Comid) -> bytes:
    """A CoMID's bytes, without its tag."""
    result: dict[int, Any] = {
        1: encode_identity(comid.identity),
        4: triples_codec.encode(comid.triples),
    }
    if comid.language is not None:
        result[0] = comid.language
    if comid.entities:
        result[2] = [encode_entity(entity) for entity in comid.entities]
    if comid.linked_tags:
        result[3] = [{0: link.target, 1: int(link.relation)} for link in comid.linked_tags]
    return cbor.encode(extended(result, comid.extensions))


def identity(node: Node) -> TagIdentity:
    """A tag-identity-map."""
    found = node.fields({0: "id", 1: "version"})
    return TagIdentity(tag_id(found["id"]), found.maybe("version", Node.count) or 0)


def encode_identity(value: TagIdentity) -> dict[int, Any]:
    """A tag-identity-map ready to be encoded."""
    return {0: value.id} | ({1: value.version} if value.version else {})


def entity(node: Node) -> Entity:
    """An entity-map."""
    found = node.fields({0: "name", 1: "registration", 2: "roles"}, extensible=True)
    return Entity(
        name=found["name"].text(),
        roles=found["roles"].all("", Node.integer),
        registration=found.maybe("registration", Node.uri),
        extensions=found.extensions,
    )


def encode_entity(value: Entity) -> dict[int, Any]:
    """An entity-map ready to be encoded."""
    result: dict[int, Any] = {0: value.name, 2: list(value.roles)}
    if value.registration is not None:
        result[1] = Tag(TAG_URI, value.registration)
    return extended(result, value.extensions)


def _linked_tag(node: Node) -> LinkedTag:
    found = node.fields({0: "target", 1: "relation"})
    number = found["relation"].integer()
    if number not in list(Relation):
        found["relation"].refuse(f"the relation {number} is not known")
    return LinkedTag(tag_id(found["target"]), Relation(number))
