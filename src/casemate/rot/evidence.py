"""Evidence: an EAT in the OCP profile, signed under a DPE leaf, with everything that it rests on.

The token holds the verifier's nonce, the measurements as concise evidence, the PCR quote over the
same nonce with its log, the name of the anchor, and, for a key, the module's key report. Its
x5chain leads from the leaf over RT alias, FMC alias and LDevID to the IDevID, so that quote and
leaf hang on the same chain; a key report is bound by `casemate.formats.key_binding`.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PublicKey, MLDSAMuHasher

from casemate.formats import cose, eat, pcr_log, pcr_quote, x509
from casemate.formats.der_reader import DerError
from casemate.rot.boot import RootOfTrust
from casemate.rot.device_status import device_status, owner_info_digest, vendor_info_digest
from casemate.rot.errors import RotError
from casemate.rot.identity import Algorithm
from casemate.rot.runtime_dpe import RuntimeDpe, profile_of

#: The DPE label of the key that signs evidence.
EVIDENCE_LABEL = hashlib.sha384(b"casemate evidence").digest()
_VENDOR, _MODEL = "Casemate", "Caliptra 2.x root of trust"
_COSE_ALGORITHM = {Algorithm.ECC: cose.ESP384, Algorithm.MLDSA: cose.ML_DSA_87}


def quote_nonce(nonce: bytes) -> bytes:
    """The PCR quote's nonce for a verifier's: itself if it has 32 bytes, else its SHA-256."""
    return nonce if len(nonce) == pcr_quote.NONCE_SIZE else hashlib.sha256(nonce).digest()


def leaf_certificate(dpe: RuntimeDpe, algorithm: Algorithm) -> bytes:
    """The certificate (DER) of the key that signs evidence; the same until the next boot."""
    return dpe.certify(profile_of(algorithm), EVIDENCE_LABEL)


def evidence(
    root: RootOfTrust,
    dpe: RuntimeDpe,
    *,
    nonce: bytes,
    token_id: bytes,
    algorithm: Algorithm,
    anchor: str,
    idevid_certificate: bytes | None,
    key_report: bytes | None = None,
) -> bytes:
    """The token's bytes. `nonce` and `token_id` have 8 to 64 bytes.

    Raises RotError for another size or a key report that is no COSE_Sign1; BootError outside
    RUNTIME.
    """
    report = {} if key_report is None else {eat.KEY_REPORT: _checked_report(key_report)}
    profile = profile_of(algorithm)
    leaf = leaf_certificate(dpe, algorithm)
    measured = root.measured
    status = device_status(root.fuses, measured.cold_boot, root.rom)
    quote = root.quote(quote_nonce(nonce), algorithm)
    locked = root.fuses.debug_locked
    claims = eat.Claims(
        nonce=nonce,
        debug_status=(eat.DebugStatus.DISABLED_SINCE_BOOT if locked else eat.DebugStatus.ENABLED),
        measurements=(
            (eat.CONTENT_TYPE_CONCISE_EVIDENCE, eat.concise_evidence(measurements(root))),
        ),
        issuer=_issuer(leaf),
        cwt_id=token_id,
        ueid=root.fuses.ueid,
        private={
            eat.PCR_QUOTE: pcr_quote.encode(quote),
            eat.PCR_LOG: pcr_log.encode(root.pcrs.log),
            eat.DEVICE_STATUS_SIZE: len(status),
            eat.ANCHOR: anchor,
            **report,
        },
    )
    try:
        payload = eat.encode_claims(claims)
    except eat.EatError as error:
        raise RotError(f"evidence: {error}") from None
    protected = cose.protected_header(
        {cose.ALGORITHM: _COSE_ALGORITHM[algorithm], cose.CONTENT_TYPE: eat.CONTENT_TYPE_EAT_CWT}
    )
    to_be_signed = cose.to_be_signed(protected, payload)
    signature = dpe.sign(profile, EVIDENCE_LABEL, _prepared(to_be_signed, leaf, algorithm))
    chain = [leaf, *reversed(dpe.chain(profile))]
    if idevid_certificate is not None:
        chain.append(idevid_certificate)
    message = cose.Sign1(protected, payload, signature, {cose.X5CHAIN: chain})
    return cose.encode(message, tags=eat.TOKEN_TAGS)


def measurements(root: RootOfTrust) -> tuple[eat.Measurement, ...]:
    """What the token says was measured: the device's state by owner and vendor, FMC and RT."""
    measured, values = root.measured, root.pcrs.values
    cold_boot, current = measured.cold_boot, measured.current
    fuses = root.fuses

    def digest(value: bytes) -> tuple[tuple[int, bytes], ...]:
        return ((eat.SHA384, value),)

    return (
        eat.Measurement(
            class_id=b"CALIPTRA_2_X_FUSE_OWNER_INFO",
            vendor=_VENDOR,
            model=_MODEL,
            key=0,
            digests=digest(owner_info_digest(fuses, cold_boot.owner_pk_hash)),
        ),
        eat.Measurement(
            class_id=b"CALIPTRA_2_X_FUSE_VENDOR_INFO",
            vendor=_VENDOR,
            model=_MODEL,
            key=1,
            digests=digest(vendor_info_digest(fuses, cold_boot, root.rom)),
            raw_value=device_status(fuses, cold_boot, root.rom),
        ),
        eat.Measurement(
            class_id=b"CALIPTRA_2_X_FMC_FIRMWARE_INFO",
            vendor=_VENDOR,
            model=_MODEL,
            key=2,
            svn=cold_boot.svn,
            digests=digest(cold_boot.fmc_digest),
            integrity_registers={0: values[0], 1: values[1]},
        ),
        eat.Measurement(
            class_id=b"CALIPTRA_2_X_RT_FIRMWARE_INFO",
            vendor=_VENDOR,
            model=_MODEL,
            key=3,
            svn=current.svn,
            digests=digest(current.rt_digest),
            integrity_registers={2: values[2], 3: values[3]},
        ),
    )


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
