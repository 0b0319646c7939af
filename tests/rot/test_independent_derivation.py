"""The product against the second derivation, on 1,000 random sets of fuses and firmware."""

from __future__ import annotations

import random

import pytest

from casemate.rot import ladder
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion, device_status
from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.fuses import DEFAULT_OBFUSCATION_KEY, Fuses
from casemate.rot.identity import Algorithm
from casemate.rot.pcr import FMC_CURRENT, FMC_JOURNEY, RT_CURRENT, RT_JOURNEY
from tests.rot.devices import Shelf, firmware, random_fuses
from tests.rot.independent_derivation import Device, drbg_scalar, p384_public

GROUPS, SETS_EACH = 20, 50


def second(fuses: Fuses, code: VerifiedFirmware, rom: RomVersion, obfuscation_key: bytes) -> Device:
    return Device(
        obfuscation_key=obfuscation_key,
        uds_seed=fuses.uds_seed,
        field_entropy=fuses.field_entropy,
        debug_locked=fuses.debug_locked,
        lifecycle=int(fuses.lifecycle),
        vendor_pk_hash=fuses.vendor_pk_hash,
        owner_fuse=fuses.owner_pk_hash,
        ecc_revocation=fuses.ecc_revocation,
        lms_revocation=fuses.lms_revocation,
        mldsa_revocation=fuses.mldsa_revocation,
        anti_rollback_disable=fuses.anti_rollback_disable,
        fw_fuse_svn=fuses.firmware_svn,
        soc_manifest_svn=fuses.soc_manifest_svn,
        soc_max_svn=fuses.soc_manifest_max_svn,
        pqc_type=int(fuses.pqc_key_type),
        subsystem_mode=fuses.subsystem_mode,
        fmc_digest=code.fmc_digest,
        rt_digest=code.rt_digest,
        svn=code.svn,
        owner_pk_hash=code.owner_pk_hash,
        ecc_index=code.vendor_ecc_index,
        pqc_index=code.vendor_pqc_index,
        old_rom=rom is RomVersion.V2_1_2,
    )


@pytest.mark.parametrize("group", range(GROUPS))
def test_both_derivations_agree(group: int) -> None:
    source = random.Random(f"independent derivation {group}")
    for _ in range(SETS_EACH):
        fuses = random_fuses(source)
        code = firmware(
            svn=source.randrange(129),
            fmc_digest=source.randbytes(48),
            rt_digest=source.randbytes(48),
            owner_pk_hash=fuses.owner_pk_hash
            if fuses.owner_pk_hash_fused
            else source.randbytes(48),
            vendor_ecc_index=source.randrange(4),
            vendor_pqc_index=source.randrange(32),
        )
        rom = source.choice(list(RomVersion))
        key = source.choice((DEFAULT_OBFUSCATION_KEY, source.randbytes(32)))
        expected = second(fuses, code, rom, key)

        root = RootOfTrust(ModelCrypto(key), Shelf(code=code), rom=rom)
        root.cold_reset(fuses, b"code")

        assert device_status(fuses, code, rom) == expected.status()
        values = root.pcrs.values
        assert values[FMC_CURRENT] == values[FMC_JOURNEY] == expected.pcr0()
        assert values[RT_CURRENT] == values[RT_JOURNEY] == expected.pcr2()
        layers = expected.derive()
        for name, subject in root.subjects.items():
            assert subject[Algorithm.ECC].public_key == layers[name.value].ecc_public, name
            assert subject[Algorithm.MLDSA].public_key == layers[name.value].mldsa_public, name
        assert len(root.subjects) == 4


def test_both_firmware_ladders_agree() -> None:
    source = random.Random("firmware ladder")
    for _ in range(20):
        fuses, code = random_fuses(source), firmware(svn=source.randrange(129))
        expected = second(fuses, code, RomVersion.MAIN, DEFAULT_OBFUSCATION_KEY)
        crypto = ModelCrypto()
        uds, field_entropy = ladder.deobfuscate(crypto, fuses)
        initial = ladder.idevid(crypto, uds)
        local = ladder.ldevid(crypto, initial.cdi, field_entropy)
        chain = ladder.firmware_ladder(crypto, local.cdi, fuses, code.svn)
        target = source.randrange(code.svn + 1)
        context = source.randbytes(source.randrange(64))
        secret = chain.derive(target, context)
        # A secret does not come out of its slot: compare the key that it is the seed of.
        public = crypto.public_key(crypto.ecc_key(secret))
        scalar = drbg_scalar(expected.firmware_secret(target, context)[:48])
        assert public == p384_public(scalar)
