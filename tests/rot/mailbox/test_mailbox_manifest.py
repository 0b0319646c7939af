"""The mailbox: SoC manifest, signature verification, stable keys."""

from __future__ import annotations

import hashlib
import struct

from cryptography.hazmat.primitives.asymmetric import mldsa

from casemate.formats import mailbox_messages as messages
from casemate.formats import soc_manifest as sm
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    DeriveFlags,
    Profile,
    RotateContextHandle,
)
from casemate.formats.mailbox import CommandId as Command
from casemate.formats.mailbox import FipsStatus, open_response, seal_request
from casemate.rot.mailbox import Code
from casemate.rot.soc_manifest.authorize import Result
from tests.rot.bundle.parts import TreeSigner, ecc_signer
from tests.rot.mailbox.devices import (
    KIND,
    PL0,
    PL1,
    Bench,
    bundle,
    powered,
    running,
)
from tests.rot.soc_manifest import manifests

LABEL = bytes(range(48))
PROFILES = list(Profile)
EXPORT = DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE


# --- SoC manifest ---------------------------------------------------------------------------


def authorize_body(fw_id: int, measurement: bytes, *, flags: int = 0, source: int = 1) -> bytes:
    return struct.pack("<I48s48sIIII", fw_id, measurement, bytes(48), 1, flags, source, 0)


def test_images_are_authorised_by_the_manifest_and_measured(runtime: Bench) -> None:
    manifest = messages.encode_sized(manifests.manifest(KIND))
    library = manifests.LIBRARY
    body = authorize_body(library.fw_id, library.digest)
    command = Command.AUTHORIZE_AND_STASH

    def result(body: bytes, user: int = PL0) -> int:
        return int.from_bytes(runtime.ask(command, body, user), "little")

    assert result(body) == Result.NOT_AUTHORIZED
    assert runtime.refused(Command.SET_AUTH_MANIFEST, manifest, PL1) == (
        Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    )
    runtime.ask(Command.VERIFY_AUTH_MANIFEST, manifest)
    assert result(body) == Result.NOT_AUTHORIZED
    runtime.ask(Command.SET_AUTH_MANIFEST, manifest)
    assert result(authorize_body(library.fw_id, bytes(48))) == Result.HASH_MISMATCH
    before = runtime.device.root.pcrs.values[31]
    assert result(body) == Result.AUTHORIZED
    *_, (_, context) = runtime.device.contexts
    assert (context.tci.tci_type, context.tci.current) == (library.fw_id, library.digest)
    assert runtime.device.root.pcrs.values[31] != before
    # PL1 may ask, without the stash.
    assert runtime.refused(command, body, PL1) == Code.RUNTIME_INCORRECT_PAUSER_PRIVILEGE_LEVEL
    skipping = authorize_body(library.fw_id, library.digest, flags=1)
    assert result(skipping, PL1) == Result.AUTHORIZED
    owned = manifests.OWNED[0]
    runtime.ask(
        Command.SET_OWNER_AUTH_MANIFEST, messages.encode_sized(manifests.owner_manifest(KIND))
    )
    assert result(authorize_body(owned.fw_id, owned.digest)) == Result.AUTHORIZED_OWNER_ONLY
    info = messages.FirmwareInfo.decode(runtime.ask(Command.FW_INFO))
    assert (info.soc_manifest_svn, info.owner_manifest_svn) == (4, 4)


def test_a_stash_that_fails_is_no_yes(runtime: Bench) -> None:
    runtime.ask(Command.SET_AUTH_MANIFEST, messages.encode_sized(manifests.manifest(KIND)))
    runtime.dpe(Profile.P384_SHA384).run(RotateContextHandle(DEFAULT_HANDLE))
    library = manifests.LIBRARY
    body = authorize_body(library.fw_id, library.digest)
    assert runtime.refused(Command.AUTHORIZE_AND_STASH, body) == (
        Code.RUNTIME_AUTH_AND_STASH_MEASUREMENT_DPE_ERROR
    )


def test_what_the_manifest_says_about_an_image(runtime: Bench) -> None:
    ask = manifests.FIRMWARE.fw_id.to_bytes(4, "little")
    assert runtime.refused(Command.GET_IMAGE_INFO, ask) == Code.RUNTIME_IMAGE_METADATA_NOT_FOUND
    runtime.ask(Command.SET_AUTH_MANIFEST, messages.encode_sized(manifests.manifest(KIND)))
    fields = struct.unpack("<6I48s", runtime.ask(Command.GET_IMAGE_INFO, ask, PL1))
    image = manifests.FIRMWARE
    assert fields == (1, image.flags, 1, 0x2000, 2, 0, image.digest)


def test_an_svn_beyond_the_sealing_ladder_is_no_obstacle_where_none_is_checked() -> None:
    from tests.rot.bundle.parts import fuses_for

    bench = powered(fuses_for(bundle(), anti_rollback_disable=True))
    bench.load()
    images = sm.SocManifest.decode(manifests.manifest(KIND)).image_list
    manifest = manifests.resign(KIND, images, svn=4000)
    bench.ask(Command.SET_AUTH_MANIFEST, messages.encode_sized(manifest))
    info = messages.FirmwareInfo.decode(bench.ask(Command.FW_INFO))
    assert info.soc_manifest_svn == 4000


def test_a_manifest_that_is_refused_changes_nothing(runtime: Bench) -> None:
    manifest = bytearray(manifests.manifest(KIND))
    manifest[100] ^= 1
    before = runtime.device.authorizations
    code = runtime.refused(Command.SET_AUTH_MANIFEST, messages.encode_sized(bytes(manifest)))
    assert code >> 16 == 0x000E
    assert runtime.device.authorizations == before
    short = (100).to_bytes(4, "little") + bytes(50)
    assert runtime.refused(Command.SET_AUTH_MANIFEST, short) == Code.RUNTIME_MAILBOX_INVALID_PARAMS


# --- verification and stable keys -----------------------------------------------------------


def test_ecdsa_verification_in_both_states(rom: Bench) -> None:
    signer = ecc_signer()
    digest = hashlib.sha384(b"message").digest()
    request = messages.EcdsaVerify(signer.public_key, signer.sign(digest), digest)
    wrong = messages.EcdsaVerify(signer.public_key, signer.sign(digest), bytes(48))
    zero = messages.EcdsaVerify(signer.public_key, bytes(96), digest)
    command = Command.ECDSA384_SIGNATURE_VERIFY
    for code in (Code.ROM_ECDSA_VERIFY_FAILED, Code.RUNTIME_ECDSA_VERIFY_FAILED):
        response = rom.frame(command, seal_request(command, request.encode()), PL1)
        assert open_response(response.payload) == (FipsStatus.USER_SUPPLIED_DIGEST, b"")
        assert rom.refused(command, wrong.encode()) == code
        assert rom.refused(command, zero.encode()) == (Code.DRIVER_ECC384_SCALAR_RANGE_CHECK_FAILED)
        rom.load()


def test_mldsa_verification_in_both_states(rom: Bench) -> None:
    key = mldsa.MLDSA87PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    signature = key.sign(b"message") + b"\0"
    body = public + signature + messages.encode_sized(b"message")
    wrong = public + signature + messages.encode_sized(b"massage")
    lying = public + signature + (8).to_bytes(4, "little") + b"message"
    command = Command.MLDSA87_SIGNATURE_VERIFY
    for failed, malformed in (
        (Code.ROM_MLDSA_VERIFY_FAILED, Code.FW_PROC_MAILBOX_INVALID_REQUEST_LENGTH),
        (Code.RUNTIME_MLDSA_VERIFY_FAILED, Code.RUNTIME_MAILBOX_INVALID_PARAMS),
    ):
        assert rom.ask(command, body, PL1) == b""
        assert rom.refused(command, wrong) == failed
        assert rom.refused(command, lying) == malformed
        assert rom.refused(command, body[:7000]) == malformed
        rom.load()


def test_lms_verification(runtime: Bench) -> None:
    signer = TreeSigner(leaves=1)
    digest = hashlib.sha384(b"message").digest()
    key, signature = signer.public_key, signer.sign(digest)
    parts = {
        "key_tree_type": 12,
        "key_ots_type": 7,
        "key_identifier": key[8:24],
        "key_digest": key[24:48],
        "q": int.from_bytes(signature[:4], "big"),
        "ots": signature[4:1256],
        "tree_type": int.from_bytes(signature[1256:1260], "big"),
        "tree_path": signature[1260:1620],
        "digest": digest,
    }

    def body(**changes: object) -> bytes:
        return messages.LmsVerify(**(parts | changes)).encode()  # type: ignore[arg-type]

    command = Command.LMS_SIGNATURE_VERIFY
    assert runtime.ask(command, body(), PL1) == b""
    for changes, code in (
        ({"digest": bytes(48)}, Code.RUNTIME_LMS_VERIFY_FAILED),
        ({"key_tree_type": 11}, Code.RUNTIME_LMS_VERIFY_INVALID_LMS_ALGORITHM),
        ({"tree_type": 11}, Code.RUNTIME_LMS_VERIFY_INVALID_LMS_ALGORITHM),
        ({"key_ots_type": 8}, Code.RUNTIME_LMS_VERIFY_INVALID_LMOTS_ALGORITHM),
        (
            {"ots": b"\0\0\0\x08" + signature[8:1256]},
            Code.DRIVER_LMS_SIGNATURE_LMOTS_DOESNT_MATCH_PUBKEY_LMOTS,
        ),
    ):
        assert runtime.refused(command, body(**changes)) == code
    assert runtime.refused(command, body()[:-1]) == Code.RUNTIME_INSUFFICIENT_MEMORY


def test_stable_keys_do_not_follow_the_firmware() -> None:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    def key(bench: Bench, kind: int, info: bytes) -> bytes:
        body = messages.DeriveStableKey(kind, info).encode()
        domain, metadata, iv, sealed, tag = struct.unpack(
            "<I16s12s80s16s", bench.ask(Command.CM_DERIVE_STABLE_KEY, body, PL1)
        )
        assert (domain, metadata) == (0, bytes(16))
        plain = AESGCM(bench.device.cmk_key).decrypt(iv, sealed + tag, None)
        version, size, usage, _, counter = struct.unpack("<HHB3sQ", plain[:16])
        assert (version, size, usage, counter) == (1, 64, 1, 0)
        return plain[16:]

    rom, old, new = powered(), running(), running(bundle(runtime=b"other" * 100))
    keys = set()
    for kind in (1, 2):
        for info in (bytes(32), b"\1" * 32):
            found = {key(bench, kind, info) for bench in (rom, old, new)}
            assert len(found) == 1
            keys |= found
    assert len(keys) == 4
    for kind, code in (
        (0, Code.DOT_INVALID_KEY_TYPE),
        (3, Code.CMB_STABLE_OWNER_KEY_NOT_AVAILABLE),
        (9, Code.DOT_INVALID_KEY_TYPE),
    ):
        body = messages.DeriveStableKey(kind, bytes(32)).encode()
        assert old.refused(Command.CM_DERIVE_STABLE_KEY, body) == code
