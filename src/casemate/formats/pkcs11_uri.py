"""PKCS#11 URIs (RFC 7512): how configuration files and command lines name a key in a token.

    pkcs11:token=web;object=results;type=private?pin-source=file:/run/pin

Path attributes choose the token and the object, query attributes the module and the PIN. A path
attribute that is not known is an error, as the standard asks (section 2.3): it might have chosen
another key. Values are bytes once the percent signs are gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

SCHEME = "pkcs11:"
_PATH = frozenset(
    {"token", "manufacturer", "model", "serial", "slot-id", "object", "id", "type",
     "library-manufacturer", "library-description", "library-version", "slot-description",
     "slot-manufacturer"}
)  # fmt: skip
#: No URI of a key comes near this many characters.
LONGEST = 4096


class Pkcs11UriError(ValueError):
    """Text that is no PKCS#11 URI; the message says where."""


@dataclass(frozen=True, slots=True)
class Pkcs11Uri:
    """The attributes of a URI, as bytes by name."""

    path: Mapping[str, bytes]
    query: Mapping[str, bytes] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A path attribute as text, None: it has none. Raises Pkcs11UriError: no UTF-8."""
        value = self.path.get(name)
        try:
            return None if value is None else value.decode()
        except UnicodeDecodeError:
            raise Pkcs11UriError(f"PKCS#11 URI: {name} is not UTF-8") from None


def decode(text: str) -> Pkcs11Uri:
    """Read a URI. Raises Pkcs11UriError."""
    if not text.startswith(SCHEME) or len(text) > LONGEST:
        raise Pkcs11UriError(f"PKCS#11 URI: expected {SCHEME} and at most {LONGEST} characters")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    return Pkcs11Uri(_attributes(path, ";", _PATH), _attributes(query, "&", None))


def encode(uri: Pkcs11Uri) -> str:
    """The URI's text; an id in percent signs throughout, as other programs write it."""
    path = ";".join(f"{name}={_value(name, value)}" for name, value in uri.path.items())
    query = "&".join(f"{name}={quote(value, safe='-._~/:')}" for name, value in uri.query.items())
    return SCHEME + path + (f"?{query}" if query else "")


def _value(name: str, value: bytes) -> str:
    if name == "id":
        return "".join(f"%{byte:02X}" for byte in value)
    return quote(value, safe="-._~")


def _attributes(text: str, separator: str, known: frozenset[str] | None) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals or name in found:
            raise Pkcs11UriError(f"PKCS#11 URI: expected name=value once, found {part!r:.60}")
        if known is not None and name not in known:
            raise Pkcs11UriError(f"PKCS#11 URI: unknown attribute {name:.60}")
        found[name] = unquote_to_bytes(value)
    return found
