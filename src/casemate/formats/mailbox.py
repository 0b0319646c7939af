"""The mailbox of a Caliptra 2.x device: command codes, checksums, and frames for a socket.

A request is a checksum and a body, a response a checksum, the FIPS status and a body; all integers
are little-endian. The checksum makes the sum of all bytes zero (modulo 2^32), the four bytes of
the command code included for a request. The bodies are in `casemate.formats.mailbox_messages`.

The chip has registers where a socket needs frames. These frames are Casemate's own:

    request   "CMBQ"  user u32  command u32  length u32  payload
    response  "CMBR"  status u32  error u32  length u32  payload

`user` stands for the AXI user (PAUSER) of the caller, `status` for the mailbox status register,
`error` for the register of non-fatal firmware errors.

Source: caliptra-sw, api/src/mailbox.rs and api/src/checksum.rs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

#: The largest payload of either direction: a firmware bundle (256 KiB) is the largest command.
LARGEST_PAYLOAD = 256 * 1024
FRAME_HEADER = struct.Struct("<4sIII")

_REQUEST_MAGIC = b"CMBQ"
_RESPONSE_MAGIC = b"CMBR"
_CHECKSUM = struct.Struct("<I")
_RESPONSE_HEADER = struct.Struct("<II")


class MailboxFormatError(ValueError):
    """Bytes that are no message of the mailbox; says what was expected and what was found."""


class ChecksumError(MailboxFormatError):
    """A request or response whose bytes do not add up."""


class MailboxStatus(IntEnum):
    """The mailbox status register."""

    BUSY = 0
    DATA_READY = 1
    COMPLETE = 2
    FAILURE = 3


class FipsStatus(IntEnum):
    """Whether a service was an approved one, in the sense of the firmware's own report."""

    APPROVED = 0
    #: The digest came from the caller, not from the module.
    USER_SUPPLIED_DIGEST = 0x55535244


class CommandId(IntEnum):
    """All command codes; most read as four letters."""

    ACTIVATE_FIRMWARE = 0x41435446
    FIRMWARE_LOAD = 0x46574C44
    FIRMWARE_VERIFY = 0x46575652
    GET_IDEV_ECC384_CERT = 0x49444543
    GET_IDEV_ECC384_INFO = 0x49444549
    POPULATE_IDEV_ECC384_CERT = 0x49444550
    GET_LDEV_ECC384_CERT = 0x4C444556
    GET_FMC_ALIAS_ECC384_CERT = 0x43455246
    GET_RT_ALIAS_ECC384_CERT = 0x43455252
    GET_IDEV_MLDSA87_CERT = 0x49444D43
    POPULATE_IDEV_MLDSA87_CERT = 0x49444D50
    GET_LDEV_MLDSA87_CERT = 0x4C444D43
    GET_FMC_ALIAS_MLDSA87_CERT = 0x434D4346
    GET_RT_ALIAS_MLDSA87_CERT = 0x434D4352
    GET_IDEV_MLDSA87_INFO = 0x49444D49
    ECDSA384_SIGNATURE_VERIFY = 0x45435632
    LMS_SIGNATURE_VERIFY = 0x4C4D5632
    MLDSA87_SIGNATURE_VERIFY = 0x4D4C5632
    STASH_MEASUREMENT = 0x4D454153
    INVOKE_DPE_ECC384 = 0x44504543
    INVOKE_DPE_MLDSA87 = 0x4450454D
    DISABLE_ATTESTATION = 0x4453424C
    FW_INFO = 0x494E464F
    DPE_TAG_TCI = 0x54514754
    DPE_GET_TAGGED_TCI = 0x47544744
    INCREMENT_PCR_RESET_COUNTER = 0x50435252
    QUOTE_PCRS_ECC384 = 0x50435251
    QUOTE_PCRS_MLDSA87 = 0x5043524D
    EXTEND_PCR = 0x50435245
    ADD_SUBJECT_ALT_NAME = 0x414C544E
    CERTIFY_KEY_EXTENDED_ECC384 = 0x434B4558
    CERTIFY_KEY_EXTENDED_MLDSA87 = 0x434B584D
    ZEROIZE_UDS_FE = 0x5A455546
    VERSION = 0x46505652
    SELF_TEST_START = 0x46504C54
    SELF_TEST_GET_RESULTS = 0x46504C67
    SHUTDOWN = 0x46505344
    CAPABILITIES = 0x43415053
    SET_AUTH_MANIFEST = 0x41544D4E
    VERIFY_AUTH_MANIFEST = 0x4154564D
    SET_OWNER_AUTH_MANIFEST = 0x4F414D4E
    AUTHORIZE_AND_STASH = 0x41545348
    RI_DOWNLOAD_FIRMWARE = 0x52494644
    RI_DOWNLOAD_ENCRYPTED_FIRMWARE = 0x52494645
    GET_IDEV_ECC384_CSR = 0x49444352
    GET_IDEV_MLDSA87_CSR = 0x49444D52
    GET_FMC_ALIAS_ECC384_CSR = 0x464D4352
    GET_FMC_ALIAS_MLDSA87_CSR = 0x464D4452
    GET_ATTESTED_ECC384_CSR = 0x41454352
    GET_ATTESTED_MLDSA87_CSR = 0x414D4352
    SIGN_WITH_EXPORTED_ECDSA = 0x53574545
    REVOKE_EXPORTED_CDI_HANDLE = 0x52564348
    SIGN_WITH_EXPORTED_MLDSA = 0x53574D4C
    FE_PROG = 0x46455052
    GET_PCR_LOG = 0x504C4F47
    EXTERNAL_MAILBOX_CMD = 0x4558544D
    MANUF_DEBUG_UNLOCK_REQ_TOKEN = 0x4D445554
    PRODUCTION_AUTH_DEBUG_UNLOCK_REQ = 0x50445552
    PRODUCTION_AUTH_DEBUG_UNLOCK_TOKEN = 0x50445554
    GET_IMAGE_INFO = 0x494D4530
    INSTALL_OWNER_PK_HASH = 0x4F574E50
    CM_IMPORT = 0x434D494D
    CM_DELETE = 0x434D444C
    CM_CLEAR = 0x434D434C
    CM_STATUS = 0x434D5354
    CM_SHA_INIT = 0x434D5349
    CM_SHA_UPDATE = 0x434D5355
    CM_SHA_FINAL = 0x434D5346
    CM_RANDOM_GENERATE = 0x434D5247
    CM_RANDOM_STIR = 0x434D5253
    CM_AES_ENCRYPT_INIT = 0x434D4149
    CM_AES_ENCRYPT_UPDATE = 0x434D4155
    CM_AES_DECRYPT_INIT = 0x434D414A
    CM_AES_DECRYPT_UPDATE = 0x434D4156
    CM_AES_GCM_ENCRYPT_INIT = 0x434D4749
    CM_AES_GCM_SPDM_ENCRYPT_INIT = 0x434D5345
    CM_AES_GCM_ENCRYPT_UPDATE = 0x434D4755
    CM_AES_GCM_ENCRYPT_FINAL = 0x434D4746
    CM_AES_GCM_DECRYPT_INIT = 0x434D4449
    CM_AES_GCM_SPDM_DECRYPT_INIT = 0x434D5344
    CM_AES_GCM_DECRYPT_UPDATE = 0x434D4455
    CM_AES_GCM_DECRYPT_FINAL = 0x434D4446
    CM_ECDH_GENERATE = 0x434D4547
    CM_ECDH_FINISH = 0x434D4546
    CM_HMAC = 0x434D484D
    CM_HMAC_KDF_COUNTER = 0x434D4B43
    CM_HKDF_EXTRACT = 0x434D4B54
    CM_HKDF_EXPAND = 0x434D4B50
    CM_MLDSA_PUBLIC_KEY = 0x434D4D50
    CM_MLDSA_SIGN = 0x434D4D53
    CM_MLDSA_VERIFY = 0x434D4D56
    CM_ECDSA_PUBLIC_KEY = 0x434D4550
    CM_ECDSA_SIGN = 0x434D4553
    CM_ECDSA_VERIFY = 0x434D4556
    CM_DERIVE_STABLE_KEY = 0x494D4453
    CM_SHA = 0x434D5348
    CM_SHAKE256_INIT = 0x434D5849
    CM_SHAKE256_UPDATE = 0x434D5855
    CM_SHAKE256_FINAL = 0x434D5846
    CM_MLKEM_KEY_GEN = 0x434D4C4B
    CM_MLKEM_ENCAPSULATE = 0x434D4C45
    CM_MLKEM_DECAPSULATE = 0x434D4C44
    CM_AES_GCM_DECRYPT_DMA = 0x434D4444
    GET_MCU_FW_SIZE = 0x474D4653
    OCP_LOCK_REPORT_HEK_METADATA = 0x52484D54
    OCP_LOCK_GET_ALGORITHMS = 0x47414C47
    OCP_LOCK_INITIALIZE_MEK_SECRET = 0x494D4B53
    OCP_LOCK_MIX_MPK = 0x4D4D504B
    OCP_LOCK_DERIVE_MEK = 0x444D454B
    OCP_LOCK_ENUMERATE_HPKE_HANDLES = 0x4548444C
    OCP_LOCK_ROTATE_HPKE_KEY = 0x5248504B
    OCP_LOCK_GENERATE_MEK = 0x474D454B
    OCP_LOCK_GET_HPKE_PUB_KEY = 0x4748504B
    OCP_LOCK_GENERATE_MPK = 0x474D504B
    OCP_LOCK_REWRAP_MPK = 0x52455750
    OCP_LOCK_ENABLE_MPK = 0x524D504B
    OCP_LOCK_TEST_ACCESS_KEY = 0x5441434B
    OCP_LOCK_CLEAR_KEY_CACHE = 0x434C4B43
    OCP_LOCK_GET_STATUS = 0x47535441
    OCP_LOCK_UNLOAD_MEK = 0x554D454B
    OCP_LOCK_LOAD_MEK = 0x4C4D454B
    REALLOCATE_DPE_CONTEXT_LIMITS = 0x52435458
    CERTIFY_KEY_CHUNKS = 0x434B4348


def command_letters(command: int) -> str:
    """Return a command code as its four letters, or as a number where they are not letters."""
    letters = command.to_bytes(4, "big")
    return letters.decode("ascii") if letters.isalnum() else f"0x{command:08x}"


def checksum(data: bytes, command: int = 0) -> int:
    """Return the checksum of what follows it; for a request give the command code."""
    return -(sum(command.to_bytes(4, "little")) + sum(data)) & 0xFFFFFFFF


def seal_request(command: int, body: bytes) -> bytes:
    """Return a request's payload: checksum and body."""
    return _CHECKSUM.pack(checksum(body, command)) + body


def open_request(command: int, payload: bytes) -> bytes:
    """Return the body of a request; raises MailboxFormatError (too short), ChecksumError."""
    if len(payload) < _CHECKSUM.size:
        raise MailboxFormatError(f"a request has 4 bytes of checksum, got {len(payload)} bytes")
    (stated,) = _CHECKSUM.unpack_from(payload)
    body = payload[_CHECKSUM.size :]
    if stated != (actual := checksum(body, command)):
        raise ChecksumError(f"checksum: expected 0x{actual:08x}, found 0x{stated:08x}")
    return body


def seal_response(body: bytes, fips_status: FipsStatus = FipsStatus.APPROVED) -> bytes:
    """Return a response's payload: checksum, FIPS status and body."""
    rest = _CHECKSUM.pack(fips_status) + body
    return _CHECKSUM.pack(checksum(rest)) + rest


def open_response(payload: bytes) -> tuple[int, bytes]:
    """Return FIPS status and body of a response; raises as `open_request`."""
    if len(payload) < _RESPONSE_HEADER.size:
        raise MailboxFormatError(f"a response has 8 bytes of header, got {len(payload)} bytes")
    stated, fips_status = _RESPONSE_HEADER.unpack_from(payload)
    if stated != (actual := checksum(payload[_CHECKSUM.size :])):
        raise ChecksumError(f"checksum: expected 0x{actual:08x}, found 0x{stated:08x}")
    return fips_status, payload[_RESPONSE_HEADER.size :]


@dataclass(frozen=True, slots=True)
class RequestFrame:
    """One command on the socket: who asks, which command, the request's payload."""

    user: int
    command: int
    payload: bytes

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        header = FRAME_HEADER.pack(_REQUEST_MAGIC, self.user, self.command, len(self.payload))
        return header + self.payload


@dataclass(frozen=True, slots=True)
class ResponseFrame:
    """One answer on the socket. `error` is zero, or the public error code of a failure."""

    status: MailboxStatus
    error: int
    payload: bytes

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        header = FRAME_HEADER.pack(_RESPONSE_MAGIC, self.status, self.error, len(self.payload))
        return header + self.payload


def decode_request_header(header: bytes) -> tuple[int, int, int]:
    """Return user, command and payload length of a frame header (16 bytes).

    Raises MailboxFormatError: too short, another magic, a payload above 256 KiB.
    """
    user, command, length = _decode_header(header, _REQUEST_MAGIC)
    return user, command, length


def decode_response_header(header: bytes) -> tuple[MailboxStatus, int, int]:
    """Return status, error and payload length of a frame header; raises as for a request."""
    status, error, length = _decode_header(header, _RESPONSE_MAGIC)
    try:
        return MailboxStatus(status), error, length
    except ValueError:
        raise MailboxFormatError(f"status at offset 4: {status} is none") from None


def _decode_header(header: bytes, magic: bytes) -> tuple[int, int, int]:
    if len(header) < FRAME_HEADER.size:
        raise MailboxFormatError(
            f"a frame begins with {FRAME_HEADER.size} bytes of header, got {len(header)}"
        )
    found, first, second, length = FRAME_HEADER.unpack_from(header)
    if found != magic:
        raise MailboxFormatError(f"magic at offset 0: expected {magic!r}, found {found!r}")
    if length > LARGEST_PAYLOAD:
        raise MailboxFormatError(
            f"length at offset 12: up to {LARGEST_PAYLOAD} bytes expected, found {length}"
        )
    return first, second, length
