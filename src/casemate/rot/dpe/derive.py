"""DeriveContext: adds a measurement below, into, or out of a context.

It is three commands behind one code:

- RECURSIVE extends the context itself: its type must match, it must have been created with
  ALLOW_RECURSIVE, and its parent cannot be retained at the same time.
- EXPORT_CDI with CREATE_CERTIFICATE derives a CDI that stays inside, under a bearer handle, and a
  CA certificate for its key. It adds no context and no measurement of its own. Not from
  a simulation context, not together with RECURSIVE or CHANGE_LOCALITY.
- Otherwise a child context is made, in the caller's locality or, with CHANGE_LOCALITY, in another.

The checks, in order; the first that fails names the status:

1. Every flag's feature is supported, else ARGUMENT_NOT_SUPPORTED.
2. The parent is found (INVALID_LOCALITY, INVALID_HANDLE).
3. Flags agree with each other and with what the parent may do, else INVALID_ARGUMENT.
4. No direct child of the parent has this type already, else INVALID_ARGUMENT.
5. There is a free place, else MAX_TCIS.
6. Afterwards no locality would hold both a default context and another, else INVALID_ARGUMENT.

The parent is retired unless RETAIN_PARENT_CONTEXT: its measurement stays, its handle is gone. A
parent that exported a CDI, is not retained and has no children is destroyed altogether.

CREATE_CERTIFICATE without EXPORT_CDI has no effect of its own, as in the reference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    INVALID_HANDLE,
    DeriveContext,
    DerivedContext,
    DeriveFlags,
    ExportedCdi,
    Status,
    Support,
)
from casemate.rot.dpe.certificates import Subject, certificate
from casemate.rot.dpe.contexts import Context, ContextKind, ContextTable, TciNode
from casemate.rot.dpe.errors import DpeError

if TYPE_CHECKING:
    from casemate.rot.dpe.instance import DpeInstance

_FEATURES = {
    DeriveFlags.INTERNAL_INPUT_INFO: Support.INTERNAL_INFO,
    DeriveFlags.INTERNAL_INPUT_DICE: Support.INTERNAL_DICE,
    DeriveFlags.RETAIN_PARENT_CONTEXT: Support.RETAIN_PARENT_CONTEXT,
    DeriveFlags.INPUT_ALLOW_X509: Support.X509,
    DeriveFlags.EXPORT_CDI: Support.CDI_EXPORT,
    DeriveFlags.CREATE_CERTIFICATE: Support.CDI_EXPORT,
    DeriveFlags.RECURSIVE: Support.RECURSIVE,
}


def derive_context(
    instance: DpeInstance, locality: int, command: DeriveContext
) -> DerivedContext | ExportedCdi:
    """Run a DeriveContext command; raises DpeError as the module's rules say."""
    for flag, feature in _FEATURES.items():
        if command.flags & flag and not instance.support & feature:
            raise DpeError(Status.ARGUMENT_NOT_SUPPORTED, f"{flag.name} is not supported here")
    index = instance.contexts.find(command.handle, locality)
    _check_flags(command.flags, instance.contexts[index])
    if command.flags & DeriveFlags.RECURSIVE:
        return _extend(instance.contexts, index, command, locality)
    if any(
        instance.contexts[child].tci.tci_type == command.tci_type
        for child in instance.contexts.children(index)
    ):
        raise DpeError(
            Status.INVALID_ARGUMENT, f"the parent has a child of type 0x{command.tci_type:x}"
        )
    if command.flags & DeriveFlags.EXPORT_CDI:
        return _export(instance, index, command)
    return _make_child(instance.contexts, index, command, locality)


def _check_flags(flags: DeriveFlags, parent: Context) -> None:
    def refuse(condition: bool, reason: str) -> None:
        if condition:
            raise DpeError(Status.INVALID_ARGUMENT, reason)

    recursive = bool(flags & DeriveFlags.RECURSIVE)
    export = bool(flags & DeriveFlags.EXPORT_CDI)
    refuse(
        bool(flags & DeriveFlags.INPUT_ALLOW_X509) and not parent.allow_x509,
        "the parent may have no certificates, so neither may its child",
    )
    refuse(
        export and not flags & DeriveFlags.CREATE_CERTIFICATE,
        "EXPORT_CDI needs CREATE_CERTIFICATE",
    )
    refuse(export and recursive, "EXPORT_CDI and RECURSIVE exclude each other")
    refuse(
        export and bool(flags & DeriveFlags.CHANGE_LOCALITY),
        "EXPORT_CDI and CHANGE_LOCALITY exclude each other",
    )
    refuse(export and parent.kind is ContextKind.SIMULATION, "a simulation context exports no CDI")
    refuse(export and not parent.allow_export_cdi, "this context may not export its CDI")
    refuse(
        recursive and bool(flags & DeriveFlags.RETAIN_PARENT_CONTEXT),
        "RECURSIVE has no parent to retain",
    )
    refuse(
        recursive and bool(flags & DeriveFlags.ALLOW_RECURSIVE),
        "RECURSIVE makes no child to grant ALLOW_RECURSIVE to",
    )
    refuse(
        recursive and not parent.allow_recursive,
        "this context was not created with ALLOW_RECURSIVE",
    )


def _extend(
    contexts: ContextTable, index: int, command: DeriveContext, locality: int
) -> DerivedContext:
    context = contexts[index]
    if context.tci.tci_type != command.tci_type:
        raise DpeError(
            Status.INVALID_ARGUMENT,
            f"the context measures type 0x{context.tci.tci_type:x}, not 0x{command.tci_type:x}",
        )
    if _target(command, locality) != context.locality:
        raise DpeError(Status.INVALID_LOCALITY, "an extended context stays in its locality")
    rolled = contexts.rolled(context)
    contexts[index] = replace(rolled, tci=context.tci.extended(command.measurement))
    return DerivedContext(rolled.handle, DEFAULT_HANDLE)


def _export(instance: DpeInstance, index: int, command: DeriveContext) -> ExportedCdi:
    contexts, platform = instance.contexts, instance.platform
    if platform.ueid is None:
        raise DpeError(Status.MISSING_UEID, "the device has no UEID for the certificate")
    parent = contexts[index]
    retained = bool(command.flags & DeriveFlags.RETAIN_PARENT_CONTEXT)
    left = contexts.rolled(parent) if retained else parent.retired()
    handle = instance.keys.export(instance.digest_of(index))
    try:
        with instance.keys.exported_signer(handle) as signer:
            subject = Subject(
                profile=instance.profile,
                public_key=signer.public_key,
                nodes=instance.measurements_of(index),
                ueid=platform.ueid,
                is_ca=True,
                critical_dice=instance.critical_dice_extensions,
            )
        exported = certificate(subject, platform.issuer, instance.keys.alias_signer.sign)
    except BaseException:
        instance.keys.exported.clear(instance.keys.crypto)
        raise
    if retained or contexts.children(index):
        contexts[index] = left
    else:
        contexts.destroy(index)
    return ExportedCdi(left.handle, handle, exported)


def _make_child(
    contexts: ContextTable, index: int, command: DeriveContext, locality: int
) -> DerivedContext:
    parent, flags = contexts[index], command.flags
    retained = bool(flags & DeriveFlags.RETAIN_PARENT_CONTEXT)
    target = _target(command, locality)
    place = contexts.free_place()
    _check_defaults(contexts, index, target, flags)
    left = contexts.rolled(parent) if retained else parent.retired()
    make_default = bool(flags & DeriveFlags.MAKE_DEFAULT)
    node = TciNode(tci_type=command.tci_type, locality=target, svn=command.svn)
    child = Context(
        handle=DEFAULT_HANDLE if make_default else contexts.fresh_handle(),
        locality=target,
        tci=node.extended(command.measurement),
        parent=index,
        kind=parent.kind,
        allow_x509=bool(flags & DeriveFlags.INPUT_ALLOW_X509),
        allow_export_cdi=parent.allow_export_cdi
        and bool(flags & DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT),
        allow_recursive=parent.allow_recursive and bool(flags & DeriveFlags.ALLOW_RECURSIVE),
        uses_internal_info=bool(flags & DeriveFlags.INTERNAL_INPUT_INFO),
        uses_internal_dice=bool(flags & DeriveFlags.INTERNAL_INPUT_DICE),
    )
    contexts[index], contexts[place] = left, child
    return DerivedContext(child.handle, left.handle if retained else INVALID_HANDLE)


def _target(command: DeriveContext, locality: int) -> int:
    changes = command.flags & DeriveFlags.CHANGE_LOCALITY
    return command.target_locality if changes else locality


def _check_defaults(contexts: ContextTable, parent: int, target: int, flags: DeriveFlags) -> None:
    """Refuse a child that would put a default context beside another in the target locality."""
    others = contexts.active_in(target)
    if not flags & DeriveFlags.RETAIN_PARENT_CONTEXT and contexts[parent].is_default:
        others = [index for index in others if index != parent]
    if flags & DeriveFlags.MAKE_DEFAULT:
        conflict = bool(others)
    else:
        conflict = any(contexts[index].is_default for index in others)
    if conflict:
        raise DpeError(
            Status.INVALID_ARGUMENT,
            f"locality 0x{target:x} would hold a default context and another: a default context"
            " must be alone",
        )
