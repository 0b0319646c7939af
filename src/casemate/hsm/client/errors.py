"""Errors of the client: one class for each kind of thing that a program can do about them.

`for_result` turns a CK_RV into its class. Every error says what failed, where, and what to do.
"""

from __future__ import annotations

from casemate.formats.pkcs11 import ReturnValue as R


class ClientError(Exception):
    """A request that was not done. `result` is the CK_RV where the module answered."""

    advice = ""

    def __init__(
        self, what: str, *, where: str = "", advice: str = "", result: R | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.advice = advice or type(self).advice
        self.result = result

    def __str__(self) -> str:
        parts = [self.what]
        parts += [f"where: {self.where}"] if self.where else []
        parts += [f"to do: {self.advice}"] if self.advice else []
        return "; ".join(parts)

    def as_json(self) -> dict[str, str]:
        """Return the error as `--json` prints it."""
        code = self.result.name if self.result is not None else type(self).__name__
        return {"code": code, "what": self.what, "where": self.where, "advice": self.advice}


class NotReachableError(ClientError):
    """There is no such partition within this process's reach, or its socket is not trusted."""


class ConnectionLostError(ClientError):
    """The module ended or restarted; sessions, session objects and logins are gone."""

    advice = "connect again; stored keys keep their handles"


class NotFoundError(ClientError):
    """No object matches, or the object is gone."""


class AmbiguousError(ClientError):
    """More than one object matches."""

    advice = "add an id, or the object's class"


class LoginError(ClientError):
    """A PIN is needed, wrong, locked or not set."""


class NotAllowedError(ClientError):
    """The key's attributes or the partition's policy forbid it."""


class ArgumentError(ClientError):
    """Data, template or parameters do not fit the mechanism or the key."""


class MechanismError(ClientError):
    """The partition does not know or not allow the mechanism."""

    advice = "casemate partition show NAME says what the policy allows"


class QuotaError(ClientError):
    """A limit of the partition, or of the module's disk or memory, is reached."""

    advice = "destroy what is not needed, or: casemate partition resize NAME"


class InvalidSignatureError(ClientError):
    """The signature, MAC or wrapped key does not fit: the data are not what they claim."""


class DecryptionError(ClientError):
    """The ciphertext does not open under this key."""


class DeviceError(ClientError):
    """The module could not do it: its state, its store, or a self-test."""

    advice = "casemate status"


_FAMILIES: dict[type[ClientError], frozenset[R]] = {
    ConnectionLostError: frozenset(
        {R.DEVICE_REMOVED, R.SESSION_CLOSED, R.SESSION_HANDLE_INVALID, R.TOKEN_NOT_PRESENT}
    ),
    NotFoundError: frozenset(
        {
            R.OBJECT_HANDLE_INVALID,
            R.KEY_HANDLE_INVALID,
            R.WRAPPING_KEY_HANDLE_INVALID,
            R.UNWRAPPING_KEY_HANDLE_INVALID,
        }
    ),
    LoginError: frozenset(
        {
            R.PIN_INCORRECT,
            R.PIN_INVALID,
            R.PIN_LEN_RANGE,
            R.PIN_EXPIRED,
            R.PIN_LOCKED,
            R.PIN_TOO_WEAK,
            R.USER_NOT_LOGGED_IN,
            R.USER_ALREADY_LOGGED_IN,
            R.USER_PIN_NOT_INITIALIZED,
            R.USER_ANOTHER_ALREADY_LOGGED_IN,
            R.USER_TYPE_INVALID,
        }
    ),
    NotAllowedError: frozenset(
        {
            R.KEY_FUNCTION_NOT_PERMITTED,
            R.KEY_NOT_WRAPPABLE,
            R.KEY_UNEXTRACTABLE,
            R.ATTRIBUTE_SENSITIVE,
            R.ATTRIBUTE_READ_ONLY,
            R.ACTION_PROHIBITED,
            R.SESSION_READ_ONLY,
            R.TOKEN_WRITE_PROTECTED,
            R.FUNCTION_REJECTED,
            R.KEY_EXHAUSTED,
        }
    ),
    MechanismError: frozenset(
        {
            R.MECHANISM_INVALID,
            R.FUNCTION_NOT_SUPPORTED,
            R.CURVE_NOT_SUPPORTED,
            R.PARAMETER_SET_NOT_SUPPORTED,
        }
    ),
    QuotaError: frozenset(
        {R.DEVICE_MEMORY, R.SESSION_COUNT, R.TOKEN_RESOURCE_EXCEEDED, R.HOST_MEMORY}
    ),
    InvalidSignatureError: frozenset({R.SIGNATURE_INVALID, R.SIGNATURE_LEN_RANGE}),
    DecryptionError: frozenset(
        {
            R.ENCRYPTED_DATA_INVALID,
            R.ENCRYPTED_DATA_LEN_RANGE,
            R.AEAD_DECRYPT_FAILED,
            R.WRAPPED_KEY_INVALID,
            R.WRAPPED_KEY_LEN_RANGE,
        }
    ),
    DeviceError: frozenset(
        {R.DEVICE_ERROR, R.GENERAL_ERROR, R.FUNCTION_FAILED, R.FIPS_SELF_TEST_FAILED}
    ),
}

_MEANINGS = {
    R.PIN_INCORRECT: "the PIN is wrong; the failed attempt has been counted",
    R.PIN_LOCKED: "the PIN is locked; the security officer can unlock it",
    R.USER_NOT_LOGGED_IN: "this needs a login with the partition's user PIN",
    R.USER_PIN_NOT_INITIALIZED: "the partition has no user PIN yet",
    R.KEY_FUNCTION_NOT_PERMITTED: "the key's attributes do not allow this use",
    R.KEY_UNEXTRACTABLE: "the key may never leave the partition, not even wrapped",
    R.MECHANISM_INVALID: "the mechanism is not there for this key, or the policy forbids it",
    R.SIGNATURE_INVALID: "the signature does not fit the data and the key",
    R.AEAD_DECRYPT_FAILED: "the ciphertext, its tag or the associated data were changed",
    R.ENCRYPTED_DATA_INVALID: "the ciphertext does not open under this key",
    R.DEVICE_MEMORY: "a quota of the partition is used up, or the module's disk is full",
    R.FUNCTION_REJECTED: "the partition or the module is suspended",
    R.OBJECT_HANDLE_INVALID: "the object is not there any more",
    R.KEY_HANDLE_INVALID: "the key is not there any more",
    R.TEMPLATE_INCOMPLETE: "an attribute that this needs is missing",
    R.TEMPLATE_INCONSISTENT: "attributes contradict each other, the key type or the policy",
    R.DATA_LEN_RANGE: "the data have a length that the mechanism cannot take",
    R.ATTRIBUTE_SENSITIVE: "the value is sensitive: it never leaves the partition",
}


def for_result(code: int, *, doing: str, where: str) -> ClientError:
    """Return the error for a CK_RV other than CKR_OK; unknown codes are `ArgumentError`."""
    try:
        result: R | None = R(code)
    except ValueError:
        result = None
    name = f"CKR_{result.name}" if result is not None else f"CK_RV {code:#x}"
    family: type[ClientError] = ArgumentError
    meaning = ""
    if result is not None:
        meaning = _MEANINGS.get(result, "")
        for kind, members in _FAMILIES.items():
            if result in members:
                family = kind
    return family(f"{doing}: {meaning or 'refused'} ({name})", where=where, result=result)
