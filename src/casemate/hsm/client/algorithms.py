"""The keys that a partition makes, and what one does with them unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from casemate.formats.pkcs11 import (
    CURVES,
    Attribute,
    KeyType,
    Mechanism,
    MlDsa,
    MlKem,
    ObjectClass,
    curve_identifier,
)
from casemate.formats.pkcs11_wire import Parameters, Pss, SignContext, Template, Value
from casemate.hsm.client.errors import ArgumentError


class Purpose(Enum):
    """What a new key is for: data, or other keys.

    They are apart because a key that wraps other keys and also decrypts would tell their values:
    the partition refuses to wrap a sensitive key under such a key.
    """

    DATA = "data"
    WRAPPING = "wrapping"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a key is generated: mechanism, the attribute that sets its size, what it may do."""

    key_type: KeyType
    generate: Mechanism
    size: tuple[Attribute, Value] | None
    private_uses: tuple[Attribute, ...]
    public_uses: tuple[Attribute, ...] = ()

    @property
    def is_pair(self) -> bool:
        """Whether it makes a public and a private key."""
        return bool(self.public_uses) or self.key_type in _PAIRS

    def public_template(self, purpose: Purpose) -> Template:
        """Return the public key's (or the secret key's) size and uses."""
        size = dict([self.size]) if self.size else {}
        uses = self.public_uses
        if purpose is Purpose.WRAPPING:
            uses = (_A.WRAP,) if self.is_pair else ()
        return {**size, **dict.fromkeys(uses, True)}

    def private_template(self, purpose: Purpose) -> Template:
        """Return the private key's uses."""
        if purpose is Purpose.WRAPPING:
            if self.key_type not in (KeyType.AES, KeyType.RSA):
                raise ArgumentError(f"a {self.key_type.name} key does not wrap keys")
            return dict.fromkeys((_A.UNWRAP,) if self.is_pair else (_A.WRAP, _A.UNWRAP), True)
        return dict.fromkeys(self.private_uses, True)


_A, _M = Attribute, Mechanism
_PAIRS = (KeyType.EC_MONTGOMERY,)
_SIGN, _VERIFY = (_A.SIGN,), (_A.VERIFY,)


def _ec(curve: str) -> Recipe:
    return Recipe(
        KeyType.EC,
        _M.EC_KEY_PAIR_GEN,
        (_A.EC_PARAMS, CURVES[curve]),
        (_A.SIGN, _A.DERIVE),
        _VERIFY,
    )


def _rsa(bits: int) -> Recipe:
    return Recipe(
        KeyType.RSA,
        _M.RSA_PKCS_KEY_PAIR_GEN,
        (_A.MODULUS_BITS, bits),
        (_A.SIGN, _A.DECRYPT),
        (_A.VERIFY, _A.ENCRYPT),
    )


def _aes(size: int) -> Recipe:
    uses = (_A.ENCRYPT, _A.DECRYPT, _A.SIGN, _A.VERIFY)
    return Recipe(KeyType.AES, _M.AES_KEY_GEN, (_A.VALUE_LEN, size), uses)


def _ml_dsa(parameter_set: MlDsa) -> Recipe:
    size = (_A.PARAMETER_SET, int(parameter_set))
    return Recipe(KeyType.ML_DSA, _M.ML_DSA_KEY_PAIR_GEN, size, _SIGN, _VERIFY)


def _ml_kem(parameter_set: MlKem) -> Recipe:
    size = (_A.PARAMETER_SET, int(parameter_set))
    return Recipe(
        KeyType.ML_KEM, _M.ML_KEM_KEY_PAIR_GEN, size, (_A.DECAPSULATE,), (_A.ENCAPSULATE,)
    )


def _secret(size: int) -> Recipe:
    return Recipe(
        KeyType.GENERIC_SECRET,
        _M.GENERIC_SECRET_KEY_GEN,
        (_A.VALUE_LEN, size),
        (_A.SIGN, _A.VERIFY, _A.DERIVE),
    )


class Algorithm(Enum):
    """A kind and size of key, by the name that the command line takes."""

    P256 = "ec-p256"
    P384 = "ec-p384"
    P521 = "ec-p521"
    ED25519 = "ed25519"
    X25519 = "x25519"
    RSA_2048 = "rsa-2048"
    RSA_3072 = "rsa-3072"
    RSA_4096 = "rsa-4096"
    AES_128 = "aes-128"
    AES_192 = "aes-192"
    AES_256 = "aes-256"
    AES_256_XTS = "aes-256-xts"
    ML_DSA_44 = "ml-dsa-44"
    ML_DSA_65 = "ml-dsa-65"
    ML_DSA_87 = "ml-dsa-87"
    ML_KEM_512 = "ml-kem-512"
    ML_KEM_768 = "ml-kem-768"
    ML_KEM_1024 = "ml-kem-1024"
    SECRET_256 = "secret-256"  # noqa: S105 (a kind of key)
    SECRET_384 = "secret-384"  # noqa: S105
    SECRET_512 = "secret-512"  # noqa: S105

    @property
    def recipe(self) -> Recipe:
        """How it is generated."""
        return _RECIPES[self]


_RECIPES: dict[Algorithm, Recipe] = {
    Algorithm.P256: _ec("P-256"),
    Algorithm.P384: _ec("P-384"),
    Algorithm.P521: _ec("P-521"),
    Algorithm.ED25519: Recipe(
        KeyType.EC_EDWARDS,
        _M.EC_EDWARDS_KEY_PAIR_GEN,
        (_A.EC_PARAMS, CURVES["Ed25519"]),
        _SIGN,
        _VERIFY,
    ),
    Algorithm.X25519: Recipe(
        KeyType.EC_MONTGOMERY,
        _M.EC_MONTGOMERY_KEY_PAIR_GEN,
        (_A.EC_PARAMS, CURVES["X25519"]),
        (_A.DERIVE,),
    ),
    Algorithm.RSA_2048: _rsa(2048),
    Algorithm.RSA_3072: _rsa(3072),
    Algorithm.RSA_4096: _rsa(4096),
    Algorithm.AES_128: _aes(16),
    Algorithm.AES_192: _aes(24),
    Algorithm.AES_256: _aes(32),
    Algorithm.AES_256_XTS: Recipe(
        KeyType.AES_XTS, _M.AES_XTS_KEY_GEN, (_A.VALUE_LEN, 64), (_A.ENCRYPT, _A.DECRYPT)
    ),
    Algorithm.ML_DSA_44: _ml_dsa(MlDsa.ML_DSA_44),
    Algorithm.ML_DSA_65: _ml_dsa(MlDsa.ML_DSA_65),
    Algorithm.ML_DSA_87: _ml_dsa(MlDsa.ML_DSA_87),
    Algorithm.ML_KEM_512: _ml_kem(MlKem.ML_KEM_512),
    Algorithm.ML_KEM_768: _ml_kem(MlKem.ML_KEM_768),
    Algorithm.ML_KEM_1024: _ml_kem(MlKem.ML_KEM_1024),
    Algorithm.SECRET_256: _secret(32),
    Algorithm.SECRET_384: _secret(48),
    Algorithm.SECRET_512: _secret(64),
}


def algorithm_of(attributes: Template) -> str:
    """Return what a person calls this object's kind: "ec-p256", "rsa-2048", "certificate"."""
    kind = attributes.get(_A.KEY_TYPE)
    for algorithm, recipe in _RECIPES.items():
        if recipe.key_type != kind or recipe.size is None:
            continue
        attribute, value = recipe.size
        held = attributes.get(attribute)
        if attribute is _A.EC_PARAMS and isinstance(held, bytes):
            held = curve_identifier(held)
        if held == value:
            return algorithm.value
    modulus = attributes.get(_A.MODULUS)
    if isinstance(modulus, bytes):
        return f"rsa-{int.from_bytes(modulus).bit_length()}"
    if isinstance(kind, KeyType):
        size = attributes.get(_A.VALUE_LEN)
        bits = f"-{size * 8}" if isinstance(size, int) else ""
        return kind.name.lower().replace("_", "-") + bits
    object_class = attributes.get(_A.CLASS)
    if isinstance(object_class, ObjectClass):
        return object_class.name.lower().replace("_", "-")
    return "unknown"


#: Bytes of the IV and the tag around an AES-GCM ciphertext that `Key.encrypt` makes by default.
GCM_IV, GCM_TAG = 12, 16


@dataclass(frozen=True, slots=True)
class Method:
    """A mechanism with its parameters."""

    mechanism: Mechanism
    parameters: Parameters | None = None

    def encoded(self) -> bytes:
        """Return the parameter block; no parameters are no bytes."""
        return b"" if self.parameters is None else self.parameters.encode()


def default_signature(attributes: Template) -> Method | None:
    """Return how a key of this kind signs a message unless told otherwise, or None."""
    kind = attributes.get(_A.KEY_TYPE)
    if kind is KeyType.EC:
        curve = attributes.get(_A.EC_PARAMS)
        hashed = {
            CURVES["P-384"]: _M.ECDSA_SHA384,
            CURVES["P-521"]: _M.ECDSA_SHA512,
        }
        return Method(
            hashed.get(curve, _M.ECDSA_SHA256) if isinstance(curve, bytes) else _M.ECDSA_SHA256
        )
    if kind is KeyType.RSA:
        return Method(_M.SHA256_RSA_PKCS_PSS, Pss())
    simple = {
        KeyType.EC_EDWARDS: Method(_M.EDDSA),
        KeyType.ML_DSA: Method(_M.ML_DSA, SignContext()),
        KeyType.AES: Method(_M.AES_CMAC),
        KeyType.GENERIC_SECRET: Method(_M.SHA256_HMAC),
    }
    return simple.get(kind) if isinstance(kind, KeyType) else None
