"""Vendors' root keys by SHA-256 of their SubjectPublicKeyInfo: facts that everyone can look up.

A root certificate from a file counts only if its key stands here or the operator named it as an
anchor. Sources, both for the same keys:

- AMD: `https://kdsintf.amd.com/vcek/v1/{Milan,Genoa,Turin}/cert_chain` (the second certificate),
  compared with virtee/sev 9cf2adb and google/go-sev-guest af1c107.
- Intel: `https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA
  .der`, compared with Phala-Network/dcap-qvl 9bffe30.
"""

from __future__ import annotations

from collections.abc import Mapping

AMD_ROOT_KEYS: Mapping[bytes, str] = {
    bytes.fromhex(digest): name
    for digest, name in (
        ("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9", "ARK-Milan"),
        ("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831", "ARK-Genoa"),
        ("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08", "ARK-Turin"),
    )
}

INTEL_ROOT_KEYS: Mapping[bytes, str] = {
    bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"): (
        "Intel SGX Root CA"
    )
}
