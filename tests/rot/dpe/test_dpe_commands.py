"""What each DPE command does, refuses and leaves alone, in both profiles."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    INVALID_HANDLE,
    CertificateChunk,
    CertificateFormat,
    CertifyKey,
    ContextDestroyed,
    DeriveContext,
    DeriveFlags,
    DestroyContext,
    GetCertificateChain,
    GetProfile,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    ProfileInfo,
    RotateContextHandle,
    RotateFlags,
    Sign,
    SignFlags,
    Status,
    Support,
    UpdateContextMeasurement,
    UpdatedMeasurement,
)
from casemate.rot.dpe import CAPACITY, ContextState

if TYPE_CHECKING:
    from tests.rot.dpe.conftest import Bench

LABEL = bytes(range(48))
OTHER = 0x4F544852
NOBODY = bytes(range(1, 17))
KEEP = DeriveFlags.RETAIN_PARENT_CONTEXT
X509 = DeriveFlags.INPUT_ALLOW_X509
EXPORT = DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE


def test_get_profile_tells_version_capacity_and_support(make: Callable[..., Bench]) -> None:
    support = Support.AUTO_INIT | Support.X509
    bench = make(support)
    for locality in (0, OTHER):
        assert bench.ask(GetProfile(), locality) == ProfileInfo(
            bench.profile, 0, 13, 0, 0, CAPACITY, support
        )


# --- InitializeContext ----------------------------------------------------------------------


def test_the_default_context_is_made_once(make: Callable[..., Bench]) -> None:
    bench = make(without=Support.AUTO_INIT)
    command = InitializeContext(InitializeFlags.DEFAULT)
    assert bench.ask(command) == NewHandle(DEFAULT_HANDLE)
    assert bench.refused(command) is Status.ARGUMENT_NOT_SUPPORTED
    assert bench.refused(command, OTHER) is Status.ARGUMENT_NOT_SUPPORTED
    bench.ask(DestroyContext())
    assert bench.refused(command) is Status.ARGUMENT_NOT_SUPPORTED


@pytest.mark.parametrize("flags", [0, 3 << 30, 1])
def test_a_context_is_either_default_or_simulation(make: Callable[..., Bench], flags: int) -> None:
    bench = make(without=Support.AUTO_INIT)
    command = InitializeContext(InitializeFlags(flags))
    assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_simulation_contexts_need_support(make: Callable[..., Bench]) -> None:
    command = InitializeContext(InitializeFlags.SIMULATION)
    assert make(without=Support.SIMULATION).refused(command) is Status.ARGUMENT_NOT_SUPPORTED
    first, second = make().simulation(), make().simulation()
    assert len({first, second, DEFAULT_HANDLE, INVALID_HANDLE}) == 4


def test_contexts_run_out(bench: Bench) -> None:
    for _ in range(CAPACITY - 1):
        bench.simulation()
    command = InitializeContext(InitializeFlags.SIMULATION)
    assert bench.refused(command) is Status.MAX_TCIS
    assert bench.refused(DeriveContext(DEFAULT_HANDLE, bytes(48))) is Status.MAX_TCIS


# --- handles and localities -----------------------------------------------------------------


def commands_on(profile: Profile, handle: bytes) -> list[object]:
    return [
        DeriveContext(handle, bytes(48)),
        CertifyKey(handle, LABEL, CertificateFormat.X509),
        Sign(handle, LABEL, bytes(profile.to_be_signed_size)),
        RotateContextHandle(handle),
        DestroyContext(handle),
    ]


@pytest.mark.parametrize("number", range(5))
def test_an_unknown_handle_and_a_foreign_locality_are_told_apart(bench: Bench, number: int) -> None:
    unknown = commands_on(bench.profile, NOBODY)[number]
    known = commands_on(bench.profile, DEFAULT_HANDLE)[number]
    assert bench.refused(unknown) is Status.INVALID_HANDLE  # type: ignore[arg-type]
    assert bench.refused(known, OTHER) is Status.INVALID_LOCALITY  # type: ignore[arg-type]


@pytest.mark.parametrize("number", range(4))
def test_a_handle_works_once(bench: Bench, number: int) -> None:
    handle = bench.rotate() if number in {0, 2} else bench.simulation()
    flags = KEEP if number == 0 else DeriveFlags(0)
    command = [DeriveContext(handle, bytes(48), flags), *commands_on(bench.profile, handle)[1:]][
        number
    ]
    bench.ask(command)  # type: ignore[arg-type]
    assert bench.refused(command) is Status.INVALID_HANDLE  # type: ignore[arg-type]


def test_default_contexts_keep_their_handle(bench: Bench) -> None:
    assert bench.certify().handle == DEFAULT_HANDLE
    assert bench.sign(bytes(bench.profile.to_be_signed_size)).handle == DEFAULT_HANDLE
    other = bench.derive(flags=KEEP | DeriveFlags.CHANGE_LOCALITY, target=OTHER)
    assert other.parent_handle == DEFAULT_HANDLE


def test_handles_of_another_locality_do_not_work(bench: Bench) -> None:
    child = bench.derive(flags=KEEP | DeriveFlags.CHANGE_LOCALITY | X509, target=OTHER)
    assert bench.refused(CertifyKey(child.handle, LABEL, 0)) is Status.INVALID_HANDLE
    assert bench.certify(child.handle, locality=OTHER).handle != child.handle


# --- DeriveContext: children ----------------------------------------------------------------


FEATURES = [
    (DeriveFlags.INTERNAL_INPUT_INFO, Support.INTERNAL_INFO),
    (DeriveFlags.INTERNAL_INPUT_DICE, Support.INTERNAL_DICE),
    (DeriveFlags.RETAIN_PARENT_CONTEXT, Support.RETAIN_PARENT_CONTEXT),
    (DeriveFlags.INPUT_ALLOW_X509, Support.X509),
    (DeriveFlags.EXPORT_CDI, Support.CDI_EXPORT),
    (DeriveFlags.CREATE_CERTIFICATE, Support.CDI_EXPORT),
    (DeriveFlags.RECURSIVE, Support.RECURSIVE),
]


@pytest.mark.parametrize(("flag", "feature"), FEATURES, ids=lambda value: value.name)
def test_a_flag_needs_its_feature(
    make: Callable[..., Bench], flag: DeriveFlags, feature: Support
) -> None:
    bench = make(without=feature)
    # Support is asked before the handle is looked at.
    command = DeriveContext(NOBODY, bytes(48), flag)
    assert bench.refused(command) is Status.ARGUMENT_NOT_SUPPORTED


def test_a_parent_is_retired_unless_retained(bench: Bench) -> None:
    child = bench.derive()
    assert child.parent_handle == INVALID_HANDLE
    assert [context.state for _, context in bench.instance.contexts] == [
        ContextState.RETIRED,
        ContextState.ACTIVE,
    ]
    grandchild = bench.derive(child.handle, KEEP)
    assert grandchild.parent_handle not in {INVALID_HANDLE, child.handle}
    assert bench.derive(grandchild.parent_handle, tci_type=1).handle


def test_a_default_context_is_alone_in_its_locality(bench: Bench) -> None:
    make_default = DeriveFlags.MAKE_DEFAULT
    # The parent stays default: no other may come beside it.
    for flags in (KEEP, KEEP | make_default):
        command = DeriveContext(DEFAULT_HANDLE, bytes(48), flags)
        assert bench.refused(command) is Status.INVALID_ARGUMENT
    # The parent goes: its place is free for a default or another context.
    assert bench.derive(flags=make_default).handle == DEFAULT_HANDLE
    handle = bench.derive().handle
    assert handle != DEFAULT_HANDLE
    # A context that is not the default cannot have a default child beside it, even as it goes.
    command = DeriveContext(handle, bytes(48), make_default)
    assert bench.refused(command) is Status.INVALID_ARGUMENT
    # Elsewhere it can.
    change = DeriveFlags.CHANGE_LOCALITY
    elsewhere = bench.derive(handle, KEEP | make_default | change, target=OTHER)
    assert elsewhere.handle == DEFAULT_HANDLE
    # And there nothing can join it.
    for flags in (change, change | make_default):
        command = DeriveContext(elsewhere.parent_handle, bytes(48), flags, 1, OTHER)
        assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_types_are_unique_among_the_children_of_one_parent(bench: Bench) -> None:
    parent = bench.derive(bench.rotate(), KEEP, tci_type=7).parent_handle
    for flags in (DeriveFlags(0), KEEP, EXPORT):
        command = DeriveContext(parent, bytes(48), flags, 7)
        assert bench.refused(command) is Status.INVALID_ARGUMENT
    child = bench.derive(parent, KEEP, tci_type=8)
    assert bench.derive(child.handle, tci_type=7)


def test_the_target_locality_counts_only_with_its_flag(bench: Bench) -> None:
    child = bench.derive(target=OTHER)
    assert bench.refused(DestroyContext(child.handle), OTHER) is Status.INVALID_LOCALITY
    bench.ask(DestroyContext(child.handle))


def test_permissions_are_not_gained(bench: Bench) -> None:
    child = bench.derive()
    for flags in (X509, EXPORT, DeriveFlags.RECURSIVE):
        command = DeriveContext(child.handle, bytes(48), flags)
        assert bench.refused(command) is Status.INVALID_ARGUMENT
    assert bench.refused(CertifyKey(child.handle, LABEL, 0)) is Status.INVALID_ARGUMENT
    # Asked of a parent that may not, these two are not errors, and grant nothing.
    asked = DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT | DeriveFlags.ALLOW_RECURSIVE
    grandchild = bench.derive(child.handle, asked)
    for flags in (EXPORT, DeriveFlags.RECURSIVE):
        command = DeriveContext(grandchild.handle, bytes(48), flags)
        assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_a_csr_needs_no_permission(bench: Bench) -> None:
    child = bench.derive()
    assert bench.certify(child.handle, CertificateFormat.CSR).certificate


# --- DeriveContext: recursive ---------------------------------------------------------------


def test_a_recursive_update_extends_the_context_itself(bench: Bench) -> None:
    first, second = b"\1" * 48, b"\2" * 48
    flags = DeriveFlags.ALLOW_RECURSIVE | X509
    handle = bench.derive(flags=flags, measurement=first, tci_type=5).handle
    answer = bench.derive(handle, DeriveFlags.RECURSIVE, measurement=second, tci_type=5)
    assert answer.handle != handle
    assert answer.parent_handle == DEFAULT_HANDLE
    (_, root), (_, context) = bench.instance.contexts
    assert root.state is ContextState.RETIRED
    assert context.tci.current == second
    once = hashlib.sha384(bytes(48) + first).digest()
    assert context.tci.cumulative == hashlib.sha384(once + second).digest()


@pytest.mark.parametrize(
    ("flags", "tci_type", "status"),
    [
        (DeriveFlags.RECURSIVE, 6, Status.INVALID_ARGUMENT),
        (DeriveFlags.RECURSIVE | KEEP, 5, Status.INVALID_ARGUMENT),
        (DeriveFlags.RECURSIVE | DeriveFlags.ALLOW_RECURSIVE, 5, Status.INVALID_ARGUMENT),
        (DeriveFlags.RECURSIVE | EXPORT, 5, Status.INVALID_ARGUMENT),
        (DeriveFlags.RECURSIVE | DeriveFlags.CHANGE_LOCALITY, 5, Status.INVALID_LOCALITY),
    ],
)
def test_what_a_recursive_update_is_not(
    bench: Bench, flags: DeriveFlags, tci_type: int, status: Status
) -> None:
    handle = bench.derive(flags=DeriveFlags.ALLOW_RECURSIVE, tci_type=5).handle
    assert bench.refused(DeriveContext(handle, bytes(48), flags, tci_type, OTHER)) is status


def test_the_first_default_context_may_be_extended_a_simulation_not(bench: Bench) -> None:
    assert bench.derive(flags=DeriveFlags.RECURSIVE).handle == DEFAULT_HANDLE
    command = DeriveContext(bench.simulation(), bytes(48), DeriveFlags.RECURSIVE)
    assert bench.refused(command) is Status.INVALID_ARGUMENT


# --- DeriveContext: exported CDIs -----------------------------------------------------------


def test_an_exported_cdi_leaves_no_context_behind(bench: Bench) -> None:
    flags = DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT | X509
    child = bench.derive(flags=flags)
    exported = bench.export(child.handle, EXPORT)
    assert exported.parent_handle == INVALID_HANDLE
    assert len(exported.exported_cdi) == 32
    # Nobody keeps the parent, nor the root that was retired for it.
    assert list(bench.instance.contexts) == []


def test_an_exported_cdi_keeps_its_parent_if_asked_or_needed(make: Callable[..., Bench]) -> None:
    bench = make()
    exported = bench.export(bench.rotate(), EXPORT | KEEP)
    assert exported.parent_handle not in {DEFAULT_HANDLE, INVALID_HANDLE}
    bench = make()
    child = bench.derive(bench.rotate(), KEEP, tci_type=1)
    exported = bench.export(child.parent_handle, EXPORT)
    assert exported.parent_handle == INVALID_HANDLE
    assert [context.state for _, context in bench.instance.contexts] == [
        ContextState.RETIRED,
        ContextState.ACTIVE,
    ]
    bench = make()
    assert bench.export(DEFAULT_HANDLE, EXPORT | KEEP).parent_handle == DEFAULT_HANDLE


def test_bearer_secrets_do_not_show(bench: Bench) -> None:
    exported = bench.export(bench.rotate(), EXPORT | KEEP)
    (_, context), *_ = bench.instance.contexts
    for secret, shown in (
        (exported.exported_cdi, repr(exported)),
        (exported.exported_cdi, repr(bench.instance.keys.exported)),
        (context.handle, repr(context)),
    ):
        assert repr(secret)[2:-1] not in shown
        assert secret.hex() not in shown


def test_one_cdi_is_exported_at_a_time(bench: Bench) -> None:
    child = bench.derive(flags=DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT)
    parent = bench.export(child.handle, EXPORT | KEEP).parent_handle
    again = DeriveContext(parent, bytes(48), EXPORT)
    assert bench.refused(again) is Status.EXPORTED_CDI_DUPLICATE
    other = bench.derive(parent, DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT)
    command = DeriveContext(other.handle, bytes(48), EXPORT)
    assert bench.refused(command) is Status.EXPORTED_CDI_LIMIT
    bench.instance.keys.exported.clear(bench.instance.keys.crypto)
    assert bench.ask(command)


@pytest.mark.parametrize(
    "flags",
    [
        DeriveFlags.EXPORT_CDI,
        EXPORT | DeriveFlags.CHANGE_LOCALITY,
        EXPORT | DeriveFlags.RECURSIVE,
    ],
)
def test_what_an_export_is_not(bench: Bench, flags: DeriveFlags) -> None:
    command = DeriveContext(DEFAULT_HANDLE, bytes(48), flags, 0, OTHER)
    assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_a_simulation_context_exports_nothing(bench: Bench) -> None:
    command = DeriveContext(bench.simulation(), bytes(48), EXPORT)
    assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_a_certificate_alone_is_an_ordinary_child(bench: Bench) -> None:
    assert bench.derive(flags=DeriveFlags.CREATE_CERTIFICATE).handle != DEFAULT_HANDLE


# --- CertifyKey and Sign --------------------------------------------------------------------


def test_formats_need_support_and_a_number_that_exists(make: Callable[..., Bench]) -> None:
    csr, x509 = CertificateFormat.CSR, CertificateFormat.X509
    for output, feature in ((csr, Support.CSR), (x509, Support.X509)):
        command = CertifyKey(DEFAULT_HANDLE, LABEL, output)
        assert make(without=feature).refused(command) is Status.ARGUMENT_NOT_SUPPORTED
    assert make().refused(CertifyKey(DEFAULT_HANDLE, LABEL, 2)) is Status.INVALID_ARGUMENT


def test_a_simulation_context_certifies_but_does_not_sign(bench: Bench) -> None:
    handle = bench.certify(bench.simulation()).handle
    command = Sign(handle, LABEL, bytes(bench.profile.to_be_signed_size))
    assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_unknown_flags_of_certify_key_and_sign_are_ignored(bench: Bench) -> None:
    assert bench.ask(CertifyKey(DEFAULT_HANDLE, LABEL, 0, 0xFFFFFFFF))
    assert bench.sign(bytes(bench.profile.to_be_signed_size), flags=SignFlags(0xFFFFFFFE))


# --- RotateContextHandle and DestroyContext -------------------------------------------------


def test_rotation_to_and_from_the_default(bench: Bench) -> None:
    handle = bench.rotate()
    assert handle != DEFAULT_HANDLE
    assert bench.rotate(handle, RotateFlags.TARGET_IS_DEFAULT) == DEFAULT_HANDLE
    command = RotateContextHandle(DEFAULT_HANDLE, RotateFlags.TARGET_IS_DEFAULT)
    assert bench.refused(command) is Status.INVALID_ARGUMENT
    handle = bench.rotate()
    bench.simulation()
    command = RotateContextHandle(handle, RotateFlags.TARGET_IS_DEFAULT)
    assert bench.refused(command) is Status.INVALID_ARGUMENT


def test_rotation_needs_support(make: Callable[..., Bench]) -> None:
    bench = make(without=Support.ROTATE_CONTEXT)
    assert bench.refused(RotateContextHandle(DEFAULT_HANDLE)) is Status.INVALID_COMMAND


def test_destruction_takes_descendants_and_orphaned_retired_ancestors(bench: Bench) -> None:
    left = bench.derive(bench.rotate(), KEEP, tci_type=1)
    right = bench.derive(left.parent_handle, tci_type=2)  # retires the root
    leaf = bench.derive(left.handle)  # retires left
    elsewhere = bench.derive(
        leaf.handle, KEEP | DeriveFlags.CHANGE_LOCALITY, target=OTHER
    )  # a child in another locality
    assert len(list(bench.instance.contexts)) == 5
    assert bench.ask(DestroyContext(elsewhere.parent_handle)) == ContextDestroyed()
    # leaf, its child elsewhere and the retired left went; the root still has right.
    assert [context.tci.tci_type for _, context in bench.instance.contexts] == [0, 2]
    assert bench.refused(DestroyContext(elsewhere.handle), OTHER) is Status.INVALID_LOCALITY
    bench.ask(DestroyContext(right.handle))
    assert list(bench.instance.contexts) == []


def test_an_active_parent_survives_its_children(bench: Bench) -> None:
    child = bench.derive(bench.rotate(), KEEP)
    bench.ask(DestroyContext(child.handle))
    assert bench.derive(child.parent_handle)


# --- GetCertificateChain --------------------------------------------------------------------


def test_the_chain_comes_in_chunks(bench: Bench) -> None:
    chain = bench.client(OTHER).certificate_chain()
    assert chain == bench.instance.platform.certificate_chain
    assert bench.ask(GetCertificateChain(3, 5)) == CertificateChunk(chain[3:8])
    assert bench.ask(GetCertificateChain(len(chain) - 1, 2048)) == CertificateChunk(chain[-1:])
    assert bench.refused(GetCertificateChain(0, 2049)) is Status.INVALID_ARGUMENT
    for offset in (len(chain), 0xFFFFFFFF):
        status = bench.refused(GetCertificateChain(offset, 2048))
        assert status is Status.CERTIFICATE_CHAIN_ERROR


# --- UpdateContextMeasurement ---------------------------------------------------------------


def test_a_parent_extends_its_child_without_its_leave(bench: Bench) -> None:
    first, second = b"\1" * 48, b"\2" * 48
    child = bench.derive(bench.rotate(), KEEP, measurement=first, tci_type=9)
    command = UpdateContextMeasurement(child.parent_handle, second, 9)
    answer = bench.ask(command)
    assert isinstance(answer, UpdatedMeasurement)
    handles = {answer.handle, answer.parent_handle, child.handle, child.parent_handle}
    assert len(handles) == 4
    _, (_, context) = bench.instance.contexts
    once = hashlib.sha384(bytes(48) + first).digest()
    assert context.tci.current == second
    assert context.tci.cumulative == hashlib.sha384(once + second).digest()


def test_who_may_not_update_a_measurement(bench: Bench) -> None:
    def update(handle: bytes, tci_type: int = 9) -> UpdateContextMeasurement:
        return UpdateContextMeasurement(handle, bytes(48), tci_type)

    child = bench.derive(bench.rotate(), KEEP, tci_type=9)
    assert bench.refused(update(DEFAULT_HANDLE)) is Status.INVALID_ARGUMENT
    assert bench.refused(update(NOBODY)) is Status.INVALID_PARENT_LOCALITY
    assert bench.refused(update(child.parent_handle), OTHER) is Status.INVALID_PARENT_LOCALITY
    assert bench.refused(update(child.parent_handle, 8)) is Status.INVALID_ARGUMENT
    # A retired child has no handle to hand out.
    bench.derive(child.handle)
    assert bench.refused(update(child.parent_handle)) is Status.INVALID_ARGUMENT
