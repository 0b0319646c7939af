"""Conceptual message wrappers: what kind of message some bytes are, one or a collection of them.

A record is an array of type, value and indicator, in JSON or CBOR; in CBOR also a tag whose number
says the content format (RFC 9277, appendix B). A collection maps labels to further wrappers.
Source: draft-ietf-rats-msg-wrap. Signed wrappers (COSE_Sign1, JWS) hold one as their payload.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from casemate.formats import base64url, cbor, strict_json
from casemate.formats.base64url import Base64Error
from casemate.formats.cbor import CborError, Tag
from casemate.formats.strict_json import JsonError

#: Media types of a wrapper itself.
MEDIA_TYPE_CBOR, MEDIA_TYPE_JSON = "application/cmw+cbor", "application/cmw+json"
DEEPEST = 8
MOST_ENTRIES = 256
_COLLECTION_TYPE = "__cmwc_t"
_FIRST_TAG, _LAST_TAG = 1_668_546_817, 1_668_612_095
_MOST_FORMAT = 65_535
#: The last content format that has a tag.
_MOST_TAGGED = 65_024
_MOST_INDICATOR = 2**32 - 1
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]*/[A-Za-z0-9][\w!#$&^.+-]*(\s*;.*)?", re.ASCII)


class CmwError(ValueError):
    """Bytes that are no conceptual message wrapper; the message names the entry."""


class MessageKind(enum.IntFlag):
    """What a message may hold, as bits of the indicator."""

    REFERENCE_VALUES = 1
    ENDORSEMENTS = 2
    EVIDENCE = 4
    ATTESTATION_RESULTS = 8
    APPRAISAL_POLICY = 16


@dataclass(frozen=True, slots=True)
class Record:
    """One message: its media type or CoAP content format, its bytes, what it may hold (or None).

    `tagged` is the form as a CBOR tag, which knows content formats alone and no indicator.
    """

    type: str | int
    value: bytes
    indicator: MessageKind | None = None
    tagged: bool = False

    @property
    def media_type(self) -> str | int:
        """The type without parameters."""
        return self.type if isinstance(self.type, int) else self.type.split(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Collection:
    """Wrappers by label, in order, and the collection's own type (a URI or dotted OID)."""

    entries: tuple[tuple[int | str, Record | Collection], ...]
    type: str | None = None


Wrapper = Record | Collection


def leaves(wrapper: Wrapper) -> Iterator[tuple[str, Record]]:
    """Every record with the labels that lead to it, joined by slashes."""
    if isinstance(wrapper, Record):
        yield "", wrapper
        return
    for label, entry in wrapper.entries:
        for below, record in leaves(entry):
            yield f"{label}/{below}" if below else str(label), record


def tag_number(content_format: int) -> int:
    """The CBOR tag of a CoAP content format (0 to 65024). Raises CmwError for another."""
    if not 0 <= content_format <= _MOST_TAGGED:
        raise CmwError(f"content format {content_format} has no tag")
    return _FIRST_TAG + content_format // 255 * 256 + content_format % 255


def content_format(number: int) -> int | None:
    """The content format of a CBOR tag, None if it is not the tag of one."""
    if not _FIRST_TAG <= number <= _LAST_TAG:
        return None
    upper, lower = divmod(number - _FIRST_TAG, 256)
    return upper * 255 + lower if lower < 255 else None


def decode(data: bytes) -> Wrapper:
    """A wrapper in JSON or CBOR, told apart by the first byte. Raises CmwError."""
    if data[:1] in (b"[", b"{"):
        # 0x5b and 0x7b begin CBOR strings, which are no wrappers.
        return decode_json(data)
    return decode_cbor(data)


def decode_cbor(data: bytes) -> Wrapper:
    """A wrapper in CBOR. Raises CmwError."""
    try:
        return _from_cbor(cbor.decode(data), "wrapper", 0)
    except CborError as error:
        raise CmwError(f"wrapper: {error}") from None


def decode_json(data: bytes) -> Wrapper:
    """A wrapper in JSON. Raises CmwError."""
    try:
        return from_json(strict_json.decode(data))
    except JsonError as error:
        raise CmwError(f"wrapper: {error}") from None


def from_json(value: Any) -> Wrapper:
    """A wrapper as JSON's values, such as a token's claim `cmw`. Raises CmwError."""
    return _from_json(value, "wrapper", 0)


def encode_cbor(wrapper: Wrapper) -> bytes:
    """The wrapper in CBOR."""
    return cbor.encode(_to_cbor(wrapper))


def encode_json(wrapper: Wrapper) -> bytes:
    """The wrapper in JSON. Raises CmwError for what JSON cannot hold: numbers as type or label."""
    return json.dumps(_to_json(wrapper), separators=(",", ":"), ensure_ascii=False).encode()


def _from_cbor(value: Any, path: str, depth: int) -> Wrapper:
    if isinstance(value, Tag):
        found = content_format(value.number)
        if found is None:
            raise CmwError(f"{path}: tag {value.number} is not that of a content format")
        if not isinstance(value.value, bytes):
            raise CmwError(f"{path}: expected a byte string in tag {value.number}")
        return Record(found, value.value, tagged=True)
    if isinstance(value, dict):
        return _collection(value, path, depth, _from_cbor)
    kind, content, indicator = _parts(value, path)
    if isinstance(kind, int) and not isinstance(kind, bool):
        if not 0 <= kind <= _MOST_FORMAT:
            raise CmwError(f"{path}: {kind} is no content format")
    else:
        kind = _media_type(kind, path)
    if not isinstance(content, bytes):
        raise CmwError(f"{path}: expected the value as a byte string")
    return Record(kind, content, indicator)


def _from_json(value: Any, path: str, depth: int) -> Wrapper:
    if isinstance(value, dict):
        return _collection(value, path, depth, _from_json)
    kind, content, indicator = _parts(value, path)
    if not isinstance(content, str):
        raise CmwError(f"{path}: expected the value as text in base64url")
    try:
        return Record(_media_type(kind, path), base64url.decode(content), indicator)
    except Base64Error as error:
        raise CmwError(f"{path}: {error}") from None


def _collection(value: dict[Any, Any], path: str, depth: int, read: Any) -> Collection:
    if depth >= DEEPEST:
        raise CmwError(f"{path}: collections nested deeper than {DEEPEST}")
    kind = value.get(_COLLECTION_TYPE)
    if kind is not None and not isinstance(kind, str):
        raise CmwError(f"{path}: the collection's type is no text")
    labels = [label for label in value if label != _COLLECTION_TYPE]
    if not 1 <= len(labels) <= MOST_ENTRIES:
        raise CmwError(
            f"{path}: expected 1 to {MOST_ENTRIES} entries in a collection, found {len(labels)}"
        )
    if not all(isinstance(label, (int, str)) for label in labels):
        raise CmwError(f"{path}: a label is no text and no number")
    return Collection(
        tuple((label, read(value[label], f"{path}/{label}", depth + 1)) for label in labels), kind
    )


def _parts(value: Any, path: str) -> tuple[Any, Any, MessageKind | None]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise CmwError(f"{path}: expected an array of type, value and indicator, or a map")
    if len(value) == 2:
        return value[0], value[1], None
    indicator = value[2]
    if (
        not isinstance(indicator, int)
        or isinstance(indicator, bool)
        or not 1 <= indicator <= _MOST_INDICATOR
    ):
        raise CmwError(f"{path}: expected an indicator from 1 to {_MOST_INDICATOR}")
    return value[0], value[1], MessageKind(indicator)


def _media_type(kind: Any, path: str) -> str:
    if not isinstance(kind, str) or not _MEDIA_TYPE.fullmatch(kind):
        raise CmwError(f"{path}: expected a media type, found {kind!r:.60}")
    return kind


def _to_cbor(wrapper: Wrapper) -> Any:
    if isinstance(wrapper, Collection):
        entries: dict[Any, Any] = {label: _to_cbor(entry) for label, entry in wrapper.entries}
        return entries if wrapper.type is None else {_COLLECTION_TYPE: wrapper.type, **entries}
    if wrapper.tagged and isinstance(wrapper.type, int):
        return Tag(tag_number(wrapper.type), wrapper.value)
    return [wrapper.type, wrapper.value, *_indicator(wrapper)]


def _to_json(wrapper: Wrapper) -> Any:
    if isinstance(wrapper, Collection):
        if any(isinstance(label, int) for label, _ in wrapper.entries):
            raise CmwError("a label is a number, which JSON does not have")
        entries: dict[Any, Any] = {label: _to_json(entry) for label, entry in wrapper.entries}
        return entries if wrapper.type is None else {_COLLECTION_TYPE: wrapper.type, **entries}
    if isinstance(wrapper.type, int):
        raise CmwError(f"content format {wrapper.type}: in JSON, give the media type")
    return [wrapper.type, base64url.encode(wrapper.value), *_indicator(wrapper)]


def _indicator(record: Record) -> list[int]:
    return [] if record.indicator is None else [int(record.indicator)]
