"""Reading CoRIM's maps and arrays: every refusal names the path to the value that was refused.

A Node is one CBOR value, where it stands ("triples.reference[2].measurement[0].digests"), and the
forms of older drafts and known tools that its reader takes. Such a form is taken only where it is
allowed by name, and noted in `Forms.seen`: nothing is lax in silence.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from casemate.formats import cbor
from casemate.formats.cbor import CborError, Tag

TAG_TIME, TAG_URI = 1, 32

#: The most items of one CBOR encoding: room for a manifest of some ten thousand entries.
MOST_ITEMS = 500_000
_LATEST = 253_402_300_799

T = TypeVar("T")


class CorimError(ValueError):
    """Bytes that are no CoRIM, CoMID or concise evidence; `path` leads to the value."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


class Form(enum.StrEnum):
    """Forms other than the current draft's that real files use."""

    #: authorized-by as one key instead of an array (tests of veraison/corim).
    LONE_AUTHORITY = "authorized-by-without-array"
    #: The outer tag 500 and the tag 502 of a signed manifest (drafts up to -02).
    OLD_OUTER_TAGS = "outer-tags-500-502"
    #: A signed manifest without metadata of its signer (OCP SAFE's reports).
    NO_SIGNER = "signed-without-signer"
    #: An address as bare bytes, without RFC 9164's tags (drafts up to -04).
    BARE_ADDRESS = "ip-address-without-tag"


#: What files are read with: every known form, each noted where it is met.
ALL_FORMS = frozenset(Form)
STRICT: frozenset[Form] = frozenset()


@dataclass(slots=True)
class Forms:
    """Which forms are taken, and which were met."""

    allowed: frozenset[Form] = ALL_FORMS
    seen: set[Form] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Node:
    """One value and where it stands."""

    value: Any
    path: str
    forms: Forms

    def refuse(self, message: str) -> NoReturn:
        """Raise CorimError for this value."""
        raise CorimError(self.path, message)

    def within(self, value: Any, name: str) -> Node:
        """A value inside this one."""
        return Node(value, f"{self.path}.{name}" if self.path else name, self.forms)

    def form(self, form: Form, expected: str) -> None:
        """Take a form if it is allowed, else refuse and say what was expected."""
        if form not in self.forms.allowed:
            self.refuse(f"expected {expected} (the form {form} is not allowed here)")
        self.forms.seen.add(form)

    def text(self) -> str:
        """A text string."""
        if not isinstance(self.value, str):
            self.refuse(f"expected a text string, found {kind(self.value)}")
        return self.value

    def octets(self, sizes: Collection[int] = ()) -> bytes:
        """A byte string, of one of the sizes if any are given."""
        if not isinstance(self.value, bytes):
            self.refuse(f"expected a byte string, found {kind(self.value)}")
        if sizes and len(self.value) not in sizes:
            wanted = " or ".join(map(str, sorted(sizes)[:4]))
            self.refuse(f"expected {wanted} bytes, found {len(self.value)}")
        return self.value

    def integer(self) -> int:
        """An integer."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.refuse(f"expected an integer, found {kind(self.value)}")
        return self.value

    def count(self) -> int:
        """An integer that is not negative."""
        number = self.integer()
        if number < 0:
            self.refuse(f"expected no negative number, found {number}")
        return number

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            self.refuse(f"expected true or false, found {kind(self.value)}")
        return self.value

    def tagged(self, *numbers: int) -> tuple[int, Node]:
        """The tag's number, one of those given, and what stands in it."""
        if not isinstance(self.value, Tag) or self.value.number not in numbers:
            wanted = " or ".join(map(str, numbers))
            self.refuse(f"expected tag {wanted}, found {kind(self.value)}")
        return self.value.number, Node(self.value.value, self.path, self.forms)

    def uri(self) -> str:
        """A URI (tag 32)."""
        return self.tagged(TAG_URI)[1].text()

    def time(self) -> datetime:
        """A time (tag 1, whole seconds), with its zone."""
        seconds = self.tagged(TAG_TIME)[1].integer()
        if not 0 <= seconds <= _LATEST:
            self.refuse(f"{seconds} seconds is no time that can be told")
        return datetime.fromtimestamp(seconds, UTC)

    def items(self, name: str, *, least: int = 1) -> Iterator[Node]:
        """The items of an array, each by the name that paths call it."""
        if not isinstance(self.value, list):
            self.refuse(f"expected an array, found {kind(self.value)}")
        if len(self.value) < least:
            self.refuse(f"expected at least {least} items, found {len(self.value)}")
        stem = f"{self.path}.{name}" if name else self.path
        return (Node(item, f"{stem}[{place}]", self.forms) for place, item in enumerate(self.value))

    def all(self, name: str, read: Callable[[Node], T], *, least: int = 1) -> tuple[T, ...]:
        """Every item of an array, read."""
        return tuple(read(item) for item in self.items(name, least=least))

    def record(self, *names: str, optional: int = 0) -> list[Node]:
        """The items of an array of fixed length, by name; the last may be missing."""
        if not isinstance(self.value, list):
            self.refuse(f"expected an array, found {kind(self.value)}")
        if not len(names) - optional <= len(self.value) <= len(names):
            self.refuse(
                f"expected an array of {len(names)} ({', '.join(names)}), "
                f"found {len(self.value)} items"
            )
        return [self.within(item, name) for item, name in zip(self.value, names, strict=False)]

    def fields(self, names: Mapping[int, str], *, extensible: bool = False) -> Fields:
        """A map's values by name.

        Keys that are not named are kept if the draft leaves room for extensions, else refused:
        an attribute that is not understood must not be passed over.
        """
        if not isinstance(self.value, dict):
            self.refuse(f"expected a map, found {kind(self.value)}")
        found: dict[str, Node] = {}
        extensions: list[tuple[int, bytes]] = []
        for key, value in self.value.items():
            if key in names:
                found[names[key]] = self.within(value, names[key])
            elif not extensible or not isinstance(key, int):
                self.refuse(f"the key {key!r} is not known here")
            else:
                extensions.append((key, cbor.encode(value)))
        return Fields(self, found, tuple(sorted(extensions)))


@dataclass(frozen=True, slots=True)
class Fields:
    """The values of a map by name, and its extensions as encoded CBOR."""

    node: Node
    found: Mapping[str, Node]
    extensions: tuple[tuple[int, bytes], ...]

    def __getitem__(self, name: str) -> Node:
        """The value of that name. Raises CorimError if it is missing."""
        try:
            return self.found[name]
        except KeyError:
            self.node.refuse(f"{name} is missing")

    def maybe(self, name: str, read: Callable[[Node], T]) -> T | None:
        """The value read, None if it is missing."""
        node = self.found.get(name)
        return None if node is None else read(node)

    def list(self, name: str, item: str, read: Callable[[Node], T]) -> tuple[T, ...]:
        """The items of an array, none if it is missing."""
        node = self.found.get(name)
        return () if node is None else node.all(item, read)

    def some(self) -> None:
        """Refuse a map with nothing in it."""
        if not self.found and not self.extensions:
            self.node.refuse("the map is empty")


def kind(value: Any) -> str:
    """What a value is, for people."""
    if isinstance(value, Tag):
        return f"tag {value.number}"
    names = {bool: "a boolean", int: "an integer", str: "a text string", bytes: "a byte string"}
    return {**names, list: "an array", dict: "a map"}.get(type(value), "null")


def root(data: bytes, path: str, forms: Forms) -> Node:
    """The one item that some bytes are. Raises CorimError."""
    try:
        return Node(cbor.decode(data, most_items=MOST_ITEMS), path, forms)
    except CborError as error:
        raise CorimError(path, str(error)) from None


def extended(value: dict[int, Any], extensions: tuple[tuple[int, bytes], ...]) -> dict[int, Any]:
    """A map with its extensions decoded again, ready to be encoded."""
    return value | {key: cbor.decode(data, most_items=MOST_ITEMS) for key, data in extensions}
