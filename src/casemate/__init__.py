"""Casemate: a host security module, a root of trust and attestation-gated keys in software.

`casemate.connect("web")` connects to a partition of the module on this host.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from casemate.hsm.client import connect, connect_async

__version__ = "0.1.0"
__all__ = ["connect", "connect_async"]


def __getattr__(name: str) -> object:
    """Load the client only where it is used: the module's own process never does."""
    if name in __all__:
        return getattr(importlib.import_module("casemate.hsm.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
