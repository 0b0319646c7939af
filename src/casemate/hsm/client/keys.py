"""Keys of a partition: handles, never values; what they do happens there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from casemate.formats import spki
from casemate.formats.pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from casemate.formats.pkcs11_wire import (
    Ecdh,
    GcmMessage,
    Oaep,
    Parameters,
    RsaAesWrap,
    Template,
    encode_template,
)
from casemate.hsm.client import batches
from casemate.hsm.client.algorithms import (
    GCM_IV,
    GCM_TAG,
    Method,
    default_signature,
)
from casemate.hsm.client.connection import MESSAGE_MAX
from casemate.hsm.client.errors import ArgumentError
from casemate.hsm.client.objects import Object
from casemate.hsm.client.operations import Operation, Usage

if TYPE_CHECKING:
    pass

_A, _M = Attribute, Mechanism

_PUBLIC = (
    _A.PUBLIC_KEY_INFO,
    _A.KEY_TYPE,
    _A.EC_PARAMS,
    _A.EC_POINT,
    _A.MODULUS,
    _A.PUBLIC_EXPONENT,
    _A.PARAMETER_SET,
    _A.VALUE,
)


@dataclass(frozen=True, slots=True)
class Key(Object):
    """A key: what it does happens in the partition."""

    def _use(
        self,
        operation: Operation,
        usage: Usage,
        method: Method,
        data: bytes,
        signature: bytes = b"",
    ) -> bytes:
        """One operation over data, in parts where they are longer than a message."""
        doing = f"{usage.name.lower()} with {self.label}"
        if len(data) > MESSAGE_MAX:
            return self.partition.connection.stream(
                usage,
                doing=doing,
                object=self.handle,
                mechanism=method.mechanism,
                parameters=method.encoded(),
                signature=signature,
                data=data,
            )
        return self.partition.connection.call(
            operation,
            doing=doing,
            object=self.handle,
            mechanism=method.mechanism,
            parameters=method.encoded(),
            first=signature,
            data=data,
        ).output

    # --- signatures and MACs -----------------------------------------------------------------

    def _signature_method(
        self, mechanism: Mechanism | None, parameters: Parameters | None
    ) -> Method:
        if mechanism is not None:
            return Method(mechanism, parameters)
        method = default_signature(self.described)
        if method is None:
            raise ArgumentError(f"a {self.algorithm} key does not sign")
        return method if parameters is None else Method(method.mechanism, parameters)

    def sign(
        self,
        data: bytes,
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> bytes:
        """Sign (or MAC) a message and return the signature in the mechanism's own form.

        Without a mechanism: ECDSA with the curve's hash (r || s), Ed25519, RSA PSS with SHA-256,
        ML-DSA, AES-CMAC, HMAC-SHA256.
        """
        method = self._signature_method(mechanism, parameters)
        return self._use(Operation.SIGN, Usage.SIGN, method, data)

    def sign_many(
        self,
        messages: Sequence[bytes],
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> list[bytes]:
        """Sign (or MAC) many messages, many on their way at once; signatures in their order."""
        method = self._signature_method(mechanism, parameters)
        return batches.sign(self, method, messages)

    def verify(
        self,
        signature: bytes,
        data: bytes,
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        """Raise `InvalidSignatureError` unless the signature fits."""
        method = self._signature_method(mechanism, parameters)
        self._use(Operation.VERIFY, Usage.VERIFY, method, data, signature)

    def verify_many(
        self,
        signatures: Sequence[bytes],
        messages: Sequence[bytes],
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> list[bool]:
        """Return for each message whether `verify` would take the signature at its place."""
        method = self._signature_method(mechanism, parameters)
        return batches.verify(self, method, signatures, messages)

    # --- encryption --------------------------------------------------------------------------

    def encrypt(
        self,
        data: bytes,
        *,
        associated: bytes = b"",
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> bytes:
        """Encrypt a message.

        Without a mechanism: AES-GCM with an IV that the partition makes, as IV (12 bytes) ||
        ciphertext || tag (16 bytes); RSA OAEP with SHA-256.
        """
        if mechanism is None and self.key_type is KeyType.AES:
            return self._encrypt_gcm(data, associated)
        method = self._encryption_method(mechanism, parameters)
        return self._use(Operation.ENCRYPT, Usage.ENCRYPT, method, data)

    def decrypt(
        self,
        data: bytes,
        *,
        associated: bytes = b"",
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> bytes:
        """Decrypt what `encrypt` made with the same arguments; raises `DecryptionError`."""
        if mechanism is None and self.key_type is KeyType.AES:
            return self._decrypt_gcm(data, associated)
        method = self._encryption_method(mechanism, parameters)
        return self._use(Operation.DECRYPT, Usage.DECRYPT, method, data)

    def encrypt_many(
        self,
        messages: Sequence[bytes],
        *,
        associated: bytes | Sequence[bytes] = b"",
        mechanism: Mechanism | None = None,
        parameters: Parameters | Sequence[Parameters] | None = None,
    ) -> list[bytes]:
        """Encrypt many messages, each as `encrypt` does, with many on their way at once.

        Associated data and parameters: one for all, or a list of one for each; messages may not
        share an IV of the caller's.
        """
        if mechanism is None and self.key_type is KeyType.AES:
            return batches.encrypt_gcm(self, messages, associated)
        return self._transform_many(Operation.ENCRYPT, messages, mechanism, parameters)

    def decrypt_many(
        self,
        messages: Sequence[bytes],
        *,
        associated: bytes | Sequence[bytes] = b"",
        mechanism: Mechanism | None = None,
        parameters: Parameters | Sequence[Parameters] | None = None,
    ) -> list[bytes]:
        """Decrypt what `encrypt_many` made; the first one that fails raises, with its number."""
        if mechanism is None and self.key_type is KeyType.AES:
            return batches.decrypt_gcm(self, messages, associated)
        return self._transform_many(Operation.DECRYPT, messages, mechanism, parameters)

    def _transform_many(
        self,
        operation: Operation,
        messages: Sequence[bytes],
        mechanism: Mechanism | None,
        parameters: Parameters | Sequence[Parameters] | None,
    ) -> list[bytes]:
        if isinstance(parameters, Sequence):
            method = self._encryption_method(mechanism, None)
            return batches.transform(self, operation, method.mechanism, parameters, messages)
        method = self._encryption_method(mechanism, parameters)
        return batches.transform(self, operation, method.mechanism, method.parameters, messages)

    def _encryption_method(
        self, mechanism: Mechanism | None, parameters: Parameters | None
    ) -> Method:
        if mechanism is not None:
            return Method(mechanism, parameters)
        if self.key_type is KeyType.RSA:
            return Method(_M.RSA_PKCS_OAEP, parameters or Oaep())
        raise ArgumentError(f"a {self.algorithm} key needs a mechanism to encrypt with")

    def _encrypt_gcm(self, data: bytes, associated: bytes) -> bytes:
        if len(data) > MESSAGE_MAX:
            raise ArgumentError(
                f"{len(data)} bytes are more than one AES-GCM message of {MESSAGE_MAX} takes",
                advice="cut it into messages, each with its number as associated data: "
                "decryption gives nothing out before it has checked a whole message",
            )
        parameters = GcmMessage(bytes(GCM_IV), associated, generate=True)
        output = self._use(Operation.ENCRYPT, Usage.ENCRYPT, Method(_M.AES_GCM, parameters), data)
        return output[-GCM_IV:] + output[:-GCM_IV]

    def _decrypt_gcm(self, data: bytes, associated: bytes) -> bytes:
        if len(data) < GCM_IV + GCM_TAG:
            raise ArgumentError(f"an AES-GCM message has {GCM_IV + GCM_TAG} bytes or more")
        parameters = GcmMessage(data[:GCM_IV], associated, data[-GCM_TAG:])
        return self._use(
            Operation.DECRYPT,
            Usage.DECRYPT,
            Method(_M.AES_GCM, parameters),
            data[GCM_IV:-GCM_TAG],
        )

    # --- keys under keys ---------------------------------------------------------------------

    def _wrap_method(self, mechanism: Mechanism | None, parameters: Parameters | None) -> Method:
        if mechanism is not None:
            return Method(mechanism, parameters)
        if self.key_type is KeyType.RSA:
            return Method(_M.RSA_AES_KEY_WRAP, parameters or RsaAesWrap())
        return Method(_M.AES_KEY_WRAP_KWP, parameters)

    def wrap(
        self,
        key: Key,
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> bytes:
        """Return `key` wrapped under this one; without a mechanism AES-KWP or RSA_AES_KEY_WRAP."""
        method = self._wrap_method(mechanism, parameters)
        return self.partition.connection.call(
            Operation.WRAP_KEY,
            doing=f"wrap {key.label} under {self.label}",
            object=self.handle,
            aux=key.handle,
            mechanism=method.mechanism,
            parameters=method.encoded(),
        ).output

    def unwrap(
        self,
        wrapped: bytes,
        template: Template,
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> Key:
        """Take in a wrapped key; `template` says what it is and what it may do."""
        method = self._wrap_method(mechanism, parameters)
        answer = self.partition.connection.call(
            Operation.UNWRAP_KEY,
            doing=f"unwrap under {self.label}",
            object=self.handle,
            first=encode_template(template),
            data=wrapped,
            mechanism=method.mechanism,
            parameters=method.encoded(),
        )
        return self.partition.key_at(answer.value0)

    def derive(
        self,
        template: Template,
        *,
        mechanism: Mechanism,
        parameters: Parameters | None = None,
    ) -> Key:
        """Derive a key: HKDF, SP 800-108, ECDH and others by mechanism."""
        answer = self.partition.connection.call(
            Operation.DERIVE_KEY,
            doing=f"derive from {self.label}",
            object=self.handle,
            mechanism=mechanism,
            parameters=b"" if parameters is None else parameters.encode(),
            data=encode_template(template),
        )
        return self.partition.key_at(answer.value0)

    def agree(self, public: bytes, template: Template) -> Key:
        """ECDH with the other side's public value (0x04 || X || Y, or 32 bytes for X25519)."""
        return self.derive(template, mechanism=_M.ECDH1_DERIVE, parameters=Ecdh(public))

    def encapsulate(self, template: Template) -> tuple[bytes, Key]:
        """ML-KEM: return the ciphertext and the shared secret as a key."""
        answer = self.partition.connection.call(
            Operation.ENCAPSULATE_KEY,
            doing=f"encapsulate to {self.label}",
            object=self.handle,
            mechanism=_M.ML_KEM,
            data=encode_template(template),
        )
        return answer.output, self.partition.key_at(answer.value0)

    def decapsulate(self, ciphertext: bytes, template: Template) -> Key:
        """ML-KEM: return the shared secret in a ciphertext as a key."""
        answer = self.partition.connection.call(
            Operation.DECAPSULATE_KEY,
            doing=f"decapsulate with {self.label}",
            object=self.handle,
            mechanism=_M.ML_KEM,
            first=encode_template(template),
            data=ciphertext,
        )
        return self.partition.key_at(answer.value0)

    # --- what may be shown -------------------------------------------------------------------

    def public_key_info(self) -> bytes:
        """Return the SubjectPublicKeyInfo (DER) of a public key, or of a private key's pair."""
        info = spki.from_attributes(self.attributes(*_PUBLIC))
        if info is None and self.object_class == ObjectClass.PRIVATE_KEY:
            half: Template = {
                _A.CLASS: ObjectClass.PUBLIC_KEY,
                _A.LABEL: self.label,
                _A.ID: self.id,
            }
            for other in self.partition.all_keys(half):
                info = spki.from_attributes(other.attributes(*_PUBLIC))
        if info is None:
            raise ArgumentError(f"{self.label or self.handle} has no public key")
        return info

    def attest(self, nonce: bytes, *, version: int = 2) -> bytes:
        """Return the partition's signed report about this key (COSE_Sign1) over a nonce.

        The nonce has at most 128 bytes. Version 1 is the Azure Integrated HSM's layout; 2 carries
        the digests of the module's code too. `Partition.certificate_chain` verifies it.
        """
        return self.partition.connection.call(
            Operation.ATTEST_KEY,
            doing=f"attest {self.label}",
            object=self.handle,
            aux=version,
            data=nonce,
        ).output


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its private key."""

    public: Key
    private: Key


def secret_template(size: int, *, label: str = "", stored: bool = False) -> Template:
    """Return a template for a generic secret of `size` bytes that signs (HMAC) and derives."""
    return {
        _A.CLASS: ObjectClass.SECRET_KEY,
        _A.KEY_TYPE: KeyType.GENERIC_SECRET,
        _A.VALUE_LEN: size,
        _A.LABEL: label,
        _A.TOKEN: stored,
        _A.SENSITIVE: True,
        _A.EXTRACTABLE: False,
        _A.SIGN: True,
        _A.VERIFY: True,
        _A.DERIVE: True,
    }
