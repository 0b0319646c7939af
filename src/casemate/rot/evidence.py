"""Evidence: an EAT in the OCP profile, signed under a DPE leaf, with everything that it rests on.

The token holds the verifier's nonce, the measurements as concise evidence, the PCR quote over the
same nonce with its log, the name of the anchor, and, for a key, the module's key report. Its
x5chain leads from the leaf over RT alias, FMC alias and LDevID to the IDevID, so that quote and
leaf hang on the same chain; a key report is bound by `casemate.formats.key_binding`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey, MLDSAMuHasher

from casemate.formats import cose, device_status, dice, eat, pcr_log, pcr_quote, x509
from casemate.formats.cbor import Tag
from casemate.formats.corim import evidence as concise
from casemate.formats.corim.measurement import (
    SHA384,
    TAG_BYTES,
    Digest,
    Environment,
    Measurement,
    MeasurementValues,
    RawValue,
    Svn,
)
from casemate.formats.corim.triples import MeasurementTriple
from casemate.formats.der_reader import DerError
from casemate.rot.attester import Attester
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm

#: The DPE label of the key that signs evidence.
EVIDENCE_LABEL = hashlib.sha384(b"casemate evidence").digest()
_VENDOR, _MODEL = "Casemate", "Caliptra 2.x root of trust"
_COSE_ALGORITHM = {Algorithm.ECC: cose.ESP384, Algorithm.MLDSA: cose.ML_DSA_87}


def leaf_certificate(attester: Attester, algorithm: Algorithm) -> bytes:
    """The certificate (DER) of the key that signs evidence; each measurement changes it."""
    return attester.leaf(algorithm, EVIDENCE_LABEL)


def evidence(
    attester: Attester,
    *,
    nonce: bytes,
    token_id: bytes,
    algorithm: Algorithm,
    anchor: str,
    idevid_certificate: bytes | None,
    key_report: bytes | None = None,
    partition_chain: tuple[bytes, ...] = (),
) -> bytes:
    """The token's bytes. `nonce` and `token_id` have 8 to 64 bytes.

    `partition_chain` are the certificates (DER) of the key that signed the key report, its own
    first.

    Raises RotError for another size, a key report that is no COSE_Sign1, or a device that refuses.
    """
    report: dict[int, object] = {}
    if key_report is not None:
        report[eat.KEY_REPORT] = _checked_report(key_report)
    if partition_chain:
        report[eat.PARTITION_CHAIN] = list(partition_chain)
    leaf = leaf_certificate(attester, algorithm)
    chain = attester.chain(algorithm)
    quote = attester.quote(algorithm, pcr_quote.nonce_for(nonce))
    log = attester.log()
    try:
        device = read_device(chain, quote, log)
        claims = eat.Claims(
            nonce=nonce,
            debug_status=(
                eat.DebugStatus.DISABLED_SINCE_BOOT
                if device.debug_locked
                else eat.DebugStatus.ENABLED
            ),
            measurements=(
                (
                    eat.CONTENT_TYPE_CONCISE_EVIDENCE,
                    concise.encode(concise.ConciseEvidence(measured=device.measured)),
                ),
            ),
            issuer=_issuer(leaf),
            cwt_id=token_id,
            ueid=device.ueid,
            private={
                eat.PCR_QUOTE: pcr_quote.encode(quote),
                eat.PCR_LOG: log,
                eat.DEVICE_STATUS_SIZE: len(device.status),
                eat.ANCHOR: anchor,
                **report,
            },
        )
        payload = eat.encode_claims(claims)
    except (eat.EatError, DerError, pcr_log.PcrLogError) as error:
        raise RotError(f"evidence: {error}") from None
    protected = cose.protected_header(
        {cose.ALGORITHM: _COSE_ALGORITHM[algorithm], cose.CONTENT_TYPE: eat.CONTENT_TYPE_EAT_CWT}
    )
    prepared = _prepared(cose.to_be_signed(protected, payload), leaf, algorithm)
    signature = attester.sign(algorithm, EVIDENCE_LABEL, prepared)
    certificates = [leaf, *reversed(chain)]
    if idevid_certificate is not None:
        certificates.append(idevid_certificate)
    message = cose.Sign1(protected, payload, signature, {cose.X5CHAIN: certificates})
    return cose.encode(message, tags=eat.TOKEN_TAGS)


@dataclass(frozen=True, slots=True)
class Device:
    """What a device's own certificates, quote and log say about it."""

    ueid: bytes
    status: bytes
    measured: tuple[MeasurementTriple, ...]

    @property
    def debug_locked(self) -> bool:
        """Whether debug is closed, as measured."""
        return device_status.decode(self.status).debug_locked


def read_device(chain: tuple[bytes, ...], quote: pcr_quote.PcrQuote, log: bytes) -> Device:
    """Read a device from LDevID, FMC and RT certificate, quote and log.

    Measured are the device's state by owner and vendor, FMC and RT. How long the device status is
    shows in which length replays to PCR 0. Raises DerError, PcrLogError, RotError.
    """
    local, fmc, runtime = map(x509.read_certificate, chain)
    entries = pcr_log.decode(log)
    status = next(
        (entry.data for entry in entries if entry.id is pcr_log.EntryId.DEVICE_STATUS), b""
    )
    size = next(
        (size for size in (18, 17) if pcr_log.replay(entries, size).get(0) == quote.pcrs[0]), None
    )
    if size is None or not status:
        raise RotError("the PCR log does not replay to PCR 0")
    registers = {
        b"CALIPTRA_2_X_FMC_FIRMWARE_INFO": (0, 1),
        b"CALIPTRA_2_X_RT_FIRMWARE_INFO": (2, 3),
    }
    infos = (
        *dice.decode_multi_tcb_info(_extension(fmc, dice.OID_MULTI_TCB_INFO)),
        dice.decode_tcb_info(_extension(runtime, dice.OID_TCB_INFO)),
    )
    measured = tuple(
        _measured(
            info,
            key=key,
            raw_value=status[:size] if info.type == b"CALIPTRA_2_X_FUSE_VENDOR_INFO" else None,
            registers=tuple(
                (index, (Digest(SHA384, quote.pcrs[index]),))
                for index in registers.get(info.type or b"", ())
            ),
        )
        for key, info in enumerate(infos)
    )
    ueid = dice.decode_ueid(_extension(local, dice.OID_UEID))
    return Device(ueid, status[:size], measured)


def _measured(
    info: dice.TcbInfo,
    *,
    key: int,
    raw_value: bytes | None,
    registers: tuple[tuple[int, tuple[Digest, ...]], ...],
) -> MeasurementTriple:
    environment = Environment(
        class_id=Tag(TAG_BYTES, info.type or b""), vendor=_VENDOR, model=_MODEL
    )
    values = MeasurementValues(
        # The certificates keep the SVN two bytes wide by setting the upper one.
        svn=None if info.svn is None else Svn(info.svn & 0xFF),
        digests=tuple(Digest(SHA384, fwid.digest) for fwid in info.fwids or ()),
        raw_value=None if raw_value is None else RawValue(raw_value),
        integrity_registers=registers,
    )
    return MeasurementTriple(environment, (Measurement(key=key, values=values),))


def _extension(certificate: x509.Certificate, oid: str) -> bytes:
    found = certificate.extension(oid)
    if found is None:
        raise RotError(f"the device's certificate has no extension {oid}")
    return found.value


def _prepared(message: bytes, leaf: bytes, algorithm: Algorithm) -> bytes:
    """What a DPE takes to sign a message: its SHA-384 digest, or its external mu."""
    if algorithm is Algorithm.ECC:
        return hashlib.sha384(message).digest()
    _, public = x509.read_public_key(x509.read_certificate(leaf).spki)
    hasher = MLDSAMuHasher(MLDSA87PublicKey.from_public_bytes(public))
    hasher.update(message)
    return hasher.finalize()


def _issuer(leaf: bytes) -> str:
    return dict(x509.read_name(x509.read_certificate(leaf).subject)).get(
        x509.OID_SERIAL_NUMBER, "DPE leaf"
    )


def _checked_report(report: bytes) -> bytes:
    try:
        cose.decode(report)
    except cose.CoseError as error:
        raise RotError(f"key report: no COSE_Sign1: {error}") from None
    return report


def public_key_of(data: bytes, name: str) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, or of a bare one (DER). Raises RotError."""
    try:
        return x509.read_certificate(data).spki
    except DerError:
        pass
    try:
        x509.read_public_key(data)
    except DerError as error:
        raise RotError(f"{name}: neither a certificate nor a public key in DER: {error}") from None
    return data
