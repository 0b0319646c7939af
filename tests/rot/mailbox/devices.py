"""A device behind its mailbox, asked through frames; bundles that name a privileged user."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from casemate.formats import mailbox_messages as messages
from casemate.formats.dpe import Profile
from casemate.formats.mailbox import (
    CommandId,
    MailboxStatus,
    RequestFrame,
    ResponseFrame,
    open_response,
    seal_request,
)
from casemate.rot.bundle import build
from casemate.rot.chain import check_chain
from casemate.rot.crypto import ModelCrypto
from casemate.rot.dpe.client import DpeClient
from casemate.rot.fuses import Fuses, PqcKeyType
from casemate.rot.identity import Algorithm
from casemate.rot.mailbox import Code, Mailbox, MailboxDevice
from casemate.rot.mailbox.client import DPE_COMMANDS
from tests.rot.bundle.parts import FMC, RUNTIME, fuses_for, parties

PL0, PL1 = 0x11, 0x22
KIND = PqcKeyType.MLDSA


@functools.cache
def bundle(*, runtime: bytes = RUNTIME.content, pl0: int | None = PL0, svn: int = 5) -> bytes:
    who = parties(KIND)
    executable = build.Executable(
        content=runtime, load_addr=RUNTIME.load_addr, entry_point=RUNTIME.entry_point
    )
    unsigned = build.build(FMC, executable, who.vendor_keys(), svn=svn, pl0_pauser=pl0)
    signed = build.sign_as_vendor(unsigned, who.vendor_ecc[0], who.vendor_pqc[0])
    return build.sign_as_owner(signed, who.owner_ecc, who.owner_pqc)


@dataclass
class Bench:
    """A mailbox and short ways to ask it."""

    mailbox: Mailbox

    @property
    def device(self) -> MailboxDevice:
        return self.mailbox.device

    def frame(self, command: int, payload: bytes, user: int = PL0) -> ResponseFrame:
        return self.mailbox.execute(RequestFrame(user, command, payload))

    def ask(self, command: int, body: bytes = b"", user: int = PL0) -> bytes:
        """The body of the answer to a command that must succeed."""
        response = self.frame(command, seal_request(command, body), user)
        assert response.status is MailboxStatus.DATA_READY, hex(response.error)
        assert response.error == 0
        return open_response(response.payload)[1]

    def refused(self, command: int, body: bytes = b"", user: int = PL0) -> int:
        """The code of a command that must fail."""
        response = self.frame(command, seal_request(command, body), user)
        assert response.status is MailboxStatus.FAILURE
        assert response.payload == b""
        try:
            return Code(response.error)
        except ValueError:
            return response.error

    def load(self, data: bytes | None = None) -> ResponseFrame:
        return self.frame(0x46574C44, bundle() if data is None else data)

    def dpe(self, profile: Profile, user: int = PL0) -> DpeClient:
        command, head = DPE_COMMANDS[profile]

        def exchange(data: bytes) -> bytes:
            answer = self.ask(command, head + messages.encode_sized(data), user)
            return messages.decode_sized(answer)

        return DpeClient(profile, exchange)


def powered(fuses: Fuses | None = None) -> Bench:
    """A device that awaits its firmware."""
    chosen = fuses_for(bundle()) if fuses is None else fuses
    return Bench(Mailbox(MailboxDevice.power_on(ModelCrypto(), chosen)))


def running(data: bytes | None = None) -> Bench:
    """A device whose firmware runs."""
    bench = powered()
    assert bench.load(data).status is MailboxStatus.COMPLETE
    return bench


CERTIFICATES = {
    Algorithm.ECC: (
        CommandId.GET_LDEV_ECC384_CERT,
        CommandId.GET_FMC_ALIAS_ECC384_CERT,
        CommandId.GET_RT_ALIAS_ECC384_CERT,
    ),
    Algorithm.MLDSA: (
        CommandId.GET_LDEV_MLDSA87_CERT,
        CommandId.GET_FMC_ALIAS_MLDSA87_CERT,
        CommandId.GET_RT_ALIAS_MLDSA87_CERT,
    ),
}


def certificates(bench: Bench, algorithm: Algorithm) -> tuple[bytes, ...]:
    return tuple(
        messages.decode_sized(bench.ask(command, user=PL1)) for command in CERTIFICATES[algorithm]
    )


def leaf_chain_verifies(bench: Bench, profile: Profile, leaf: bytes) -> None:
    algorithm = Algorithm.ECC if profile is Profile.P384_SHA384 else Algorithm.MLDSA
    names = ("LDevID", "FMC alias", "RT alias", "DPE leaf")
    check_chain((*certificates(bench, algorithm), leaf), names)


def stash_body(measurement: bytes, metadata: bytes = b"fw01", svn: int = 3) -> bytes:
    return messages.StashMeasurement(metadata, measurement, bytes(48), svn).encode()
