"""The operations of the wire, by code (docs/transport.md, section 4)."""

from __future__ import annotations

from enum import IntEnum


class Operation(IntEnum):
    """What a request asks for."""

    NOOP = 0
    PARTITION_INFO = 1
    OPEN_SESSION = 2
    CLOSE_SESSION = 3
    CLOSE_ALL_SESSIONS = 4
    SESSION_INFO = 5
    LOGIN = 6
    LOGOUT = 7
    INIT_TOKEN = 8
    INIT_PIN = 9
    SET_PIN = 10
    MECHANISM_LIST = 11
    MECHANISM_INFO = 12
    CREATE_OBJECT = 13
    COPY_OBJECT = 14
    DESTROY_OBJECT = 15
    OBJECT_SIZE = 16
    GET_ATTRIBUTES = 17
    SET_ATTRIBUTES = 18
    FIND_OBJECTS = 19
    GENERATE_KEY = 20
    GENERATE_KEY_PAIR = 21
    WRAP_KEY = 22
    UNWRAP_KEY = 23
    DERIVE_KEY = 24
    ENCAPSULATE_KEY = 25
    DECAPSULATE_KEY = 26
    CHECK = 27
    DIGEST = 30
    SIGN = 31
    VERIFY = 32
    ENCRYPT = 33
    DECRYPT = 34
    SIGN_RECOVER = 35
    VERIFY_RECOVER = 36
    STREAM_BEGIN = 40
    STREAM_UPDATE = 41
    STREAM_FINAL = 42
    STREAM_CANCEL = 43
    STREAM_DIGEST_KEY = 44
    SAVE_STATE = 45
    RESTORE_STATE = 46
    RANDOM = 50
    SEED_RANDOM = 51
    ATTEST_KEY = 60
    PARTITION_CHAIN = 61
    WRAP_KEY_AUTHENTICATED = 62
    UNWRAP_KEY_AUTHENTICATED = 63
    LOGIN_USER = 64
    IMPORT_KEY = 65


class Usage(IntEnum):
    """What a multi-part operation is for."""

    DIGEST = 0
    SIGN = 1
    VERIFY = 2
    ENCRYPT = 3
    DECRYPT = 4


#: Operations that may be sent again after a lost connection: they change nothing.
REPEATABLE = frozenset(
    {
        Operation.NOOP,
        Operation.PARTITION_INFO,
        Operation.MECHANISM_LIST,
        Operation.MECHANISM_INFO,
        Operation.GET_ATTRIBUTES,
        Operation.DIGEST,
        Operation.SIGN,
        Operation.VERIFY,
        Operation.ENCRYPT,
        Operation.DECRYPT,
        Operation.RANDOM,
        Operation.WRAP_KEY,
        Operation.ATTEST_KEY,
        Operation.PARTITION_CHAIN,
    }
)
