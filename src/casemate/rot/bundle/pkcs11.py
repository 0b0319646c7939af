"""A signer whose key is in a hardware module behind PKCS#11, named by a URI (RFC 7512).

    pkcs11:token=Vendor;object=bundle-ecc?module-path=/usr/lib/p11.so&pin-source=file:/run/pin

Only what signing needs is bound, with `ctypes`, so that any module can sign without another
package. The PIN comes from `pin-source`, from `CASEMATE_PKCS11_PIN`, or from `pin-value` (seen by
whoever sees the command line). The module comes from `module-path` or `CASEMATE_PKCS11_MODULE`.
ECDSA P-384 signs with CKM_ECDSA, ML-DSA-87 with CKM_ML_DSA (PKCS#11 3.2). LMS has no PKCS#11 form
that modules agree on; its keys are directories.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from casemate.formats import pkcs11_uri
from casemate.formats.pkcs11_uri import Pkcs11UriError
from casemate.rot.bundle.signers import Algorithm, SignerError

_ULONG = ctypes.c_ulong
_CKR_OK = 0
_CKR_ALREADY_INITIALIZED = 0x191
_CKR_ALREADY_LOGGED_IN = 0x100
_CKF_SERIAL_SESSION = 4
_CKF_OS_LOCKING = 2
_CKU_USER = 1
_CKF_LOGIN_REQUIRED = 4
_CKO_PUBLIC_KEY, _CKO_PRIVATE_KEY = 2, 3
_CKK_EC, _CKK_ML_DSA = 3, 0x4A
_CKM_ECDSA, _CKM_ML_DSA = 0x1041, 0x1D
_CKA_CLASS, _CKA_LABEL, _CKA_VALUE, _CKA_KEY_TYPE, _CKA_ID = 0, 3, 0x11, 0x100, 0x102
_CKA_EC_PARAMS, _CKA_EC_POINT = 0x180, 0x181
_P384_OID = bytes.fromhex("06052b81040022")
_UNAVAILABLE = _ULONG(-1).value
_LARGEST_ATTRIBUTE = 8192
_MOST_OBJECTS = 64

#: Position of each function that is used in CK_FUNCTION_LIST (PKCS#11 2.40, section 3.6).
_POSITION = {
    "C_Initialize": 0,
    "C_GetSlotList": 4,
    "C_GetTokenInfo": 6,
    "C_OpenSession": 12,
    "C_CloseSession": 13,
    "C_Login": 18,
    "C_GetAttributeValue": 24,
    "C_FindObjectsInit": 26,
    "C_FindObjects": 27,
    "C_FindObjectsFinal": 28,
    "C_SignInit": 42,
    "C_Sign": 43,
}
_FUNCTIONS = 68


class _FunctionList(ctypes.Structure):
    _fields_ = (("version", ctypes.c_ubyte * 2), ("functions", ctypes.c_void_p * _FUNCTIONS))


class _InitializeArgs(ctypes.Structure):
    _fields_ = (
        ("mutexes", ctypes.c_void_p * 4),
        ("flags", _ULONG),
        ("reserved", ctypes.c_void_p),
    )


class _TokenInfo(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("manufacturer", ctypes.c_char * 32),
        ("model", ctypes.c_char * 16),
        ("serial", ctypes.c_char * 16),
        ("flags", _ULONG),
        ("numbers", _ULONG * 10),
        ("versions", ctypes.c_ubyte * 4),
        ("time", ctypes.c_char * 16),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (("type", _ULONG), ("value", ctypes.c_void_p), ("length", _ULONG))


class _Mechanism(ctypes.Structure):
    _fields_ = (
        ("mechanism", _ULONG),
        ("parameter", ctypes.c_void_p),
        ("parameter_length", _ULONG),
    )


@dataclass(frozen=True, slots=True)
class KeyUri:
    """The parts of a `pkcs11:` URI that choose a module, a token and a key."""

    module: str
    token: dict[str, bytes]
    slot_id: int | None
    object_label: bytes | None
    object_id: bytes | None
    pin_source: str | None
    pin_value: bytes | None

    @classmethod
    def parse(cls, text: str) -> KeyUri:
        """Parse a URI; unknown path attributes are refused, as RFC 7512 asks.

        Raises SignerError.
        """
        try:
            uri = pkcs11_uri.decode(text)
        except Pkcs11UriError as error:
            raise SignerError(str(error)) from None
        path, query = uri.path, uri.query
        if unknown := path.keys() - {
            *("token", "manufacturer", "model", "serial", "slot-id", "object", "id", "type"),
        }:
            raise SignerError(f"PKCS#11 URI: nothing is chosen by {', '.join(sorted(unknown))}")
        if path.get("type", b"private") != b"private":
            raise SignerError("PKCS#11 URI: a signer is a key of type=private")
        module = os.fsdecode(query.get("module-path", b"")) or os.environ.get(
            "CASEMATE_PKCS11_MODULE", ""
        )
        if not module:
            raise SignerError(
                "PKCS#11 URI: no module; add ?module-path=... or set CASEMATE_PKCS11_MODULE"
            )
        if not {"object", "id"} & path.keys():
            raise SignerError("PKCS#11 URI: name the key with object= or id=")
        slot = path.get("slot-id")
        if slot is not None and not slot.isdigit():
            raise SignerError("PKCS#11 URI: slot-id is a number")
        return cls(
            module,
            {
                name: path[name]
                for name in ("token", "manufacturer", "model", "serial")
                if name in path
            },
            None if slot is None else int(slot),
            path.get("object"),
            path.get("id"),
            os.fsdecode(query["pin-source"]) if "pin-source" in query else None,
            query.get("pin-value"),
        )

    def pin(self) -> bytes | None:
        """The PIN, if one is given. Raises SignerError if its file cannot be read."""
        if self.pin_source is not None:
            path = Path(self.pin_source.removeprefix("file:"))
            try:
                return path.read_bytes().rstrip(b"\r\n")
            except OSError as error:
                raise SignerError(f"pin-source {path}: {error.strerror}") from None
        variable = os.environ.get("CASEMATE_PKCS11_PIN")
        return variable.encode() if variable is not None else self.pin_value


class _Module:
    """A loaded PKCS#11 library; its functions by name, errors as SignerError."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            library = ctypes.CDLL(path)
            get_function_list = library.C_GetFunctionList
        except (OSError, AttributeError) as error:
            raise SignerError(f"{path} is no PKCS#11 module: {error}") from None
        table = ctypes.POINTER(_FunctionList)()
        if get_function_list(ctypes.byref(table)) != _CKR_OK or not table:
            raise SignerError(f"{path}: C_GetFunctionList failed")
        prototype = ctypes.CFUNCTYPE(_ULONG)
        self._functions = {}
        for name, position in _POSITION.items():
            address = table.contents.functions[position]
            if not address:
                raise SignerError(f"{path}: the module has no {name}")
            self._functions[name] = prototype(address)
        arguments = _InitializeArgs(flags=_CKF_OS_LOCKING)
        code = self._functions["C_Initialize"](ctypes.byref(arguments))
        if code not in (_CKR_OK, _CKR_ALREADY_INITIALIZED):
            raise SignerError(f"{path}: C_Initialize failed with {code:#x}")

    def call(self, name: str, *arguments: object, accept: Sequence[int] = ()) -> int:
        """Call one function. Raises SignerError unless it answers OK or an accepted code."""
        code = int(self._functions[name](*arguments))
        if code != _CKR_OK and code not in accept:
            raise SignerError(f"{self.path}: {name} failed with {code:#x}")
        return code

    def slots(self) -> list[int]:
        """The slots that hold a token."""
        count = _ULONG()
        self.call("C_GetSlotList", ctypes.c_ubyte(1), None, ctypes.byref(count))
        slots = (_ULONG * count.value)()
        self.call("C_GetSlotList", ctypes.c_ubyte(1), slots, ctypes.byref(count))
        return list(slots)[: count.value]

    def token(self, slot: int) -> _TokenInfo:
        """What the token in a slot says about itself."""
        info = _TokenInfo()
        self.call("C_GetTokenInfo", _ULONG(slot), ctypes.byref(info))
        return info


def _template(values: Sequence[tuple[int, bytes]]) -> tuple[ctypes.Array[_Attribute], list[object]]:
    buffers: list[object] = []
    template = (_Attribute * len(values))()
    for at, (kind, value) in enumerate(values):
        buffer = ctypes.create_string_buffer(value, len(value))
        buffers.append(buffer)
        template[at] = _Attribute(kind, ctypes.addressof(buffer), len(value))
    return template, buffers


def _number(value: int) -> bytes:
    return bytes(_ULONG(value))


class Pkcs11Signer:
    """A private key in a token. The session stays open for the life of the signer."""

    def __init__(self, module: _Module, session: int, key: int, uri: KeyUri) -> None:
        self._module = module
        self._session = _ULONG(session)
        self._key = _ULONG(key)
        kind = int.from_bytes(self._attribute(key, _CKA_KEY_TYPE), "little")
        public = self._public_object(key, uri)
        if kind == _CKK_EC:
            if self._attribute(public, _CKA_EC_PARAMS) != _P384_OID:
                raise SignerError("the PKCS#11 key is on another curve than P-384")
            self.algorithm = Algorithm.ECDSA_P384
            self.public_key = _point(self._attribute(public, _CKA_EC_POINT))
        elif kind == _CKK_ML_DSA:
            self.algorithm = Algorithm.MLDSA87
            self.public_key = self._attribute(public, _CKA_VALUE)
            if len(self.public_key) != 2592:
                raise SignerError("the PKCS#11 key is of another set than ML-DSA-87")
        else:
            raise SignerError(f"expected an EC or ML-DSA key, found CKA_KEY_TYPE {kind:#x}")

    @classmethod
    def open(cls, text: str) -> Pkcs11Signer:
        """Open the key that a URI names. Raises SignerError if it is not exactly one."""
        uri = KeyUri.parse(text)
        module = _Module(uri.module)
        slot, info = _one_slot(module, uri)
        session = _ULONG()
        module.call(
            "C_OpenSession",
            _ULONG(slot),
            _ULONG(_CKF_SERIAL_SESSION),
            None,
            None,
            ctypes.byref(session),
        )
        pin = uri.pin()
        if pin is not None:
            module.call(
                "C_Login",
                session,
                _ULONG(_CKU_USER),
                ctypes.c_char_p(pin),
                _ULONG(len(pin)),
                accept=(_CKR_ALREADY_LOGGED_IN,),
            )
        elif info.flags & _CKF_LOGIN_REQUIRED:
            raise SignerError(
                "the token asks for a PIN: give pin-source in the URI or CASEMATE_PKCS11_PIN"
            )
        keys = list(_find(module, session, _key_template(_CKO_PRIVATE_KEY, uri)))
        if len(keys) != 1:
            raise SignerError(f"the PKCS#11 URI names {len(keys)} private keys, expected one")
        return cls(module, session.value, keys[0], uri)

    def _public_object(self, key: int, uri: KeyUri) -> int:
        template = _key_template(_CKO_PUBLIC_KEY, uri)
        if uri.object_id is None:
            template.append((_CKA_ID, self._attribute(key, _CKA_ID)))
        found = list(_find(self._module, self._session, template))
        if len(found) != 1:
            raise SignerError(f"the private key has {len(found)} public keys beside it")
        return found[0]

    def _attribute(self, handle: int, kind: int) -> bytes:
        buffer = ctypes.create_string_buffer(_LARGEST_ATTRIBUTE)
        attribute = _Attribute(kind, ctypes.addressof(buffer), _LARGEST_ATTRIBUTE)
        self._module.call(
            "C_GetAttributeValue",
            self._session,
            _ULONG(handle),
            ctypes.byref(attribute),
            _ULONG(1),
        )
        if attribute.length in (_UNAVAILABLE, 0) and kind != _CKA_ID:
            raise SignerError(f"the PKCS#11 key has no attribute {kind:#x}")
        return buffer.raw[: attribute.length]

    def sign(self, message: bytes) -> bytes:
        """Sign; ECDSA a SHA-384 digest, ML-DSA-87 the bytes themselves."""
        number = _CKM_ECDSA if self.algorithm is Algorithm.ECDSA_P384 else _CKM_ML_DSA
        mechanism = _Mechanism(number, None, 0)
        self._module.call("C_SignInit", self._session, ctypes.byref(mechanism), self._key)
        signature = ctypes.create_string_buffer(_LARGEST_ATTRIBUTE)
        length = _ULONG(_LARGEST_ATTRIBUTE)
        self._module.call(
            "C_Sign",
            self._session,
            ctypes.c_char_p(message),
            _ULONG(len(message)),
            signature,
            ctypes.byref(length),
        )
        return signature.raw[: length.value]

    def close(self) -> None:
        """Close the session."""
        self._module.call("C_CloseSession", self._session)


def _one_slot(module: _Module, uri: KeyUri) -> tuple[int, _TokenInfo]:
    found = []
    for slot in module.slots():
        info = module.token(slot)
        texts = {
            "token": info.label,
            "manufacturer": info.manufacturer,
            "model": info.model,
            "serial": info.serial,
        }
        if uri.slot_id in (None, slot) and all(
            texts[name].rstrip(b" ") == value for name, value in uri.token.items()
        ):
            found.append((slot, info))
    if len(found) != 1:
        raise SignerError(f"the PKCS#11 URI names {len(found)} tokens, expected one")
    return found[0]


def _key_template(kind: int, uri: KeyUri) -> list[tuple[int, bytes]]:
    template = [(_CKA_CLASS, _number(kind))]
    if uri.object_label is not None:
        template.append((_CKA_LABEL, uri.object_label))
    if uri.object_id is not None:
        template.append((_CKA_ID, uri.object_id))
    return template


def _find(
    module: _Module, session: ctypes.c_ulong, values: Sequence[tuple[int, bytes]]
) -> Iterator[int]:
    template, _kept_alive = _template(values)
    module.call("C_FindObjectsInit", session, template, _ULONG(len(values)))
    handles = (_ULONG * _MOST_OBJECTS)()
    count = _ULONG()
    module.call("C_FindObjects", session, handles, _ULONG(_MOST_OBJECTS), ctypes.byref(count))
    module.call("C_FindObjectsFinal", session)
    yield from list(handles)[: count.value]


def _point(value: bytes) -> bytes:
    """X || Y of an EC point, with or without its OCTET STRING around."""
    if len(value) == 99 and value[:2] == b"\x04\x61":
        value = value[2:]
    if len(value) != 97 or value[0] != 4:
        raise SignerError("the PKCS#11 key's EC point is not an uncompressed point of P-384")
    return value[1:]
