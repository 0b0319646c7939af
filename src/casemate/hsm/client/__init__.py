"""The Python API: a program's way into its partition.

`casemate.connect("web")` finds the partition's socket, shakes hands and opens a session; what
comes back are handles (`Key`, `KeyPair`, `Object`), never key values. `Algorithm` names what can
be generated; mechanisms and their parameters stand in `casemate.formats.pkcs11` and
`casemate.formats.pkcs11_wire`; every error is a `ClientError`.
"""

from casemate.hsm.client.algorithms import Algorithm, Purpose
from casemate.hsm.client.asynchronous import AsyncPartition, connect_async
from casemate.hsm.client.errors import ClientError
from casemate.hsm.client.keys import Key, KeyPair
from casemate.hsm.client.objects import Object
from casemate.hsm.client.partition import Partition, connect

__all__ = [
    "Algorithm",
    "AsyncPartition",
    "ClientError",
    "Key",
    "KeyPair",
    "Object",
    "Partition",
    "Purpose",
    "connect",
    "connect_async",
]
