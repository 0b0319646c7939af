"""The runtime's DPE: both profiles over one set of contexts, begun as Caliptra's runtime begins.

The root context holds the RT PCRs (type RTMR: current the current PCR, cumulative the journey) and
belongs to the firmware itself; under it the digest of the initial configuration (type CCIV), owned
by the privileged caller (PL0); under that one context for each measurement stashed before the
firmware ran. Measurements stashed later go below.

Source: caliptra-sw runtime/src/drivers.rs, stash_measurement.rs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

from casemate.formats import x509
from casemate.formats.dpe import (
    DEFAULT_HANDLE,
    CertificateFormat,
    CertifiedKey,
    CertifyKey,
    DeriveContext,
    DeriveFlags,
    Profile,
    Sign,
    Signature,
    Support,
)
from casemate.rot.boot import RootOfTrust
from casemate.rot.dpe.contexts import ContextTable, TciNode
from casemate.rot.dpe.instance import DpeInstance
from casemate.rot.dpe.keys import DpeKeys, ExportedCdiSlot
from casemate.rot.dpe.platform import Issuer, Platform
from casemate.rot.firmware import VerifiedFirmware
from casemate.rot.identity import Algorithm, LayerName
from casemate.rot.pcr import RT_CURRENT, RT_JOURNEY

#: The locality of the firmware itself.
CALIPTRA_LOCALITY = 0xFFFF_FFFF
_RTMR, _CCIV = (int.from_bytes(name, "big") for name in (b"RTMR", b"CCIV"))
_VENDOR_ID = int.from_bytes(b"CTRA", "big")
_BELOW = (
    DeriveFlags.MAKE_DEFAULT
    | DeriveFlags.CHANGE_LOCALITY
    | DeriveFlags.ALLOW_NEW_CONTEXT_TO_EXPORT
    | DeriveFlags.INPUT_ALLOW_X509
    | DeriveFlags.ALLOW_RECURSIVE
)

_ALGORITHMS = {Profile.P384_SHA384: Algorithm.ECC, Profile.ML_DSA_87: Algorithm.MLDSA}


def profile_of(algorithm: Algorithm) -> Profile:
    """The DPE profile of a signature algorithm."""
    return next(profile for profile, found in _ALGORITHMS.items() if found is algorithm)


def configuration_digest(firmware: VerifiedFirmware) -> bytes:
    """SHA-384 over what the bundle configures: privileged caller, flags, addresses.

    The chip also hashes the callers that the integrator has locked; this model has none.
    """
    words = (
        firmware.pl0_pauser,
        firmware.flags,
        firmware.fmc_load_address,
        firmware.fmc_entry_point,
        firmware.rt_load_address,
        firmware.rt_entry_point,
    )
    return hashlib.sha384(b"".join(word.to_bytes(4, "little") for word in words)).digest()


class RuntimeDpe:
    """The DPE of a booted device."""

    def __init__(self, root: RootOfTrust, *, random: Callable[[int], bytes]) -> None:
        """Begin from a device in RUNTIME. `random` gives that many unpredictable bytes.

        Raises BootError in another state, DpeError if there are more measurements than contexts.
        """
        self._root = root
        firmware = root.firmware
        self.pl0_locality = firmware.pl0_pauser
        contexts = ContextTable(random)
        exported = ExportedCdiSlot(random)
        self._instances = {
            profile: self._instance(profile, contexts, exported) for profile in _ALGORITHMS
        }
        first = self.instance(Profile.P384_SHA384)
        first.auto_initialize(CALIPTRA_LOCALITY)
        place = contexts.find(DEFAULT_HANDLE, CALIPTRA_LOCALITY)
        values = root.pcrs.values
        contexts[place] = dataclasses.replace(
            contexts[place],
            allow_x509=True,
            tci=dataclasses.replace(
                contexts[place].tci,
                tci_type=_RTMR,
                current=values[RT_CURRENT],
                cumulative=values[RT_JOURNEY],
            ),
        )
        self._derive(CALIPTRA_LOCALITY, configuration_digest(firmware), _CCIV, 0)
        for stashed in root.pcrs.measurements:
            kind = int.from_bytes(stashed.metadata, "little")
            self._derive(self.pl0_locality, stashed.entry.data, kind, 0)

    def instance(self, profile: Profile) -> DpeInstance:
        """The DPE of one profile; both see the same contexts."""
        return self._instances[profile]

    def stash(self, measurement: bytes, *, metadata: bytes, svn: int = 0) -> None:
        """STASH_MEASUREMENT of the runtime: a new default context of PL0, and PCR 31.

        Raises DpeError (PCR 31 stays as it was), PcrError for a wrong size.
        """
        kind = int.from_bytes(metadata, "little")
        self._derive(self.pl0_locality, measurement, kind, svn)
        self._root.stash_measurement(measurement, metadata=metadata, svn=svn)

    def measurements(self) -> tuple[TciNode, ...]:
        """What leads to PL0's default context, the root first."""
        first = self.instance(Profile.P384_SHA384)
        place = first.contexts.find(DEFAULT_HANDLE, self.pl0_locality)
        return tuple(first.measurements_of(place))

    def certify(
        self,
        profile: Profile,
        label: bytes,
        form: CertificateFormat = CertificateFormat.X509,
    ) -> bytes:
        """The certificate or CSR (DER) of the key that a label (48 bytes) selects for PL0.

        Raises DpeError.
        """
        command = CertifyKey(DEFAULT_HANDLE, label, form)
        answer = self.instance(profile).run(self.pl0_locality, command)
        if not isinstance(answer, CertifiedKey):
            raise TypeError(f"CertifyKey answered {type(answer).__name__}")
        return answer.certificate

    def sign(self, profile: Profile, label: bytes, prepared: bytes) -> bytes:
        """A signature of that key over a SHA-384 digest (48 bytes) or an external mu (64).

        Raises DpeError.
        """
        command = Sign(DEFAULT_HANDLE, label, prepared)
        answer = self.instance(profile).run(self.pl0_locality, command)
        if not isinstance(answer, Signature):
            raise TypeError(f"Sign answered {type(answer).__name__}")
        return answer.signature

    def chain(self, profile: Profile) -> tuple[bytes, ...]:
        """The certificates of LDevID, FMC alias and RT alias (DER), the topmost first."""
        algorithm = _ALGORITHMS[profile]
        certificates = self._root.certificates
        return tuple(certificates[layer, algorithm] for layer in list(LayerName)[1:])

    def _instance(
        self, profile: Profile, contexts: ContextTable, exported: ExportedCdiSlot
    ) -> DpeInstance:
        root, algorithm = self._root, _ALGORITHMS[profile]
        runtime = root.rt_alias
        subject = root.subjects[LayerName.RT_ALIAS][algorithm]
        own = x509.read_certificate(root.certificates[LayerName.RT_ALIAS, algorithm])
        not_before, not_after = root.firmware.validity
        issuer = Issuer(
            name=subject.name,
            key_identifier=subject.key_id,
            issuer_name=own.issuer,
            serial_number=subject.certificate_serial,
            not_before=not_before,
            not_after=not_after,
        )
        alias = runtime.ecc_key if algorithm is Algorithm.ECC else runtime.mldsa_key
        return DpeInstance(
            profile=profile,
            support=Support.everything(),
            keys=DpeKeys(profile, root.crypto, runtime.cdi, alias, exported),
            platform=Platform(issuer, b"".join(self.chain(profile)), root.fuses.ueid, _VENDOR_ID),
            contexts=contexts,
        )

    def _derive(self, locality: int, measurement: bytes, kind: int, svn: int) -> None:
        command = DeriveContext(
            handle=DEFAULT_HANDLE,
            measurement=measurement,
            flags=_BELOW,
            tci_type=kind,
            target_locality=self.pl0_locality,
            svn=svn,
        )
        self.instance(Profile.P384_SHA384).run(locality, command)
