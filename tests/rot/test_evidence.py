"""Evidence: the token's form, its signature by another library, what it rests on, and its parts."""

from __future__ import annotations

import hashlib
from typing import Any

import cwt
import pytest
from cryptography import x509 as reference
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey

from casemate.formats import cose, dice, eat, pcr_log, pcr_quote, x509
from casemate.formats.cbor import Tag
from casemate.formats.corim import evidence as concise
from casemate.formats.corim.measurement import SHA384, Digest, Svn
from casemate.formats.key_binding import key_binding
from casemate.rot.attester import LocalAttester, MailboxAttester
from casemate.rot.boot import RootOfTrust
from casemate.rot.certificate_files import manufacturer_files
from casemate.rot.chain import check_chain
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion, device_status
from casemate.rot.dpe.errors import DpeError
from casemate.rot.errors import RotError
from casemate.rot.evidence import (
    evidence,
    leaf_certificate,
    public_key_of,
    read_device,
)
from casemate.rot.fuses import DEFAULT_FUSES
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.launch import authorization
from casemate.rot.quote import verify_quote
from casemate.rot.runtime_dpe import RuntimeDpe, configuration_digest, profile_of
from tests.rot.devices import Shelf, firmware
from tests.rot.mailbox import devices as mailbox_devices

NONCE = b"nonce of verifier"


def booted(*stashed: bytes) -> RootOfTrust:
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware()), make_requests=True)
    root.power_on(DEFAULT_FUSES)
    for measurement in stashed:
        root.stash_measurement(measurement, metadata=measurement[:4])
    root.load_firmware(b"a")
    return root


def dpe_of(root: RootOfTrust) -> RuntimeDpe:
    return RuntimeDpe(root, random=lambda size: b"r" * size)


def attester_of(root: RootOfTrust) -> LocalAttester:
    return LocalAttester(root, dpe_of(root))


def token(root: RootOfTrust, algorithm: Algorithm, **changes: Any) -> bytes:
    files = manufacturer_files(root, DEFAULT_FUSES, None)
    values: dict[str, Any] = {
        "nonce": NONCE,
        "token_id": b"t" * 16,
        "algorithm": algorithm,
        "anchor": "public test values",
        "idevid_certificate": files[f"idevid_cert_{algorithm.value}.der"],
    }
    return evidence(attester_of(root), **(values | changes))


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_the_token_and_what_it_rests_on(algorithm: Algorithm) -> None:
    root = booted()
    message, tags = cose.decode(token(root, algorithm))
    assert tags == (55799, 61, 18)
    expected = {1: -51 if algorithm is Algorithm.ECC else -50, 3: 263}
    assert message.headers == expected

    # The chain: manufacturer, IDevID, LDevID, FMC alias, RT alias, leaf.
    authority = manufacturer_files(root, DEFAULT_FUSES, None)[
        f"manufacturer_ca_{algorithm.value}.der"
    ]
    chain = (authority, *reversed(message.x5chain))
    check_chain(chain, [str(number) for number in range(len(chain))])
    assert len(chain) == 6

    leaf = x509.read_certificate(message.x5chain[0])
    _, public = x509.read_public_key(leaf.spki)
    if algorithm is Algorithm.MLDSA:
        key = MLDSA87PublicKey.from_public_bytes(public)
        key.verify(message.signature, message.to_be_signed())

    claims = eat.decode_claims(message.payload)
    assert claims[eat.NONCE] == NONCE
    assert claims[eat.CWT_ID] == b"t" * 16
    assert claims[eat.PROFILE].hex() == "2b0601040182cc7f0103"
    assert claims[eat.DEBUG_STATUS] == 2
    assert claims[eat.UEID] == DEFAULT_FUSES.ueid
    assert claims[eat.ANCHOR] == "public test values"
    assert eat.KEY_REPORT not in claims

    quote = pcr_quote.decode(claims[eat.PCR_QUOTE])
    fmc = x509.read_certificate(chain[3])
    verify_quote(quote, x509.read_public_key(fmc.spki)[1], pcr_quote.nonce_for(NONCE))
    log = pcr_log.decode(claims[eat.PCR_LOG])
    replayed = pcr_log.replay(log, claims[eat.DEVICE_STATUS_SIZE])
    assert {index: quote.pcrs[index] for index in range(4)} == replayed

    ((content_type, content),) = claims[eat.MEASUREMENTS]
    assert content_type == 10571
    by_class = {
        triple.environment.class_id: triple.measurements[0].values
        for triple in concise.decode(content).measured
    }
    code = firmware()
    fmc_info, rt_info = (
        by_class[Tag(560, f"CALIPTRA_2_X_{name}_FIRMWARE_INFO".encode())] for name in ("FMC", "RT")
    )
    assert fmc_info.digests == (Digest(SHA384, code.fmc_digest),)
    assert rt_info.digests == (Digest(SHA384, code.rt_digest),)
    assert rt_info.svn == Svn(code.svn)
    assert fmc_info.integrity_registers[0] == (0, (Digest(SHA384, quote.pcrs[0]),))


def test_another_library_verifies_the_cose_message() -> None:
    # That library knows ES384 by its older number only: sign the same payload under it.
    root = booted()
    dpe = dpe_of(root)
    message, _ = cose.decode(token(root, Algorithm.ECC))
    protected = cose.protected_header({cose.ALGORITHM: cose.ES384})
    digest = hashlib.sha384(cose.to_be_signed(protected, message.payload)).digest()
    from casemate.rot.evidence import EVIDENCE_LABEL

    signature = dpe.sign(profile_of(Algorithm.ECC), EVIDENCE_LABEL, digest)
    data = cose.encode(cose.Sign1(protected, message.payload, signature, {}))
    leaf = reference.load_der_x509_certificate(
        leaf_certificate(LocalAttester(root, dpe), Algorithm.ECC)
    ).public_key()
    assert isinstance(leaf, ec.EllipticCurvePublicKey)
    pem = leaf.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = cwt.COSEKey.from_pem(pem, alg="ES384")
    assert cwt.COSE.new().decode(data, key) == message.payload
    with pytest.raises(cwt.VerifyError):
        damaged = data[:-1] + bytes((data[-1] ^ 1,))
        cwt.COSE.new().decode(damaged, key)


def test_a_nonce_of_32_bytes_is_the_quotes_own() -> None:
    root = booted()
    nonce = bytes(range(32))
    message, _ = cose.decode(token(root, Algorithm.ECC, nonce=nonce))
    quote = pcr_quote.decode(eat.decode_claims(message.payload)[eat.PCR_QUOTE])
    assert quote.nonce == nonce
    assert pcr_quote.nonce_for(NONCE) == hashlib.sha256(NONCE).digest()


@pytest.mark.parametrize("nonce", [b"", bytes(7), bytes(65)])
def test_nonces_outside_8_to_64_bytes(nonce: bytes) -> None:
    with pytest.raises(RotError, match="nonce: expected 8 to 64 bytes"):
        token(booted(), Algorithm.ECC, nonce=nonce)


def test_a_key_report_is_sent_along_as_it_is() -> None:
    report = cose.encode(cose.Sign1(b"", b"payload", b"signature"))
    message, _ = cose.decode(token(booted(), Algorithm.ECC, key_report=report))
    assert eat.decode_claims(message.payload)[eat.KEY_REPORT] == report
    with pytest.raises(RotError, match="no COSE_Sign1"):
        token(booted(), Algorithm.ECC, key_report=b"garbage")


def test_the_binding_depends_on_all_three() -> None:
    base = key_binding(b"nonce", b"leaf", b"partition")
    assert len(base) == 48
    others = {
        key_binding(b"nonc", b"eleaf", b"partition"),
        key_binding(b"nonce", b"leafp", b"artition"),
        key_binding(b"other", b"leaf", b"partition"),
        key_binding(b"nonce", b"leaf", b"other"),
        key_binding(b"nonce", b"other", b"partition"),
    }
    assert len(others | {base}) == 6


def test_a_public_key_is_taken_from_a_certificate_or_bare() -> None:
    certificate = booted().certificates[LayerName.RT_ALIAS, Algorithm.ECC]
    spki = x509.read_certificate(certificate).spki
    assert public_key_of(certificate, "f") == public_key_of(spki, "f") == spki
    with pytest.raises(RotError, match="f: neither"):
        public_key_of(b"x", "f")


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_evidence_over_the_mailbox_is_that_of_the_device(algorithm: Algorithm) -> None:
    bench = mailbox_devices.running()
    attester = MailboxAttester(authorization.local(bench.mailbox, mailbox_devices.PL0))
    made = evidence(
        attester,
        nonce=NONCE,
        token_id=b"t" * 16,
        algorithm=algorithm,
        anchor="public test values",
        idevid_certificate=None,
    )
    message, _ = cose.decode(made)
    root = bench.mailbox.device.root
    device_dpe = bench.mailbox.device.runtime_dpe
    local = evidence(
        LocalAttester(root, device_dpe),
        nonce=NONCE,
        token_id=b"t" * 16,
        algorithm=algorithm,
        anchor="public test values",
        idevid_certificate=None,
    )
    assert made == local
    chain = tuple(reversed(message.x5chain))
    check_chain(chain, [str(number) for number in range(len(chain))])


@pytest.mark.parametrize("rom", list(RomVersion))
def test_the_length_of_the_device_status_shows_in_the_replay(rom: RomVersion) -> None:
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware()), rom=rom)
    root.cold_reset(DEFAULT_FUSES, b"a")
    attester = attester_of(root)
    quote = attester.quote(Algorithm.ECC, bytes(32))
    device = read_device(attester.chain(Algorithm.ECC), quote, attester.log())
    assert device.status == device_status(DEFAULT_FUSES, firmware(), rom)
    assert device.debug_locked
    with pytest.raises(RotError, match="does not replay"):
        read_device(attester.chain(Algorithm.ECC), quote, b"")


# --- the runtime's DPE ----------------------------------------------------------------------


def nodes(root: RootOfTrust, dpe: RuntimeDpe, algorithm: Algorithm) -> list[dice.TcbInfo]:
    leaf = x509.read_certificate(leaf_certificate(LocalAttester(root, dpe), algorithm))
    extension = leaf.extension(dice.OID_MULTI_TCB_INFO)
    assert extension is not None
    return list(dice.decode_multi_tcb_info(extension.value))


def test_the_leaf_lists_what_the_runtime_measured() -> None:
    root = booted(b"one!" * 12, b"two!" * 12)
    dpe = dpe_of(root)
    dpe.stash(b"later" + bytes(43), metadata=b"late", svn=3)
    for algorithm in Algorithm:
        found = nodes(root, dpe, algorithm)
        currents = [info.fwids[0].digest for info in found if info.fwids]
        assert currents == [
            root.pcrs.values[2],
            configuration_digest(root.firmware),
            b"one!" * 12,
            b"two!" * 12,
            b"later" + bytes(43),
        ]
        assert found[-1].svn == 3
    values = root.pcrs.values[31]
    expected = bytes(48)
    for data in (b"one!" * 12, b"two!" * 12, b"later" + bytes(43)):
        expected = pcr_log.extend(expected, data)
    assert values == expected


def test_the_leaf_key_changes_with_every_measurement() -> None:
    def key(root: RootOfTrust, *, stash: bytes | None = None) -> bytes:
        dpe = dpe_of(root)
        if stash is not None:
            dpe.stash(stash, metadata=b"meta")
        return x509.read_certificate(leaf_certificate(LocalAttester(root, dpe), Algorithm.ECC)).spki

    assert key(booted()) == key(booted())
    keys = {
        key(booted()),
        key(booted(b"a" * 48)),
        key(booted(), stash=b"a" * 48),
        key(booted(), stash=b"b" * 48),
    }
    assert len(keys) == 4


def test_a_measurement_that_the_dpe_refuses_is_not_extended() -> None:
    root = booted()
    dpe = dpe_of(root)
    before = root.pcrs.values[31]
    with pytest.raises(DpeError):
        for _ in range(100):
            dpe.stash(bytes(48), metadata=b"meta")
            before = root.pcrs.values[31]
    assert root.pcrs.values[31] == before
