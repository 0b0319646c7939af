"""A DPE in process, asked through its bytes; both profiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertificateFormat,
    CertifiedKey,
    CertifyKey,
    Command,
    DeriveContext,
    DerivedContext,
    DeriveFlags,
    DpeCommandError,
    ExportedCdi,
    InitializeContext,
    InitializeFlags,
    NewHandle,
    Profile,
    Response,
    RotateContextHandle,
    Sign,
    Signature,
    SignFlags,
    Status,
    Support,
)
from casemate.rot.dpe import DpeInstance, simulator
from casemate.rot.dpe.client import DpeClient

LABEL = bytes(range(48))
OTHER_LOCALITY = 0x4F544852


@dataclass(frozen=True)
class Bench:
    """An instance and short ways to ask it; every request passes through its bytes."""

    instance: DpeInstance

    @property
    def profile(self) -> Profile:
        return self.instance.profile

    def client(self, locality: int = 0) -> DpeClient:
        return DpeClient(self.profile, lambda data: self.instance.execute(locality, data))

    def ask(self, command: Command, locality: int = 0) -> Response:
        return self.client(locality).run(command)

    def refused(self, command: Command, locality: int = 0) -> Status:
        """The status of a command that must fail, and must leave every context as it was."""
        before = list(self.instance.contexts)
        with pytest.raises(DpeCommandError) as error:
            self.ask(command, locality)
        assert list(self.instance.contexts) == before
        return Status(error.value.status)

    def derive(
        self,
        handle: bytes = DEFAULT_HANDLE,
        flags: DeriveFlags = DeriveFlags(0),  # noqa: B008
        *,
        measurement: bytes = bytes(48),
        tci_type: int = 0,
        target: int = 0,
        svn: int = 0,
        locality: int = 0,
    ) -> DerivedContext:
        command = DeriveContext(handle, measurement, flags, tci_type, target, svn)
        answer = self.ask(command, locality)
        assert isinstance(answer, DerivedContext)
        return answer

    def export(self, handle: bytes, flags: DeriveFlags) -> ExportedCdi:
        answer = self.ask(DeriveContext(handle, bytes(48), flags))
        assert isinstance(answer, ExportedCdi)
        return answer

    def simulation(self, locality: int = 0) -> bytes:
        answer = self.ask(InitializeContext(InitializeFlags.SIMULATION), locality)
        assert isinstance(answer, NewHandle)
        return answer.handle

    def rotate(self, handle: bytes = DEFAULT_HANDLE, flags: int = 0, locality: int = 0) -> bytes:
        from casemate.formats.dpe import RotateFlags

        answer = self.ask(RotateContextHandle(handle, RotateFlags(flags)), locality)
        assert isinstance(answer, NewHandle)
        return answer.handle

    def certify(
        self,
        handle: bytes = DEFAULT_HANDLE,
        output: int = CertificateFormat.X509,
        label: bytes = LABEL,
        locality: int = 0,
    ) -> CertifiedKey:
        answer = self.ask(CertifyKey(handle, label, output), locality)
        assert isinstance(answer, CertifiedKey)
        return answer

    def sign(
        self,
        to_be_signed: bytes,
        handle: bytes = DEFAULT_HANDLE,
        flags: SignFlags = SignFlags(0),  # noqa: B008
        label: bytes = LABEL,
    ) -> Signature:
        answer = self.ask(Sign(handle, label, to_be_signed, flags))
        assert isinstance(answer, Signature)
        return answer


@pytest.fixture(params=list(Profile), ids=lambda profile: profile.name)
def profile(request: pytest.FixtureRequest) -> Profile:
    value = request.param
    assert isinstance(value, Profile)
    return value


@pytest.fixture
def make(profile: Profile) -> Callable[..., Bench]:
    """Return a function that makes an instance: everything supported, unless told otherwise."""

    def build(
        support: Support | None = None, *, without: Support | None = None, critical: bool = False
    ) -> Bench:
        chosen = Support.everything() if support is None else support
        if without is not None:
            chosen &= ~without
        return Bench(simulator.build(profile, chosen, critical_dice_extensions=critical))

    return build


@pytest.fixture
def bench(make: Callable[..., Bench]) -> Bench:
    return make()
