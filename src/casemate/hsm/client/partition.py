"""A partition as a program sees it: `casemate.connect("web")`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from casemate.closing import Closing
from casemate.formats.pkcs11 import (
    Attribute,
    Mechanism,
    MechanismFlag,
    ObjectClass,
    ReturnValue,
    User,
)
from casemate.formats.pkcs11_wire import (
    PartitionInfo,
    Template,
    Value,
    decode_answers,
    decode_certificates,
    decode_handles,
    encode_query,
    encode_template,
)
from casemate.hsm.client import discovery
from casemate.hsm.client.algorithms import Algorithm, Purpose
from casemate.hsm.client.connection import MESSAGE_MAX, Connection
from casemate.hsm.client.errors import AmbiguousError, ArgumentError, NotFoundError
from casemate.hsm.client.keys import Key, KeyPair
from casemate.hsm.client.objects import DESCRIBING, Object
from casemate.hsm.client.operations import Operation, Usage

_A = Attribute
_KEYS = (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY, ObjectClass.SECRET_KEY)
_FIND_AT_ONCE = 256
_RANDOM_AT_ONCE = 16 << 10


class Partition(Closing):
    """A connection to a partition with one session; threads may share it.

    >>> with casemate.connect("web") as web:                                    # doctest: +SKIP
    ...     tls = web.generate(Algorithm.P256, label="tls", stored=True)
    ...     signature = tls.private.sign(b"message")
    ...     tls.public.verify(signature, b"message")
    """

    def __init__(self, path: Path, *, name: str) -> None:
        """Connect to the socket at `path`; `connect` finds it by the partition's name."""
        self.name = name
        self.connection = Connection(path, name=name)
        self._asks_for_pin: bool | None = None

    # --- session -----------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection; session objects are gone."""
        self.connection.close()

    def login(self, pin: str | bytes, *, user: User = User.USER) -> None:
        """Show a PIN, where the partition's policy asks for one."""
        self.connection.login(pin.encode() if isinstance(pin, str) else pin, user=user)

    def logout(self) -> None:
        """End the login: private objects are out of reach again."""
        self.connection.logout()

    def info(self) -> PartitionInfo:
        """Return what the partition says about itself."""
        return PartitionInfo.decode(
            self.connection.call(Operation.PARTITION_INFO, doing="ask the partition").output
        )

    def mechanisms(self) -> list[int]:
        """Return the mechanisms it allows, as `Mechanism` where they have a name here."""
        answer = self.connection.call(Operation.MECHANISM_LIST, doing="list the mechanisms")
        known = {int(member): member for member in Mechanism}
        return [known.get(number, number) for number in decode_handles(answer.output)]

    def mechanism_info(self, mechanism: int) -> tuple[int, int, MechanismFlag]:
        """Return the smallest and largest key (in the mechanism's own unit) and the uses."""
        answer = self.connection.call(
            Operation.MECHANISM_INFO, doing=f"ask about mechanism {mechanism}", mechanism=mechanism
        )
        uses = MechanismFlag(answer.value1 & sum(MechanismFlag))
        return answer.value0 & 0xFFFFFFFF, answer.value0 >> 32, uses

    def _private(self) -> bool:
        """Whether new keys are private objects: where the partition asks for a PIN."""
        if self._asks_for_pin is None:
            self._asks_for_pin = self.info().login_required
        return self._asks_for_pin

    # --- making keys -------------------------------------------------------------------------

    def generate(
        self,
        algorithm: Algorithm,
        *,
        label: str,
        id: bytes = b"",
        stored: bool = False,
        extractable: bool = False,
        purpose: Purpose = Purpose.DATA,
        template: Template | None = None,
        public_template: Template | None = None,
    ) -> KeyPair:
        """Generate a key pair; `stored` keeps it (on disk before this returns).

        `template` (the private key's) and `public_template` add or replace attributes.
        """
        recipe = algorithm.recipe
        if not recipe.is_pair:
            raise ArgumentError(f"{algorithm.value} is a secret key: use generate_secret")
        common: dict[Attribute, Value] = {_A.LABEL: label, _A.ID: id, _A.TOKEN: stored}
        public = {
            _A.CLASS: ObjectClass.PUBLIC_KEY,
            **common,
            **recipe.public_template(purpose),
            **(public_template or {}),
        }
        private = {
            _A.CLASS: ObjectClass.PRIVATE_KEY,
            **common,
            _A.PRIVATE: self._private(),
            _A.SENSITIVE: True,
            _A.EXTRACTABLE: extractable,
            **recipe.private_template(purpose),
            **(template or {}),
        }
        answer = self.connection.call(
            Operation.GENERATE_KEY_PAIR,
            doing=f"generate {algorithm.value} key {label!r}",
            mechanism=recipe.generate,
            first=encode_template(public),
            data=encode_template(private),
        )
        return KeyPair(self.key_at(answer.value0), self.key_at(answer.value1))

    def generate_secret(
        self,
        algorithm: Algorithm,
        *,
        label: str,
        id: bytes = b"",
        stored: bool = False,
        extractable: bool = False,
        purpose: Purpose = Purpose.DATA,
        template: Template | None = None,
    ) -> Key:
        """Generate a secret key: AES, or a generic secret for HMAC and derivation."""
        recipe = algorithm.recipe
        if recipe.is_pair:
            raise ArgumentError(f"{algorithm.value} is a key pair: use generate")
        attributes = {
            _A.CLASS: ObjectClass.SECRET_KEY,
            _A.LABEL: label,
            _A.ID: id,
            _A.TOKEN: stored,
            _A.PRIVATE: self._private(),
            _A.SENSITIVE: True,
            _A.EXTRACTABLE: extractable,
            **recipe.public_template(purpose),
            **recipe.private_template(purpose),
            **(template or {}),
        }
        answer = self.connection.call(
            Operation.GENERATE_KEY,
            doing=f"generate {algorithm.value} key {label!r}",
            mechanism=recipe.generate,
            data=encode_template(attributes),
        )
        return self.key_at(answer.value0)

    def import_key(
        self,
        encoded: bytes,
        *,
        label: str,
        id: bytes = b"",
        stored: bool = False,
        extractable: bool = False,
        template: Template | None = None,
    ) -> KeyPair:
        """Take in a private key: PKCS #8 in DER, or PEM; silicon parses it, this process does not.

        The bytes have been outside, so the key is never `CKA_ALWAYS_SENSITIVE`; wipe and delete
        where they came from. For keys that shall never have been outside: `generate`.
        """
        attributes: dict[Attribute, Value] = {
            _A.CLASS: ObjectClass.PRIVATE_KEY,
            _A.LABEL: label,
            _A.ID: id,
            _A.TOKEN: stored,
            _A.PRIVATE: self._private(),
            _A.SENSITIVE: True,
            _A.EXTRACTABLE: extractable,
            **(template or {}),
        }
        try:
            answer = self.connection.call(
                Operation.IMPORT_KEY,
                doing=f"import key {label!r}",
                first=encode_template(attributes),
                data=encoded,
            )
        except ArgumentError as error:
            if error.result is not ReturnValue.ATTRIBUTE_VALUE_INVALID:
                raise
            raise ArgumentError(
                "not a private key that the partition can take",
                where=error.where,
                advice="it must be unencrypted: PKCS #8 in DER or PEM, or OpenSSL's EC or RSA PEM",
                result=error.result,
            ) from error
        return KeyPair(self.key_at(answer.value1), self.key_at(answer.value0))

    def create(self, template: Template) -> Object:
        """Create an object that holds no secret: a certificate, a public key, data."""
        answer = self.connection.call(
            Operation.CREATE_OBJECT, doing="create an object", data=encode_template(template)
        )
        return self.object(answer.value0)

    def import_certificate(
        self, certificate: bytes, *, subject: bytes, label: str, id: bytes = b""
    ) -> Object:
        """Store an X.509 certificate (DER); `subject` is its subject's Name in DER.

        A certificate that is stored already under this label and id is not stored again.
        """
        same: Template = {
            _A.CLASS: ObjectClass.CERTIFICATE,
            _A.VALUE: certificate,
            _A.LABEL: label,
            _A.ID: id,
        }
        for found in self.objects(same):
            return found
        return self.create(
            {
                _A.CLASS: ObjectClass.CERTIFICATE,
                _A.CERTIFICATE_TYPE: 0,
                _A.TOKEN: True,
                _A.LABEL: label,
                _A.ID: id,
                _A.SUBJECT: subject,
                _A.VALUE: certificate,
            }
        )

    # --- finding -----------------------------------------------------------------------------

    def objects(self, template: Template | None = None) -> Iterator[Object]:
        """Yield the objects that match every attribute of the template."""
        cursor = 0
        wanted = encode_template(template or {})
        while True:
            answer = self.connection.call(
                Operation.FIND_OBJECTS,
                doing="find objects",
                object=cursor,
                aux=_FIND_AT_ONCE,
                data=wanted,
            )
            for handle in decode_handles(answer.output):
                try:
                    yield self.object(handle)
                except NotFoundError:
                    # Destroyed by somebody else meanwhile.
                    continue
            cursor = answer.value0
            if cursor == 0:
                return

    def all_keys(self, template: Template | None = None) -> Iterator[Key]:
        """Yield the keys among the matching objects."""
        for found in self.objects(template):
            if isinstance(found, Key):
                yield found

    def find(
        self,
        label: str | None = None,
        *,
        id: bytes | None = None,
        object_class: ObjectClass | None = None,
    ) -> Key:
        """Return the one key with this label or id.

        Of a pair the private key, unless `object_class` says otherwise. Raises `NotFoundError` or
        `AmbiguousError`.
        """
        template: dict[Attribute, Value] = {}
        if label is not None:
            template[_A.LABEL] = label
        if id is not None:
            template[_A.ID] = id
        if object_class is not None:
            template[_A.CLASS] = object_class
        named = f"label {label!r}" if label is not None else f"id {(id or b'').hex()}"
        found = list(self.all_keys(template))
        if object_class is None and len(found) > 1:
            found = [key for key in found if key.object_class != ObjectClass.PUBLIC_KEY]
        if not found:
            raise NotFoundError(
                f"no key with {named}",
                where=f"partition {self.name}",
                advice=f"casemate key list --partition {self.name}",
            )
        if len(found) > 1:
            raise AmbiguousError(f"{len(found)} keys with {named}", where=f"partition {self.name}")
        return found[0]

    def object(self, handle: int) -> Object:
        """Return the object with this handle: a `Key` where it is one."""
        answer = self.connection.call(
            Operation.GET_ATTRIBUTES,
            doing=f"read object {handle}",
            object=handle,
            data=encode_query(DESCRIBING),
        )
        described = decode_answers(answer.output)
        kind = Key if described.get(_A.CLASS) in _KEYS else Object
        return kind(self, handle, described)

    def key_at(self, handle: int) -> Key:
        """Return the key with this handle; raises `NotFoundError` where it is none."""
        found = self.object(handle)
        if not isinstance(found, Key):
            raise NotFoundError(f"object {handle} is no key", where=f"partition {self.name}")
        return found

    def attributes(self, object: Object, *wanted: Attribute) -> Mapping[Attribute, Value]:
        """Return attributes of an object; without names all that it has and may show."""
        answer = self.connection.call(
            Operation.GET_ATTRIBUTES,
            doing=f"read object {object.handle}",
            object=object.handle,
            data=encode_query(wanted or tuple(Attribute)),
        )
        return decode_answers(answer.output)

    # --- without a key -----------------------------------------------------------------------

    def random(self, size: int) -> bytes:
        """Return `size` random bytes of the partition's generator."""
        out = bytearray()
        while len(out) < size:
            count = min(size - len(out), _RANDOM_AT_ONCE)
            out += self.connection.call(
                Operation.RANDOM, doing="make random bytes", aux=count, capacity=count
            ).output
        return bytes(out)

    def digest(self, data: bytes, *, mechanism: Mechanism = Mechanism.SHA256) -> bytes:
        """Return the digest of a message."""
        if len(data) > MESSAGE_MAX:
            return self.connection.stream(
                Usage.DIGEST, doing="digest", mechanism=mechanism, data=data
            )
        return self.connection.call(
            Operation.DIGEST, doing="digest", mechanism=mechanism, data=data
        ).output

    def certificate_chain(self) -> list[bytes]:
        """Return the certificates (DER) of the identity key that signs key reports, leaf first.

        Until a root of trust has certified the partition it is one, signed by itself.
        """
        answer = self.connection.call(
            Operation.PARTITION_CHAIN, doing="read the partition's certificates"
        )
        return decode_certificates(answer.output)


def connect(partition: str, *, pin: str | bytes | None = None) -> Partition:
    """Connect to a partition by name, or to a socket by its path (with a slash in it).

    Sockets are looked for in CASEMATE_SOCKETS, CASEMATE_RUNTIME, the user's and the system's
    runtime folder, and must belong to a user that is trusted (`casemate.hsm.client.discovery`).
    Raises `NotReachableError`; with a `pin` `LoginError` where it is wrong.
    """
    if "/" in partition:
        path = Path(partition)
        name = path.parent.name
        discovery.check_socket(path, os.environ, os.geteuid())
    else:
        path = discovery.find_socket(partition, os.environ, os.geteuid())
        name = partition
    connected = Partition(path, name=name)
    if pin is not None:
        try:
            connected.login(pin)
        except BaseException:
            connected.close()
            raise
    return connected
