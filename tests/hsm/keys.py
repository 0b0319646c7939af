"""Keys for tests of the Python API: the kinds, and one of each in a partition."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization

from casemate.hsm.client import Algorithm, Key, KeyPair, Partition

SIGNERS = [
    Algorithm.P256,
    Algorithm.P384,
    Algorithm.P521,
    Algorithm.ED25519,
    Algorithm.RSA_2048,
    Algorithm.ML_DSA_44,
    Algorithm.ML_DSA_65,
    Algorithm.ML_DSA_87,
]


SECRETS = [
    Algorithm.AES_128,
    Algorithm.AES_192,
    Algorithm.AES_256,
    Algorithm.SECRET_256,
    Algorithm.SECRET_512,
]


def offered(web: Partition, algorithm: Algorithm) -> Algorithm:
    if algorithm.recipe.generate not in web.mechanisms():
        pytest.skip(f"the partition does not offer {algorithm.value}")
    return algorithm


def pair(web: Partition, algorithm: Algorithm) -> KeyPair:
    return web.generate(offered(web, algorithm), label=f"pair {algorithm.value}")


def secret(web: Partition, algorithm: Algorithm) -> Key:
    return web.generate_secret(offered(web, algorithm), label=f"secret {algorithm.value}")


def loaded(made: KeyPair) -> object:
    return serialization.load_der_public_key(made.private.public_key_info())
