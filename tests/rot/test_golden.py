"""The public golden files: the default device's keys, requests and certificates, byte for byte.

The digests below always run; the files themselves are compared where CASEMATE_DATA has them.
"""

from __future__ import annotations

import functools
import hashlib

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate.formats import dice, x509
from casemate.rot import identity, ladder
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion
from casemate.rot.fuses import DEFAULT_FUSES
from casemate.rot.identity import Algorithm, LayerName, Measured, Subject
from casemate.rot.ladder import Layer
from tests.rot.devices import firmware, golden

#: SHA-256 of golden files that the default device makes itself (names as in the public tests).
MADE = {
    "idevid_csr_ecc.der": "3b8e101b6d3c3a45eb06ba7370d8dfa32919c9afc81647c054a8bb99b9fcf87f",
    "idevid_csr_mldsa.der": "3cc979bf04d5149df6557abaa83eaf9c06bebf3f4ea389c418ff7de270a313ac",
    "ldevid_cert_ecc.der": "3e123d61da5be740183f61e6e33124e5e8030e42f3bf7b2261544a9f38d221b4",
    "ldevid_cert_mldsa.der": "afbb0df79762888262c049eee004b3b37cfbdb708ac7d21db569bbe7e5fdce72",
}


@functools.cache
def device() -> tuple[
    ModelCrypto, dict[LayerName, Layer], dict[LayerName, dict[Algorithm, Subject]]
]:
    crypto = ModelCrypto()
    uds, field_entropy = ladder.deobfuscate(crypto, DEFAULT_FUSES)
    layers = {LayerName.IDEVID: ladder.idevid(crypto, uds)}
    layers[LayerName.LDEVID] = ladder.ldevid(crypto, layers[LayerName.IDEVID].cdi, field_entropy)
    layers[LayerName.FMC_ALIAS] = ladder.fmc_alias(crypto, layers[LayerName.LDEVID].cdi, bytes(48))
    layers[LayerName.RT_ALIAS] = ladder.rt_alias(crypto, layers[LayerName.FMC_ALIAS].cdi, bytes(48))
    subjects = {
        name: identity.subjects(name, layer, DEFAULT_FUSES) for name, layer in layers.items()
    }
    return crypto, layers, subjects


def made(name: str) -> bytes:
    crypto, _, subjects = device()
    layer, kind, suffix = name.removesuffix(".der").split("_")
    algorithm = Algorithm(suffix)
    subject = subjects[LayerName(layer)][algorithm]
    if kind == "csr":
        return identity.request(crypto, subject, DEFAULT_FUSES)
    issuer = subjects[LayerName.IDEVID][algorithm]
    return identity.certificate(crypto, subject, issuer, DEFAULT_FUSES)


@pytest.mark.parametrize("name", MADE)
def test_digests_of_what_the_default_device_makes(name: str) -> None:
    assert hashlib.sha256(made(name)).hexdigest() == MADE[name]


@pytest.mark.parametrize("name", MADE)
def test_equal_to_the_golden_file(name: str) -> None:
    assert made(name) == golden(name)


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_golden_keys_and_signatures(algorithm: Algorithm) -> None:
    crypto, _, subjects = device()
    request = x509.read_request(golden(f"idevid_csr_{algorithm.value}.der"))
    certificate = x509.read_certificate(golden(f"ldevid_cert_{algorithm.value}.der"))
    initial = subjects[LayerName.IDEVID][algorithm]
    local = subjects[LayerName.LDEVID][algorithm]
    assert x509.read_public_key(request.spki)[1] == initial.public_key
    assert x509.read_public_key(certificate.spki)[1] == local.public_key
    for signed in (request.signed, certificate.signed):
        again = x509.split(identity.sign(crypto, initial, signed.tbs))
        assert again == signed


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_2_0_fmc_certificates_parse_verify_and_sign_again(algorithm: Algorithm) -> None:
    crypto, _, subjects = device()
    data = golden(f"fmc_alias_cert_{algorithm.value}.der")
    fmc = x509.read_certificate(data)
    local = subjects[LayerName.LDEVID][algorithm]

    verify(local.public_key, fmc.signed)
    with pytest.raises(InvalidSignature):
        verify(subjects[LayerName.IDEVID][algorithm].public_key, fmc.signed)
    assert identity.sign(crypto, local, fmc.signed.tbs) == data

    infos = fmc.extension(dice.OID_MULTI_TCB_INFO)
    assert infos is not None
    assert [info.type for info in dice.decode_multi_tcb_info(infos.value)] == [
        b"DEVICE_INFO",
        b"FMC_INFO",
    ]
    assert dice.encode_multi_tcb_info(dice.decode_multi_tcb_info(infos.value)) == infos.value
    # The signature is good, but the issuer's name is of template 2.0 and the subject's of 2.1.
    assert fmc.issuer != local.name
    assert dict(x509.read_name(fmc.issuer))[x509.OID_COMMON_NAME].startswith("Caliptra 2.0 ")
    assert dict(x509.read_name(local.name))[x509.OID_COMMON_NAME].startswith("Caliptra 2.1 ")


def verify(public_key: bytes, signed: x509.Signed) -> None:
    if signed.algorithm == x509.OID_MLDSA87:
        MLDSA87PublicKey.from_public_bytes(public_key).verify(signed.signature, signed.tbs)
        return
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), public_key)
    key.verify(signed.signature, signed.tbs, ec.ECDSA(hashes.SHA384()))


@pytest.mark.parametrize(
    ("name", "layer", "is_request"),
    [
        ("rom-latest__fmc_alias_cert_redacted.der", LayerName.FMC_ALIAS, False),
        ("fmc_alias_csr_redacted.der", LayerName.FMC_ALIAS, True),
        ("rt_alias_cert_redacted.der", LayerName.RT_ALIAS, False),
    ],
)
def test_the_2_1_alias_files_outside_their_redacted_bytes(
    name: str, layer: LayerName, is_request: bool
) -> None:
    expected = golden(name)
    crypto, _, subjects = device()
    measured = Measured(DEFAULT_FUSES, RomVersion.MAIN, firmware(), firmware())
    above = LayerName.LDEVID if layer is LayerName.FMC_ALIAS else LayerName.FMC_ALIAS
    subject, issuer = subjects[layer][Algorithm.ECC], subjects[above][Algorithm.ECC]
    if is_request:
        ours = identity.request(crypto, subject, DEFAULT_FUSES, measured)
        spki = x509.read_request(expected).spki
    else:
        ours = identity.certificate(crypto, subject, issuer, DEFAULT_FUSES, measured)
        spki = x509.read_certificate(expected).spki

    # What the public tests redact: values that depend on firmware, by 0x44 or a fixed key.
    def redacted(value: bytes) -> bytes:
        return b"\x44" * len(value)

    tbs = x509.split(ours).tbs
    tbs = tbs.replace(subject.public_key, x509.read_public_key(spki)[1])
    hidden = [
        subject.certificate_serial,
        hashlib.sha256(subject.public_key).hexdigest().upper().encode(),
        subject.key_id,
        extension(ours, is_request),
    ]
    if layer is LayerName.RT_ALIAS:
        hidden += [issuer.key_id, hashlib.sha256(issuer.public_key).hexdigest().upper().encode()]
    for value in hidden:
        tbs = tbs.replace(value, redacted(value))
    theirs = x509.split(expected)
    assert tbs == theirs.tbs
    assert x509.split(ours).algorithm == theirs.algorithm


def extension(data: bytes, is_request: bool) -> bytes:
    read = x509.read_request(data) if is_request else x509.read_certificate(data)
    return next(
        found.value
        for found in read.extensions
        if found.oid in (dice.OID_TCB_INFO, dice.OID_MULTI_TCB_INFO)
    )
