"""A DPE instance: takes one command of one locality at a time, and answers.

The rules, which hold for every command:

1. A command either succeeds completely or changes nothing.
2. A command that names a context gives it a new handle, returned in the answer; the handle that
   was used is worthless from then on. Default contexts keep the default handle.
3. In one locality there is either one default context, or any number of others; never both.
4. What was not asked for at creation cannot be had later: X.509 certificates, exported CDIs and
   recursive updates are permissions that a child has only if its parent has them.
5. Simulation contexts certify, but neither sign nor export.

The rules of DeriveContext, the largest command, stand in `casemate.rot.dpe.derive`. Two instances,
one per profile, may share one table of contexts, as in a Caliptra runtime.

Source: OCP Server iRoT Profile for DPE 0.13; where it is silent, caliptra-dpe's `dpe` crate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from casemate.formats.dpe import (
    CERTIFICATE_CHUNK_SIZE,
    DEFAULT_HANDLE,
    MAJOR_VERSION,
    MINOR_VERSION,
    CertificateChunk,
    CertificateFormat,
    CertifiedKey,
    CertifyKey,
    Command,
    ContextDestroyed,
    DeriveContext,
    DestroyContext,
    DpeFormatError,
    GetCertificateChain,
    GetProfile,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    ProfileInfo,
    Response,
    RotateContextHandle,
    RotateFlags,
    Sign,
    Signature,
    Status,
    Support,
    UpdateContextMeasurement,
    UpdatedMeasurement,
    decode_command,
    encode_failure,
    encode_response,
)
from casemate.rot.dpe.certificates import Subject, certificate, signed_request
from casemate.rot.dpe.contexts import CAPACITY, Context, ContextKind, ContextTable, TciNode
from casemate.rot.dpe.derive import derive_context
from casemate.rot.dpe.digest import context_digest
from casemate.rot.dpe.errors import DpeError
from casemate.rot.dpe.keys import DpeKeys
from casemate.rot.dpe.platform import Platform
from casemate.rot.errors import KeyVaultError


@dataclass(slots=True)
class DpeInstance:
    """One profile of a DPE. With AUTO_INIT in `support`, call `auto_initialize` first."""

    profile: Profile
    support: Support
    keys: DpeKeys
    platform: Platform
    contexts: ContextTable
    critical_dice_extensions: bool = False

    def auto_initialize(self, locality: int) -> None:
        """Make the default context of `locality`, as InitializeContext does."""
        self.run(locality, InitializeContext(InitializeFlags.DEFAULT))

    def execute(self, locality: int, data: bytes) -> bytes:
        """Run the command in `data` for a locality; return the bytes of the answer. Never raises.

        Bytes that are no command are answered as any other refused command is.
        """
        try:
            command = decode_command(self.profile, data)
            response = self.run(locality, command)
        except (DpeFormatError, DpeError) as error:
            return encode_failure(self.profile, error.status)
        except KeyVaultError:
            return encode_failure(self.profile, Status.CRYPTO_LIBRARY_ERROR)
        return encode_response(self.profile, response)

    def run(self, locality: int, command: Command, *, device_info: bytes | None = None) -> Response:
        """Run one command for a locality.

        `device_info` goes into the subjectAltName of what CertifyKey returns. Raises DpeError for
        a command that is refused, KeyVaultError where a key is missing.
        """
        match command:
            case GetProfile():
                return self.profile_info()
            case InitializeContext():
                return self._initialize_context(locality, command)
            case DeriveContext():
                return derive_context(self, locality, command)
            case CertifyKey():
                return self._certify_key(locality, command, device_info)
            case Sign():
                return self._sign(locality, command)
            case RotateContextHandle():
                return self._rotate_context_handle(locality, command)
            case DestroyContext():
                self.contexts.destroy(self.contexts.find(command.handle, locality))
                return ContextDestroyed()
            case GetCertificateChain():
                return self._certificate_chain(command)
            case UpdateContextMeasurement():
                return self._update_context_measurement(locality, command)

    def profile_info(self) -> ProfileInfo:
        """Return what this instance is."""
        return ProfileInfo(
            profile=self.profile,
            major_version=MAJOR_VERSION,
            minor_version=MINOR_VERSION,
            vendor_id=self.platform.vendor_id,
            vendor_sku=self.platform.vendor_sku,
            max_tci_nodes=CAPACITY,
            support=self.support,
        )

    def digest_of(self, index: int) -> bytes:
        """Return the digest (48 bytes) that the keys of a context depend on."""
        return context_digest(
            self.contexts.path_to_root(index),
            self.profile_info(),
            self.platform.certificate_chain,
        )

    def measurements_of(self, index: int) -> list[TciNode]:
        """Return the measurements of a context and its ancestors, the root's first."""
        return [context.tci for context in reversed(self.contexts.path_to_root(index))]

    def _initialize_context(self, locality: int, command: InitializeContext) -> NewHandle:
        default = bool(command.flags & InitializeFlags.DEFAULT)
        simulation = bool(command.flags & InitializeFlags.SIMULATION)
        if default and self.contexts.initialized:
            raise DpeError(
                Status.ARGUMENT_NOT_SUPPORTED, "the default context was made already; once a reset"
            )
        if simulation and not self.support & Support.SIMULATION:
            raise DpeError(Status.ARGUMENT_NOT_SUPPORTED, "there are no simulation contexts here")
        if default == simulation:
            raise DpeError(
                Status.INVALID_ARGUMENT, "a context is either the default or a simulation"
            )
        place = self.contexts.free_place()
        self.contexts[place] = context = Context(
            handle=DEFAULT_HANDLE if default else self.contexts.fresh_handle(),
            locality=locality,
            tci=TciNode(locality=locality),
            kind=ContextKind.NORMAL if default else ContextKind.SIMULATION,
            allow_recursive=default,
        )
        self.contexts.initialized |= default
        return NewHandle(context.handle)

    def _certify_key(
        self, locality: int, command: CertifyKey, device_info: bytes | None
    ) -> CertifiedKey:
        index = self.contexts.find(command.handle, locality)
        context = self.contexts[index]
        match command.format:
            case CertificateFormat.X509:
                if not self.support & Support.X509:
                    raise DpeError(Status.ARGUMENT_NOT_SUPPORTED, "there are only CSRs here")
                if not context.allow_x509:
                    raise DpeError(Status.INVALID_ARGUMENT, "this context may have no certificate")
            case CertificateFormat.CSR:
                if not self.support & Support.CSR:
                    raise DpeError(Status.ARGUMENT_NOT_SUPPORTED, "there are no CSRs here")
            case other:
                raise DpeError(Status.INVALID_ARGUMENT, f"format {other} is neither 0 nor 1")
        rolled = self.contexts.rolled(context)
        with self.keys.leaf(self.digest_of(index), command.label) as signer:
            subject = Subject(
                profile=self.profile,
                public_key=signer.public_key,
                nodes=self.measurements_of(index),
                ueid=command.label,
                show_hash_chain=bool(self.support & Support.RECURSIVE),
                critical_dice=self.critical_dice_extensions,
                device_info=device_info,
            )
            issuer, alias = self.platform.issuer, self.keys.alias_signer
            if command.format == CertificateFormat.X509:
                certified = certificate(subject, issuer, alias.sign)
            else:
                certified = signed_request(subject, issuer, signer.sign, alias.sign)
        self.contexts[index] = rolled
        return CertifiedKey(rolled.handle, subject.public_key, certified)

    def _sign(self, locality: int, command: Sign) -> Signature:
        index = self.contexts.find(command.handle, locality)
        context = self.contexts[index]
        if context.kind is ContextKind.SIMULATION:
            raise DpeError(Status.INVALID_ARGUMENT, "a simulation context does not sign")
        rolled = self.contexts.rolled(context)
        with self.keys.leaf(self.digest_of(index), command.label) as signer:
            if command.is_raw(self.profile):
                signature = signer.sign(command.to_be_signed)
            else:
                signature = signer.sign_prepared(command.to_be_signed)
        self.contexts[index] = rolled
        return Signature(rolled.handle, signature)

    def _rotate_context_handle(self, locality: int, command: RotateContextHandle) -> NewHandle:
        if not self.support & Support.ROTATE_CONTEXT:
            raise DpeError(Status.INVALID_COMMAND, "handles do not rotate on command here")
        index = self.contexts.find(command.handle, locality)
        if not command.flags & RotateFlags.TARGET_IS_DEFAULT:
            handle = self.contexts.fresh_handle()
        elif self.contexts.active_in(locality) != [index] or self.contexts[index].is_default:
            raise DpeError(
                Status.INVALID_ARGUMENT,
                "only the one context of a locality, not yet its default, can become the default",
            )
        else:
            handle = DEFAULT_HANDLE
        self.contexts[index] = replace(self.contexts[index], handle=handle)
        return NewHandle(handle)

    def _certificate_chain(self, command: GetCertificateChain) -> CertificateChunk:
        chain = self.platform.certificate_chain
        if command.size > CERTIFICATE_CHUNK_SIZE:
            raise DpeError(
                Status.INVALID_ARGUMENT,
                f"a chunk has up to {CERTIFICATE_CHUNK_SIZE} bytes, asked for {command.size}",
            )
        if command.offset >= len(chain):
            raise DpeError(
                Status.CERTIFICATE_CHAIN_ERROR,
                f"the chain has {len(chain)} bytes, asked from {command.offset}",
            )
        return CertificateChunk(chain[command.offset : command.offset + command.size])

    def _update_context_measurement(
        self, locality: int, command: UpdateContextMeasurement
    ) -> UpdatedMeasurement:
        if command.parent_handle == DEFAULT_HANDLE:
            raise DpeError(Status.INVALID_ARGUMENT, "the parent must not be a default context")
        try:
            parent_index = self.contexts.find(command.parent_handle, locality)
        except DpeError as error:
            raise DpeError(Status.INVALID_PARENT_LOCALITY, str(error)) from None
        index = next(
            (
                child
                for child in self.contexts.active_children(parent_index)
                if self.contexts[child].tci.tci_type == command.tci_type
            ),
            None,
        )
        if index is None:
            raise DpeError(
                Status.INVALID_ARGUMENT, f"the parent has no child of type 0x{command.tci_type:x}"
            )
        parent = self.contexts.rolled(self.contexts[parent_index])
        child = self.contexts.rolled(self.contexts[index])
        child = replace(child, tci=child.tci.extended(command.measurement))
        self.contexts[parent_index], self.contexts[index] = parent, child
        return UpdatedMeasurement(child.handle, parent.handle)
