"""The trustworthiness vector of AR4SI: eight claims, each with a number from -128 to 127.

Source: draft-ietf-rats-ar4si, section 2.3. Numbers 2 to 31 affirm, 32 to 95 warn, 96 to 127
contraindicate, as do their negatives; 0 says nothing, 1 and -1 that the verifier failed.
"""

from __future__ import annotations

import enum


class TrustClaim(enum.IntEnum):
    """The claims by their CBOR key; the JSON name is the lower-case one with dashes."""

    INSTANCE_IDENTITY = 0
    CONFIGURATION = 1
    EXECUTABLES = 2
    FILE_SYSTEM = 3
    HARDWARE = 4
    RUNTIME_OPAQUE = 5
    STORAGE_OPAQUE = 6
    SOURCED_DATA = 7

    @property
    def json_name(self) -> str:
        """The claim's name in JSON."""
        return self.name.lower().replace("_", "-")


#: Verifier malfunction: the only value of a could-not-appraise result.
VERIFIER_MALFUNCTION = 1
