"""Mailbox commands about the firmware itself: loading and verifying it, what runs, self-tests.

FIRMWARE_LOAD starts the runtime the first time, and resets into new firmware afterwards: a refused
update leaves the old firmware running. After a reset the DPE keeps its contexts; its root follows
the new RT PCRs, the configuration is measured anew, and its keys are those of the new RT alias.
"""

from __future__ import annotations

import dataclasses
import hashlib

from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from casemate.formats import firmware_bundle, x509
from casemate.formats import mailbox_messages as messages
from casemate.formats.dpe import Profile
from casemate.rot.bundle.signatures import Outcome, check_ecdsa
from casemate.rot.bundle.verify import verify
from casemate.rot.crypto import DOE_IV, RotCrypto, Slot
from casemate.rot.dpe.contexts import Context
from casemate.rot.errors import BootError
from casemate.rot.firmware import ResetReason
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox.device import ALGORITHM_OF_PROFILE, MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError
from casemate.rot.pcr import RT_CURRENT, RT_JOURNEY, STASH
from casemate.rot.runtime_dpe import CALIPTRA_LOCALITY, RuntimeDpe, configuration_digest

_CCIV = int.from_bytes(b"CCIV", "big")
_ROM_BASE, _RUNTIME_BASE = 1, 1 << 64
_NAME = b"Casemate RoT"
_HARDWARE_REVISION = 0x0201
_MCU_INFO_SIZE = 4 + 48


def load_in_rom(device: MailboxDevice, bundle: bytes) -> None:
    """FIRMWARE_LOAD of a device that awaits it. Raises MailboxError; then only a reset helps."""
    try:
        device.root.load_firmware(bundle)
    except BootError as error:
        raise MailboxError(error.code or Code.RUNTIME_INTERNAL, str(error)) from None
    device.bundle_manifest = firmware_bundle.Manifest.decode(bundle)
    device.dpe = RuntimeDpe(device.root, random=device.random)


def update(device: MailboxDevice, bundle: bytes) -> None:
    """FIRMWARE_LOAD of a running device. Raises MailboxError; the old firmware runs on then."""
    try:
        device.root.update_reset(bundle)
    except BootError as error:
        raise MailboxError(error.code or Code.RUNTIME_INTERNAL, str(error)) from None
    device.bundle_manifest = firmware_bundle.Manifest.decode(bundle)
    rebind(device)
    contexts = device.contexts
    values = device.root.pcrs.values
    for index, context in list(contexts):
        if _is_root(context):
            tci = dataclasses.replace(
                context.tci, current=values[RT_CURRENT], cumulative=values[RT_JOURNEY]
            )
            contexts[index] = dataclasses.replace(context, tci=tci)
        elif _is_configuration(device, context) and not device.attestation_disabled:
            digest = configuration_digest(device.root.firmware)
            if digest != context.tci.current:
                contexts[index] = dataclasses.replace(context, tci=context.tci.extended(digest))
                device.root.pcrs.extend(STASH, digest)
    if device.attestation_disabled:
        _use_known_keys(device)


def rebind(device: MailboxDevice) -> None:
    """Give the DPE the keys, the issuer and the chain of the RT alias that runs now."""
    fresh = RuntimeDpe(device.root, random=device.random)
    for profile in Profile:
        instance, new = device.runtime_dpe.instance(profile), fresh.instance(profile)
        instance.keys = dataclasses.replace(instance.keys, cdi=new.keys.cdi, alias=new.keys.alias)
        instance.platform = new.platform
    device.rebind_chain()


def _is_root(context: Context) -> bool:
    return context.parent is None and context.locality == CALIPTRA_LOCALITY


def _is_configuration(device: MailboxDevice, context: Context) -> bool:
    parent = context.parent
    return (
        context.tci.tci_type == _CCIV and parent is not None and _is_root(device.contexts[parent])
    )


def verify_only(device: MailboxDevice, bundle: bytes) -> Reply:
    """FIRMWARE_VERIFY: would an update to this bundle go through."""
    if len(bundle) < firmware_bundle.MANIFEST_SIZE:
        raise MailboxError(
            Code.IMAGE_VERIFIER_ERR_MANIFEST_SIZE_MISMATCH,
            f"a bundle has {firmware_bundle.MANIFEST_SIZE} bytes of manifest, got {len(bundle)}",
        )
    try:
        verify(
            bundle,
            device.root.fuses,
            reason=ResetReason.UPDATE,
            cold_boot=device.root.measured.cold_boot,
            dot_owner_pk_hash=device.dot_owner_pk_hash,
        )
    except BootError:
        return Reply(messages.VerifyResult(messages.VerifyResult.BAD).encode())
    return Reply(messages.VerifyResult(messages.VerifyResult.GOOD).encode())


def install_owner_pk_hash(device: MailboxDevice, _user: int, body: bytes) -> Reply:
    """INSTALL_OWNER_PK_HASH: the owner of a device whose fuses name none, until the next reset."""
    if len(body) != messages.InstallOwnerPkHash.LAYOUT.size:
        raise MailboxError(
            Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH, f"48 bytes expected, got {len(body)}"
        )
    request = messages.InstallOwnerPkHash.decode(body)
    device.dot_owner_pk_hash = messages.swap_words(request.digest)
    return Reply(messages.DpeResult(0).encode())


# --- what runs ------------------------------------------------------------------------------


def firmware_info(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """FW_INFO: versions, digests, keys and counters of what runs."""
    measured, fuses = device.root.measured, device.root.fuses
    current, manifests = measured.current, device.authorizations
    swap = messages.swap_words
    information = messages.FirmwareInfo(
        pl0_pauser=current.pl0_pauser,
        svn=current.svn,
        minimum_svn=device.root.key_ladder.svn,
        cold_boot_svn=measured.cold_boot.svn,
        attestation_disabled=int(device.attestation_disabled),
        fmc_digest=swap(measured.cold_boot.fmc_digest),
        runtime_digest=swap(current.rt_digest),
        owner_key_hash=swap(measured.cold_boot.owner_pk_hash),
        manifest_digest=swap(manifests.digest or bytes(48)),
        most_recent_error=device.last_error,
        vendor_key_hash=swap(fuses.vendor_pk_hash),
        pqc_key_type=int(current.pqc_key_type),
        vendor_ecc_index=current.vendor_ecc_index,
        vendor_pqc_index=current.vendor_pqc_index,
        soc_manifest_svn=manifests.svn,
        soc_manifest_minimum_svn=fuses.soc_manifest_svn,
        owner_manifest_svn=manifests.owner_svn,
        owner_manifest_minimum_svn=0,
    )
    return Reply(information.encode())


def capabilities(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """CAPABILITIES: a bit field of 128 bits, big-endian; none of the optional ones."""
    return Reply((_ROM_BASE if device.dpe is None else _RUNTIME_BASE).to_bytes(16, "big"))


def version(_device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """VERSION. Mode 0 and the name say that this is no validated module, where the chip differs."""
    return Reply(messages.FipsVersion(0, _HARDWARE_REVISION, 0, 0, _NAME).encode())


def companion_size(_device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """GET_MCU_FW_SIZE: there is no companion processor, so zeros, as in a chip without one."""
    return Reply(bytes(_MCU_INFO_SIZE))


# --- self-tests, shutdown, attestation off ---------------------------------------------------


def start_self_test(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """SELF_TEST_START: known answers and a pair-wise test of both signature algorithms."""
    if device.self_test_done:
        raise MailboxError(
            Code.RUNTIME_SELF_TEST_IN_PROGRESS, "fetch the results of the last one first"
        )
    _self_test(device)
    device.self_test_done = True
    return Reply()


def self_test_results(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """SELF_TEST_GET_RESULTS: success, once for each start."""
    if not device.self_test_done:
        raise MailboxError(Code.RUNTIME_SELF_TEST_NOT_STARTED)
    device.self_test_done = False
    return Reply()


def _self_test(device: MailboxDevice) -> None:
    known = (
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
        "8086072ba1e7cc2358baeca134c825a7"
    )
    good = hashlib.sha384(b"abc").hexdigest() == known
    crypto: RotCrypto = device.root.crypto
    seed = crypto.kdf(crypto.deobfuscate(bytes(64), debug_locked=False), b"self-test")
    ecc, post_quantum = crypto.ecc_key(seed), crypto.mldsa_key(seed)
    try:
        digest = hashlib.sha384(b"self-test").digest()
        signature = crypto.ecc_sign_digest(ecc, digest)
        good &= check_ecdsa(digest, crypto.public_key(ecc)[1:], signature) is Outcome.GOOD
        public = mldsa.MLDSA87PublicKey.from_public_bytes(crypto.public_key(post_quantum))
        public.verify(crypto.mldsa_sign(post_quantum, digest), digest)
    finally:
        crypto.erase(seed, ecc, post_quantum)
    if not good:
        raise MailboxError(Code.RUNTIME_INTERNAL, "a self-test failed")


def shut_down(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
    """SHUTDOWN: wipe every secret; only a power cycle goes on."""
    device.root.open_debug()
    device.shut_down = True
    return Reply()


def disable_attestation(device: MailboxDevice, user: int, _body: bytes) -> Reply:
    """DISABLE_ATTESTATION: put keys that anyone can derive in the place of the RT alias.

    What the DPE signs and certifies from then on proves nothing: no chain leads to those keys.
    """
    device.require_privilege(user)
    device.attestation_disabled = True
    _use_known_keys(device)
    return Reply()


def _use_known_keys(device: MailboxDevice) -> None:
    crypto = device.root.crypto
    for profile in Profile:
        instance = device.runtime_dpe.instance(profile)
        instance.keys.exported.clear(crypto)
        cdi = _known_cdi(crypto)
        ecc = ALGORITHM_OF_PROFILE[profile] is Algorithm.ECC
        alias = crypto.ecc_key(cdi) if ecc else crypto.mldsa_key(crypto.kdf(cdi, b""))
        public = crypto.public_key(alias)
        digest = hashlib.sha256(public).digest()
        label = ALGORITHM_OF_PROFILE[profile].label
        name = x509.name(f"Caliptra 2.1 {label} {LayerName.RT_ALIAS.label}", digest.hex().upper())
        instance.keys = dataclasses.replace(instance.keys, cdi=cdi, alias=alias)
        issuer = dataclasses.replace(
            instance.platform.issuer, name=name, key_identifier=digest[:20]
        )
        instance.platform = dataclasses.replace(instance.platform, issuer=issuer)


def _known_cdi(crypto: RotCrypto) -> Slot:
    """KDF(48 zeros, "zero_cdi"): HMAC pads its key with zeros, so 64 of them are the same key.

    A slot of zeros comes from the de-obfuscation engine: with debug open its key is known, so its
    input for any output is.
    """
    zeros = crypto.deobfuscate(_OBFUSCATED_ZEROS, debug_locked=False)
    try:
        return crypto.kdf(zeros, b"zero_cdi")
    finally:
        crypto.erase(zeros)


def _obfuscate(value: bytes) -> bytes:
    """Return what the de-obfuscation engine, with debug open, decrypts to `value`."""
    encryptor = Cipher(algorithms.AES256(b"\xff" * 32), modes.CBC(DOE_IV)).encryptor()
    return encryptor.update(value) + encryptor.finalize()


_OBFUSCATED_ZEROS = _obfuscate(bytes(64))
