"""Keys through the library: derivation, wrapping, encapsulation, and every parameter structure.

What comes out is compared with `cryptography`; a secret is read from an extractable session key.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import os
from ctypes import byref, c_ubyte, c_ulong, c_void_p, create_string_buffer

import pytest
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.pkcs11.constants import Attribute, Class, KeyType, Mechanism, Rv
from tests.pkcs11.cryptoki import (
    CkAttribute,
    CkError,
    Session,
    Template,
    Value,
    c_mechanism,
    c_template,
)

KEY = bytes(range(32))
P256 = bytes.fromhex("06082a8648ce3d030107")
SHA1, MGF1_SHA1 = 0x220, 1
SHA256, MGF1_SHA256 = Mechanism.SHA256, 2


def secret_template(length: int | None = None) -> dict[Attribute, Value]:
    """A session secret that may be read."""
    template: dict[Attribute, Value] = {
        Attribute.CLASS: Class.SECRET_KEY,
        Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
        Attribute.SENSITIVE: False,
        Attribute.EXTRACTABLE: True,
    }
    return template if length is None else {**template, Attribute.VALUE_LEN: length}


def secret(session: Session, value: bytes, *usages: Attribute, kind: KeyType = KeyType.AES) -> int:
    return session.create(
        {
            **secret_template(),
            Attribute.KEY_TYPE: kind,
            Attribute.VALUE: value,
            **dict.fromkeys(usages, True),
        }
    )


class Struct(ctypes.Structure):
    """A parameter structure that keeps what it points to."""

    def point(self, field: str, data: bytes) -> None:
        buffer = create_string_buffer(data, max(len(data), 1))
        self.__dict__.setdefault("kept", []).append(buffer)
        setattr(self, field, ctypes.addressof(buffer))


class Oaep(Struct):
    _fields_ = (
        ("hash", c_ulong),
        ("mgf", c_ulong),
        ("source", c_ulong),
        ("label", c_void_p),
        ("label_length", c_ulong),
    )


def oaep(label: bytes = b"") -> Oaep:
    parameters = Oaep(SHA256, MGF1_SHA256, 1 if label else 0, None, len(label))
    if label:
        parameters.point("label", label)
    return parameters


def derive(session: Session, kind: int, parameter: Struct | bytes, base: int, length: int) -> bytes:
    """The value of a key derived with C_DeriveKey."""
    template, handle = secret_template(length), c_ulong()
    mechanism = c_mechanism(kind, parameter)
    session.call(
        "C_DeriveKey",
        byref(mechanism),
        base,
        c_template(template),
        len(template),
        byref(handle),
    )
    return session.attribute(handle.value, Attribute.VALUE)


class Ecdh(Struct):
    _fields_ = (
        ("kdf", c_ulong),
        ("shared_length", c_ulong),
        ("shared", c_void_p),
        ("public_length", c_ulong),
        ("public", c_void_p),
    )


def test_ecdh_agrees_with_another_implementation(session: Session) -> None:
    # From a sensitive key no secret is derived that may be read.
    readable = dict.fromkeys((Attribute.DERIVE, Attribute.EXTRACTABLE), True)
    readable[Attribute.SENSITIVE] = False
    public, private = session.generate_pair(
        Mechanism.EC_KEY_PAIR_GEN, {Attribute.EC_PARAMS: P256}, readable
    )
    other = ec.generate_private_key(ec.SECP256R1())
    point = other.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    parameters = Ecdh(1, 0, None, len(point))
    parameters.point("public", point)
    value = derive(session, Mechanism.ECDH1_DERIVE, parameters, private, 32)
    ours = session.attribute(public, Attribute.EC_POINT)[2:]
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ours)
    assert value == other.exchange(ec.ECDH(), peer)


class HkdfParams(Struct):
    _fields_ = (
        ("extract", c_ubyte),
        ("expand", c_ubyte),
        ("hash", c_ulong),
        ("salt_type", c_ulong),
        ("salt", c_void_p),
        ("salt_length", c_ulong),
        ("salt_key", c_ulong),
        ("info", c_void_p),
        ("info_length", c_ulong),
    )


def test_hkdf_with_salt_and_info(session: Session) -> None:
    base = secret(session, KEY, Attribute.DERIVE, kind=KeyType.GENERIC_SECRET)
    parameters = HkdfParams(1, 1, SHA256, 2, None, 4, 0, None, 4)
    parameters.point("salt", b"salt")
    parameters.point("info", b"info")
    value = derive(session, Mechanism.HKDF_DERIVE, parameters, base, 42)
    assert value == HKDF(hashes.SHA256(), 42, b"salt", b"info").derive(KEY)


class CounterFormat(Struct):
    _fields_ = (("little_endian", c_ubyte), ("width", c_ulong))


class DataParam(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class DerivedKey(ctypes.Structure):
    _fields_ = (("template", c_void_p), ("count", c_ulong), ("handle", c_void_p))


class KdfParams(Struct):
    _fields_ = (
        ("prf", c_ulong),
        ("count", c_ulong),
        ("data", c_void_p),
        ("keys", c_ulong),
        ("further", c_void_p),
    )


def test_a_counter_kdf_gives_further_keys(session: Session) -> None:
    base = secret(session, KEY, Attribute.DERIVE, kind=KeyType.GENERIC_SECRET)
    counter, label = CounterFormat(0, 32), create_string_buffer(b"label", 5)
    data = (DataParam * 2)(
        DataParam(1, ctypes.addressof(counter), ctypes.sizeof(counter)),
        DataParam(4, ctypes.addressof(label), 5),
    )
    template, further = c_template(secret_template(16)), c_ulong()
    keys = (DerivedKey * 1)(
        DerivedKey(ctypes.addressof(template), len(template), ctypes.addressof(further))
    )
    parameters = KdfParams(
        Mechanism.SHA256_HMAC, 2, ctypes.addressof(data), 1, ctypes.addressof(keys)
    )
    first = derive(session, Mechanism.SP800_108_COUNTER_KDF, parameters, base, 32)
    blocks = [hmac.digest(KEY, n.to_bytes(4, "big") + b"label", "sha256") for n in (1, 2)]
    assert first == blocks[0]
    assert session.attribute(further.value, Attribute.VALUE) == blocks[1][:16]


class Randoms(Struct):
    _fields_ = (
        ("client", c_void_p),
        ("client_length", c_ulong),
        ("server", c_void_p),
        ("server_length", c_ulong),
    )


class KeyMaterialOut(Struct):
    _fields_ = (
        ("client_mac", c_ulong),
        ("server_mac", c_ulong),
        ("client_key", c_ulong),
        ("server_key", c_ulong),
        ("client_iv", c_void_p),
        ("server_iv", c_void_p),
    )


class KeyMaterialParams(Struct):
    _fields_ = (
        ("mac_bits", c_ulong),
        ("key_bits", c_ulong),
        ("iv_bits", c_ulong),
        ("export", c_ubyte),
        ("randoms", Randoms),
        ("out", c_void_p),
        ("hash", c_ulong),
    )


def p_sha256(key: bytes, seed: bytes, length: int) -> bytes:
    """The PRF of TLS 1.2 (RFC 5246, section 5)."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(key, a, "sha256")
        out += hmac.digest(key, a + seed, "sha256")
    return out[:length]


def test_tls_key_material_comes_through_its_structure(session: Session) -> None:
    master = os.urandom(48)
    base = secret(session, master, Attribute.DERIVE, kind=KeyType.GENERIC_SECRET)
    client, server = os.urandom(32), os.urandom(32)
    randoms = Randoms(None, 32, None, 32)
    randoms.point("client", client)
    randoms.point("server", server)
    ivs = [create_string_buffer(16), create_string_buffer(16)]
    out = KeyMaterialOut(0, 0, 0, 0, *map(ctypes.addressof, ivs))
    parameters = KeyMaterialParams(256, 128, 128, 0, randoms, ctypes.addressof(out), SHA256)
    template = {**secret_template(), Attribute.KEY_TYPE: KeyType.AES}
    mechanism = c_mechanism(Mechanism.TLS12_KEY_AND_MAC_DERIVE, parameters)
    session.call("C_DeriveKey", byref(mechanism), base, c_template(template), len(template), None)
    block = p_sha256(master, b"key expansion" + server + client, 2 * (32 + 16 + 16))
    handles = (out.client_mac, out.server_mac, out.client_key, out.server_key)
    values = [session.attribute(handle, Attribute.VALUE) for handle in handles]
    assert b"".join([*values, *(iv.raw for iv in ivs)]) == block


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def rsa_pair(session: Session) -> tuple[int, int, rsa.RSAPublicKey]:
    usages = (Attribute.DECRYPT, Attribute.SIGN, Attribute.UNWRAP)
    public, private = session.generate_pair(
        Mechanism.RSA_PKCS_KEY_PAIR_GEN,
        {Attribute.MODULUS_BITS: 2048, Attribute.ENCRYPT: True, Attribute.WRAP: True},
        dict.fromkeys(usages, True),
    )
    numbers = (Attribute.PUBLIC_EXPONENT, Attribute.MODULUS)
    e, n = (int.from_bytes(session.attribute(public, kind), "big") for kind in numbers)
    return public, private, rsa.RSAPublicNumbers(e, n).public_key()


def test_rsa_oaep_and_pss(session: Session) -> None:
    _, private, theirs = rsa_pair(session)
    mgf = padding.MGF1(hashes.SHA256())
    for label in (b"", b"label"):
        sealed = theirs.encrypt(b"data", padding.OAEP(mgf, hashes.SHA256(), label or None))
        opened = session.once(
            "Decrypt", Mechanism.RSA_PKCS_OAEP, sealed, key=private, parameter=oaep(label)
        )
        assert opened == b"data"
    pss = (
        SHA256.to_bytes(8, "little")
        + MGF1_SHA256.to_bytes(8, "little")
        + (32).to_bytes(8, "little")
    )
    signature = session.once(
        "Sign", Mechanism.SHA256_RSA_PKCS_PSS, b"message", key=private, parameter=pss
    )
    theirs.verify(signature, b"message", padding.PSS(mgf, 32), hashes.SHA256())


def test_pss_with_sha1_signs_neither_at_once_nor_in_parts(session: Session) -> None:
    _, private, _ = rsa_pair(session)
    pss = b"".join(value.to_bytes(8, "little") for value in (SHA1, MGF1_SHA1, 20))
    with pytest.raises(CkError, match="MECHANISM_PARAM_INVALID"):
        session.once("Sign", Mechanism.RSA_PKCS_PSS, bytes(20), key=private, parameter=pss)
    session.begin("Sign", Mechanism.RSA_PKCS_PSS, private, pss)
    assert session.raw("C_SignUpdate", bytes(20), 20) == Rv.MECHANISM_PARAM_INVALID


def unwrap(
    session: Session,
    kind: int,
    parameter: Struct | bytes | None,
    key: int,
    wrapped: bytes,
    *,
    template: Template,
) -> int:
    handle, mechanism = c_ulong(), c_mechanism(kind, parameter)
    session.call(
        "C_UnwrapKey",
        byref(mechanism),
        key,
        wrapped,
        len(wrapped),
        c_template(template),
        len(template),
        byref(handle),
    )
    return handle.value


def test_aes_key_wrap_both_ways(session: Session) -> None:
    wrapping = secret(session, KEY, Attribute.WRAP, Attribute.UNWRAP)
    value = os.urandom(24)
    target = secret(session, value)
    for kind, expected in (
        (Mechanism.AES_KEY_WRAP, keywrap.aes_key_wrap(KEY, value)),
        (Mechanism.AES_KEY_WRAP_KWP, keywrap.aes_key_wrap_with_padding(KEY, value)),
    ):
        mechanism = c_mechanism(kind)
        assert session.output("C_WrapKey", byref(mechanism), wrapping, target) == expected
        template = {**secret_template(), Attribute.KEY_TYPE: KeyType.AES}
        again = unwrap(session, kind, None, wrapping, expected, template=template)
        assert session.attribute(again, Attribute.VALUE) == value
        with pytest.raises(CkError):
            unwrap(session, kind, None, wrapping, expected[:-1] + b"\0", template=template)


class RsaAesWrap(Struct):
    _fields_ = (("bits", c_ulong), ("oaep", c_void_p))


def test_rsa_aes_key_wrap_takes_a_foreign_key_in(
    session: Session, rsa_key: rsa.RSAPrivateKey
) -> None:
    _, private, theirs = rsa_pair(session)
    imported = ec.generate_private_key(ec.SECP256R1())
    pkcs8 = imported.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    transport = os.urandom(32)
    wrapped = theirs.encrypt(
        transport, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    ) + keywrap.aes_key_wrap_with_padding(transport, pkcs8)
    inner = oaep()
    template: Template = {
        Attribute.CLASS: Class.PRIVATE_KEY,
        Attribute.KEY_TYPE: KeyType.EC,
        Attribute.SIGN: True,
    }
    parameters = RsaAesWrap(256, ctypes.addressof(inner))
    key = unwrap(
        session, Mechanism.RSA_AES_KEY_WRAP, parameters, private, wrapped, template=template
    )
    signature = session.sign(Mechanism.ECDSA, key, hashlib.sha256(b"x").digest())
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    imported.public_key().verify(encode_dss_signature(r, s), b"x", ec.ECDSA(hashes.SHA256()))


class GcmWrap(Struct):
    _fields_ = (
        ("iv", c_void_p),
        ("iv_length", c_ulong),
        ("fixed_bits", c_ulong),
        ("generator", c_ulong),
        ("aad", c_void_p),
        ("aad_length", c_ulong),
        ("tag_bits", c_ulong),
    )


@pytest.mark.parametrize("generator", [0, 1])
def test_authenticated_wrapping(session: Session, generator: int) -> None:
    wrapping = secret(session, KEY, Attribute.WRAP, Attribute.UNWRAP)
    value = os.urandom(32)
    target = secret(session, value)
    iv = create_string_buffer(b"\x05" * 12, 12)
    parameters = GcmWrap(ctypes.addressof(iv), 12, 0, generator, None, 0, 128)
    mechanism = c_mechanism(Mechanism.AES_GCM, parameters)
    wrap = ("C_WrapKeyAuthenticated", byref(mechanism), wrapping, target, b"bound", 5)
    wrapped = session.output(*wrap)
    assert AESGCM(KEY).decrypt(iv.raw, wrapped, b"bound") == value
    assert (iv.raw == b"\x05" * 12) == (generator == 0)
    given = c_mechanism(Mechanism.AES_GCM, GcmWrap(ctypes.addressof(iv), 12, 0, 0, None, 0, 128))
    template = {**secret_template(), Attribute.KEY_TYPE: KeyType.AES}
    handle = c_ulong()
    head = ("C_UnwrapKeyAuthenticated", byref(given), wrapping, wrapped, len(wrapped))
    tail = (c_template(template), len(template))
    session.call(*head, *tail, b"bound", 5, byref(handle))
    assert session.attribute(handle.value, Attribute.VALUE) == value
    assert session.raw(*head, *tail, b"other", 5, byref(handle)) != Rv.OK


@pytest.mark.parametrize("level", [1, 2, 3])
def test_encapsulation_agrees_with_decapsulation(session: Session, level: int) -> None:
    public, private = session.generate_pair(
        Mechanism.ML_KEM_KEY_PAIR_GEN,
        {Attribute.PARAMETER_SET: level, Attribute.ENCAPSULATE: True},
        {Attribute.DECAPSULATE: True},
    )
    template, mechanism = c_template(secret_template()), c_mechanism(Mechanism.ML_KEM)
    length, handle = c_ulong(), c_ulong()
    begin = ("C_EncapsulateKey", byref(mechanism), public, template, len(template))
    session.call(*begin, None, byref(length), None)
    assert length.value == (768, 1088, 1568)[level - 1]
    ciphertext = create_string_buffer(length.value)
    length.value -= 1
    code = session.raw(*begin, ciphertext, byref(length), byref(handle))
    assert code == Rv.BUFFER_TOO_SMALL
    session.call(*begin, ciphertext, byref(length), byref(handle))
    ours = session.attribute(handle.value, Attribute.VALUE)
    end = ("C_DecapsulateKey", byref(mechanism), private, template, len(template))
    session.call(*end, ciphertext, length.value, byref(handle))
    assert session.attribute(handle.value, Attribute.VALUE) == ours
    assert len(ours) == 32


class SignContext(Struct):
    _fields_ = (("hedge", c_ulong), ("context", c_void_p), ("length", c_ulong))


def test_mldsa_binds_its_context(session: Session) -> None:
    public, private = session.generate_pair(
        Mechanism.ML_DSA_KEY_PAIR_GEN,
        {Attribute.PARAMETER_SET: 2, Attribute.VERIFY: True},
        {Attribute.SIGN: True},
    )

    def context(data: bytes, hedge: int = 0) -> SignContext:
        parameters = SignContext(hedge, None, len(data))
        parameters.point("context", data)
        return parameters

    signature = session.once(
        "Sign", Mechanism.ML_DSA, b"message", key=private, parameter=context(b"here")
    )
    assert len(signature) == 3309
    for name, expected in ((b"here", Rv.OK), (b"there", Rv.SIGNATURE_INVALID)):
        session.begin("Verify", Mechanism.ML_DSA, public, context(name))
        code = session.raw("C_Verify", b"message", 7, signature, len(signature))
        assert code == expected
    deterministic = 2
    with pytest.raises(CkError, match="MECHANISM_PARAM_INVALID"):
        session.begin("Sign", Mechanism.ML_DSA, private, context(b"", deterministic))


def test_wrap_templates_are_held_and_come_back(session: Session) -> None:
    inner = c_template({Attribute.EXTRACTABLE: True})
    outer = (CkAttribute * 5)()
    plain = c_template(
        {
            Attribute.CLASS: Class.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.VALUE: KEY,
            Attribute.WRAP: True,
        }
    )
    for index in range(4):
        outer[index] = plain[index]
    outer[4] = CkAttribute(Attribute.WRAP_TEMPLATE, ctypes.addressof(inner), ctypes.sizeof(inner))
    handle = c_ulong()
    session.call("C_CreateObject", outer, 5, byref(handle))
    answer = CkAttribute(Attribute.WRAP_TEMPLATE, None, 0)
    session.call("C_GetAttributeValue", handle.value, byref(answer), 1)
    assert answer.length == ctypes.sizeof(inner)
    flag = c_ubyte(9)
    array = (CkAttribute * 1)(CkAttribute(0, ctypes.addressof(flag), 1))
    answer.value = ctypes.addressof(array)
    session.call("C_GetAttributeValue", handle.value, byref(answer), 1)
    assert (array[0].type, flag.value) == (Attribute.EXTRACTABLE, 1)
