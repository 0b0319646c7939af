"""What ties the evidence of several families to one host and one session: names and the rule.

`Verified.bindings` uses these names; a name that two pieces of evidence carry must have one value.
Beyond that, evidence of different families belongs together only where one commits to the other:

- An EAT brings the key that signed it (`DPE_LEAF_KEY`); a key report the key of its partition
  (`PARTITION_KEY`) and its report data. The report data begins with the `key_binding` digest of
  nonce, leaf key and partition key, the rest is zero (`casemate.formats.key_binding`).
- The report data of a confidential VM (SEV-SNP, TDX) and the qualifying data of a TPM quote commit
  to the same digest; where no key report came along, the partition key in it is empty.
"""

from __future__ import annotations

#: SubjectPublicKeyInfo (DER) of the key that signed the EAT.
DPE_LEAF_KEY = "dpe-leaf-key"
#: SubjectPublicKeyInfo (DER) of the partition whose module signed the key report.
PARTITION_KEY = "partition-key"
#: SubjectPublicKeyInfo (DER) of the RT alias, which EAT and partition certificate hang on.
RT_ALIAS_KEY = "rt-alias-key"
#: What a report was asked to carry: 64 bytes (SEV-SNP, TDX), 128 (key report), up to 64 (TPM).
REPORT_DATA = "report-data"


def answers(report_data: bytes, nonce: bytes | None) -> bytes | None:
    """The nonce, where report data is just that (zero-padded); None where it is something else."""
    if nonce is not None and 0 < len(nonce) <= len(report_data):
        return nonce if report_data == nonce.ljust(len(report_data), b"\0") else None
    return None
