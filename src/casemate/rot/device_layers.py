"""The DICE layers of one device while it boots: keys, names, requests and certificates, in order.

Each `make_` step takes the layer above it from `held`, notes the public boot status codes, and
signs. Which step runs when, and when a layer's keys are wiped, is `casemate.rot.boot`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from casemate.rot import csr_envelope, identity, ladder
from casemate.rot.boot_status import BootStatus
from casemate.rot.crypto import RotCrypto, Slot
from casemate.rot.firmware import ResetReason
from casemate.rot.fuses import Fuses
from casemate.rot.identity import Algorithm, LayerName, Measured, Subject
from casemate.rot.ladder import Layer

Note = Callable[[BootStatus, ResetReason], None]


class DeviceLayers:
    """What the layers have come to; `held` has those whose keys are still there."""

    def __init__(self, crypto: RotCrypto, fuses: Fuses, note: Note, *, make_requests: bool) -> None:
        """`note` is told each status; `make_requests` asks for requests and the CSR envelope."""
        self._crypto = crypto
        self._fuses = fuses
        self._tell = note
        self._make_requests = make_requests
        self.held: dict[LayerName, Layer] = {}
        self.subjects: dict[LayerName, dict[Algorithm, Subject]] = {}
        self.certificates: dict[tuple[LayerName, Algorithm], bytes] = {}
        self.requests: dict[tuple[LayerName, Algorithm], bytes] = {}
        self.csr_envelope: bytes | None = None

    def make_idevid(self, uds: Slot) -> Layer:
        """The IDevID from the UDS, which is wiped; its requests in the envelope if asked for."""
        layer = ladder.idevid(self._crypto, uds)
        self._crypto.erase(uds)
        self._note(BootStatus.IDEVID_CDI_DERIVATION_COMPLETE)
        self._note(BootStatus.IDEVID_KEY_PAIR_DERIVATION_COMPLETE)
        self._add(LayerName.IDEVID, layer)
        self._note(BootStatus.IDEVID_SUBJECT_ID_SN_GENERATION_COMPLETE)
        self._note(BootStatus.IDEVID_SUBJECT_KEY_ID_GENERATION_COMPLETE)
        if self._make_requests:
            self._request(LayerName.IDEVID, None)
            self.csr_envelope = csr_envelope.seal(
                self._crypto,
                self.requests[LayerName.IDEVID, Algorithm.ECC],
                self.requests[LayerName.IDEVID, Algorithm.MLDSA],
            )
            self._note(BootStatus.IDEVID_MAKE_CSR_ENVELOPE_COMPLETE)
            self._note(BootStatus.IDEVID_SEND_CSR_ENVELOPE_COMPLETE)
        self._note(BootStatus.IDEVID_DERIVATION_COMPLETE)
        return layer

    def make_ldevid(self, field_entropy: Slot) -> Layer:
        """The LDevID from the IDevID's CDI and the field entropy, which is wiped."""
        layer = ladder.ldevid(self._crypto, self.held[LayerName.IDEVID].cdi, field_entropy)
        self._crypto.erase(field_entropy)
        self._note(BootStatus.LDEVID_CDI_DERIVATION_COMPLETE)
        self._note(BootStatus.LDEVID_KEY_PAIR_DERIVATION_COMPLETE)
        self._add(LayerName.LDEVID, layer)
        self._note(BootStatus.LDEVID_SUBJECT_ID_SN_GENERATION_COMPLETE)
        self._note(BootStatus.LDEVID_SUBJECT_KEY_ID_GENERATION_COMPLETE)
        self._request(LayerName.LDEVID, None)
        self._certify(LayerName.LDEVID, LayerName.IDEVID, None)
        self._note(BootStatus.LDEVID_CERT_SIG_GENERATION_COMPLETE)
        self._note(BootStatus.LDEVID_DERIVATION_COMPLETE)
        return layer

    def make_fmc_alias(self, pcr0: bytes, measured: Measured) -> None:
        """The FMC alias from the LDevID's CDI and PCR 0."""
        layer = ladder.fmc_alias(self._crypto, self.held[LayerName.LDEVID].cdi, pcr0)
        self._note(BootStatus.FMC_ALIAS_DERIVE_CDI_COMPLETE)
        self._note(BootStatus.FMC_ALIAS_KEY_PAIR_DERIVATION_COMPLETE)
        self._add(LayerName.FMC_ALIAS, layer)
        self._note(BootStatus.FMC_ALIAS_SUBJECT_ID_SN_GENERATION_COMPLETE)
        self._note(BootStatus.FMC_ALIAS_SUBJECT_KEY_ID_GENERATION_COMPLETE)
        self._request(LayerName.FMC_ALIAS, measured)
        self._certify(LayerName.FMC_ALIAS, LayerName.LDEVID, measured)
        self._note(BootStatus.FMC_ALIAS_CERT_SIG_GENERATION_COMPLETE)
        self._note(BootStatus.FMC_ALIAS_DERIVATION_COMPLETE)

    def make_rt_alias(self, measured: Measured, reason: ResetReason) -> None:
        """The RT alias from the FMC's CDI and the RT digest; the one before it is wiped."""
        self._note(BootStatus.RT_MEASUREMENT_COMPLETE, reason)
        self.erase(LayerName.RT_ALIAS)
        fmc = self.held[LayerName.FMC_ALIAS]
        layer = ladder.rt_alias(self._crypto, fmc.cdi, measured.current.rt_digest)
        self._note(BootStatus.RT_ALIAS_DERIVE_CDI_COMPLETE, reason)
        self._note(BootStatus.RT_ALIAS_KEY_PAIR_DERIVATION_COMPLETE, reason)
        self._add(LayerName.RT_ALIAS, layer)
        self._note(BootStatus.RT_ALIAS_SUBJECT_ID_SN_GENERATION_COMPLETE, reason)
        self._note(BootStatus.RT_ALIAS_SUBJECT_KEY_ID_GENERATION_COMPLETE, reason)
        self._request(LayerName.RT_ALIAS, measured)
        self._certify(LayerName.RT_ALIAS, LayerName.FMC_ALIAS, measured)
        self._note(BootStatus.RT_ALIAS_CERT_SIG_GENERATION_COMPLETE, reason)
        self._note(BootStatus.RT_ALIAS_DERIVATION_COMPLETE, reason)

    def erase(self, *names: LayerName) -> None:
        """Wipe the CDI and keys of layers; names and certificates stay."""
        for name in names:
            if layer := self.held.pop(name, None):
                self._crypto.erase(layer.cdi, layer.ecc_key, layer.mldsa_key)

    def _note(self, status: BootStatus, reason: ResetReason = ResetReason.COLD) -> None:
        self._tell(status, reason)

    def _add(self, name: LayerName, layer: Layer) -> None:
        self.held[name] = layer
        self.subjects[name] = identity.subjects(name, layer, self._fuses)

    def _request(self, name: LayerName, measured: Measured | None) -> None:
        if not self._make_requests:
            return
        for algorithm, subject in self.subjects[name].items():
            self.requests[name, algorithm] = identity.request(
                self._crypto, subject, self._fuses, measured
            )

    def _certify(self, name: LayerName, by: LayerName, measured: Measured | None) -> None:
        for algorithm, subject in self.subjects[name].items():
            self.certificates[name, algorithm] = identity.certificate(
                self._crypto, subject, self.subjects[by][algorithm], self._fuses, measured
            )
