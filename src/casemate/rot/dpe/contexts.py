"""The contexts of a DPE: a forest of measurements in 64 numbered places.

Rules that this table keeps, whatever the commands do:

- A place is empty, active (its handle works) or retired (its measurement still counts for its
  descendants, its handle is gone).
- A handle means something only together with the locality that owns it. Searching a locality that
  owns nothing is INVALID_LOCALITY; searching one that owns something else is INVALID_HANDLE.
- Handles are random, unique among all contexts, and never the default or the invalid handle.
- Destroying a context destroys its descendants, and every retired ancestor that thereby lost its
  last child: nobody could reach those any more.

Contexts are immutable values. A command works on copies and writes them back at its end, so that a
command that fails has changed nothing.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from casemate.formats.dpe import DEFAULT_HANDLE, DIGEST_SIZE, HANDLE_SIZE, INVALID_HANDLE, Status
from casemate.rot.dpe.errors import DpeError

#: How many contexts there can be, simulation and retired ones included.
CAPACITY = 64

_TCI_NODE = struct.Struct(f"<I{DIGEST_SIZE}s{DIGEST_SIZE}sII")
_HANDLE_ATTEMPTS = 8


class ContextState(enum.Enum):
    """Whether a context's handle still works."""

    ACTIVE = "active"
    RETIRED = "retired"


class ContextKind(enum.Enum):
    """Simulation contexts certify keys but neither sign nor export."""

    NORMAL = "normal"
    SIMULATION = "simulation"


@dataclass(frozen=True, slots=True)
class TciNode:
    """One measurement: its type, the newest value, and the hash chain over all values so far."""

    tci_type: int = 0
    cumulative: bytes = bytes(DIGEST_SIZE)
    current: bytes = bytes(DIGEST_SIZE)
    locality: int = 0
    svn: int = 0

    def extended(self, measurement: bytes) -> TciNode:
        """Return the node after a measurement: cumulative = SHA384(cumulative || measurement)."""
        chain = hashlib.sha384(self.cumulative + measurement).digest()
        return replace(self, cumulative=chain, current=measurement)

    def encode(self) -> bytes:
        """Return the 108 bytes that go into the digest of a context."""
        return _TCI_NODE.pack(self.tci_type, self.cumulative, self.current, self.locality, self.svn)


@dataclass(frozen=True, slots=True)
class Context:
    """One context: who may use it, what it measures, what it may do. The handle is a secret."""

    handle: bytes = field(repr=False)
    locality: int
    tci: TciNode
    parent: int | None = None
    kind: ContextKind = ContextKind.NORMAL
    state: ContextState = ContextState.ACTIVE
    allow_x509: bool = True
    allow_export_cdi: bool = True
    allow_recursive: bool = False
    uses_internal_info: bool = False
    uses_internal_dice: bool = False

    @property
    def is_default(self) -> bool:
        """Whether the context is its locality's default."""
        return self.handle == DEFAULT_HANDLE

    def retired(self) -> Context:
        """Return the context after its handle was given up."""
        return replace(self, state=ContextState.RETIRED, handle=INVALID_HANDLE)


class ContextTable:
    """All contexts of a DPE. `random` gives that many unpredictable bytes."""

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._places: list[Context | None] = [None] * CAPACITY
        self._random = random
        #: InitializeContext for a normal context works once per reset.
        self.initialized = False

    def __getitem__(self, index: int) -> Context:
        context = self._places[index]
        if context is None:
            raise KeyError(f"place {index} holds no context")
        return context

    def __setitem__(self, index: int, context: Context) -> None:
        self._places[index] = context

    def __contains__(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < CAPACITY and self._places[index] is not None

    def __iter__(self) -> Iterator[tuple[int, Context]]:
        return ((i, context) for i, context in enumerate(self._places) if context is not None)

    def find(self, handle: bytes, locality: int) -> int:
        """Return the place of the active context that a caller means.

        Raises DpeError: INVALID_LOCALITY if the locality owns no active context, INVALID_HANDLE
        if none of those it owns has this handle.
        """
        owned = self.active_in(locality)
        if not owned:
            raise DpeError(
                Status.INVALID_LOCALITY, f"locality 0x{locality:x} owns no active context"
            )
        for index in owned:
            if hmac.compare_digest(self[index].handle, handle):
                return index
        raise DpeError(
            Status.INVALID_HANDLE,
            f"no active context of locality 0x{locality:x} has this handle: handles change with"
            " every use",
        )

    def active_in(self, locality: int) -> list[int]:
        """Return the places of the active contexts that a locality owns."""
        return [
            index
            for index, context in self
            if context.state is ContextState.ACTIVE and context.locality == locality
        ]

    def default_of(self, locality: int) -> int | None:
        """Return the place of a locality's default context."""
        return next((i for i in self.active_in(locality) if self[i].is_default), None)

    def free_place(self) -> int:
        """Return the first empty place; raises DpeError MAX_TCIS if all are taken."""
        for index, context in enumerate(self._places):
            if context is None:
                return index
        raise DpeError(Status.MAX_TCIS, f"all {CAPACITY} contexts are in use: destroy one first")

    def children(self, index: int) -> list[int]:
        """Return the places of a context's direct children."""
        return [i for i, context in self if context.parent == index]

    def active_children(self, index: int) -> list[int]:
        """Return the places of a context's direct children whose handles still work."""
        return [i for i in self.children(index) if self[i].state is ContextState.ACTIVE]

    def path_to_root(self, index: int) -> list[Context]:
        """Return a context and its ancestors, the root last."""
        path = [self[index]]
        while (parent := path[-1].parent) is not None:
            path.append(self[parent])
        return path

    def destroy(self, index: int) -> None:
        """Remove a context, its descendants, and ancestors that only it still kept."""
        parent = self[index].parent
        doomed = [index]
        for place in doomed:
            doomed.extend(self.children(place))
        for place in doomed:
            self._places[place] = None
        while parent is not None and self[parent].state is ContextState.RETIRED:
            if self.children(parent):
                break
            above = self[parent].parent
            self._places[parent] = None
            parent = above

    def fresh_handle(self) -> bytes:
        """Return a random handle that no context has.

        Raises DpeError INTERNAL_ERROR if the source of randomness repeats itself.
        """
        taken = {DEFAULT_HANDLE, INVALID_HANDLE, *(context.handle for _, context in self)}
        for _ in range(_HANDLE_ATTEMPTS):
            handle = self._random(HANDLE_SIZE)
            if handle not in taken:
                return handle
        raise DpeError(
            Status.INTERNAL_ERROR, "the source of randomness gives handles that are in use"
        )

    def rolled(self, context: Context) -> Context:
        """Return a context with its next handle: a fresh one, unless it is a default context."""
        return context if context.is_default else replace(context, handle=self.fresh_handle())
