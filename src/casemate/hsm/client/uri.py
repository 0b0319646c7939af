"""PKCS#11 URIs (RFC 7512): how configuration files name a key in a partition."""

from __future__ import annotations

from urllib.parse import quote

from casemate.formats.pkcs11 import ObjectClass
from casemate.hsm.client.keys import Object

_TYPES = {
    ObjectClass.PRIVATE_KEY: "private",
    ObjectClass.PUBLIC_KEY: "public",
    ObjectClass.SECRET_KEY: "secret-key",
    ObjectClass.CERTIFICATE: "cert",
    ObjectClass.DATA: "data",
}


def object_uri(found: Object) -> str:
    """Return the URI of an object: token, id, label and type."""
    parts = [f"token={quote(found.partition.name, safe='-._~')}"]
    if found.id:
        parts.append("id=" + "".join(f"%{byte:02X}" for byte in found.id))
    if found.label:
        parts.append(f"object={quote(found.label, safe='-._~')}")
    for object_class, name in _TYPES.items():
        if found.object_class == object_class:
            parts.append(f"type={name}")
    return "pkcs11:" + ";".join(parts)
