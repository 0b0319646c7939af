"""The mailbox: measurements and the DPE."""

from __future__ import annotations

import hashlib
import struct

import pytest
from cryptography import x509 as x509_library
from cryptography.hazmat.primitives.asymmetric import mldsa

from casemate.formats import mailbox_messages as messages
from casemate.formats import pcr_log, pcr_quote
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertifiedKey,
    CertifyKey,
    DeriveContext,
    DeriveFlags,
    DestroyContext,
    DpeCommandError,
    ExportedCdi,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    RotateContextHandle,
    Status,
)
from casemate.formats.mailbox import CommandId as Command
from casemate.formats.mailbox import seal_request
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox import Code
from casemate.rot.quote import verify_quote
from tests.rot.mailbox.devices import (
    PL0,
    PL1,
    Bench,
    bundle,
    certificates,
    leaf_chain_verifies,
    running,
    stash_body,
)

LABEL = bytes(range(48))
PROFILES = list(Profile)
EXPORT = DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE


# --- measurement ----------------------------------------------------------------------------


def test_what_is_stashed_before_and_after_boot_ends_in_the_dpe(rom: Bench) -> None:
    assert rom.ask(Command.STASH_MEASUREMENT, stash_body(b"\1" * 48, b"rom1")) == bytes(4)
    rom.load()
    assert rom.ask(Command.STASH_MEASUREMENT, stash_body(b"\2" * 48)) == bytes(4)
    nodes = [context.tci for _, context in rom.device.contexts]
    kinds = [node.tci_type.to_bytes(4, "little") for node in nodes]
    assert kinds == [b"RTMR"[::-1], b"CCIV"[::-1], b"rom1", b"fw01"]
    assert [node.current for node in nodes[2:]] == [b"\1" * 48, b"\2" * 48]
    extended = hashlib.sha384(bytes(48) + b"\1" * 48).digest()
    assert rom.device.root.pcrs.values[31] == hashlib.sha384(extended + b"\2" * 48).digest()


def test_stashing_has_its_limits(rom: Bench) -> None:
    for _ in range(8):
        rom.ask(Command.STASH_MEASUREMENT, stash_body(bytes(48)))
    assert rom.refused(Command.STASH_MEASUREMENT, stash_body(bytes(48))) == (
        Code.FW_PROC_MAILBOX_STASH_MEASUREMENT_MAX_LIMIT
    )
    rom.load()
    before = rom.device.root.pcrs.values
    for body, user, code in (
        (stash_body(bytes(48)), PL1, Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL),
        (
            stash_body(bytes(48), b"\2\0\0\0"),
            PL0,
            Code.RUNTIME_STASH_MEASUREMENT_RESERVED_FW_ID,
        ),
        (b"short", PL0, Code.RUNTIME_INSUFFICIENT_MEMORY),
    ):
        assert rom.refused(Command.STASH_MEASUREMENT, body, user) == code
    # Without a default context of PL0 the DPE refuses: a success that carries its status.
    rom.dpe(Profile.P384_SHA384).run(RotateContextHandle(DEFAULT_HANDLE))
    answer = rom.ask(Command.STASH_MEASUREMENT, stash_body(bytes(48)))
    assert messages.DpeResult.decode(answer).status == Status.INVALID_HANDLE
    assert rom.device.root.pcrs.values == before


def test_pcrs_are_extended_but_for_the_firmwares_own(runtime: Bench) -> None:
    runtime.ask(Command.EXTEND_PCR, messages.ExtendPcr(4, b"\7" * 48).encode(), PL1)
    assert runtime.device.root.pcrs.values[4] == hashlib.sha384(bytes(48) + b"\7" * 48).digest()
    for index, code in (
        (0, Code.RUNTIME_PCR_RESERVED),
        (3, Code.RUNTIME_PCR_RESERVED),
        (32, Code.RUNTIME_PCR_INVALID_INDEX),
        (256, Code.RUNTIME_MAILBOX_INVALID_PARAMS),
    ):
        body = messages.ExtendPcr(index, bytes(48)).encode()
        assert runtime.refused(Command.EXTEND_PCR, body) == code
    counter = messages.IncrementPcrResetCounter(9).encode()
    runtime.ask(Command.INCREMENT_PCR_RESET_COUNTER, counter)
    assert runtime.device.root.pcrs.reset_counters[9] == 1
    assert runtime.refused(
        Command.INCREMENT_PCR_RESET_COUNTER, messages.IncrementPcrResetCounter(32).encode()
    ) == (Code.RUNTIME_MAILBOX_INVALID_PARAMS)


@pytest.mark.parametrize(
    ("command", "algorithm"),
    [
        (Command.QUOTE_PCRS_ECC384, Algorithm.ECC),
        (Command.QUOTE_PCRS_MLDSA87, Algorithm.MLDSA),
    ],
)
def test_quotes_verify_under_the_fmc_alias(
    runtime: Bench, command: Command, algorithm: Algorithm
) -> None:
    nonce = bytes(range(32))
    response = runtime.frame(command, seal_request(command, nonce), PL1)
    quote = pcr_quote.decode(response.payload)
    key = runtime.device.root.subjects[LayerName.FMC_ALIAS][algorithm].public_key
    verify_quote(quote, key, nonce)
    assert runtime.refused(command, bytes(31)) == Code.RUNTIME_MAILBOX_INVALID_PARAMS


def test_the_log_is_whole(runtime: Bench) -> None:
    body = runtime.ask(Command.GET_PCR_LOG, user=PL1)
    assert len(body) == 4 + 9216
    log = pcr_log.decode(messages.decode_sized(body))
    assert log == runtime.device.root.pcrs.log


# --- DPE ------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_the_leaf_hangs_below_the_runtime(runtime: Bench, profile: Profile) -> None:
    client = runtime.dpe(profile)
    answer = client.run(CertifyKey(DEFAULT_HANDLE, LABEL, 0))
    assert isinstance(answer, CertifiedKey)
    leaf_chain_verifies(runtime, profile, answer.certificate)
    algorithm = Algorithm.ECC if profile is Profile.P384_SHA384 else Algorithm.MLDSA
    assert client.certificate_chain() == b"".join(certificates(runtime, algorithm))


def test_both_profiles_see_the_same_contexts(runtime: Bench) -> None:
    answer = runtime.dpe(Profile.ML_DSA_87).run(RotateContextHandle(DEFAULT_HANDLE))
    assert isinstance(answer, NewHandle)
    certified = runtime.dpe(Profile.P384_SHA384).run(CertifyKey(answer.handle, LABEL, 0))
    assert isinstance(certified, CertifiedKey)


def test_a_refusal_of_the_dpe_is_a_success_of_the_mailbox(runtime: Bench) -> None:
    with pytest.raises(DpeCommandError) as error:
        runtime.dpe(Profile.P384_SHA384).run(DestroyContext(b"\1" * 16))
    assert error.value.status == Status.INVALID_HANDLE
    body = messages.encode_sized(b"garbage")
    assert runtime.refused(Command.INVOKE_DPE_ECC384, body) == (
        Code.RUNTIME_DPE_COMMAND_DESERIALIZATION_FAILED
    )
    too_long = (513).to_bytes(4, "little")
    assert runtime.refused(Command.INVOKE_DPE_ECC384, too_long) == (
        Code.RUNTIME_MAILBOX_INVALID_PARAMS
    )
    assert runtime.refused(Command.INVOKE_DPE_ECC384, bytes(517)) == (
        Code.RUNTIME_INSUFFICIENT_MEMORY
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_what_pl1_may_not_do_with_the_dpe(runtime: Bench, profile: Profile) -> None:
    from casemate.formats.dpe import encode_command

    command_id = (
        Command.INVOKE_DPE_ECC384 if profile is Profile.P384_SHA384 else Command.INVOKE_DPE_MLDSA87
    )
    head = b"" if profile is Profile.P384_SHA384 else bytes(16)
    for command in (
        CertifyKey(DEFAULT_HANDLE, LABEL, 0),
        DeriveContext(DEFAULT_HANDLE, bytes(48), EXPORT),
        DeriveContext(DEFAULT_HANDLE, bytes(48), DeriveFlags.CHANGE_LOCALITY, 0, PL0),
    ):
        body = head + messages.encode_sized(encode_command(profile, command))
        assert runtime.refused(command_id, body, PL1) == (
            Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
        )
    if head:
        external = (1 << 31).to_bytes(4, "little") + bytes(12) + bytes(4)
        assert runtime.refused(command_id, external, PL1) == (
            Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
        )
        assert runtime.refused(command_id, external) == Code.RUNTIME_MAILBOX_INVALID_PARAMS


def test_nobody_is_privileged_where_the_bundle_names_nobody() -> None:
    bench = running(bundle(pl0=None))
    for user in (0, PL0):
        assert bench.refused(Command.STASH_MEASUREMENT, stash_body(bytes(48)), user) == (
            Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
        )


def test_contexts_are_limited_by_privilege(runtime: Bench) -> None:
    from casemate.formats.dpe import encode_command

    profile = Profile.P384_SHA384
    simulation = InitializeContext(InitializeFlags.SIMULATION)
    for user, used, code in (
        (PL1, 0, Code.RUNTIME_PL1_USED_DPE_CONTEXT_THRESHOLD_REACHED),
        (PL0, 2, Code.RUNTIME_PL0_USED_DPE_CONTEXT_THRESHOLD_REACHED),
    ):
        for _ in range(32 - used):
            runtime.dpe(profile, user).run(simulation)
        body = messages.encode_sized(encode_command(profile, simulation))
        assert runtime.refused(Command.INVOKE_DPE_ECC384, body, user) == code
    body = stash_body(bytes(48))
    assert runtime.refused(Command.STASH_MEASUREMENT, body) == (
        Code.RUNTIME_PL0_USED_DPE_CONTEXT_THRESHOLD_REACHED
    )


def test_limits_are_reallocated_within_reason(runtime: Bench) -> None:
    def ask(limit: int) -> bytes:
        return messages.ReallocateContextLimits(limit).encode()

    command = Command.REALLOCATE_DPE_CONTEXT_LIMITS
    limits = messages.ContextLimits.decode(runtime.ask(command, ask(40)))
    assert (limits.pl0, limits.pl1) == (40, 24)
    runtime.dpe(Profile.P384_SHA384, PL1).run(InitializeContext(InitializeFlags.SIMULATION))
    runtime.ask(Command.STASH_MEASUREMENT, stash_body(bytes(48)))
    for limit, user, code in (
        (30, PL1, Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL),
        (1, PL0, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_LESS_THAN_MIN),
        (65, PL0, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_GREATER_THAN_MAX),
        (2, PL0, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL0_LESS_THAN_USED),
        (64, PL0, Code.RUNTIME_REALLOCATE_DPE_CONTEXTS_PL1_LESS_THAN_USED),
    ):
        assert runtime.refused(command, ask(limit), user) == code
    assert (runtime.device.pl0_context_limit, runtime.device.pl1_context_limit) == (40, 24)


def test_tags_name_contexts_until_they_are_gone(runtime: Bench) -> None:
    tag = messages.TagTci(DEFAULT_HANDLE, 77).encode()
    runtime.ask(Command.DPE_TAG_TCI, tag)
    read = messages.GetTaggedTci(77).encode()
    tagged = messages.TaggedTci.decode(runtime.ask(Command.DPE_GET_TAGGED_TCI, read, PL1))
    tci = runtime.device.contexts[1].tci
    assert (tagged.current, tagged.cumulative, tagged.svn) == (tci.current, tci.cumulative, 0)
    for body, user, code in (
        (tag, PL0, Code.RUNTIME_DUPLICATE_TAG),
        (
            messages.TagTci(DEFAULT_HANDLE, 78).encode(),
            PL0,
            Code.RUNTIME_CONTEXT_ALREADY_TAGGED,
        ),
        (messages.TagTci(DEFAULT_HANDLE, 78).encode(), PL1, Code.RUNTIME_TAGGING_FAILURE),
        (messages.TagTci(b"\1" * 16, 78).encode(), PL0, Code.RUNTIME_TAGGING_FAILURE),
        (b"", PL0, Code.RUNTIME_INSUFFICIENT_MEMORY),
    ):
        assert runtime.refused(Command.DPE_TAG_TCI, body, user) == code
    runtime.dpe(Profile.P384_SHA384).run(DestroyContext(DEFAULT_HANDLE))
    assert runtime.refused(Command.DPE_GET_TAGGED_TCI, read) == Code.RUNTIME_TAGGING_FAILURE


CERTIFY_BODY = DEFAULT_HANDLE + bytes(8) + LABEL


def test_extended_certificates_carry_the_device_information(runtime: Bench) -> None:
    runtime.ask(Command.ADD_SUBJECT_ALT_NAME, messages.encode_sized(b"maker:part:0042"), PL1)
    name = "1.3.6.1.4.1.412.274.1"
    for flags, expected in ((1 << 31, b"\x0c\x0fmaker:part:0042"), (0, None)):
        for command, body in (
            (
                Command.CERTIFY_KEY_EXTENDED_ECC384,
                messages.CertifyKeyExtended(flags, CERTIFY_BODY).encode(),
            ),
            (
                Command.CERTIFY_KEY_EXTENDED_MLDSA87,
                messages.CertifyKeyExtendedMldsa(flags, bytes(12), CERTIFY_BODY).encode(),
            ),
        ):
            answer = messages.decode_sized(runtime.ask(command, body))
            ecc = command == Command.CERTIFY_KEY_EXTENDED_ECC384
            at = 12 + 16 + (96 if ecc else 2592)
            size = int.from_bytes(answer[at : at + 4], "little")
            leaf = x509_library.load_der_x509_certificate(answer[at + 4 : at + 4 + size])
            try:
                names = leaf.extensions.get_extension_for_class(
                    x509_library.SubjectAlternativeName
                ).value
            except x509_library.ExtensionNotFound:
                assert expected is None
            else:
                (other,) = names
                assert isinstance(other, x509_library.OtherName)
                assert (other.type_id.dotted_string, other.value) == (name, expected)
            assert runtime.refused(command, body, PL1) == (
                Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
            )
    external = messages.CertifyKeyExtendedMldsa(1 << 30, bytes(12), CERTIFY_BODY).encode()
    assert runtime.refused(Command.CERTIFY_KEY_EXTENDED_MLDSA87, external) == (
        Code.RUNTIME_MAILBOX_INVALID_PARAMS
    )
    wrong_handle = messages.CertifyKeyExtended(0, b"\1" * 16 + CERTIFY_BODY[16:]).encode()
    assert runtime.refused(Command.CERTIFY_KEY_EXTENDED_ECC384, wrong_handle) == (
        Code.RUNTIME_CERTIFY_KEY_EXTENDED_FAILED
    )


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (b"maker:part", Code.RUNTIME_DMTF_DEVICE_INFO_VALIDATION_FAILED),
        (b"a:b:c:d", Code.RUNTIME_DMTF_DEVICE_INFO_VALIDATION_FAILED),
        ("ä:b:c".encode(), Code.RUNTIME_DMTF_DEVICE_INFO_VALIDATION_FAILED),
        (b"a:b:" + b"c" * 125, Code.RUNTIME_INSUFFICIENT_MEMORY),
    ],
)
def test_device_information_has_a_form(runtime: Bench, info: bytes, code: Code) -> None:
    body = messages.encode_sized(info)
    assert runtime.refused(Command.ADD_SUBJECT_ALT_NAME, body) == code
    assert runtime.device.device_info is None


def test_certificates_come_in_chunks(runtime: Bench) -> None:
    def ask(offset: int, size: int) -> tuple[int, bytes]:
        body = messages.CertifyKeyChunks(1 << 31, 0, size, offset, CERTIFY_BODY).encode()
        answer = runtime.ask(Command.CERTIFY_KEY_CHUNKS, body)
        handle, length, remaining = struct.unpack("<16sII", answer[:24])
        assert handle == DEFAULT_HANDLE
        assert len(answer) == 24 + length
        return remaining, answer[24:]

    remaining, whole = ask(0, 0)
    assert remaining == 0
    collected = b""
    while len(collected) < len(whole):
        remaining, part = ask(len(collected), 3000)
        collected += part
        assert remaining == len(whole) - len(collected)
    assert collected == whole
    assert ask(10**6, 0) == (0, b"")
    body = messages.CertifyKeyChunks(0, 0, 0, 0, CERTIFY_BODY).encode()
    assert runtime.refused(Command.CERTIFY_KEY_CHUNKS, body, PL1) == (
        Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_exported_cdis_sign_through_the_mailbox_until_revoked(
    runtime: Bench, profile: Profile
) -> None:
    command = DeriveContext(DEFAULT_HANDLE, bytes(48), EXPORT | DeriveFlags.RETAIN_PARENT_CONTEXT)
    exported = runtime.dpe(profile).run(command)
    assert isinstance(exported, ExportedCdi)
    leaf_chain_verifies(runtime, profile, exported.certificate)
    handle = exported.exported_cdi
    digest = hashlib.sha384(b"message").digest()
    if profile is Profile.P384_SHA384:
        sign, failed = (
            Command.SIGN_WITH_EXPORTED_ECDSA,
            Code.RUNTIME_SIGN_WITH_EXPORTED_ECDSA_KEY_DERIVIATION_FAILED,
        )
        body = messages.SignWithExportedEcdsa(handle, digest).encode()
        signed = messages.ExportedSignature.decode(runtime.ask(sign, body))
        request = messages.EcdsaVerify(signed.public_key, signed.signature, digest)
        runtime.ask(Command.ECDSA384_SIGNATURE_VERIFY, request.encode())
    else:
        sign, failed = (
            Command.SIGN_WITH_EXPORTED_MLDSA,
            Code.RUNTIME_SIGN_WITH_EXPORTED_MLDSA_KEY_DERIVIATION_FAILED,
        )
        body = messages.SignWithExportedMldsa(handle, 1, 7, b"message").encode()
        answer = messages.ExportedMldsaSignature.decode(runtime.ask(sign, body))
        key = mldsa.MLDSA87PublicKey.from_public_bytes(answer.public_key)
        key.verify(answer.signature, b"message")
        for kind, size in ((0, 63), (1, 1025), (2, 64)):
            wrong = messages.SignWithExportedMldsa(handle, kind, size, b"").encode()
            assert runtime.refused(sign, wrong) == Code.RUNTIME_MAILBOX_INVALID_PARAMS
    assert runtime.refused(sign, body, PL1) == Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    revoke = messages.RevokeExportedCdi(handle).encode()
    assert runtime.refused(Command.REVOKE_EXPORTED_CDI_HANDLE, revoke, PL1) == (
        Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    )
    runtime.ask(Command.REVOKE_EXPORTED_CDI_HANDLE, revoke)
    assert runtime.refused(Command.REVOKE_EXPORTED_CDI_HANDLE, revoke) == (
        Code.RUNTIME_REVOKE_EXPORTED_CDI_HANDLE_NOT_FOUND
    )
    assert runtime.refused(sign, body) == failed


def test_disabled_attestation_leaves_keys_that_no_chain_vouches_for(runtime: Bench) -> None:
    from casemate.rot.chain import ChainError

    command = Command.DISABLE_ATTESTATION
    assert runtime.refused(command, user=PL1) == Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    runtime.ask(command)
    other = running(bundle(runtime=b"other" * 100))
    other.ask(command)
    for profile in PROFILES:
        answers = [
            bench.dpe(profile).run(CertifyKey(DEFAULT_HANDLE, LABEL, 0))
            for bench in (runtime, other)
        ]
        assert all(isinstance(answer, CertifiedKey) for answer in answers)
        assert isinstance(answers[0], CertifiedKey)
        with pytest.raises(ChainError):
            leaf_chain_verifies(runtime, profile, answers[0].certificate)
    assert messages.FirmwareInfo.decode(runtime.ask(Command.FW_INFO)).attestation_disabled == 1
    # The keys are the same on any device: that is what makes them worthless.
    crypto_a, crypto_b = runtime.device.root.crypto, other.device.root.crypto
    for profile in PROFILES:
        a = runtime.device.runtime_dpe.instance(profile).keys.alias
        b = other.device.runtime_dpe.instance(profile).keys.alias
        assert crypto_a.public_key(a) == crypto_b.public_key(b)
    # An update does not bring attestation back.
    runtime.load(bundle(runtime=b"third" * 100))
    a = runtime.device.runtime_dpe.instance(Profile.P384_SHA384).keys.alias
    b = other.device.runtime_dpe.instance(Profile.P384_SHA384).keys.alias
    assert crypto_a.public_key(a) == crypto_b.public_key(b)
