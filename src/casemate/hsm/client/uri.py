"""PKCS#11 URIs (RFC 7512): how configuration files name a key in a partition."""

from __future__ import annotations

from casemate.formats import pkcs11_uri
from casemate.formats.pkcs11 import ObjectClass
from casemate.formats.pkcs11_uri import Pkcs11Uri
from casemate.hsm.client.objects import Object

_TYPES = {
    ObjectClass.PRIVATE_KEY: "private",
    ObjectClass.PUBLIC_KEY: "public",
    ObjectClass.SECRET_KEY: "secret-key",
    ObjectClass.CERTIFICATE: "cert",
    ObjectClass.DATA: "data",
}


def object_uri(found: Object) -> str:
    """Return the URI of an object: token, id, label and type."""
    path = {"token": found.partition.name.encode()}
    if found.id:
        path["id"] = found.id
    if found.label:
        path["object"] = found.label.encode()
    for object_class, name in _TYPES.items():
        if found.object_class == object_class:
            path["type"] = name.encode()
    return pkcs11_uri.encode(Pkcs11Uri(path))
