"""Who makes evidence: a booted device in this process, or one behind its mailbox.

Both give the same parts: leaf and chain, a quote, the log, and a signature by the leaf. Over the
mailbox these are the public commands, so that evidence shows what the running device has measured,
the module's firmware included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from casemate.formats import mailbox_messages as messages
from casemate.formats import pcr_log, pcr_quote
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertificateFormat,
    CertifiedKey,
    CertifyKey,
    Command,
    DpeCommandError,
    DpeFormatError,
    Profile,
    Response,
    Sign,
    Signature,
)
from casemate.formats.mailbox import CommandId, MailboxFormatError
from casemate.formats.pcr_quote import PcrQuote
from casemate.rot.boot import RootOfTrust
from casemate.rot.dpe.client import DpeClient
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm
from casemate.rot.runtime_dpe import RuntimeDpe, profile_of

#: Runs one mailbox command as PL0 and returns the response's body.
Run = Callable[[int, bytes], bytes]


class Attester(Protocol):
    """Gives the parts of evidence. Every method raises RotError if the device refuses."""

    def leaf(self, algorithm: Algorithm, label: bytes) -> bytes:
        """The certificate (DER) of the key that a label (48 bytes) selects."""
        ...

    def chain(self, algorithm: Algorithm) -> tuple[bytes, ...]:
        """The certificates of LDevID, FMC alias and RT alias (DER), the topmost first."""
        ...

    def sign(self, algorithm: Algorithm, label: bytes, prepared: bytes) -> bytes:
        """The leaf key's signature over a SHA-384 digest or an external mu."""
        ...

    def quote(self, algorithm: Algorithm, nonce: bytes) -> PcrQuote:
        """All PCRs with a nonce (32 bytes) under the FMC alias key."""
        ...

    def log(self) -> bytes:
        """The PCR log, its entries only."""
        ...


class LocalAttester:
    """A device that was booted in this process; see Attester."""

    def __init__(self, root: RootOfTrust, dpe: RuntimeDpe) -> None:
        self._root = root
        self._dpe = dpe

    def leaf(self, algorithm: Algorithm, label: bytes) -> bytes:
        """See Attester."""
        return self._dpe.certify(profile_of(algorithm), label)

    def chain(self, algorithm: Algorithm) -> tuple[bytes, ...]:
        """See Attester."""
        return self._dpe.chain(profile_of(algorithm))

    def sign(self, algorithm: Algorithm, label: bytes, prepared: bytes) -> bytes:
        """See Attester."""
        return self._dpe.sign(profile_of(algorithm), label, prepared)

    def quote(self, algorithm: Algorithm, nonce: bytes) -> PcrQuote:
        """See Attester."""
        return self._root.quote(nonce, algorithm)

    def log(self) -> bytes:
        """See Attester."""
        return pcr_log.encode(self._root.pcrs.log)


_CERTIFICATES = {
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
_QUOTE = {
    Algorithm.ECC: CommandId.QUOTE_PCRS_ECC384,
    Algorithm.MLDSA: CommandId.QUOTE_PCRS_MLDSA87,
}
_INVOKE_DPE = {
    Profile.P384_SHA384: (CommandId.INVOKE_DPE_ECC384, b""),
    Profile.ML_DSA_87: (CommandId.INVOKE_DPE_MLDSA87, bytes(16)),
}


class MailboxAttester:
    """A device behind its mailbox, asked as the privileged user; see Attester."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def leaf(self, algorithm: Algorithm, label: bytes) -> bytes:
        """See Attester."""
        answer = self.dpe(algorithm, CertifyKey(DEFAULT_HANDLE, label, CertificateFormat.X509))
        if not isinstance(answer, CertifiedKey):
            raise RotError(f"the DPE answered CertifyKey with {type(answer).__name__}")
        return answer.certificate

    def chain(self, algorithm: Algorithm) -> tuple[bytes, ...]:
        """See Attester."""
        return tuple(self._sized(command) for command in _CERTIFICATES[algorithm])

    def sign(self, algorithm: Algorithm, label: bytes, prepared: bytes) -> bytes:
        """See Attester."""
        answer = self.dpe(algorithm, Sign(DEFAULT_HANDLE, label, prepared))
        if not isinstance(answer, Signature):
            raise RotError(f"the DPE answered Sign with {type(answer).__name__}")
        return answer.signature

    def quote(self, algorithm: Algorithm, nonce: bytes) -> PcrQuote:
        """See Attester."""
        body = bytes(4) + self._run(_QUOTE[algorithm], messages.QuotePcrs(nonce).encode())
        try:
            return pcr_quote.decode(pcr_quote.checksum(body).to_bytes(4, "little") + body)
        except pcr_quote.PcrQuoteError as error:
            raise RotError(f"the device's quote: {error}") from None

    def log(self) -> bytes:
        """See Attester."""
        room = pcr_log.MOST_ENTRIES * pcr_log.ENTRY_SIZE
        try:
            entries = pcr_log.decode(self._sized(CommandId.GET_PCR_LOG)[:room])
        except pcr_log.PcrLogError as error:
            raise RotError(f"the device's PCR log: {error}") from None
        return pcr_log.encode(entries)

    def _sized(self, command: int) -> bytes:
        try:
            return messages.decode_sized(self._run(command, b""))
        except MailboxFormatError as error:
            raise RotError(f"the device's answer: {error}") from None

    def dpe(self, algorithm: Algorithm, command: Command) -> Response:
        """Run one DPE command in the profile of an algorithm. Raises RotError."""
        profile = profile_of(algorithm)
        code, head = _INVOKE_DPE[profile]

        def exchange(data: bytes) -> bytes:
            return messages.decode_sized(self._run(code, head + messages.encode_sized(data)))

        try:
            return DpeClient(profile, exchange).run(command)
        except (DpeCommandError, DpeFormatError, MailboxFormatError) as error:
            raise RotError(f"the device's DPE: {error}") from None
