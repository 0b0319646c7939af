"""The DICE Protection Environment: keys and certificates that follow a tree of measurements.

`DpeInstance` is the state machine, `casemate.formats.dpe` its wire format. The module `simulator`
is an instance on its own, `client` asks a running one.
"""

from casemate.rot.dpe.contexts import (
    CAPACITY,
    Context,
    ContextKind,
    ContextState,
    ContextTable,
    TciNode,
)
from casemate.rot.dpe.errors import DpeError
from casemate.rot.dpe.instance import DpeInstance
from casemate.rot.dpe.keys import DpeKeys, ExportedCdiSlot, Signer
from casemate.rot.dpe.platform import Issuer, Platform, SignerIdentification

__all__ = [
    "CAPACITY",
    "Context",
    "ContextKind",
    "ContextState",
    "ContextTable",
    "DpeError",
    "DpeInstance",
    "DpeKeys",
    "ExportedCdiSlot",
    "Issuer",
    "Platform",
    "Signer",
    "SignerIdentification",
    "TciNode",
]
