"""PKCS#11 through ctypes, close to C: the tests see every CKR_ code, every length, every buffer."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, byref, c_char, c_ubyte, c_ulong, c_void_p
from pathlib import Path
from typing import Any

import casemate
from tests.pkcs11.constants import Attribute, Flag, Mechanism, Rv, User

#: What is tested.
LIBRARY = Path(casemate.__file__).with_name("libcasemate_pkcs11.so")

Value = bytes | int | bool | Sequence[int]
Template = Mapping[Attribute, Value]


class CkError(Exception):
    """A result other than CKR_OK."""

    def __init__(self, function: str, code: int) -> None:
        self.code = code
        name = Rv(code).name if code in Rv.__members__.values() else hex(code)
        super().__init__(f"{function}: {name}")


class Version(Structure):
    _fields_ = (("major", c_ubyte), ("minor", c_ubyte))


class CkAttribute(Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class CkMechanism(Structure):
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class Interface(Structure):
    _fields_ = (("name", ctypes.c_char_p), ("functions", POINTER(Version)), ("flags", c_ulong))


class SlotInfo(Structure):
    _fields_ = (
        ("description", c_char * 64),
        ("manufacturer", c_char * 32),
        ("flags", c_ulong),
        ("hardware", Version),
        ("firmware", Version),
    )


class TokenInfo(Structure):
    _fields_ = (
        ("label", c_char * 32),
        ("manufacturer", c_char * 32),
        ("model", c_char * 16),
        ("serial", c_char * 16),
        ("flags", c_ulong),
        *((f"number{index}", c_ulong) for index in range(10)),
        ("hardware", Version),
        ("firmware", Version),
        ("time", c_char * 16),
    )


class Info(Structure):
    _fields_ = (
        ("cryptoki", Version),
        ("manufacturer", c_char * 32),
        ("flags", c_ulong),
        ("description", c_char * 32),
        ("version", Version),
    )


class SessionInfo(Structure):
    _fields_ = (
        ("slot", c_ulong),
        ("state", c_ulong),
        ("flags", c_ulong),
        ("error", c_ulong),
    )


class GcmParams(Structure):
    _fields_ = (
        ("iv", c_void_p),
        ("iv_length", c_ulong),
        ("iv_bits", c_ulong),
        ("aad", c_void_p),
        ("aad_length", c_ulong),
        ("tag_bits", c_ulong),
    )


class GcmMessageParams(Structure):
    _fields_ = (
        ("iv", c_void_p),
        ("iv_length", c_ulong),
        ("fixed_bits", c_ulong),
        ("generator", c_ulong),
        ("tag", c_void_p),
        ("tag_bits", c_ulong),
    )


class AsyncData(Structure):
    _fields_ = (
        ("version", c_ulong),
        ("value", c_void_p),
        ("length", c_ulong),
        ("object", c_ulong),
        ("additional", c_ulong),
    )


def function_names() -> list[str]:
    """The names of the 3.2 list in their order: that of the standard's header."""
    return re.findall(r"C_\w+", _FUNCTIONS)


class Cryptoki:
    """A loaded library. As a context: between C_Initialize and C_Finalize."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        found = POINTER(Interface)()
        version = Version(3, 2)
        code = self.library.C_GetInterface(b"PKCS 11", byref(version), byref(found), c_ulong(0))
        if code != Rv.OK:
            raise CkError("C_GetInterface", code)
        address = ctypes.addressof(found.contents.functions.contents)
        names = function_names()
        pointers = (c_void_p * (len(names) + 1)).from_address(address)
        self._addresses = dict(zip(names, pointers[1:], strict=True))

    def raw(self, name: str, *arguments: Any) -> int:
        """Call a function; Python integers are CK_ULONG. The result code."""
        converted = [c_ulong(a) if isinstance(a, int) else a for a in arguments]
        prototype = ctypes.CFUNCTYPE(c_ulong)
        address = self._addresses[name]
        assert address is not None
        # The arguments' own types say how they are passed: no prototype is needed.
        return int(prototype(address)(*converted))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function that must succeed."""
        code = self.raw(name, *arguments)
        if code != Rv.OK:
            raise CkError(name, code)

    def __enter__(self) -> Cryptoki:
        self.call("C_Initialize", None)
        return self

    def __exit__(self, *exception: object) -> None:
        self.call("C_Finalize", None)

    def slots(self, *, present: bool = True) -> list[int]:
        count = c_ulong()
        token = c_ubyte(present)
        self.call("C_GetSlotList", token, None, byref(count))
        slots = (c_ulong * count.value)()
        self.call("C_GetSlotList", token, slots, byref(count))
        return list(slots[: count.value])

    def slot(self, name: str) -> int:
        """The slot of the partition with this name."""
        for slot in self.slots():
            info = SlotInfo()
            self.call("C_GetSlotInfo", slot, byref(info))
            if info.description.decode().split()[-1] == name:
                return slot
        raise LookupError(name)

    def token(self, slot: int) -> TokenInfo:
        info = TokenInfo()
        self.call("C_GetTokenInfo", slot, byref(info))
        return info

    def mechanisms(self, slot: int) -> list[int]:
        count = c_ulong()
        self.call("C_GetMechanismList", slot, None, byref(count))
        kinds = (c_ulong * count.value)()
        self.call("C_GetMechanismList", slot, kinds, byref(count))
        return list(kinds)

    def open_session(self, slot: int, flags: int = Flag.RW_SESSION) -> Session:
        handle = c_ulong()
        self.call("C_OpenSession", slot, flags | Flag.SERIAL_SESSION, None, None, byref(handle))
        return Session(self, handle.value)


def to_bytes(value: Value) -> bytes:
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return value.to_bytes(8, "little")
    if isinstance(value, bytes):
        return value
    return b"".join(number.to_bytes(8, "little") for number in value)


def c_template(template: Template) -> ctypes.Array[CkAttribute]:
    """A C template; it keeps its values alive."""
    array = (CkAttribute * len(template))()
    kept = []
    for entry, (kind, value) in zip(array, template.items(), strict=True):
        data = to_bytes(value)
        buffer = ctypes.create_string_buffer(data, max(len(data), 1))
        kept.append(buffer)
        entry.type, entry.length = kind, len(data)
        entry.value = ctypes.addressof(buffer)
    setattr(array, "kept", kept)  # noqa: B010 (ctypes arrays have a dictionary, their stubs do not)
    return array


def c_mechanism(kind: int, parameter: bytes | Structure | None = None) -> CkMechanism:
    """A C mechanism; it keeps its parameter alive."""
    if parameter is None:
        return CkMechanism(kind, None, 0)
    if isinstance(parameter, bytes):
        buffer: Any = ctypes.create_string_buffer(parameter, max(len(parameter), 1))
        length = len(parameter)
    else:
        buffer, length = parameter, ctypes.sizeof(parameter)
    mechanism = CkMechanism(kind, ctypes.addressof(buffer), length)
    mechanism.kept = buffer
    return mechanism


def gcm(iv: bytes, aad: bytes = b"", tag_bits: int = 128) -> GcmParams:
    """CK_GCM_PARAMS that keeps its buffers alive."""
    buffers = [ctypes.create_string_buffer(data, max(len(data), 1)) for data in (iv, aad)]
    first, second = map(ctypes.addressof, buffers)
    params = GcmParams(first, len(iv), 8 * len(iv), second, len(aad), tag_bits)
    params.kept = buffers
    return params


class Session:
    """A session, with the functions of the standard in the forms that tests need."""

    def __init__(self, library: Cryptoki, handle: int) -> None:
        self.library = library
        self.handle = handle

    def raw(self, name: str, *arguments: Any) -> int:
        return self.library.raw(name, self.handle, *arguments)

    def call(self, name: str, *arguments: Any) -> None:
        self.library.call(name, self.handle, *arguments)

    def login(self, pin: bytes | None, user: User = User.USER) -> None:
        self.call("C_Login", int(user), pin, len(pin or b""))

    def info(self) -> SessionInfo:
        info = SessionInfo()
        self.call("C_GetSessionInfo", byref(info))
        return info

    def create(self, template: Template) -> int:
        handle = c_ulong()
        self.call("C_CreateObject", c_template(template), len(template), byref(handle))
        return handle.value

    def generate(self, mechanism: int, template: Template) -> int:
        handle = c_ulong()
        self.call(
            "C_GenerateKey",
            byref(c_mechanism(mechanism)),
            c_template(template),
            len(template),
            byref(handle),
        )
        return handle.value

    def generate_pair(self, mechanism: int, public: Template, private: Template) -> tuple[int, int]:
        handles = (c_ulong(), c_ulong())
        self.call(
            "C_GenerateKeyPair",
            byref(c_mechanism(mechanism)),
            c_template(public),
            len(public),
            c_template(private),
            len(private),
            byref(handles[0]),
            byref(handles[1]),
        )
        return handles[0].value, handles[1].value

    def destroy(self, handle: int) -> None:
        self.call("C_DestroyObject", handle)

    def find(self, template: Template) -> list[int]:
        self.call("C_FindObjectsInit", c_template(template), len(template))
        found: list[int] = []
        batch, count = (c_ulong * 7)(), c_ulong()
        while True:
            self.call("C_FindObjects", batch, 7, byref(count))
            if count.value == 0:
                break
            found += batch[: count.value]
        self.call("C_FindObjectsFinal")
        return found

    def attribute(self, handle: int, kind: Attribute) -> bytes:
        entry = CkAttribute(kind, None, 0)
        self.call("C_GetAttributeValue", handle, byref(entry), 1)
        buffer = ctypes.create_string_buffer(max(entry.length, 1))
        entry.value = ctypes.addressof(buffer)
        self.call("C_GetAttributeValue", handle, byref(entry), 1)
        return buffer.raw[: entry.length]

    def begin(
        self,
        name: str,
        mechanism: int,
        key: int | None = None,
        parameter: bytes | Structure | None = None,
    ) -> None:
        """C_<name>Init."""
        arguments = [byref(c_mechanism(mechanism, parameter)), *([] if key is None else [key])]
        self.call(f"C_{name}Init", *arguments)

    def output(self, function: str, *arguments: Any) -> bytes:
        """Call a function with output: first for the length, then for the bytes."""
        length = c_ulong()
        self.call(function, *arguments, None, byref(length))
        buffer = ctypes.create_string_buffer(max(length.value, 1))
        self.call(function, *arguments, buffer, byref(length))
        return buffer.raw[: length.value]

    def once(
        self,
        name: str,
        mechanism: int,
        data: bytes,
        *,
        key: int | None = None,
        parameter: bytes | Structure | None = None,
    ) -> bytes:
        """C_<name>Init and C_<name>."""
        self.begin(name, mechanism, key, parameter)
        return self.output(f"C_{name}", data, len(data))

    def sign(self, mechanism: int, key: int, data: bytes) -> bytes:
        return self.once("Sign", mechanism, data, key=key)

    def verify(self, mechanism: int, key: int, data: bytes, signature: bytes) -> None:
        self.begin("Verify", mechanism, key)
        self.call("C_Verify", data, len(data), signature, len(signature))

    def p256(self, label: bytes = b"", *, token: bool = False) -> tuple[int, int]:
        """A P-256 key pair for signatures."""
        common: dict[Attribute, Value] = {Attribute.TOKEN: token, Attribute.LABEL: label}
        oid = bytes.fromhex("06082a8648ce3d030107")
        return self.generate_pair(
            Mechanism.EC_KEY_PAIR_GEN,
            {**common, Attribute.EC_PARAMS: oid, Attribute.VERIFY: True},
            {**common, Attribute.SIGN: True},
        )


_FUNCTIONS = """
C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetSlotList C_GetSlotInfo C_GetTokenInfo
C_GetMechanismList C_GetMechanismInfo C_InitToken C_InitPIN C_SetPIN C_OpenSession C_CloseSession
C_CloseAllSessions C_GetSessionInfo C_GetOperationState C_SetOperationState C_Login C_Logout
C_CreateObject C_CopyObject C_DestroyObject C_GetObjectSize C_GetAttributeValue
C_SetAttributeValue C_FindObjectsInit C_FindObjects C_FindObjectsFinal C_EncryptInit C_Encrypt
C_EncryptUpdate C_EncryptFinal C_DecryptInit C_Decrypt C_DecryptUpdate C_DecryptFinal C_DigestInit
C_Digest C_DigestUpdate C_DigestKey C_DigestFinal C_SignInit C_Sign C_SignUpdate C_SignFinal
C_SignRecoverInit C_SignRecover C_VerifyInit C_Verify C_VerifyUpdate C_VerifyFinal
C_VerifyRecoverInit C_VerifyRecover C_DigestEncryptUpdate C_DecryptDigestUpdate
C_SignEncryptUpdate C_DecryptVerifyUpdate C_GenerateKey C_GenerateKeyPair C_WrapKey C_UnwrapKey
C_DeriveKey C_SeedRandom C_GenerateRandom C_GetFunctionStatus C_CancelFunction C_WaitForSlotEvent
C_GetInterfaceList C_GetInterface C_LoginUser C_SessionCancel C_MessageEncryptInit
C_EncryptMessage C_EncryptMessageBegin C_EncryptMessageNext C_MessageEncryptFinal
C_MessageDecryptInit C_DecryptMessage C_DecryptMessageBegin C_DecryptMessageNext
C_MessageDecryptFinal C_MessageSignInit C_SignMessage C_SignMessageBegin C_SignMessageNext
C_MessageSignFinal C_MessageVerifyInit C_VerifyMessage C_VerifyMessageBegin C_VerifyMessageNext
C_MessageVerifyFinal C_EncapsulateKey C_DecapsulateKey C_VerifySignatureInit C_VerifySignature
C_VerifySignatureUpdate C_VerifySignatureFinal C_GetSessionValidationFlags C_AsyncComplete
C_AsyncGetID C_AsyncJoin C_WrapKeyAuthenticated C_UnwrapKeyAuthenticated
"""
