"""The mailbox: its envelope, the firmware, identity; what a refusal leaves as it was."""

from __future__ import annotations

import hashlib

import pytest

from casemate.formats import cbor, cose, x509
from casemate.formats import mailbox_messages as messages
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertifiedKey,
    CertifyKey,
    DeriveContext,
    DerivedContext,
    DeriveFlags,
    Profile,
)
from casemate.formats.mailbox import CommandId as Command
from casemate.formats.mailbox import MailboxStatus, open_response, seal_request
from casemate.rot.bundle.signatures import Outcome, check_ecdsa, check_mldsa
from casemate.rot.chain import check_chain, verify_signature
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox import Code
from casemate.rot.mailbox.mailbox import ROM_COMMANDS, RUNTIME_COMMANDS
from tests.rot.bundle.parts import RUNTIME
from tests.rot.mailbox.devices import (
    PL0,
    PL1,
    Bench,
    bundle,
    certificates,
    leaf_chain_verifies,
    powered,
    running,
)

LABEL = bytes(range(48))
PROFILES = list(Profile)
EXPORT = DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE


# --- the envelope ---------------------------------------------------------------------------


def test_every_command_answers_as_the_firmware_answers_it() -> None:
    """No command crashes on an empty, a short or a long body; those that are not there say so."""
    for bench, known, unknown in (
        (powered(), set(ROM_COMMANDS), Code.FW_PROC_MAILBOX_INVALID_COMMAND),
        (
            running(),
            {*RUNTIME_COMMANDS, Command.FIRMWARE_VERIFY},
            Code.RUNTIME_UNIMPLEMENTED_COMMAND,
        ),
    ):
        for command in set(Command) - {Command.FIRMWARE_LOAD, Command.SHUTDOWN}:
            for body in (b"", bytes(3), bytes(5000)):
                response = bench.frame(command, seal_request(command, body))
                assert (response.error == unknown) == (command not in known), command.name


def test_checksums_and_users_are_checked_before_anything(rom: Bench) -> None:
    good = seal_request(Command.CAPABILITIES, b"")
    bad = bytes([good[0] ^ 1]) + good[1:]
    assert rom.frame(Command.CAPABILITIES, bad).error == Code.FW_PROC_MAILBOX_INVALID_CHECKSUM
    assert (
        rom.frame(Command.CAPABILITIES, b"\0").error == Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH
    )
    assert (
        rom.frame(Command.CAPABILITIES, good, 0xFFFFFFFF).error
        == Code.FW_PROC_MAILBOX_RESERVED_PAUSER
    )
    rom.load()
    assert rom.frame(Command.CAPABILITIES, bad).error == Code.RUNTIME_INVALID_CHECKSUM
    assert rom.frame(Command.CAPABILITIES, b"").error == Code.RUNTIME_MAILBOX_INVALID_PARAMS
    error = rom.frame(Command.CAPABILITIES, good, 0xFFFFFFFF).error
    assert error == Code.RUNTIME_CMD_RESERVED_PAUSER


def test_a_checksum_of_another_command_is_wrong(runtime: Bench) -> None:
    payload = seal_request(Command.FW_INFO, b"")
    assert runtime.frame(Command.CAPABILITIES, payload).error == Code.RUNTIME_INVALID_CHECKSUM


# --- boot -----------------------------------------------------------------------------------


def test_a_bundle_that_does_not_verify_ends_the_boot(rom: Bench) -> None:
    response = rom.load(b"garbage" * 5000)
    assert (response.status, response.error) == (MailboxStatus.FAILURE, 0x000B0001)
    # Only a power cycle helps; every command repeats why.
    assert rom.refused(Command.CAPABILITIES) == 0x000B0001
    assert rom.load().error == 0x000B0001


def test_an_update_that_is_refused_leaves_the_old_firmware_running(runtime: Bench) -> None:
    before = runtime.ask(Command.GET_PCR_LOG), runtime.ask(Command.FW_INFO)[:-1]
    changed = bytearray(bundle(runtime=b"other" * 100))
    changed[-300] ^= 1
    response = runtime.load(bytes(changed))
    assert response.status is MailboxStatus.FAILURE
    assert response.error >> 16 == 0x000B
    info = messages.FirmwareInfo.decode(runtime.ask(Command.FW_INFO))
    assert info.most_recent_error == response.error
    assert runtime.ask(Command.GET_PCR_LOG) == before[0]


def test_an_update_brings_new_keys_and_keeps_the_contexts(runtime: Bench) -> None:
    ecc = runtime.dpe(Profile.P384_SHA384)
    child = ecc.run(DeriveContext(DEFAULT_HANDLE, b"\1" * 48, DeriveFlags.INPUT_ALLOW_X509, 7))
    assert isinstance(child, DerivedContext)
    before = ecc.run(CertifyKey(child.handle, LABEL, 0))
    assert isinstance(before, CertifiedKey)
    old_root = next(iter(runtime.device.contexts))[1].tci

    new = bundle(runtime=b"other" * 100)
    verdict = open_response(runtime.frame(Command.FIRMWARE_VERIFY, new).payload)[1]
    assert messages.VerifyResult.decode(verdict).result == 0xDEADC0DE
    assert runtime.load(new).status is MailboxStatus.COMPLETE
    after = ecc.run(CertifyKey(before.handle, LABEL, 0))
    assert isinstance(after, CertifiedKey)
    assert after.public_key != before.public_key
    leaf_chain_verifies(runtime, Profile.P384_SHA384, after.certificate)
    root = next(iter(runtime.device.contexts))[1].tci
    values = runtime.device.root.pcrs.values
    assert (root.current, root.cumulative) == (values[2], values[3])
    assert root != old_root


def test_firmware_verify_says_no_without_failing(runtime: Bench) -> None:
    changed = bytearray(bundle())
    changed[-300] ^= 1
    response = runtime.frame(Command.FIRMWARE_VERIFY, bytes(changed))
    assert response.status is MailboxStatus.DATA_READY
    assert messages.VerifyResult.decode(open_response(response.payload)[1]).result == 0x21523F21
    short = runtime.frame(Command.FIRMWARE_VERIFY, bytes(100))
    assert short.error == Code.IMAGE_VERIFIER_ERR_MANIFEST_SIZE_MISMATCH


def test_info_capabilities_and_version(runtime: Bench, rom: Bench) -> None:
    info = messages.FirmwareInfo.decode(runtime.ask(Command.FW_INFO, user=PL1))
    assert (info.pl0_pauser, info.svn, info.cold_boot_svn) == (PL0, 5, 5)
    digest = hashlib.sha384(RUNTIME.content.ljust(len(RUNTIME.content), b"\0")).digest()
    assert messages.swap_words(info.runtime_digest) == digest
    assert rom.ask(Command.CAPABILITIES) == (1).to_bytes(16, "big")
    assert runtime.ask(Command.CAPABILITIES) == (1 << 64).to_bytes(16, "big")
    version = messages.FipsVersion.decode(runtime.ask(Command.VERSION))
    assert version.mode == 0
    assert b"Casemate" in version.name


def test_self_tests_give_their_result_once(rom: Bench) -> None:
    assert rom.refused(Command.SELF_TEST_GET_RESULTS) == Code.RUNTIME_SELF_TEST_NOT_STARTED
    rom.ask(Command.SELF_TEST_START)
    assert rom.refused(Command.SELF_TEST_START) == Code.RUNTIME_SELF_TEST_IN_PROGRESS
    rom.ask(Command.SELF_TEST_GET_RESULTS)
    assert rom.refused(Command.SELF_TEST_GET_RESULTS) == Code.RUNTIME_SELF_TEST_NOT_STARTED


def test_after_shutdown_nothing_answers(runtime: Bench) -> None:
    runtime.ask(Command.SHUTDOWN)
    assert runtime.refused(Command.CAPABILITIES) == Code.RUNTIME_SHUTDOWN
    assert runtime.load().error == Code.RUNTIME_SHUTDOWN


def test_an_installed_owner_is_the_only_owner() -> None:
    from tests.rot.bundle.parts import fuses_for

    fuses = fuses_for(bundle(), owner_pk_hash=bytes(48))
    owner = fuses_for(bundle()).owner_pk_hash
    bench = powered(fuses)
    bench.ask(Command.INSTALL_OWNER_PK_HASH, messages.swap_words(owner))
    assert bench.load().status is MailboxStatus.COMPLETE
    bench = powered(fuses)
    bench.ask(Command.INSTALL_OWNER_PK_HASH, bytes(48))
    assert bench.load().error == 0x000B005E
    assert (
        powered().refused(Command.INSTALL_OWNER_PK_HASH, bytes(47))
        == Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH
    )


# --- identity -------------------------------------------------------------------------------


REQUESTS = {
    Algorithm.ECC: (Command.GET_IDEV_ECC384_CSR, Command.GET_FMC_ALIAS_ECC384_CSR),
    Algorithm.MLDSA: (Command.GET_IDEV_MLDSA87_CSR, Command.GET_FMC_ALIAS_MLDSA87_CSR),
}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_chain_of_certificates_and_the_requests(runtime: Bench, algorithm: Algorithm) -> None:
    check_chain(certificates(runtime, algorithm), ("LDevID", "FMC alias", "RT alias"))
    for command, layer in zip(
        REQUESTS[algorithm], (LayerName.IDEVID, LayerName.FMC_ALIAS), strict=True
    ):
        request = x509.read_request(messages.decode_sized(runtime.ask(command)))
        assert request.subject == runtime.device.root.subjects[layer][algorithm].name


@pytest.mark.parametrize("algorithm", Algorithm)
def test_the_idevid_certificate_is_joined_and_put_before_the_chain(
    runtime: Bench, algorithm: Algorithm
) -> None:
    ecc = algorithm is Algorithm.ECC
    get, populate, info, profile = (
        (
            Command.GET_IDEV_ECC384_CERT,
            Command.POPULATE_IDEV_ECC384_CERT,
            Command.GET_IDEV_ECC384_INFO,
            Profile.P384_SHA384,
        )
        if ecc
        else (
            Command.GET_IDEV_MLDSA87_CERT,
            Command.POPULATE_IDEV_MLDSA87_CERT,
            Command.GET_IDEV_MLDSA87_INFO,
            Profile.ML_DSA_87,
        )
    )
    subject = runtime.device.root.subjects[LayerName.IDEVID][algorithm]
    assert runtime.ask(info, user=PL1) == subject.public_key[1 if ecc else 0 :]
    tbs, signature = b"\x30\x03\x02\x01\x05", bytes(range(1, 97)) if ecc else bytes(4628)
    body = len(tbs).to_bytes(4, "little") + signature + tbs
    certificate = messages.decode_sized(runtime.ask(get, body))
    split = x509.split(certificate)
    assert split.tbs == tbs
    if ecc:
        assert split.ecdsa_r_s[0] == int.from_bytes(signature[:48], "big")
    else:
        assert split.signature == signature[:4627]
    chain = runtime.dpe(profile).certificate_chain()
    assert runtime.refused(populate, messages.encode_sized(certificate), PL1) == (
        Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    )
    runtime.ask(populate, messages.encode_sized(certificate))
    assert runtime.dpe(profile).certificate_chain() == certificate + chain
    room = 1024 if ecc else 8192
    too_long = (room + 1).to_bytes(4, "little")
    assert runtime.refused(populate, too_long) == Code.RUNTIME_MAILBOX_INVALID_PARAMS
    full = messages.encode_sized(bytes(room))
    codes = [runtime.frame(populate, seal_request(populate, full)).error for _ in range(5)]
    assert codes[-1] == Code.RUNTIME_IDEV_CERT_POPULATION_FAILED


@pytest.mark.parametrize("algorithm", Algorithm)
def test_attested_requests_are_signed_by_the_runtime(runtime: Bench, algorithm: Algorithm) -> None:
    ecc = algorithm is Algorithm.ECC
    command = Command.GET_ATTESTED_ECC384_CSR if ecc else Command.GET_ATTESTED_MLDSA87_CSR
    nonce = bytes(range(32))
    alias = runtime.device.root.subjects[LayerName.RT_ALIAS][algorithm]
    for number, layer in ((1, LayerName.LDEVID), (2, LayerName.FMC_ALIAS), (3, LayerName.RT_ALIAS)):
        body = messages.AttestedRequest(number, nonce).encode()
        token = messages.decode_sized(runtime.ask(command, body, PL1))
        message, tags = cose.decode(token)
        assert tags == (61, 18)
        assert message.headers == {1: -51 if ecc else -50, 3: 263, 4: alias.key_id}
        structure = message.to_be_signed()
        if ecc:
            assert (
                check_ecdsa(
                    hashlib.sha384(structure).digest(), alias.public_key[1:], message.signature
                )
                is Outcome.GOOD
            )
        else:
            # As the firmware does it: over the words of a digest, with the byte of padding.
            digest = messages.swap_words(hashlib.sha384(structure).digest())
            assert len(message.signature) == 4628
            assert check_mldsa(digest, alias.public_key, message.signature) is Outcome.GOOD
        claims = cbor.decode(message.payload)
        assert claims[10] == nonce
        (attribute,) = claims[-70002]
        assert (attribute.number, attribute.value[-1]) == (111, number)
        request = x509.read_request(claims[-70001])
        assert request.subject == runtime.device.root.subjects[layer][algorithm].name
        if layer is LayerName.LDEVID:
            signature = request.signed.signature
            assert not any(signature) if not ecc else request.signed.ecdsa_r_s == (0, 0)
        else:
            verify_signature(request.signed, request.spki)
    for wrong in (messages.AttestedRequest(4, nonce).encode(), b""):
        assert runtime.refused(command, wrong) == Code.RUNTIME_MAILBOX_INVALID_PARAMS
