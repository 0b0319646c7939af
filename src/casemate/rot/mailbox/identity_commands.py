"""Mailbox commands for the device's identity: certificates, requests (CSRs) and public keys."""

from __future__ import annotations

import struct
from collections.abc import Callable

from casemate.formats import mailbox_messages as messages
from casemate.formats import x509
from casemate.formats.dpe import Profile
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.mailbox.device import MailboxDevice, Reply
from casemate.rot.mailbox.errors import Code, MailboxError

Handler = Callable[[MailboxDevice, int, bytes], Reply]

_LENGTH = struct.Struct("<I")
#: Room for a TBS and for a certificate to populate, and for a whole chain, in bytes.
_TBS_ROOM = {Algorithm.ECC: 916, Algorithm.MLDSA: 2820}
_SIGNATURE_SIZE = {Algorithm.ECC: 96, Algorithm.MLDSA: 4628}
_CERTIFICATE_ROOM = {Algorithm.ECC: 1024, Algorithm.MLDSA: 8192}
_CHAIN_ROOM = {Algorithm.ECC: 4096, Algorithm.MLDSA: 32 * 1024}
_PROFILE = {Algorithm.ECC: Profile.P384_SHA384, Algorithm.MLDSA: Profile.ML_DSA_87}


def layer_certificate(layer: LayerName, algorithm: Algorithm) -> Handler:
    """Return the command that gives the certificate of LDevID, FMC alias or RT alias."""

    def get_certificate(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
        return Reply(messages.encode_sized(device.root.certificates[layer, algorithm]))

    return get_certificate


def layer_request(layer: LayerName, algorithm: Algorithm, missing: Code) -> Handler:
    """Return the command that gives the CSR of IDevID or FMC alias."""

    def get_request(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
        request = device.root.requests.get((layer, algorithm))
        if request is None:
            raise MailboxError(missing, "no CSR was made at this boot")
        return Reply(messages.encode_sized(request))

    return get_request


def idevid_info(algorithm: Algorithm) -> Handler:
    """Return the command that gives the IDevID's public key: X and Y, or the ML-DSA encoding."""

    def get_info(device: MailboxDevice, _user: int, _body: bytes) -> Reply:
        public = device.root.subjects[LayerName.IDEVID][algorithm].public_key
        return Reply(public[1:] if algorithm is Algorithm.ECC else public)

    return get_info


def idevid_certificate(algorithm: Algorithm) -> Handler:
    """Return the command that joins a TBS and a signature of the manufacturer's."""
    room, signature_size = _TBS_ROOM[algorithm], _SIGNATURE_SIZE[algorithm]
    head = _LENGTH.size + signature_size

    def get_certificate(_device: MailboxDevice, _user: int, body: bytes) -> Reply:
        if len(body) > head + room:
            raise MailboxError(Code.RUNTIME_INSUFFICIENT_MEMORY, f"{len(body)} bytes of request")
        padded = body.ljust(head, b"\0")
        (size,) = _LENGTH.unpack_from(padded)
        if size > room:
            raise MailboxError(
                Code.RUNTIME_MAILBOX_INVALID_PARAMS,
                f"a TBS of up to {room} bytes, announced {size}",
            )
        signature, tbs = padded[_LENGTH.size : head], padded[head:][:size].ljust(size, b"\0")
        if algorithm is Algorithm.ECC:
            encoded, value = x509.ECDSA_SHA384, x509.ecdsa_signature(signature)
        else:
            encoded, value = x509.MLDSA87, signature[:4627]
        return Reply(messages.encode_sized(x509.join(tbs, encoded, value)))

    return get_certificate


def populate_idevid_certificate(algorithm: Algorithm) -> Handler:
    """Return the command that puts the IDevID certificate in front of the DPE's chain."""
    room, profile = _CERTIFICATE_ROOM[algorithm], _PROFILE[algorithm]

    def populate(device: MailboxDevice, user: int, body: bytes) -> Reply:
        if len(body) > _LENGTH.size + room:
            raise MailboxError(Code.RUNTIME_INSUFFICIENT_MEMORY, f"{len(body)} bytes of request")
        (size,) = _LENGTH.unpack_from(body.ljust(_LENGTH.size, b"\0"))
        if size > room:
            raise MailboxError(
                Code.RUNTIME_MAILBOX_INVALID_PARAMS,
                f"a certificate of up to {room} bytes, announced {size}",
            )
        device.require_privilege(user)
        chain = device.runtime_dpe.instance(profile).platform.certificate_chain
        if size + len(chain) > _CHAIN_ROOM[algorithm]:
            raise MailboxError(
                Code.RUNTIME_IDEV_CERT_POPULATION_FAILED,
                f"the chain has room for {_CHAIN_ROOM[algorithm] - len(chain)} bytes",
            )
        certificate = body[_LENGTH.size :][:size].ljust(size, b"\0")
        before = device.idevid_certificates.get(profile, b"")
        device.idevid_certificates[profile] = certificate + before
        device.rebind_chain()
        return Reply()

    return populate
