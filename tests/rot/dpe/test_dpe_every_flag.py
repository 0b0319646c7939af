"""Every combination of the flags of DeriveContext, on four kinds of parent: known answers.

The answers are those of the public reference simulator (docs/conformance.md): for each combination
the status, and whether the child's and the parent's handle are the default, invalid or fresh. They
are kept as one SHA-256 for each kind of parent.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterator

import pytest

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    INVALID_HANDLE,
    DeriveContext,
    DerivedContext,
    DeriveFlags,
    DpeCommandError,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    Support,
)
from casemate.rot.dpe import ContextTable, simulator
from casemate.rot.dpe.client import DpeClient

OTHER_LOCALITY = 1
PERMISSIONS = (
    DeriveFlags.INPUT_ALLOW_X509
    | DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT
    | DeriveFlags.ALLOW_RECURSIVE
)
#: Flags by rising value; combination n has those flags whose bit is set in n.
FLAGS = sorted(DeriveFlags)


def combinations() -> Iterator[DeriveFlags]:
    for number in range(1 << len(FLAGS)):
        yield DeriveFlags(sum(flag for bit, flag in enumerate(FLAGS) if number >> bit & 1))


def default_context(_client: DpeClient) -> bytes:
    return DEFAULT_HANDLE


def simulation(client: DpeClient) -> bytes:
    answer = client.run(InitializeContext(InitializeFlags.SIMULATION))
    assert isinstance(answer, NewHandle)
    return answer.handle


def child(client: DpeClient, flags: DeriveFlags) -> bytes:
    answer = client.run(DeriveContext(DEFAULT_HANDLE, b"\1" * 48, flags))
    assert isinstance(answer, DerivedContext)
    return answer.handle


def permitted_child(client: DpeClient) -> bytes:
    return child(client, PERMISSIONS)


def plain_child(client: DpeClient) -> bytes:
    return child(client, DeriveFlags(0))


def answer_of(client: DpeClient, parent: Callable[[DpeClient], bytes], flags: DeriveFlags) -> bytes:
    """Status (u32, little-endian) and, after a success, the kinds of the handles in the answer."""
    command = DeriveContext(parent(client), b"\2" * 48, flags, 0, OTHER_LOCALITY, 7)
    try:
        answer = client.run(command)
    except DpeCommandError as error:
        return error.status.to_bytes(4, "little")
    kinds = {DEFAULT_HANDLE: b"d", INVALID_HANDLE: b"i"}
    handles = (getattr(answer, name, b"") for name in ("handle", "parent_handle"))
    return bytes(4) + b"".join(kinds.get(handle, b"f" if handle else b"-") for handle in handles)


ANSWERS = {
    default_context: "35014c9bae47fbbe72314282244e66262ab63f9534df6e08c677031b6bd163fe",
    simulation: "ff77fb0f6905f547d8cba165fe079659cd07156edb23362f45d55e6a86cf025a",
    permitted_child: "5165fd159b21658e5d37237e9d26e96016f296c188138829cc02458cc5379e47",
    plain_child: "be85205c45e96e734b5afc66d6b36f5ef196849b47f4ecde275b6d1fe8fe34db",
}


@pytest.mark.parametrize("parent", ANSWERS, ids=lambda parent: parent.__name__)
def test_every_combination_of_flags(parent: Callable[[DpeClient], bytes]) -> None:
    instance = simulator.build(Profile.P384_SHA384, Support.everything())
    client = DpeClient(Profile.P384_SHA384, lambda data: instance.execute(0, data))
    digest = hashlib.sha256()
    for flags in combinations():
        instance.contexts = ContextTable(secrets.token_bytes)
        instance.auto_initialize(0)
        digest.update(answer_of(client, parent, flags))
        instance.keys.exported.clear(instance.keys.crypto)
    assert digest.hexdigest() == ANSWERS[parent]
