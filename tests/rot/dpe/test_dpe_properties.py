"""What holds of a DPE after any sequence of commands, sensible or not."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    INVALID_HANDLE,
    CertificateFormat,
    CertifyKey,
    Command,
    DeriveContext,
    DerivedContext,
    DeriveFlags,
    DestroyContext,
    DpeCommandError,
    ExportedCdi,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    RotateContextHandle,
    RotateFlags,
    Sign,
    Status,
    Support,
    UpdateContextMeasurement,
    encode_command,
)
from casemate.rot.dpe import CAPACITY, ContextKind, ContextState, DpeInstance, simulator
from casemate.rot.dpe.client import DpeClient

LOCALITIES = (0, 1, 0x4F544852)
derive_flags = st.sampled_from(DeriveFlags)


class AnySequence(RuleBasedStateMachine):
    """Commands with handles that exist, existed or never did, from any locality."""

    def __init__(self) -> None:
        super().__init__()
        self.instance = simulator.build(Profile.P384_SHA384, Support.everything())
        self.handles: list[bytes] = [DEFAULT_HANDLE, INVALID_HANDLE, b"\1" * 16]

    def ask(self, locality: int, command: Command) -> object:
        before = list(self.instance.contexts)
        client = DpeClient(Profile.P384_SHA384, lambda data: self.instance.execute(locality, data))
        try:
            answer = client.run(command)
        except DpeCommandError as error:
            assert error.status in set(Status) - {Status.INTERNAL_ERROR}
            assert list(self.instance.contexts) == before
            return None
        for name in ("handle", "parent_handle"):
            if isinstance(handle := getattr(answer, name, None), bytes):
                self.handles.append(handle)
        if isinstance(answer, ExportedCdi):
            self.instance.keys.exported.clear(self.instance.keys.crypto, answer.exported_cdi)
        return answer

    def pick(self, data: st.DataObject) -> bytes:
        return data.draw(st.sampled_from(self.handles[-6:] + self.handles[:1]))

    @rule(
        data=st.data(),
        locality=st.sampled_from(LOCALITIES),
        to=st.sampled_from(LOCALITIES),
        flags=derive_flags,
        tci_type=st.integers(0, 2),
    )
    def derive(
        self, data: st.DataObject, locality: int, to: int, flags: DeriveFlags, tci_type: int
    ) -> None:
        command = DeriveContext(self.pick(data), b"\7" * 48, flags, tci_type, to)
        answer = self.ask(locality, command)
        if isinstance(answer, DerivedContext) and not flags & DeriveFlags.RECURSIVE:
            assert (answer.parent_handle != INVALID_HANDLE) == bool(
                flags & DeriveFlags.RETAIN_PARENT_CONTEXT
            )

    @rule(data=st.data(), locality=st.sampled_from(LOCALITIES), flags=st.sampled_from([0, 1 << 31]))
    def rotate(self, data: st.DataObject, locality: int, flags: int) -> None:
        self.ask(locality, RotateContextHandle(self.pick(data), RotateFlags(flags)))

    @rule(data=st.data(), locality=st.sampled_from(LOCALITIES))
    def destroy(self, data: st.DataObject, locality: int) -> None:
        self.ask(locality, DestroyContext(self.pick(data)))

    @rule(locality=st.sampled_from(LOCALITIES))
    def simulate(self, locality: int) -> None:
        self.ask(locality, InitializeContext(InitializeFlags.SIMULATION))

    @rule(data=st.data(), locality=st.sampled_from(LOCALITIES), tci_type=st.integers(0, 2))
    def update(self, data: st.DataObject, locality: int, tci_type: int) -> None:
        self.ask(locality, UpdateContextMeasurement(self.pick(data), b"\x09" * 48, tci_type))

    @rule(data=st.data(), locality=st.sampled_from(LOCALITIES))
    def certify(self, data: st.DataObject, locality: int) -> None:
        self.ask(locality, CertifyKey(self.pick(data), bytes(48), CertificateFormat.X509))

    @rule(data=st.data(), locality=st.sampled_from(LOCALITIES))
    def sign(self, data: st.DataObject, locality: int) -> None:
        self.ask(locality, Sign(self.pick(data), bytes(48), bytes(48)))

    @invariant()
    def the_forest_is_one(self) -> None:
        contexts = dict(self.instance.contexts)
        assert len(contexts) <= CAPACITY
        random_handles = [
            context.handle
            for context in contexts.values()
            if context.handle not in {DEFAULT_HANDLE, INVALID_HANDLE}
        ]
        assert len(set(random_handles)) == len(random_handles)
        for index, context in contexts.items():
            path = self.instance.contexts.path_to_root(index)
            assert path[-1].kind is context.kind
            if context.state is ContextState.RETIRED:
                assert context.handle == INVALID_HANDLE
                assert self.instance.contexts.children(index), "a retired context nobody needs"
            if context.allow_export_cdi:
                assert all(ancestor.allow_export_cdi for ancestor in path)
            if context.allow_x509:
                assert all(ancestor.allow_x509 for ancestor in path)
            types = [
                contexts[child].tci.tci_type for child in self.instance.contexts.children(index)
            ]
            assert len(set(types)) == len(types)

    @invariant()
    def a_default_context_is_alone(self) -> None:
        for locality in LOCALITIES:
            active = [self.instance.contexts[i] for i in self.instance.contexts.active_in(locality)]
            defaults = [context for context in active if context.is_default]
            assert len(defaults) <= 1
            if defaults:
                # InitializeContext may put simulations, and what grew from them, beside it.
                assert (
                    all(
                        context.is_default or context.kind is ContextKind.SIMULATION
                        for context in active
                    )
                    or defaults[0].kind is ContextKind.SIMULATION
                )


TestAnySequence = AnySequence.TestCase
TestAnySequence.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

INSTANCES: dict[Profile, DpeInstance] = {}


def instance_of(profile: Profile) -> DpeInstance:
    return INSTANCES.setdefault(profile, simulator.build(profile, Support.everything()))


@given(st.sampled_from(Profile), st.binary(max_size=200), st.integers(0, 2**32 - 1))
def test_garbage_is_answered_and_changes_nothing(
    profile: Profile, data: bytes, locality: int
) -> None:
    instance = instance_of(profile)
    before = list(instance.contexts)
    answer = instance.execute(locality, data)
    magic, status, answered = struct.unpack("<III", answer[:12])
    assert (magic, answered) == (0x44504552, profile)
    assert status != Status.SUCCESS
    assert len(answer) == 12
    assert list(instance.contexts) == before


@given(profile=st.sampled_from(Profile), data=st.data())
@settings(deadline=None)
def test_well_formed_nonsense_never_crashes(profile: Profile, data: Any) -> None:
    """A true header, any code, a body of the right length with anything in it."""
    instance = simulator.build(profile, Support.everything())
    code = data.draw(st.sampled_from([1, 7, 8, 9, 0xA, 0xE, 0xF, 0x10, 0x80000000]))
    handle = data.draw(st.sampled_from([DEFAULT_HANDLE, b"\2" * 16]))
    body = data.draw(st.binary(min_size=1200, max_size=1200))
    header = struct.pack("<III", 0x44504543, code, profile)
    head = handle if code not in {7, 0x10} else b""
    answer = instance.execute(data.draw(st.sampled_from(LOCALITIES)), header + head + body)
    magic, status, _ = struct.unpack("<III", answer[:12])
    assert magic == 0x44504552
    assert status == 0 or len(answer) == 12


@given(profile=st.sampled_from(Profile), data=st.data())
@settings(deadline=None)
def test_a_changed_bit_of_a_command_is_refused_or_is_another_command(
    profile: Profile, data: st.DataObject
) -> None:
    """Above all: no change of the handle, the profile or the magic gets through."""
    instance = simulator.build(profile, Support.everything())
    rotated = DpeClient(profile, lambda request: instance.execute(0, request)).run(
        RotateContextHandle(DEFAULT_HANDLE)
    )
    assert isinstance(rotated, NewHandle)
    commands: list[Command] = [
        Sign(rotated.handle, bytes(48), bytes(profile.to_be_signed_size)),
        CertifyKey(rotated.handle, bytes(48), CertificateFormat.X509),
        DeriveContext(rotated.handle, bytes(48)),
    ]
    command = bytearray(encode_command(profile, data.draw(st.sampled_from(commands))))
    position = data.draw(st.integers(0, len(command) * 8 - 1))
    command[position // 8] ^= 1 << position % 8
    before = list(instance.contexts)
    answer = instance.execute(0, bytes(command))
    _, status, _ = struct.unpack("<III", answer[:12])
    if status:
        assert list(instance.contexts) == before
    # A changed code (offset 4 to 7) may be that of another command, which takes the handle too.
    in_code = 4 <= position // 8 < 8
    in_header_or_handle = position // 8 < 12 + 16
    assert status or in_code or not in_header_or_handle
