"""Known answers of the public test derivation (caliptra-sw test/src/derive.rs, revision e7dc50f).

They hold for the product and for the second derivation, so that both do not err alike.
"""

from __future__ import annotations

import pytest

from casemate.formats.pcr_log import extend
from casemate.rot import ladder
from casemate.rot.crypto import ModelCrypto, Slot, _Secret
from casemate.rot.device_status import RomVersion, device_status
from casemate.rot.fuses import Fuses, Lifecycle, PqcKeyType, svn_fuse
from casemate.rot.ladder import Layer
from tests.rot import independent_derivation as second
from tests.rot.devices import firmware


def placed(crypto: ModelCrypto, value: str) -> Slot:
    """A known secret in a slot: only the model, and only a test, can do this."""
    return crypto._put(_Secret(bytes.fromhex(value)))


def check(layer: Layer, scalar: str, seed: str) -> None:
    expected = second.p384_public(int(scalar, 16))
    assert layer.ecc_public == expected
    from casemate import _silicon

    assert layer.mldsa_public == _silicon.mldsa87_public_key(bytes.fromhex(seed))


IDEVID = {
    "uds": "92121902befa44973d36f1db485a3ed62d7b2eb353929c34879e64ef6b25eaee"
    "0029fa1792f7f8da3b2ac8db21411551ed0e3d6205e51aed1419945045b540a1",
    "cdi": "e047693d5038cf58bafff5294308acedd356fd37620386b3b2cfdd97602e5b26"
    "29ff1601e3196949e04109ab9b6bcab1ef5dc70dbd2d0875f17a75592328baa2",
    "scalar": "034d92792e58660bcfa3e02690ac31dcb97a6b6cf259f7d4"
    "aa3b7a0d565232ff3856079073ff1c043450115048641108",
    "seed": "c091d50e7afd485a38f77783147ecb0bd8c9f655dbaecc88b4cb98a370411d3e",
}
LDEVID = {
    "uds": "92121902befa44973d36f1db485a3ed62d7b2eb353929c34879e64ef6b25eaee"
    "0029fa1792f7f8da3b2ac8db21411551057d115c00fade7ab8cca563e1f504a2",
    "fe": "dbca1cfa149c03557ee48ddbb022238b057c9b496c9e5b66119bcff5e82d50e0",
    "scalar": "15e65daa3e7dedbb60eb7ea6d7e9e441f2adaa7a35ca904c"
    "9076d1a169972589274a286948eb0fb4ee749db115cbe26e",
    "seed": "d747e8f511c7658e32a26d9ad95722c4cd4a577ce7a19babe023d67215afaa43",
}
FMC = {
    "ldevid_cdi": "0e7b8a150cc1476b28d395d9233f9f05670bd43596758224d3dd50813da916e5"
    "94f2b09e257f151d261ade9073a9b3fbf35c06190856f1e37d560cf2aa227256",
    "pcr0": "0d8f3fd44698aaae7bacaf67714a80359a8d3a513fcde890"
    "8039f4c177f9d5a977b8ecd5f29b3fa930e25097e1d82b14",
    "scalar": "fcd8c50e45ddf47be272c12c2a49576fb57f994d723de453"
    "14229ac9714b2a8a6f1ce75f788cf75cdbe9da0251a22e82",
    "seed": "a375434ede5244f39ef218287f279ca1e2cbbd0d0dbfe43a07a622ba98154ec3",
}


def test_idevid() -> None:
    crypto = ModelCrypto()
    check(ladder.idevid(crypto, placed(crypto, IDEVID["uds"])), IDEVID["scalar"], IDEVID["seed"])
    cdi = second.kdf512(bytes.fromhex(IDEVID["uds"]), "idevid_cdi")
    assert cdi.hex() == IDEVID["cdi"]
    keys = second.keys_of(cdi, "idevid")
    assert (keys.ecc_scalar, keys.mldsa_seed.hex()) == (int(IDEVID["scalar"], 16), IDEVID["seed"])


def test_ldevid() -> None:
    crypto = ModelCrypto()
    initial = ladder.idevid(crypto, placed(crypto, LDEVID["uds"]))
    local = ladder.ldevid(crypto, initial.cdi, placed(crypto, LDEVID["fe"]))
    check(local, LDEVID["scalar"], LDEVID["seed"])


def test_fmc_alias() -> None:
    crypto = ModelCrypto()
    cdi = placed(crypto, FMC["ldevid_cdi"])
    check(ladder.fmc_alias(crypto, cdi, bytes.fromhex(FMC["pcr0"])), FMC["scalar"], FMC["seed"])


@pytest.mark.parametrize(
    ("rom", "expected"),
    [
        (
            RomVersion.V2_1_2,
            "0643875938469a6d9b3b49112f27cc8f66180cd06114d635"
            "eddcd0ce7a5451db26270e16bb79841d82f882be1effdf42",
        ),
        (
            RomVersion.MAIN,
            "da5f7363116f0c53b228d17749d044b4c62c4432418c4937"
            "2cd6cd2d6df3d808c01f5afb5346caef61c7d6fe67e7eac5",
        ),
    ],
)
def test_pcr0(rom: RomVersion, expected: str) -> None:
    owner = bytes.fromhex(
        "dc1a27ef0c08201a8b066094118c29fe0bc2270ebd965c43"
        "f7b9a68d8eaf37fa968ca8d813b2920b3b88b026f2f0ebb0"
    )
    fuses = Fuses(
        vendor_pk_hash=bytes.fromhex(
            "ed6dd78c131d69e2313b5d890acd8e4ee2a1db67790721de"
            "01346b641c5cf3c9cf284e7d0e114d50e894b381d874ba94"
        ),
        owner_pk_hash=owner,
        ecc_revocation=1,
        lms_revocation=2,
        mldsa_revocation=3,
        firmware_svn_fuse=svn_fuse(4),
        soc_manifest_svn_fuse=svn_fuse(5),
        soc_manifest_max_svn=128,
        pqc_key_type=PqcKeyType.LMS,
        lifecycle=Lifecycle.PRODUCTION,
    )
    code = firmware(
        fmc_digest=bytes.fromhex(
            "e44ea8559fcf4063d3110a9ad60579dbe03e6dd74556cd98"
            "b2b941f51bb5034b587eea1ffcdd0e0f8e88d4063327a3fe"
        ),
        svn=6,
        owner_pk_hash=owner,
        vendor_ecc_index=7,
        vendor_pqc_index=8,
    )
    value = bytes(48)
    for data in (
        device_status(fuses, code, rom),
        fuses.vendor_pk_hash,
        code.owner_pk_hash,
        code.fmc_digest,
    ):
        value = extend(value, data)
    assert value.hex() == expected
