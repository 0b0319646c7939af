"""Certifies the partitions of the module that this root of trust started: the alias CA.

After the module's parts are measured, the DPE exports a CDI with a CA certificate under the RT
alias key (DeriveContext, EXPORT_CDI and CREATE_CERTIFICATE). That key certifies the identity key of
each partition of the module, so that a key report hangs on the same RT alias key as the evidence,
and on a certificate that lists the same measurements. Only the process that was started from those
measured parts can ask: it alone has the other end of the stream. The CDI stays in the device; what
stands here is its bearer handle.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading

from casemate.formats import certification, der, dice, x509
from casemate.formats import mailbox_messages as messages
from casemate.formats.certification import CertificationFormatError
from casemate.formats.der_reader import DerError
from casemate.formats.dpe import DEFAULT_HANDLE, DeriveContext, DeriveFlags, ExportedCdi
from casemate.formats.mailbox import CommandId
from casemate.rot.attester import MailboxAttester, Run
from casemate.rot.chain import ChainError, verify_signature
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm

_EXPORT = (
    DeriveFlags.EXPORT_CDI | DeriveFlags.CREATE_CERTIFICATE | DeriveFlags.RETAIN_PARENT_CONTEXT
)
_NO_MEASUREMENT = bytes(48)
_SERIAL_SIZE = 16

_log = logging.getLogger(__name__)


class AliasAuthority:
    """The CA. Make it once the last part is measured: its certificate lists what is there then."""

    def __init__(self, run: Run) -> None:
        """Export the CDI; `run` are mailbox commands as PL0. Raises RotError, MailboxError."""
        self._run = run
        attester = MailboxAttester(run)
        exported = attester.dpe(
            Algorithm.ECC, DeriveContext(DEFAULT_HANDLE, _NO_MEASUREMENT, _EXPORT)
        )
        if not isinstance(exported, ExportedCdi):
            raise RotError(f"the DPE answered an export with {type(exported).__name__}")
        self._handle = exported.exported_cdi
        self.certificate = exported.certificate
        self.chain = (exported.certificate, *reversed(attester.chain(Algorithm.ECC)))

    def certify(self, self_signed: bytes) -> tuple[bytes, ...]:
        """The chain (DER) of a partition that shows its self-signed certificate, its own first.

        The last is the LDevID's. Raises RotError for a request that does not prove its key.
        """
        try:
            request = x509.read_certificate(self_signed)
            verify_signature(request.signed, request.spki)
            algorithm, _ = x509.read_public_key(request.spki)
        except (DerError, ChainError) as error:
            raise RotError(f"a partition's request: {error}") from None
        if algorithm != x509.OID_SECP384R1:
            raise RotError(f"a partition's request: expected a P-384 key, found {algorithm}")
        to_be_signed = self._to_be_signed(request)
        command = messages.SignWithExportedEcdsa(
            self._handle, hashlib.sha384(to_be_signed).digest()
        )
        answer = self._run(CommandId.SIGN_WITH_EXPORTED_ECDSA, command.encode())
        signature = messages.ExportedSignature.decode(answer).signature
        certificate = x509.join(to_be_signed, x509.ECDSA_SHA384, x509.ecdsa_signature(signature))
        return (certificate, *self.chain)

    def _to_be_signed(self, request: x509.Certificate) -> bytes:
        own = x509.read_certificate(self.certificate)
        key_id = own.extension(x509.OID_SUBJECT_KEY_ID)
        if key_id is None:
            raise RotError("the exported CDI's certificate has no subject key identifier")
        digest = hashlib.sha256(request.spki).digest()
        return x509.certificate_tbs(
            # 16 bytes of the digest; the upper bits make it positive and of constant length.
            serial=bytes((digest[0] & 0x7F | 0x40,)) + digest[1:_SERIAL_SIZE],
            signature_algorithm=x509.ECDSA_SHA384,
            issuer=own.subject,
            not_before=own.not_before,
            not_after=own.not_after,
            subject=request.subject,
            spki=request.spki,
            extensions=(
                x509.Extension(x509.OID_BASIC_CONSTRAINTS, True, der.sequence()),
                x509.key_usage(digital_signature=True),
                x509.extended_key_usage(dice.KP_ATTEST_LOC),
                x509.subject_key_id(digest[:20]),
                x509.authority_key_id(x509.read_subject_key_id(key_id.value)),
            ),
        )

    def revoke(self) -> None:
        """Have the device forget the exported CDI: nothing is certified after this."""
        command = messages.RevokeExportedCdi(self._handle)
        self._run(CommandId.REVOKE_EXPORTED_CDI_HANDLE, command.encode())

    def serve(self, stream: socket.socket) -> threading.Thread:
        """Answer the module at the other end of the stream, on a thread, until it closes."""
        thread = threading.Thread(target=self._serve, args=(stream,), daemon=True)
        thread.start()
        return thread

    def _serve(self, stream: socket.socket) -> None:
        with stream, stream.makefile("rwb") as file:

            def read(size: int) -> bytes:
                data = file.read(size)
                if len(data) != size:
                    raise EOFError
                return data

            try:
                while True:
                    request = certification.read_request(read)
                    try:
                        answer = certification.encode_answer(self.certify(request))
                    except RotError as error:
                        _log.warning("a partition is not certified: %s", error)
                        answer = certification.encode_refusal(str(error))
                    file.write(answer)
                    file.flush()
            except (EOFError, OSError):
                return
            except CertificationFormatError as error:
                _log.error("the module's certification stream is closed: %s", error)
