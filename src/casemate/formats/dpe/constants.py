"""Names and numbers of the DPE wire format, version 0.13.

Sources: TCG DICE Protection Environment 1.0, section 5.11 (status 0-7); OCP Server iRoT Profile
for DPE 0.13 (the rest); chipsalliance/caliptra-dpe for what the two leave open (vendor status
codes, UpdateContextMeasurement, ML-DSA-87).
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

COMMAND_MAGIC = 0x44504543
RESPONSE_MAGIC = 0x44504552
MAJOR_VERSION = 0
MINOR_VERSION = 13

#: Sizes in bytes.
HANDLE_SIZE = 16
DIGEST_SIZE = 48
EXPORTED_CDI_SIZE = 32
CERTIFICATE_CHUNK_SIZE = 2048
RAW_MESSAGE_SIZE = 1024

#: The context a locality uses without naming one; and the handle that never names any.
DEFAULT_HANDLE = bytes(HANDLE_SIZE)
INVALID_HANDLE = b"\xff" * HANDLE_SIZE


class Profile(IntEnum):
    """The algorithms of one DPE instance. Both hash with SHA-384."""

    P384_SHA384 = 4
    ML_DSA_87 = 5

    @property
    def public_key_size(self) -> int:
        """Bytes of a public key on the wire: X and Y, or the FIPS 204 encoding."""
        return 96 if self is Profile.P384_SHA384 else 2592

    @property
    def signature_size(self) -> int:
        """Bytes of a signature: r and s, or the FIPS 204 encoding."""
        return 96 if self is Profile.P384_SHA384 else 4627

    @property
    def to_be_signed_size(self) -> int:
        """Bytes that Sign takes: a SHA-384 digest, or the external mu of FIPS 204."""
        return DIGEST_SIZE if self is Profile.P384_SHA384 else 64


class CommandCode(IntEnum):
    """What a command asks for."""

    GET_PROFILE = 0x01
    INITIALIZE_CONTEXT = 0x07
    DERIVE_CONTEXT = 0x08
    CERTIFY_KEY = 0x09
    SIGN = 0x0A
    ROTATE_CONTEXT_HANDLE = 0x0E
    DESTROY_CONTEXT = 0x0F
    GET_CERTIFICATE_CHAIN = 0x10
    UPDATE_CONTEXT_MEASUREMENT = 0x80000000


class Status(IntEnum):
    """How a command ended.

    From 0x01000000 on a code is a family (1 platform, 2 cryptography) and a detail.
    """

    SUCCESS = 0x00
    INTERNAL_ERROR = 0x01
    INVALID_COMMAND = 0x02
    INVALID_ARGUMENT = 0x03
    SESSION_EXHAUSTED = 0x04
    INITIALIZATION_SEED_LOCKED = 0x05
    OUT_OF_MEMORY = 0x06
    CANCELLED_COMMAND = 0x07
    INVALID_HANDLE = 0x80
    INVALID_LOCALITY = 0x81
    HANDLE_DEFINED = 0x82
    ARGUMENT_NOT_SUPPORTED = 0x83
    ALREADY_INITIALIZED = 0x84
    INVALID_PARENT_LOCALITY = 0x85
    MAX_TCIS = 0x91
    CERTIFICATE_CHAIN_ERROR = 0x01000001
    MISSING_UEID = 0x0100000A
    CRYPTO_LIBRARY_ERROR = 0x02000002
    EXPORTED_CDI_INVALID_HANDLE = 0x02000006
    EXPORTED_CDI_DUPLICATE = 0x02000007
    EXPORTED_CDI_LIMIT = 0x02000008


def status_name(status: int) -> str:
    """Return the name of a status code, or its number where it has none."""
    try:
        return Status(status).name.lower().replace("_", "-")
    except ValueError:
        return f"status-0x{status:08x}"


class Support(IntFlag):
    """Optional features, as GetProfile reports them."""

    SIMULATION = 1 << 31
    RECURSIVE = 1 << 30
    AUTO_INIT = 1 << 29
    ROTATE_CONTEXT = 1 << 27
    X509 = 1 << 26
    CSR = 1 << 25
    INTERNAL_INFO = 1 << 22
    INTERNAL_DICE = 1 << 21
    RETAIN_PARENT_CONTEXT = 1 << 19
    CDI_EXPORT = 1 << 18

    @classmethod
    def everything(cls) -> Support:
        """Return all features at once: what a Caliptra runtime offers."""
        return cls(sum(cls))


class InitializeFlags(IntFlag):
    """Flags of InitializeContext: exactly one of the two."""

    SIMULATION = 1 << 31
    DEFAULT = 1 << 30


class DeriveFlags(IntFlag):
    """Flags of DeriveContext."""

    INTERNAL_INPUT_INFO = 1 << 31
    INTERNAL_INPUT_DICE = 1 << 30
    RETAIN_PARENT_CONTEXT = 1 << 29
    MAKE_DEFAULT = 1 << 28
    CHANGE_LOCALITY = 1 << 27
    ALLOW_NEW_CONTEXT_TO_EXPORT = 1 << 26
    INPUT_ALLOW_X509 = 1 << 25
    RECURSIVE = 1 << 24
    EXPORT_CDI = 1 << 23
    CREATE_CERTIFICATE = 1 << 22
    ALLOW_RECURSIVE = 1 << 21


class RotateFlags(IntFlag):
    """Flags of RotateContextHandle."""

    TARGET_IS_DEFAULT = 1 << 31


class SignFlags(IntFlag):
    """Flags of Sign; the first profile knows none and ignores all bits."""

    IS_RAW = 1 << 0


NO_DERIVE_FLAGS = DeriveFlags(0)
NO_ROTATE_FLAGS = RotateFlags(0)
NO_SIGN_FLAGS = SignFlags(0)


class CertificateFormat(IntEnum):
    """What CertifyKey returns: an X.509 certificate, or a CSR inside a CMS SignedData."""

    X509 = 0
    CSR = 1
