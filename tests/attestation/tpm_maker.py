"""Makes TPM quotes and event logs for tests: a virtual TPM with PCRs that a log extends."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from casemate.attestation.evidence.family import Piece
from casemate.formats import tcg_event_log, tpm
from casemate.formats.tcg_event_log import Event, EventLog
from casemate.formats.tpm import Algorithm, Attribute, PcrSelection, Quote
from casemate.formats.tpm_quote_json import JsonQuote, encode
from tests.attestation.authorities import PrivateKey, spki_of

AK_ATTRIBUTES = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.RESTRICTED
    | Attribute.SIGN
)
_HASHES = {Algorithm.SHA256: hashes.SHA256(), Algorithm.SHA384: hashes.SHA384()}


def secure_boot_event(banks: tuple[Algorithm, ...], value: bytes) -> Event:
    name = "SecureBoot".encode("utf-16-le")
    data = bytes(16) + struct.pack("<QQ", len(name) // 2, len(value)) + name + value
    return measured(7, 0x80000001, data, banks)


def measured(pcr: int, kind: int, data: bytes, banks: tuple[Algorithm, ...]) -> Event:
    digests = {bank: hashlib.new(tpm.HASHES[bank][0], data).digest() for bank in banks}
    return Event(pcr, kind, digests, data)


@dataclass
class VirtualTpm:
    """PCR banks, an attestation key and the log of what was extended."""

    key: PrivateKey
    banks: tuple[Algorithm, ...] = (Algorithm.SHA256,)
    scheme: Algorithm = Algorithm.RSASSA
    hash: Algorithm = Algorithm.SHA256
    events: list[Event] = field(default_factory=list)

    def boot(self, secure_boot: bytes = b"\1") -> VirtualTpm:
        """Measure what firmware measures."""
        self.events.append(measured(0, 8, b"firmware 1", self.banks))
        self.events.append(secure_boot_event(self.banks, secure_boot))
        self.events.append(measured(4, 0x80000003, b"boot loader", self.banks))
        return self

    @property
    def log(self) -> EventLog:
        if self.banks == (Algorithm.SHA1,):
            return EventLog(tuple(self.events), self.banks, False)
        first = tcg_event_log.spec_id_event(self.banks)
        return EventLog((first, *self.events), self.banks, True)

    def pcrs(self, bank: Algorithm) -> dict[int, bytes]:
        values = {n: tcg_event_log.start_value(n, tpm.HASHES[bank][1]) for n in range(24)}
        for event in self.events:
            if event.type != tcg_event_log.EV_NO_ACTION:
                name = tpm.HASHES[bank][0]
                joined = values[event.pcr] + event.digests[bank]
                values[event.pcr] = hashlib.new(name, joined).digest()
        return values

    def quote(
        self, nonce: bytes, selected: tuple[int, ...] = tuple(range(24)), **fields: object
    ) -> bytes:
        """TPMS_ATTEST over the selected PCRs of every bank."""
        values = b"".join(self.pcrs(bank)[pcr] for bank in self.banks for pcr in selected)
        digest = hashlib.new(tpm.HASHES[self.hash][0], values).digest()
        return tpm.encode_quote(
            Quote(
                signer=b"\x00\x0b" + bytes(32),
                qualifying_data=nonce,
                clock=2_167_057,
                reset_count=3,
                restart_count=0,
                safe=True,
                firmware_version=0x20200312_00120003,
                selections=tuple(PcrSelection(bank, selected) for bank in self.banks),
                pcr_digest=digest,
            )
        )

    def raw_signature(self, message: bytes) -> bytes:
        algorithm = _HASHES[self.hash]
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(message, ec.ECDSA(algorithm))
        if self.scheme is Algorithm.RSAPSS:
            scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
            return self.key.sign(message, scheme, algorithm)
        return self.key.sign(message, padding.PKCS1v15(), algorithm)

    def signature(self, message: bytes) -> bytes:
        """TPMT_SIGNATURE."""
        raw = self.raw_signature(message)
        if isinstance(self.key, rsa.RSAPrivateKey):
            return tpm.encode_rsa_signature(self.scheme, self.hash, raw)
        r, s = (n.to_bytes(48, "big") for n in utils.decode_dss_signature(raw))
        return tpm.encode_ecdsa_signature(self.hash, r, s)

    def json_quote(self, nonce: bytes) -> Piece:
        message = self.quote(nonce)
        pcrs = tuple(self.pcrs(Algorithm.SHA256).values())
        return Piece(encode(JsonQuote(message, self.raw_signature(message), pcrs)), "quote.json")

    def values(self, selected: tuple[int, ...] = tuple(range(24))) -> Piece:
        """PCR values as JSON."""
        made = {
            tpm.HASHES[bank][0]: {str(n): self.pcrs(bank)[n].hex() for n in selected}
            for bank in self.banks
        }
        return Piece(json.dumps(made).encode(), "pcrs.json")

    def log_piece(self) -> Piece:
        return Piece(tcg_event_log.encode(self.log), "binary_bios_measurements")

    def public_area(self, attributes: Attribute = AK_ATTRIBUTES) -> Piece:
        """TPM2B_PUBLIC."""
        numbers = self.key.public_key().public_numbers()
        if isinstance(numbers, rsa.RSAPublicNumbers):
            head = struct.pack(">HHIH", Algorithm.RSA, Algorithm.SHA256, attributes, 0)
            scheme = struct.pack(">HHHHI", Algorithm.NULL, self.scheme, self.hash, 2048, 0)
            modulus = numbers.n.to_bytes(256, "big")
            area = head + scheme + struct.pack(">H", len(modulus)) + modulus
        else:
            size = numbers.curve.key_size // 8
            curve = {256: 3, 384: 4}[numbers.curve.key_size]
            head = struct.pack(">HHIH", Algorithm.ECC, Algorithm.SHA256, attributes, 0)
            scheme = struct.pack(
                ">HHHHH", Algorithm.NULL, Algorithm.ECDSA, self.hash, curve, Algorithm.NULL
            )
            point = (n.to_bytes(size, "big") for n in (numbers.x, numbers.y))
            area = head + scheme + b"".join(struct.pack(">H", size) + part for part in point)
        return Piece(struct.pack(">H", len(area)) + area, "ak.pub")

    @property
    def spki(self) -> bytes:
        return spki_of(self.key)
