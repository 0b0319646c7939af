"""The certificate and request templates of caliptra-sw against what the product builds.

CASEMATE_SUITES/caliptra-sw is a checkout of chipsalliance/caliptra-sw. Each generated template is
the part to be signed with places for values; with the product's values in these places it must be
the product's bytes, for every layer, request and certificate, in both algorithms.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from casemate.formats import x509
from casemate.rot.boot import RootOfTrust
from casemate.rot.crypto import ModelCrypto
from casemate.rot.device_status import RomVersion, owner_info_digest, vendor_info_digest
from casemate.rot.fuses import DEFAULT_FUSES
from casemate.rot.identity import Algorithm, LayerName
from tests.rot.devices import Shelf, firmware

pytestmark = pytest.mark.conformance

TEMPLATES = {
    (LayerName.IDEVID, "csr"): ("init_dev_id_csr_tbs_ecc_384", "init_dev_id_csr_tbs_ml_dsa_87"),
    (LayerName.LDEVID, "csr"): ("local_dev_id_csr_tbs_ecc_384", "local_dev_id_csr_tbs_ml_dsa_87"),
    (LayerName.LDEVID, "cert"): (
        "local_dev_id_cert_tbs_ecc_384",
        "local_dev_id_cert_tbs_ml_dsa_87",
    ),
    (LayerName.FMC_ALIAS, "csr"): ("fmc_alias_csr_tbs_ecc_384", "fmc_alias_tbs_ml_dsa_87"),
    (LayerName.FMC_ALIAS, "cert"): ("fmc_alias_cert_tbs_ecc_384", "fmc_alias_cert_tbs_ml_dsa_87"),
    (LayerName.RT_ALIAS, "csr"): ("rt_alias_csr_tbs_ecc_384", "rt_alias_csr_tbs_ml_dsa_87"),
    (LayerName.RT_ALIAS, "cert"): ("rt_alias_cert_tbs_ecc_384", "rt_alias_cert_tbs_ml_dsa_87"),
}


def template_folder() -> Path:
    suites = os.environ.get("CASEMATE_SUITES")
    folder = Path(suites or "") / "caliptra-sw" / "x509" / "build"
    if not suites or not folder.is_dir():
        pytest.skip("CASEMATE_SUITES has no caliptra-sw: its templates are not here")
    return folder


def read_template(path: Path) -> tuple[bytearray, dict[str, tuple[int, int]]]:
    """The template's bytes (zeros in the key's place) and its places: name -> offset, size."""
    text = path.read_text()

    def constants(suffix: str) -> dict[str, int]:
        found = re.findall(rf"\n    const (\w+)_{suffix}: usize = (\d+)usize;", text)
        return {name: int(value) for name, value in found}

    def array(name: str) -> bytes:
        match = re.search(rf"const {name}: \[u8; [^\]]*\] = \[(.*?)\];", text, re.S)
        assert match is not None, f"{path.name} has no {name}"
        return bytes(int(number) for number in re.findall(r"(\d+)u8", match.group(1)))

    offsets, sizes = constants("OFFSET"), constants("LEN")
    places = {name: (offset, sizes[name]) for name, offset in offsets.items()}
    before, after = array("TBS_TEMPLATE_BEFORE_KEY"), array("TBS_TEMPLATE_AFTER_KEY")
    return bytearray(before + bytes(places["PUBLIC_KEY"][1]) + after), places


@pytest.fixture(scope="module")
def root() -> RootOfTrust:
    made = RootOfTrust(ModelCrypto(), Shelf(a=firmware(svn=0x42)), make_requests=True)
    made.cold_reset(DEFAULT_FUSES, b"a")
    return made


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize(("layer", "kind"), list(TEMPLATES))
def test_template_filled_is_what_is_signed(
    root: RootOfTrust, layer: LayerName, kind: str, algorithm: Algorithm
) -> None:
    names = TEMPLATES[layer, kind]
    template, places = read_template(
        template_folder() / f"{names[algorithm is Algorithm.MLDSA]}.rs"
    )
    subject = root.subjects[layer][algorithm]
    code = firmware(svn=0x42)
    values = {
        "PUBLIC_KEY": subject.public_key,
        "SUBJECT_SN": hashlib.sha256(subject.public_key).hexdigest().upper().encode(),
        "UEID": DEFAULT_FUSES.ueid,
        "TCB_INFO_FW_SVN": bytes((0x42,)),
        "TCB_INFO_FMC_TCI": code.fmc_digest,
        "TCB_INFO_RT_TCI": code.rt_digest,
        "TCB_INFO_OWNER_DEVICE_INFO_HASH": owner_info_digest(DEFAULT_FUSES, code, RomVersion.MAIN),
        "TCB_INFO_VENDOR_DEVICE_INFO_HASH": vendor_info_digest(
            DEFAULT_FUSES, code, RomVersion.MAIN
        ),
    }
    if kind == "cert":
        above = list(LayerName)[list(LayerName).index(layer) - 1]
        issuer = root.subjects[above][algorithm]
        values |= {
            "ISSUER_SN": hashlib.sha256(issuer.public_key).hexdigest().upper().encode(),
            "SUBJECT_KEY_ID": subject.key_id,
            "AUTHORITY_KEY_ID": issuer.key_id,
            "SERIAL_NUMBER": subject.certificate_serial,
            "NOT_BEFORE": b"20230101000000Z",
            "NOT_AFTER": b"99991231235959Z",
        }
    for name, (offset, size) in places.items():
        assert len(values[name]) == size, name
        template[offset : offset + size] = values[name]
    made = (root.requests if kind == "csr" else root.certificates)[layer, algorithm]
    assert x509.split(made).tbs == bytes(template)
