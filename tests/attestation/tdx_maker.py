"""Makes TDX platforms for tests: root, PCK chain, quoting enclave, collateral and quotes.

dcap-qvl takes another root than Intel's, so every signature here is real.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from casemate.attestation.endorsements import Endorsements, NamedBytes, TrustAnchor
from casemate.attestation.evidence.family import Context, Piece
from casemate.formats import der, tdx_quote
from casemate.formats.tdx_quote import Attributes, Quote, TdReport

AT = datetime(2026, 6, 15, tzinfo=UTC)
ISSUED, ENDS = datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
FMSPC = bytes.fromhex("b0c06f000000")
_SGX = "1.2.840.113741.1.13.1"
DEBUG, SEPT_VE_DISABLE = 1, 1 << 28
SERIAL_PCK, SERIAL_PCK_CA = 0x1001, 0x1002


@functools.cache
def p256_key(label: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def _name(text: str) -> pyca.Name:
    return pyca.Name([pyca.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass(frozen=True)
class Issuer:
    """An authority of the PKI."""

    common_name: str
    key: ec.EllipticCurvePrivateKey

    def issue(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        serial: int,
        authority: bool = False,
        sgx: bytes | None = None,
        ends: datetime = datetime(2035, 1, 1, tzinfo=UTC),
    ) -> pyca.Certificate:
        usage = pyca.KeyUsage(
            not authority, False, False, False, False, authority, authority, False, False
        )
        builder = (
            pyca.CertificateBuilder()
            .issuer_name(_name(self.common_name))
            .subject_name(_name(subject))
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
            .not_valid_after(ends)
            .add_extension(pyca.BasicConstraints(authority, None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                pyca.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .add_extension(
                pyca.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if sgx is not None:
            extension = pyca.UnrecognizedExtension(pyca.ObjectIdentifier(_SGX), sgx)
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())

    def revocation_list(self, *serials: int, ends: datetime) -> bytes:
        builder = (
            pyca.CertificateRevocationListBuilder()
            .issuer_name(_name(self.common_name))
            .last_update(ISSUED)
            .next_update(ends)
            .add_extension(pyca.CRLNumber(1), critical=False)
            .add_extension(
                pyca.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        for serial in serials:
            entry = pyca.RevokedCertificateBuilder().serial_number(serial).revocation_date(ISSUED)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


def pem(*certificates: pyca.Certificate) -> bytes:
    return b"".join(found.public_bytes(Encoding.PEM) for found in certificates)


@dataclass(frozen=True)
class TdxPlatform:
    """One platform and what its vendor says of it. `status` is of the TCB level that it meets."""

    maker: str = "a"
    status: str = "UpToDate"
    advisories: tuple[str, ...] = ()
    fmspc: bytes = FMSPC
    revoked: tuple[int, ...] = ()
    ends: datetime = ENDS
    pck_ends: datetime = datetime(2035, 1, 1, tzinfo=UTC)
    cpu_svn: int = 3
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Issuer:
        return Issuer("Test SGX Root CA", p256_key(f"root-{self.maker}"))

    @property
    def pck_ca(self) -> Issuer:
        return Issuer("Test SGX PCK Platform CA", p256_key(f"pck-ca-{self.maker}"))

    @property
    def pck_key(self) -> ec.EllipticCurvePrivateKey:
        return p256_key(f"pck-{self.maker}")

    @property
    def root_certificate(self) -> pyca.Certificate:
        root = self.root
        return root.issue(root.common_name, root.key, serial=1, authority=True)

    @property
    def pck_ca_certificate(self) -> pyca.Certificate:
        ca = self.pck_ca
        return self.root.issue(ca.common_name, ca.key, serial=SERIAL_PCK_CA, authority=True)

    @property
    def pck_certificate(self) -> pyca.Certificate:
        return self.pck_ca.issue(
            "Test PCK", self.pck_key, serial=SERIAL_PCK, sgx=self._sgx(), ends=self.pck_ends
        )

    def _sgx(self) -> bytes:
        def entry(arcs: str, value: bytes) -> bytes:
            return der.sequence(der.object_identifier(f"{_SGX}.{arcs}"), value)

        components = [entry(f"2.{number}", der.integer(self.cpu_svn)) for number in range(1, 17)]
        components.append(entry("2.17", der.integer(11)))
        components.append(entry("2.18", der.octet_string(bytes((self.cpu_svn,)) * 16)))
        return der.sequence(
            entry("1", der.octet_string(b"\x81" * 16)),
            entry("2", der.sequence(*components)),
            entry("3", der.octet_string(bytes(2))),
            entry("4", der.octet_string(self.fmspc)),
            entry("5", der.element(0x0A, b"\0")),
        )

    @property
    def chain(self) -> bytes:
        return pem(self.pck_certificate, self.pck_ca_certificate, self.root_certificate)

    @property
    def anchor(self) -> TrustAnchor:
        spki = self.root.key.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        return TrustAnchor(spki, "test root", purposes=frozenset({"tdx"}))

    # --- collateral

    def _dates(self) -> dict[str, str]:
        form = "%Y-%m-%dT%H:%M:%SZ"
        return {"issueDate": ISSUED.strftime(form), "nextUpdate": self.ends.strftime(form)}

    def tcb_info(self) -> str:
        level = {
            "tcb": {
                "sgxtcbcomponents": [{"svn": 3}] * 16,
                "tdxtcbcomponents": [{"svn": svn} for svn in (1, 0, 1, *[0] * 13)],
                "pcesvn": 11,
            },
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": self.status,
            "advisoryIDs": list(self.advisories),
        }
        module = {
            "mrsigner": "00" * 48,
            "attributes": "00" * 8,
            "attributesMask": "FF" * 8,
        }
        return json.dumps(
            {
                "id": "TDX",
                "version": 3,
                **self._dates(),
                "fmspc": self.fmspc.hex().upper(),
                "pceId": "0000",
                "tcbType": 0,
                "tcbEvaluationDataNumber": 17,
                "tdxModule": module,
                "tdxModuleIdentities": [],
                "tcbLevels": [level],
            },
            separators=(",", ":"),
        )

    def qe_identity(self) -> str:
        level = {
            "tcb": {"isvsvn": 4},
            "tcbDate": "2026-01-01T00:00:00Z",
            "tcbStatus": "UpToDate",
        }
        return json.dumps(
            {
                "id": "TD_QE",
                "version": 2,
                **self._dates(),
                "tcbEvaluationDataNumber": 17,
                "miscselect": "00000000",
                "miscselectMask": "FFFFFFFF",
                "attributes": "11" + "00" * 15,
                "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
                "mrsigner": "DC" * 32,
                "isvprodid": 2,
                "tcbLevels": [level],
            },
            separators=(",", ":"),
        )

    def collateral(self, **changes: Any) -> NamedBytes:
        key = p256_key(f"tcb-{self.maker}")
        signer = self.root.issue("Test SGX TCB Signing", key, serial=0x2001)
        issuer_chain = pem(signer, self.root_certificate).decode()
        value = {
            "pck_crl_issuer_chain": pem(self.pck_ca_certificate, self.root_certificate).decode(),
            "root_ca_crl": self.root.revocation_list(*self.revoked, ends=self.ends).hex(),
            "pck_crl": self.pck_ca.revocation_list(*self.revoked, ends=self.ends).hex(),
            "tcb_info_issuer_chain": issuer_chain,
            "tcb_info": self.tcb_info(),
            "tcb_info_signature": sign(key, self.tcb_info().encode()).hex(),
            "qe_identity_issuer_chain": issuer_chain,
            "qe_identity": self.qe_identity(),
            "qe_identity_signature": sign(key, self.qe_identity().encode()).hex(),
        }
        return NamedBytes(json.dumps({**value, **changes}).encode(), "collateral.json")

    def endorsements(self, **changes: Any) -> Endorsements:
        values: dict[str, Any] = {
            "anchors": (self.anchor,),
            "tdx_collateral": (self.collateral(),),
        }
        return Endorsements(**{**values, **changes})

    def context(self, *, at: datetime = AT, nonce: bytes | None = None, **changes: Any) -> Context:
        return Context(at=at, nonce=nonce, endorsements=self.endorsements(**changes))

    # --- evidence

    def report(self, *, body_15: bool = False, attributes: int = 0, **fields: Any) -> TdReport:
        made = TdReport(
            tee_tcb_svn=b"\3\0\3" + bytes(13),
            mr_seam=b"\x11" * 48,
            mr_signer_seam=bytes(48),
            seam_attributes=bytes(8),
            attributes=Attributes(attributes | SEPT_VE_DISABLE),
            xfam=0x602E7,
            mr_td=b"\x22" * 48,
            mr_config_id=bytes(48),
            mr_owner=bytes(48),
            mr_owner_config=bytes(48),
            rtmrs=(b"\x30" * 48, b"\x31" * 48, bytes(48), bytes(48)),
            report_data=bytes(64),
            tee_tcb_svn_2=b"\3\0\3" + bytes(13) if body_15 else None,
            mr_service_td=bytes(48) if body_15 else None,
        )
        return dataclasses.replace(made, **fields)

    def quote(self, report: TdReport, *, version: int = 4, qe_svn: int = 6) -> bytes:
        """A quote's bytes under this platform's quoting enclave."""
        key = p256_key(f"attestation-{self.maker}")
        authentication = bytes(range(32))
        commitment = hashlib.sha256(point(key) + authentication).digest()
        qe_report = struct.pack(
            "<16sI28s16s32s32s32s96sHH60s64s",
            bytes(16),
            0,
            b"",
            b"\x11" + bytes(15),
            b"\x77" * 32,
            b"",
            b"\xdc" * 32,
            b"",
            2,
            qe_svn,
            b"",
            commitment,
        )
        signed = tdx_quote.signed_part(version, report)
        parts = Quote(
            version=version,
            user_data=bytes(20),
            report=report,
            signed_size=len(signed),
            signature=sign(key, signed),
            attestation_key=point(key),
            qe_report=qe_report,
            qe_signature=sign(self.pck_key, qe_report),
            qe_authentication_data=authentication,
            chain=(),
        )
        return tdx_quote.encode(parts, signed, self.chain + b"\0")

    def evidence(self, *, version: int = 4, **fields: Any) -> Piece:
        return Piece(self.quote(self.report(**fields), version=version), "quote.bin")
