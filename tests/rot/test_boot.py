"""The boot flow: the state machine, its journal, what is measured and what stays the same."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from pathlib import Path

import pytest

from casemate.formats import dice, pcr_log, x509
from casemate.formats.firmware_bundle import MANIFEST_SIZE
from casemate.formats.pcr_log import EntryId
from casemate.rot.boot import RootOfTrust, StableKeyKind, State
from casemate.rot.boot_status import BootStatus
from casemate.rot.bundle.verify import verify
from casemate.rot.crypto import ModelCrypto, RotCrypto, SiliconCrypto, Slot
from casemate.rot.debug_unlock import open_debug_in_manufacturing
from casemate.rot.device_status import RomVersion, device_status
from casemate.rot.errors import BootError, KeyVaultError, PcrError
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import (
    DEFAULT_CSR_MAC_KEY,
    DEFAULT_FUSES,
    DEFAULT_OBFUSCATION_KEY,
    Fuses,
    Lifecycle,
    PqcKeyType,
)
from casemate.rot.identity import Algorithm, LayerName
from tests.rot.bundle import parts
from tests.rot.devices import Shelf, firmware, write_anchor

OLD = firmware(svn=7)
NEW = firmware(rt=b"new runtime", svn=9)
LOWER = firmware(rt=b"lower runtime", svn=3)


def root_of_trust(
    crypto: RotCrypto | None = None, rom: RomVersion = RomVersion.MAIN
) -> RootOfTrust:
    return RootOfTrust(crypto or ModelCrypto(), Shelf(old=OLD, new=NEW, lower=LOWER), rom=rom)


def booted(fuses: Fuses = DEFAULT_FUSES, rom: RomVersion = RomVersion.MAIN) -> RootOfTrust:
    root = root_of_trust(rom=rom)
    root.cold_reset(fuses, b"old")
    return root


def state(root: RootOfTrust) -> State:
    return root.state


def public(root: RootOfTrust, layer: LayerName) -> bytes:
    return root.subjects[layer][Algorithm.ECC].public_key


# --- states ---------------------------------------------------------------------------------


def test_the_way_to_runtime() -> None:
    root = root_of_trust()
    assert state(root) is State.OFF
    root.power_on(DEFAULT_FUSES)
    assert state(root) is State.AWAITING_FIRMWARE
    assert set(root.subjects) == {LayerName.IDEVID, LayerName.LDEVID}
    root.load_firmware(b"old")
    assert state(root) is State.RUNTIME
    assert set(root.subjects) == set(LayerName)
    assert root.firmware == OLD


def test_the_journal_has_the_public_codes_in_order() -> None:
    root = booted()
    codes = [int(event.status) for event in root.journal if event.status is not None]
    assert codes[0] == BootStatus.COLD_RESET_STARTED
    assert codes[1:4] == [1, 2, 3]
    assert BootStatus.COLD_RESET_COMPLETE in codes
    assert codes[-7:] == list(range(0x400, 0x407))
    assert codes.index(BootStatus.FW_PROCESSOR_EXTEND_PCR_COMPLETE) < codes.index(
        BootStatus.FMC_ALIAS_DERIVE_CDI_COMPLETE
    )
    assert len(codes) == len(set(codes))


def test_services_before_their_state_are_refused() -> None:
    root = root_of_trust()
    for attempt in (
        lambda: root.pcrs,
        lambda: root.firmware,
        lambda: root.rt_alias,
        lambda: root.key_ladder,
        lambda: root.load_firmware(b"old"),
        lambda: root.update_reset(b"new"),
        lambda: root.quote(bytes(32), Algorithm.ECC),
        lambda: root.stash_measurement(bytes(48)),
        lambda: root.sealing_secret(0, b""),
    ):
        with pytest.raises(BootError):
            attempt()
    root.power_on(DEFAULT_FUSES)
    with pytest.raises(BootError, match="needs the state runtime"):
        root.quote(bytes(32), Algorithm.ECC)


def test_a_refused_bundle_stops_the_cold_boot_until_power_on() -> None:
    root = root_of_trust()
    with pytest.raises(BootError) as caught:
        root.cold_reset(DEFAULT_FUSES, b"garbage")
    assert caught.value.code == 0x000B_0001
    assert state(root) is State.FAILED
    assert root.journal[-1].code == 0x000B_0001
    with pytest.raises(BootError, match="needs the state awaiting firmware"):
        root.load_firmware(b"old")
    with pytest.raises(BootError) as caught:
        root.warm_reset()
    assert caught.value.code == 0x0104_0010
    root.cold_reset(DEFAULT_FUSES, b"old")
    assert state(root) is State.RUNTIME


def test_the_verifier_is_told_why_and_what_ran() -> None:
    root = root_of_trust()
    shelf = root._verify
    assert isinstance(shelf, Shelf)
    root.cold_reset(DEFAULT_FUSES, b"old")
    root.update_reset(b"new")
    assert shelf.asked == [(ResetReason.COLD, None), (ResetReason.UPDATE, OLD)]


# --- warm and update reset ------------------------------------------------------------------


def test_a_warm_reset_keeps_everything() -> None:
    root = booted()
    pcrs, log, certificates = root.pcrs.values, root.pcrs.log, root.certificates
    root.warm_reset()
    assert state(root) is State.RUNTIME
    assert (root.pcrs.values, root.pcrs.log, root.certificates) == (pcrs, log, certificates)


def test_an_update_reset_measures_the_new_runtime() -> None:
    root = booted()
    before = root.pcrs.values
    fmc, runtime = public(root, LayerName.FMC_ALIAS), public(root, LayerName.RT_ALIAS)
    root.update_reset(b"new")
    after = root.pcrs.values
    status = device_status(DEFAULT_FUSES, OLD, RomVersion.MAIN)
    journey = before[1]
    for data in (status, DEFAULT_FUSES.vendor_pk_hash, OLD.owner_pk_hash, OLD.fmc_digest):
        journey = pcr_log.extend(journey, data)
    assert after[0] == before[0]
    assert after[1] == journey
    assert after[2] == pcr_log.extend(bytes(48), NEW.rt_digest)
    assert after[3] == pcr_log.extend(before[3], NEW.rt_digest)
    assert public(root, LayerName.FMC_ALIAS) == fmc
    assert public(root, LayerName.RT_ALIAS) != runtime
    assert [entry.id for entry in root.pcrs.log] == [
        EntryId.DEVICE_STATUS,
        EntryId.VENDOR_PK_INFO_HASH,
        EntryId.OWNER_PK_HASH,
        EntryId.FMC_TCI,
        EntryId.RT_TCI,
    ]
    # The device status keeps the cold boot's SVN; the RT certificate states the new one.
    assert root.pcrs.log[0].measured(18)[14] == OLD.svn
    certificate = x509.read_certificate(root.certificates[LayerName.RT_ALIAS, Algorithm.ECC])
    info = certificate.extension(dice.OID_TCB_INFO)
    assert info is not None
    assert dice.decode_tcb_info(info.value).svn == 0x0100 | NEW.svn


def test_an_update_to_the_same_runtime_is_not_measured_again() -> None:
    root = booted()
    before = root.pcrs.values
    root.update_reset(b"old")
    after = root.pcrs.values
    assert after[2:4] == before[2:4]
    assert EntryId.RT_TCI not in [entry.id for entry in root.pcrs.log]


def test_after_an_update_the_current_pcrs_replay_and_the_journey_does_not() -> None:
    root = booted()
    root.update_reset(b"new")
    replayed = pcr_log.replay(root.pcrs.log, 18)
    values = root.pcrs.values
    assert (replayed[0], replayed[2]) == (values[0], values[2])
    assert replayed[1] != values[1]
    assert replayed[3] != values[3]


def test_a_refused_update_leaves_the_firmware_running_and_stops_the_next_warm_reset() -> None:
    root = booted()
    values, certificates = root.pcrs.values, root.certificates
    with pytest.raises(BootError):
        root.update_reset(b"garbage")
    assert state(root) is State.RUNTIME
    assert (root.firmware, root.pcrs.values, root.certificates) == (OLD, values, certificates)
    root.quote(bytes(32), Algorithm.ECC)
    with pytest.raises(BootError) as caught:
        root.warm_reset()
    assert caught.value.code == 0x0104_0011
    assert state(root) is State.FAILED


def test_a_good_update_after_a_refused_one_repairs_it() -> None:
    root = booted()
    with pytest.raises(BootError):
        root.update_reset(b"garbage")
    root.update_reset(b"new")
    root.warm_reset()
    assert root.firmware == NEW


# --- measurements ---------------------------------------------------------------------------


@pytest.mark.parametrize(("rom", "size"), [(RomVersion.V2_1_2, 17), (RomVersion.MAIN, 18)])
def test_the_rom_version_decides_the_device_status(rom: RomVersion, size: int) -> None:
    fuses = dataclasses.replace(DEFAULT_FUSES, subsystem_mode=True)
    root = booted(fuses, rom)
    assert len(device_status(fuses, OLD, rom)) == size
    replayed = pcr_log.replay(root.pcrs.log, size)
    assert all(root.pcrs.values[index] == value for index, value in replayed.items())
    other = pcr_log.replay(root.pcrs.log, 35 - size)
    assert other[0] != root.pcrs.values[0]


def test_subsystem_mode_is_measured_by_main_only() -> None:
    subsystem = dataclasses.replace(DEFAULT_FUSES, subsystem_mode=True)
    for rom, equal in ((RomVersion.V2_1_2, True), (RomVersion.MAIN, False)):
        one, two = booted(DEFAULT_FUSES, rom), booted(subsystem, rom)
        assert (public(one, LayerName.FMC_ALIAS) == public(two, LayerName.FMC_ALIAS)) is equal


def test_stashed_measurements() -> None:
    root = root_of_trust()
    root.power_on(DEFAULT_FUSES)
    root.stash_measurement(b"a" * 48, metadata=b"fw01", context=b"c" * 48, svn=2)
    root.load_firmware(b"old")
    root.stash_measurement(b"b" * 48)
    expected = pcr_log.extend(pcr_log.extend(bytes(48), b"a" * 48), b"b" * 48)
    assert root.pcrs.values[31] == expected
    (entry,) = root.pcrs.measurements
    assert (entry.metadata, entry.context, entry.svn) == (b"fw01", b"c" * 48, 2)
    assert entry.entry.pcrs == (31,)


def test_the_rom_takes_eight_measurements() -> None:
    root = root_of_trust()
    root.power_on(DEFAULT_FUSES)
    for _ in range(8):
        root.stash_measurement(bytes(48))
    value = root.pcrs.values[31]
    with pytest.raises(PcrError, match="0x0105000d"):
        root.stash_measurement(bytes(48))
    assert root.pcrs.values[31] == value


# --- secrets --------------------------------------------------------------------------------


def test_what_changes_which_identity() -> None:
    base = booted()
    keys = {layer: public(base, layer) for layer in LayerName}

    def changed(**changes: object) -> set[LayerName]:
        other = booted(dataclasses.replace(DEFAULT_FUSES, **changes))  # type: ignore[arg-type]
        return {layer for layer in LayerName if public(other, layer) != keys[layer]}

    everything = set(LayerName)
    firmware_layers = {LayerName.FMC_ALIAS, LayerName.RT_ALIAS}
    assert changed(uds_seed=bytes(64)) == everything
    assert changed(field_entropy=bytes(32)) == everything - {LayerName.IDEVID}
    assert changed(debug_locked=False) == everything
    assert changed(lifecycle=Lifecycle.PRODUCTION) == firmware_layers
    assert changed(ecc_revocation=1) == firmware_layers
    assert changed(hsm_id=b"h" * 16) == set()


def test_with_debug_open_every_device_is_the_same() -> None:
    one = dataclasses.replace(DEFAULT_FUSES, debug_locked=False)
    two = dataclasses.replace(one, uds_seed=b"u" * 64, field_entropy=b"e" * 32)
    assert public(booted(one), LayerName.LDEVID) == public(booted(two), LayerName.LDEVID)


def test_opening_debug_wipes_and_only_power_on_goes_on() -> None:
    crypto = ModelCrypto()
    root = root_of_trust(crypto)
    root.cold_reset(DEFAULT_FUSES, b"old")
    cdi = root.rt_alias.cdi
    root.open_debug()
    assert state(root) is State.FAILED
    with pytest.raises(KeyVaultError):
        crypto.kdf(cdi, b"x")
    with pytest.raises(BootError):
        root.warm_reset()
    root.power_on(dataclasses.replace(DEFAULT_FUSES, debug_locked=False))
    assert state(root) is State.AWAITING_FIRMWARE


def test_a_debug_token_opens_a_device_in_manufacture_only() -> None:
    # The public test device's token, words as the register holds them.
    words = "552c92d87f732b79e5f313297554e6cb6e015262a163e9ae3a754edd96f087f7"
    token = b"".join(bytes.fromhex(words[at : at + 8])[::-1] for at in range(0, 64, 8))
    fuses = dataclasses.replace(DEFAULT_FUSES, lifecycle=Lifecycle.MANUFACTURING)
    opened = open_debug_in_manufacturing(fuses, token)
    assert opened == dataclasses.replace(fuses, debug_locked=False)
    blank = dataclasses.replace(fuses, debug_unlock_token_hash=bytes(64))
    for device, offered in ((fuses, token[:-1] + b"x"), (fuses, b""), (blank, token)):
        with pytest.raises(BootError) as caught:
            open_debug_in_manufacturing(device, offered)
        assert caught.value.code == 0xA000_0002
    for lifecycle in (Lifecycle.UNPROVISIONED, Lifecycle.PRODUCTION):
        with pytest.raises(BootError, match="manufacturing lifecycle only"):
            open_debug_in_manufacturing(dataclasses.replace(fuses, lifecycle=lifecycle), token)


def test_a_warm_reset_with_debug_open_is_refused() -> None:
    root = booted(dataclasses.replace(DEFAULT_FUSES, debug_locked=False))
    with pytest.raises(BootError, match="cold reset is needed"):
        root.warm_reset()


def test_slots_do_not_pile_up(tmp_path: Path) -> None:
    anchor = write_anchor(tmp_path / "anchor", DEFAULT_OBFUSCATION_KEY, DEFAULT_CSR_MAC_KEY)
    crypto = SiliconCrypto(anchor)
    root = root_of_trust(crypto)
    used = []
    for _ in range(3):
        root.cold_reset(DEFAULT_FUSES, b"old")
        root.set_soc_manifest_svn(4)
        crypto.erase(root.sealing_secret(2, b""))
        root.warm_reset()
        root.update_reset(b"lower")
        used.append(crypto._vault.used())
    # FMC and RT layers (three slots each), two ladders, two stable roots.
    assert used == [10, 10, 10]
    root.open_debug()
    assert crypto._vault.used() == 0


def test_silicon_gives_the_same_device(tmp_path: Path) -> None:
    anchor = write_anchor(tmp_path / "anchor", DEFAULT_OBFUSCATION_KEY, DEFAULT_CSR_MAC_KEY)
    host, model = root_of_trust(SiliconCrypto(anchor)), root_of_trust()
    for root in (host, model):
        root.cold_reset(DEFAULT_FUSES, b"old")
        root.update_reset(b"new")
    assert host.certificates == model.certificates
    for algorithm in Algorithm:
        assert host.quote(b"n" * 32, algorithm) == model.quote(b"n" * 32, algorithm)


# --- ladders --------------------------------------------------------------------------------


def shown(root: RootOfTrust, secret: Slot) -> bytes:
    return root.crypto.public_key(root.crypto.ecc_key(secret))


def test_newer_firmware_reaches_what_older_firmware_had() -> None:
    old, new = booted(), root_of_trust()
    new.cold_reset(DEFAULT_FUSES, b"new")
    for target in (0, OLD.svn):
        assert shown(old, old.key_ladder.derive(target, b"c")) == shown(
            new, new.key_ladder.derive(target, b"c")
        )
    with pytest.raises(KeyVaultError, match="0x000E0056"):
        old.key_ladder.derive(NEW.svn, b"c")


def test_an_update_to_a_lower_svn_takes_the_ladder_down_for_good() -> None:
    root = booted()
    secret = shown(root, root.key_ladder.derive(LOWER.svn, b"c"))
    root.update_reset(b"lower")
    assert root.key_ladder.svn == LOWER.svn
    assert shown(root, root.key_ladder.derive(LOWER.svn, b"c")) == secret
    root.update_reset(b"new")
    assert root.key_ladder.svn == LOWER.svn
    with pytest.raises(KeyVaultError):
        root.key_ladder.derive(OLD.svn, b"c")


def test_the_sealing_secret_follows_the_soc_manifest() -> None:
    root = booted()
    with pytest.raises(BootError, match="no SoC manifest"):
        root.sealing_secret(0, b"module")
    root.set_soc_manifest_svn(5)
    at_5, at_2 = (shown(root, root.sealing_secret(svn, b"module")) for svn in (5, 2))
    assert at_5 != at_2
    assert shown(root, root.sealing_secret(5, b"other")) != at_5
    with pytest.raises(KeyVaultError):
        root.sealing_secret(6, b"module")
    root.set_soc_manifest_svn(2)
    assert shown(root, root.sealing_secret(2, b"module")) == at_2
    root.set_soc_manifest_svn(5)
    with pytest.raises(KeyVaultError):
        root.sealing_secret(5, b"module")

    newer = booted()
    newer.set_soc_manifest_svn(128)
    assert shown(newer, newer.sealing_secret(5, b"module")) == at_5
    # Firmware does not matter; owner, lifecycle and debug state do.
    other_firmware = root_of_trust()
    other_firmware.cold_reset(DEFAULT_FUSES, b"new")
    other_firmware.set_soc_manifest_svn(5)
    assert shown(other_firmware, other_firmware.sealing_secret(5, b"module")) == at_5
    owned = RootOfTrust(ModelCrypto(), Shelf(a=firmware(owner_pk_hash=b"o" * 48)))
    for fuses, root_with, bundle in (
        (DEFAULT_FUSES, owned, b"a"),
        (
            dataclasses.replace(DEFAULT_FUSES, lifecycle=Lifecycle.PRODUCTION),
            root_of_trust(),
            b"old",
        ),
        (dataclasses.replace(DEFAULT_FUSES, debug_locked=False), root_of_trust(), b"old"),
    ):
        root_with.cold_reset(fuses, bundle)
        root_with.set_soc_manifest_svn(5)
        assert shown(root_with, root_with.sealing_secret(5, b"module")) != at_5


def test_stable_roots_depend_on_no_firmware() -> None:
    one, two = booted(), root_of_trust()
    two.cold_reset(DEFAULT_FUSES, b"lower")
    for a, b in zip(one.stable_roots, two.stable_roots, strict=True):
        assert shown(one, a) == shown(two, b)
    idev, ldev = one.stable_roots
    assert shown(one, idev) != shown(one, ldev)


def test_stable_keys() -> None:
    one, two = booted(), root_of_trust()
    two.cold_reset(DEFAULT_FUSES, b"lower")
    info = bytes(range(32))
    for kind in StableKeyKind:
        assert shown(one, one.stable_key(kind, info)) == shown(two, two.stable_key(kind, info))
    keys = {
        shown(one, one.stable_key(StableKeyKind.IDEVID, info)),
        shown(one, one.stable_key(StableKeyKind.LDEVID, info)),
        shown(one, one.stable_key(StableKeyKind.LDEVID, bytes(32))),
    }
    assert len(keys) == 3
    with pytest.raises(KeyVaultError, match="expected 32 bytes"):
        one.stable_key(StableKeyKind.IDEVID, bytes(31))


# --- certificates ---------------------------------------------------------------------------


def test_dates_of_the_owner_go_before_those_of_the_vendor() -> None:
    vendor = {"vendor_not_before": b"20240101000000Z", "vendor_not_after": b"20250101000000Z"}
    owner = {"owner_not_before": b"20260101000000Z", "owner_not_after": b"20270101000000Z"}
    half = {"owner_not_before": b"20260101000000Z"}
    for dates, expected in (
        ({}, ("20230101000000Z", "99991231235959Z")),
        (vendor, ("20240101000000Z", "20250101000000Z")),
        (vendor | owner, ("20260101000000Z", "20270101000000Z")),
        (vendor | half, ("20240101000000Z", "20250101000000Z")),
    ):
        dated = firmware(**dates)  # type: ignore[arg-type]
        root = RootOfTrust(ModelCrypto(), Shelf(a=dated))
        root.cold_reset(DEFAULT_FUSES, b"a")
        for layer in (LayerName.FMC_ALIAS, LayerName.RT_ALIAS):
            read = x509.read_certificate(root.certificates[layer, Algorithm.ECC])
            assert (read.not_before, read.not_after) == expected
        local = x509.read_certificate(root.certificates[LayerName.LDEVID, Algorithm.ECC])
        assert local.not_before == "20230101000000Z"


def test_the_fmc_certificate_states_device_and_firmware() -> None:
    fuses = dataclasses.replace(
        DEFAULT_FUSES, vendor_pk_hash=b"v" * 48, lifecycle=Lifecycle.PRODUCTION
    )
    root = booted(fuses)
    read = x509.read_certificate(root.certificates[LayerName.FMC_ALIAS, Algorithm.MLDSA])
    extension = read.extension(dice.OID_MULTI_TCB_INFO)
    assert extension is not None
    owner, vendor, fmc = dice.decode_multi_tcb_info(extension.value)
    status = device_status(fuses, OLD, RomVersion.MAIN)
    assert owner.fwids == (
        dice.Fwid(dice.OID_SHA384, hashlib.sha384(OLD.owner_pk_hash + status[:11]).digest()),
    )
    assert vendor.fwids == (
        dice.Fwid(dice.OID_SHA384, hashlib.sha384(b"v" * 48 + status[11:]).digest()),
    )
    assert fmc.fwids == (dice.Fwid(dice.OID_SHA384, OLD.fmc_digest),)
    assert fmc.svn == 0x0107
    assert (owner.type, vendor.type, fmc.type) == (
        b"CALIPTRA_2_X_FUSE_OWNER_INFO",
        b"CALIPTRA_2_X_FUSE_VENDOR_INFO",
        b"CALIPTRA_2_X_FMC_FIRMWARE_INFO",
    )


# --- real bundles ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PqcKeyType.MLDSA, PqcKeyType.LMS])
def test_a_real_bundle_boots_and_a_damaged_one_does_not(kind: PqcKeyType) -> None:
    bundle = parts.good(kind)
    fuses = parts.fuses_for(bundle)
    root = RootOfTrust(ModelCrypto(), verify)
    root.cold_reset(fuses, bundle)
    assert root.firmware.fmc_digest == hashlib.sha384(parts.FMC.content).digest()
    assert root.firmware.owner_pk_hash == fuses.owner_pk_hash
    assert root.firmware.fmc_load_address == parts.FMC.load_addr
    root.update_reset(bundle)
    root.warm_reset()
    with pytest.raises(BootError) as caught:
        root.update_reset(parts.flip(bundle, len(bundle) - 200))
    assert caught.value.code == 0x000B_0016
    assert state(root) is State.RUNTIME
    with pytest.raises(BootError) as caught:
        root.cold_reset(dataclasses.replace(fuses, owner_pk_hash=b"o" * 48), bundle)
    assert caught.value.code == 0x000B_0007


def test_an_update_must_keep_the_fmc() -> None:
    kind = PqcKeyType.MLDSA
    bundle = parts.good(kind)
    other = parts.make(kind, fmc=dataclasses.replace(parts.FMC, content=b"another" * 100))
    root = RootOfTrust(ModelCrypto(), verify)
    root.cold_reset(parts.fuses_for(bundle), bundle)
    with pytest.raises(BootError) as caught:
        root.update_reset(other)
    assert caught.value.code == 0x000B_001F


def test_an_svn_that_no_ladder_reaches_stops_the_boot() -> None:
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware(svn=129)))
    with pytest.raises(BootError) as caught:
        root.cold_reset(DEFAULT_FUSES, b"a")
    assert caught.value.code == 0x0102_000C
    assert state(root) is State.FAILED
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware(), b=firmware(svn=70000)))
    root.cold_reset(DEFAULT_FUSES, b"a")
    root.update_reset(b"b")
    assert root.key_ladder.svn == firmware().svn


def test_dates_are_copied_whatever_their_bytes() -> None:
    odd = {"owner_not_before": b"\xff" * 15, "owner_not_after": b"\x80not a date!!!!"}
    root = RootOfTrust(ModelCrypto(), Shelf(a=firmware(**odd)))  # type: ignore[arg-type]
    root.cold_reset(DEFAULT_FUSES, b"a")
    assert b"\x18\x0f" + b"\xff" * 15 in root.certificates[LayerName.RT_ALIAS, Algorithm.ECC]


@pytest.mark.parametrize("kind", [PqcKeyType.MLDSA, PqcKeyType.LMS])
def test_a_largest_bundle_boots_with_all_certificates_in_150_ms(kind: PqcKeyType) -> None:
    room = 256 * 1024 - MANIFEST_SIZE - len(parts.FMC.content) - 512
    runtime = dataclasses.replace(parts.RUNTIME, content=bytes(room), load_addr=0x40000400)
    runtime = dataclasses.replace(runtime, entry_point=0x40000400)
    bundle = parts.make(kind, runtime=runtime)
    assert 255 * 1024 < len(bundle) <= 256 * 1024
    fuses = parts.fuses_for(bundle)
    root = RootOfTrust(ModelCrypto(), verify, make_requests=True)
    times = []
    for _ in range(5):
        started = time.process_time()
        root.cold_reset(fuses, bundle)
        times.append(time.process_time() - started)
    assert len(root.certificates) == 6
    assert len(root.requests) == 8
    assert min(times) < 0.150
