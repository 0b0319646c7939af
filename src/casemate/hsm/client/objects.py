"""Objects of a partition: handles with what describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from casemate.formats.pkcs11 import Attribute, KeyType
from casemate.formats.pkcs11_wire import Template, encode_template
from casemate.hsm.client.algorithms import algorithm_of
from casemate.hsm.client.operations import Operation

if TYPE_CHECKING:
    from casemate.hsm.client.partition import Partition

_A = Attribute

#: Attributes read with every object: what it is and what it may do.
DESCRIBING = (
    _A.CLASS,
    _A.KEY_TYPE,
    _A.LABEL,
    _A.ID,
    _A.TOKEN,
    _A.EC_PARAMS,
    _A.VALUE_LEN,
    _A.MODULUS,
    _A.PARAMETER_SET,
)


@dataclass(frozen=True, slots=True)
class Object:
    """An object in a partition. `described` holds the attributes in `DESCRIBING` that it has."""

    partition: Partition = field(repr=False, compare=False)
    handle: int
    described: Template = field(repr=False, compare=False)

    @property
    def object_class(self) -> int:
        """CKA_CLASS, an `ObjectClass` where it has a name."""
        value = self.described.get(_A.CLASS)
        return value if isinstance(value, int) else -1

    @property
    def key_type(self) -> KeyType | None:
        """CKA_KEY_TYPE, None where the object is no key."""
        value = self.described.get(_A.KEY_TYPE)
        return value if isinstance(value, KeyType) else None

    @property
    def label(self) -> str:
        """CKA_LABEL."""
        value = self.described.get(_A.LABEL)
        return value if isinstance(value, str) else ""

    @property
    def id(self) -> bytes:
        """CKA_ID: the same for a key pair and its certificate."""
        value = self.described.get(_A.ID)
        return value if isinstance(value, bytes) else b""

    @property
    def stored(self) -> bool:
        """CKA_TOKEN: whether it outlives the session."""
        return self.described.get(_A.TOKEN) is True

    @property
    def algorithm(self) -> str:
        """Its kind and size, as `casemate key list` shows it."""
        return algorithm_of(self.described)

    def attributes(self, *wanted: Attribute) -> Template:
        """Return these attributes, or all that it has and that are not sensitive."""
        return self.partition.attributes(self, *wanted)

    def change(self, template: Template) -> None:
        """Change attributes; it is on disk on return where the object is stored."""
        self.partition.connection.call(
            Operation.SET_ATTRIBUTES,
            doing=f"change {self.label or self.handle}",
            object=self.handle,
            data=encode_template(template),
        )

    def copy(self, template: Template) -> Object:
        """Copy the object, with these attributes changed."""
        answer = self.partition.connection.call(
            Operation.COPY_OBJECT,
            doing=f"copy {self.label or self.handle}",
            object=self.handle,
            data=encode_template(template),
        )
        return self.partition.object(answer.value0)

    def destroy(self) -> None:
        """Destroy it for good."""
        self.partition.connection.call(
            Operation.DESTROY_OBJECT,
            doing=f"destroy {self.label or self.handle}",
            object=self.handle,
        )
