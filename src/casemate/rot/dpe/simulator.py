"""A DPE on its own: fixed public test secrets, a certificate chain of two, a Unix socket.

It exists for clients of a DPE to be tested against, above all for the public conformance suite of
caliptra-dpe, whose transport it speaks: one connection per command, in which the client writes the
locality (u32, little-endian) and the command in one piece of up to 4096 bytes, reads the answer
and sees the connection close.

The secrets are constants in this file's sources. Nothing certified by a simulator means anything.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import signal
import socket
import struct
from pathlib import Path
from types import FrameType

from casemate.formats import dice, x509
from casemate.formats.dpe import Profile, Status, Support, encode_failure
from casemate.rot.crypto import ModelCrypto, Slot
from casemate.rot.dpe.contexts import ContextTable
from casemate.rot.dpe.instance import DpeInstance
from casemate.rot.dpe.keys import DpeKeys, ExportedCdiSlot, Signer
from casemate.rot.dpe.platform import Issuer, Platform, SignerIdentification

#: Where the conformance suite looks for the simulator.
DEFAULT_SOCKET = Path("/tmp/dpe-sim.socket")  # noqa: S108 - the suite's path is fixed
AUTO_INIT_LOCALITY = 0
MAX_COMMAND_SIZE = 4096

_LOCALITY = struct.Struct("<I")
_RECEIVE_TIMEOUT = 5.0
_UEID = b"casemate-dpe-sim!"
_NOT_BEFORE = "20230101000000Z"
_NOT_AFTER = "99991231235959Z"

_log = logging.getLogger(__name__)


def build(
    profile: Profile, support: Support, *, critical_dice_extensions: bool = False
) -> DpeInstance:
    """Return a simulated instance, initialised if `support` has AUTO_INIT."""
    crypto = ModelCrypto()
    cdi = crypto.deobfuscate(bytes(64), debug_locked=True)
    root, alias = (_signer(crypto, profile, cdi, label) for label in (b"root", b"alias"))
    chain, issuer = _chain(root, alias)
    instance = DpeInstance(
        profile=profile,
        support=support,
        keys=DpeKeys(profile, crypto, cdi, alias.slot, ExportedCdiSlot(secrets.token_bytes)),
        platform=Platform(issuer, chain, ueid=_UEID),
        contexts=ContextTable(secrets.token_bytes),
        critical_dice_extensions=critical_dice_extensions,
    )
    if support & Support.AUTO_INIT:
        instance.auto_initialize(AUTO_INIT_LOCALITY)
    return instance


def answer(instance: DpeInstance, message: bytes) -> bytes:
    """Return the answer to one message: a locality and a command."""
    if len(message) < _LOCALITY.size:
        return encode_failure(instance.profile, Status.INVALID_COMMAND)
    (locality,) = _LOCALITY.unpack_from(message)
    return instance.execute(locality, message[_LOCALITY.size :])


def serve(instance: DpeInstance, path: Path = DEFAULT_SOCKET) -> None:
    """Answer commands on a Unix socket until SIGTERM or SIGINT, then remove the socket.

    A client that sends nothing within five seconds, or goes away, costs only its own connection.
    Raises OSError if the socket cannot be made, FileExistsError if another process answers on it.
    """
    _remove_stale(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        try:
            listener.listen(64)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _stop)
            while True:
                connection, _ = listener.accept()
                with connection:
                    _serve_one(instance, connection)
        finally:
            path.unlink(missing_ok=True)


def _serve_one(instance: DpeInstance, connection: socket.socket) -> None:
    connection.settimeout(_RECEIVE_TIMEOUT)
    try:
        if message := connection.recv(MAX_COMMAND_SIZE):
            connection.sendall(answer(instance, message))
    except OSError as error:
        _log.warning("connection dropped: %s", error)


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _remove_stale(path: Path) -> None:
    """Remove a socket that no process answers on any more."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        alive = probe.connect_ex(str(path)) == 0
    if alive:
        raise FileExistsError(f"{path}: another process answers on this socket; stop it first")
    path.unlink(missing_ok=True)


def _signer(crypto: ModelCrypto, profile: Profile, cdi: Slot, label: bytes) -> Signer:
    seed = crypto.kdf(cdi, b"casemate dpe simulator " + label)
    make = crypto.ecc_key if profile is Profile.P384_SHA384 else crypto.mldsa_key
    return Signer(profile, crypto, make(seed))


def _chain(root: Signer, alias: Signer) -> tuple[bytes, Issuer]:
    """Return a self-signed root and the alias below it, and the alias as an issuer."""
    chain = _authority("Root", root, root, "Root", 1) + _authority("Alias", alias, root, "Root", 0)
    issuer = Issuer(
        name=_name("Alias", alias),
        key_identifier=_key_identifier(alias),
        issuer_name=_name("Root", root),
        serial_number=_serial_number(alias),
        signer_identification=SignerIdentification.ISSUER_AND_SERIAL,
    )
    return chain, issuer


def _authority(
    name: str, subject: Signer, issuer: Signer, issuer_name: str, path_length: int
) -> bytes:
    """Return a CA certificate for `subject`, signed by `issuer`, valid as long as can be said."""
    ecc = subject.profile is Profile.P384_SHA384
    public = subject.public_key
    algorithm = x509.ECDSA_SHA384 if ecc else x509.MLDSA87
    tbs = x509.certificate_tbs(
        serial=_serial_number(subject),
        signature_algorithm=algorithm,
        issuer=_name(issuer_name, issuer),
        not_before=_NOT_BEFORE,
        not_after=_NOT_AFTER,
        subject=_name(name, subject),
        spki=x509.spki_p384(b"\x04" + public) if ecc else x509.spki_mldsa87(public),
        extensions=(
            x509.basic_constraints(path_length),
            x509.key_usage(digital_signature=True, key_cert_sign=True),
            x509.extended_key_usage(dice.KP_ECA),
            x509.subject_key_id(_key_identifier(subject)),
            x509.authority_key_id(_key_identifier(issuer)),
        ),
    )
    signature = issuer.sign(tbs)
    return x509.join(tbs, algorithm, x509.ecdsa_signature(signature) if ecc else signature)


def _name(role: str, key: Signer) -> bytes:
    return x509.name(f"Casemate DPE Simulator {role}", _key_identifier(key).hex().upper())


def _key_identifier(key: Signer) -> bytes:
    return hashlib.sha256(key.public_key).digest()[:20]


def _serial_number(key: Signer) -> bytes:
    return b"\x01" + _key_identifier(key)[:19]
