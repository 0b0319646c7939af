"""Codec of environments, keys and measurements (draft-ietf-rats-corim, sections 5.1.4 to 5.1.5)."""

from __future__ import annotations

from typing import Any

from casemate.formats import cbor
from casemate.formats.cbor import Tag
from casemate.formats.corim.measurement import (
    DIGEST_SIZES,
    TAG_BYTES,
    TAG_CERTIFICATE_DER,
    TAG_CERTIFICATE_THUMBPRINT,
    TAG_COSE_KEY,
    TAG_INT_RANGE,
    TAG_KEY_THUMBPRINT,
    TAG_MASKED_RAW_VALUE,
    TAG_MIN_SVN,
    TAG_OID,
    TAG_PKIX_CERTIFICATE,
    TAG_PKIX_KEY,
    TAG_SVN,
    TAG_UEID,
    TAG_UUID,
    TEXT_KEYS,
    THUMBPRINT_KEYS,
    Digest,
    Environment,
    Flag,
    IntRange,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
    SvnKind,
    Version,
)
from casemate.formats.corim.reading import TAG_URI, Form, Node, extended

_TAG_IPV4, _TAG_IPV6 = 52, 54
_ADDRESS_SIZES = {_TAG_IPV4: 4, _TAG_IPV6: 16}
_UEID_SIZES = range(7, 34)
_CLASS_IDS = (TAG_OID, TAG_UUID, TAG_BYTES)
_GROUPS = (TAG_UUID, TAG_BYTES)
_INSTANCES = (
    TAG_UEID,
    TAG_UUID,
    TAG_BYTES,
    TAG_PKIX_KEY,
    TAG_PKIX_CERTIFICATE,
    TAG_COSE_KEY,
    TAG_KEY_THUMBPRINT,
    TAG_CERTIFICATE_THUMBPRINT,
    TAG_CERTIFICATE_DER,
)
_KEYS = (*sorted(TEXT_KEYS | THUMBPRINT_KEYS), TAG_COSE_KEY, TAG_CERTIFICATE_DER, TAG_BYTES)
_VALUES = {
    0: "version",
    1: "svn",
    2: "digests",
    3: "flags",
    4: "raw-value",
    5: "raw-value-mask",
    6: "mac-address",
    7: "ip-address",
    8: "serial-number",
    9: "ueid",
    10: "uuid",
    11: "name",
    13: "crypto-keys",
    14: "integrity-registers",
    15: "int-range",
}


def choice(node: Node, numbers: tuple[int, ...]) -> Tag:
    """A tagged type choice, its content checked and made hashable."""
    number, inner = node.tagged(*numbers)
    if number in TEXT_KEYS:
        return Tag(number, inner.text())
    if number in THUMBPRINT_KEYS:
        return Tag(number, digest(inner))
    if number == TAG_COSE_KEY:
        if not isinstance(inner.value, dict):
            inner.refuse("expected a COSE_Key")
        return Tag(number, cbor.encode(inner.value))
    if number == TAG_UUID:
        return Tag(number, inner.octets((16,)))
    return Tag(number, inner.octets(_UEID_SIZES if number == TAG_UEID else ()))


def encode_choice(tag: Tag) -> Tag:
    """A type choice ready to be encoded."""
    if isinstance(tag.value, Digest):
        return Tag(tag.number, _encode_digest(tag.value))
    return Tag(tag.number, cbor.decode(tag.value)) if tag.number == TAG_COSE_KEY else tag


def profile(node: Node) -> Tag:
    """A profile-type-choice: Tag(32, URI) or Tag(111, content of an OID)."""
    number, inner = node.tagged(TAG_URI, TAG_OID)
    return Tag(number, inner.text() if number == TAG_URI else inner.octets())


def environment(node: Node) -> Environment:
    """An environment-map."""
    found = node.fields({0: "class", 1: "instance", 2: "group"})
    found.some()
    instance = found.maybe("instance", lambda inner: choice(inner, _INSTANCES))
    group = found.maybe("group", lambda inner: choice(inner, _GROUPS))
    if "class" not in found.found:
        return Environment(instance=instance, group=group)
    kind = found["class"].fields({0: "id", 1: "vendor", 2: "model", 3: "layer", 4: "index"})
    kind.some()
    return Environment(
        class_id=kind.maybe("id", lambda inner: choice(inner, _CLASS_IDS)),
        vendor=kind.maybe("vendor", Node.text),
        model=kind.maybe("model", Node.text),
        layer=kind.maybe("layer", Node.count),
        index=kind.maybe("index", Node.count),
        instance=instance,
        group=group,
    )


def encode_environment(value: Environment) -> dict[int, Any]:
    """An environment-map ready to be encoded."""
    kind = {
        0: value.class_id,
        1: value.vendor,
        2: value.model,
        3: value.layer,
        4: value.index,
    }
    kind = {key: item for key, item in kind.items() if item is not None}
    result: dict[int, Any] = {0: kind} if kind else {}
    if value.instance is not None:
        result[1] = encode_choice(value.instance)
    if value.group is not None:
        result[2] = value.group
    return result


def key(node: Node) -> Tag:
    """A crypto-key-type-choice."""
    return choice(node, _KEYS)


def keys(node: Node) -> tuple[Tag, ...]:
    """An array of keys, where a lone key is a known form."""
    if isinstance(node.value, Tag):
        node.form(Form.LONE_AUTHORITY, "an array of keys")
        return (key(node),)
    return node.all("", key)


def encode_keys(values: tuple[Tag, ...]) -> list[Tag]:
    """An array of keys ready to be encoded."""
    return [encode_choice(value) for value in values]


def element(node: Node) -> int | str | Tag:
    """A measured-element-type-choice: what a measurement is called within its environment."""
    if isinstance(node.value, Tag):
        return choice(node, (TAG_OID, TAG_UUID))
    return node.text() if isinstance(node.value, str) else node.count()


def digest(node: Node) -> Digest:
    """A digest; where the algorithm's size is known, the value must have it."""
    algorithm, value = node.record("algorithm", "value")
    name = algorithm.text() if isinstance(algorithm.value, str) else algorithm.integer()
    size = DIGEST_SIZES.get(name) if isinstance(name, int) else None
    content = value.octets(() if size is None else (size,))
    if not content:
        value.refuse("the digest is empty")
    return Digest(name, content)


def digests(node: Node) -> tuple[Digest, ...]:
    """Digests of one thing by different algorithms."""
    result = node.all("", digest)
    if len({item.algorithm for item in result}) != len(result):
        node.refuse("an algorithm stands twice")
    return result


def _encode_digest(value: Digest) -> list[int | str | bytes]:
    return [value.algorithm, value.value]


def _encode_digests(values: tuple[Digest, ...]) -> list[list[int | str | bytes]]:
    return [_encode_digest(value) for value in values]


def measurement(node: Node) -> Measurement:
    """A measurement-map."""
    found = node.fields({0: "key", 1: "values", 2: "authorized-by"})
    return Measurement(
        key=found.maybe("key", element),
        # Paths leave the step "values" out: triples.reference[2].measurement[0].digests.
        values=values(Node(found["values"].value, node.path, node.forms)),
        authorized_by=found.maybe("authorized-by", keys) or (),
    )


def encode_measurement(value: Measurement) -> dict[int, Any]:
    """A measurement-map ready to be encoded."""
    result: dict[int, Any] = {1: encode_values(value.values)}
    if value.key is not None:
        result[0] = value.key
    if value.authorized_by:
        result[2] = encode_keys(value.authorized_by)
    return result


def values(node: Node) -> MeasurementValues:
    """A measurement-values-map."""
    found = node.fields(_VALUES, extensible=True)
    found.some()
    if "raw-value-mask" in found.found and "raw-value" not in found.found:
        found["raw-value-mask"].refuse("a mask without a raw value")
    return MeasurementValues(
        version=found.maybe("version", _version),
        svn=found.maybe("svn", _svn),
        digests=found.maybe("digests", digests) or (),
        flags=found.maybe("flags", _flags) or (),
        raw_value=found.maybe(
            "raw-value", lambda raw: _raw_value(raw, found.found.get("raw-value-mask"))
        ),
        mac_address=found.maybe("mac-address", lambda inner: inner.octets((6, 8))),
        ip_address=found.maybe("ip-address", _address),
        serial_number=found.maybe("serial-number", Node.text),
        ueid=found.maybe("ueid", lambda inner: inner.octets(_UEID_SIZES)),
        uuid=found.maybe("uuid", lambda inner: inner.octets((16,))),
        name=found.maybe("name", Node.text),
        crypto_keys=found.list("crypto-keys", "", key),
        integrity_registers=found.maybe("integrity-registers", _registers) or (),
        int_range=found.maybe("int-range", _int_range),
        extensions=found.extensions,
    )


def encode_values(value: MeasurementValues) -> dict[int, Any]:
    """A measurement-values-map ready to be encoded. Masks go into the value (tag 563)."""
    result: dict[int, Any] = {
        0: _encode_version(value.version),
        1: _encode_svn(value.svn),
        2: _encode_digests(value.digests) or None,
        3: {int(flag): fact for flag, fact in value.flags} or None,
        4: _encode_raw_value(value.raw_value),
        6: value.mac_address,
        7: _encode_address(value.ip_address),
        8: value.serial_number,
        9: value.ueid,
        10: value.uuid,
        11: value.name,
        13: encode_keys(value.crypto_keys) or None,
        14: {register: _encode_digests(found) for register, found in value.integrity_registers}
        or None,
        15: _encode_int_range(value.int_range),
    }
    present = {number: item for number, item in result.items() if item is not None}
    return extended(present, value.extensions)


def _version(node: Node) -> Version:
    found = node.fields({0: "version", 1: "scheme"})
    scheme = found.maybe(
        "scheme",
        lambda inner: inner.text() if isinstance(inner.value, str) else inner.integer(),
    )
    return Version(found["version"].text(), scheme)


def _encode_version(value: Version | None) -> dict[int, Any] | None:
    if value is None:
        return None
    return {0: value.version} | ({} if value.scheme is None else {1: value.scheme})


def _svn(node: Node) -> Svn:
    if not isinstance(node.value, Tag):
        return Svn(node.count())
    number, inner = node.tagged(TAG_SVN, TAG_MIN_SVN)
    return Svn(inner.count(), SvnKind.MINIMUM if number == TAG_MIN_SVN else SvnKind.EXACT)


def _encode_svn(value: Svn | None) -> Tag | None:
    if value is None:
        return None
    return Tag(TAG_MIN_SVN if value.kind is SvnKind.MINIMUM else TAG_SVN, value.value)


def _flags(node: Node) -> tuple[tuple[int, bool], ...]:
    if not isinstance(node.value, dict) or not node.value:
        node.refuse("expected a map with at least one flag")
    known = {flag.value: flag for flag in Flag}
    result = []
    for number, fact in node.value.items():
        inner = node.within(fact, str(number))
        if not isinstance(number, int):
            inner.refuse("a flag's key must be a number")
        result.append((known.get(number, number), inner.boolean()))
    return tuple(sorted(result))


def _raw_value(node: Node, separate_mask: Node | None) -> RawValue:
    number, inner = node.tagged(TAG_BYTES, TAG_MASKED_RAW_VALUE)
    if number == TAG_BYTES:
        value = inner.octets()
        if separate_mask is None:
            return RawValue(value)
        return RawValue(value, separate_mask.octets((len(value),)))
    if separate_mask is not None:
        separate_mask.refuse("a second mask beside the masked raw value")
    first, mask = inner.record("value", "mask")
    return RawValue(first.octets(), mask.octets((len(first.octets()),)))


def _encode_raw_value(value: RawValue | None) -> Tag | None:
    if value is None:
        return None
    if value.mask is None:
        return Tag(TAG_BYTES, value.value)
    return Tag(TAG_MASKED_RAW_VALUE, [value.value, value.mask])


def _address(node: Node) -> bytes:
    if isinstance(node.value, bytes):
        node.form(Form.BARE_ADDRESS, "an address in tag 52 or 54")
        return node.octets((4, 16))
    number, inner = node.tagged(_TAG_IPV4, _TAG_IPV6)
    return inner.octets((_ADDRESS_SIZES[number],))


def _encode_address(value: bytes | None) -> Tag | None:
    if value is None:
        return None
    return Tag(_TAG_IPV4 if len(value) == 4 else _TAG_IPV6, value)


def _registers(node: Node) -> tuple[tuple[int | str, tuple[Digest, ...]], ...]:
    if not isinstance(node.value, dict) or not node.value:
        node.refuse("expected a map with at least one register")
    result: list[tuple[int | str, tuple[Digest, ...]]] = []
    for register, found in node.value.items():
        inner = Node(found, f"{node.path}[{register}]", node.forms)
        if not isinstance(register, (int, str)) or (isinstance(register, int) and register < 0):
            inner.refuse("a register must be a number that is not negative, or a name")
        result.append((register, digests(inner)))
    return tuple(sorted(result, key=lambda entry: (isinstance(entry[0], str), entry[0])))


def _int_range(node: Node) -> IntRange:
    if not isinstance(node.value, Tag):
        number = node.integer()
        return IntRange(number, number)
    low, high = node.tagged(TAG_INT_RANGE)[1].record("minimum", "maximum")
    least, most = (None if end.value is None else end.integer() for end in (low, high))
    if least is not None and most is not None and least > most:
        node.refuse(f"the range from {least} to {most} is empty")
    return IntRange(least, most)


def _encode_int_range(value: IntRange | None) -> int | Tag | None:
    if value is None:
        return None
    if value.minimum is not None and value.minimum == value.maximum:
        return value.minimum
    return Tag(TAG_INT_RANGE, [value.minimum, value.maximum])
