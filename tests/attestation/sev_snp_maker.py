"""Makes SEV-SNP platforms for tests: ARK, ASK (or ASVK), VCEK (or VLEK) and signed reports."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from casemate.attestation.endorsements import Endorsements, NamedBytes
from casemate.attestation.evidence.family import Context, Piece
from casemate.formats import der, sev_snp, x509
from casemate.formats.sev_snp import PlatformInfo, Policy, Product, Report, SigningKey
from tests.attestation.authorities import NOT_AFTER, NOT_BEFORE, Authority, rsa_key

AT = datetime(2026, 6, 1, tzinfo=UTC)
LEVELS = {"fmc": 1, "bootloader": 4, "tee": 2, "snp": 24, "microcode": 219}
_CPUS = {Product.MILAN: (0x19, 1, 1), Product.GENOA: (0x19, 0x11, 0), Product.TURIN: (0x1A, 2, 1)}
SMT_ALLOWED, MIGRATION_AGENT, DEBUG = 1 << 16, 1 << 18, 1 << 19
_RESERVED_ONE = 1 << 17


@functools.cache
def p384_key(label: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@dataclass(frozen=True)
class Platform:
    """One chip. `vlek` signs with a provider's key; `masked` hides the chip id in reports."""

    product: Product = Product.MILAN
    chip: bytes = bytes(range(64))
    levels: dict[str, int] = field(default_factory=lambda: dict(LEVELS))
    vlek: bool = False
    masked: bool = False
    maker: str = "a"
    not_before: str = NOT_BEFORE
    not_after: str = NOT_AFTER
    stated_levels: dict[str, int] | None = None
    stated_chip: bytes | None = None
    ask_path_length: int | None = 0

    @property
    def ark(self) -> Authority:
        return Authority(f"ARK-{self.product.value}", rsa_key(f"ark-{self.maker}"))

    @property
    def ask(self) -> Authority:
        line = "SEV-VLEK-" if self.vlek else "SEV-"
        return Authority(line + self.product.value, rsa_key(f"ask-{self.maker}"))

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        return p384_key(f"{self.maker}-{self.vlek}-{self.chip.hex()}")

    @property
    def chip_id(self) -> bytes:
        """The hardware id, padded to the report's 64 bytes."""
        return self.chip[: self.product.hardware_id_size].ljust(64, b"\0")

    @property
    def ark_certificate(self) -> NamedBytes:
        return NamedBytes(self.ark.certify(self.ark), "ark.der")

    @property
    def ask_certificate(self) -> NamedBytes:
        made = self.ark.certify(self.ask, serial=0x10001, path_length=self.ask_path_length)
        return NamedBytes(made, "ask.der")

    @property
    def signer_certificate(self) -> NamedBytes:
        levels = self.stated_levels or self.levels
        extensions = [_extension("2", der.element(0x16, self._stepping().encode()))]
        for name, arc in sev_snp.SPL_ARCS.items():
            if name in self.product.tcb_fields:
                extensions.append(_extension(f"3.{arc}", der.integer(levels[name])))
        if self.vlek:
            extensions.append(_extension("5", der.element(0x16, b"CN=provider.example")))
        else:
            chip = self.stated_chip or self.chip
            extensions.append(_extension("4", chip[: self.product.hardware_id_size]))
        made = self.ask.issue(
            "SEV-VLEK" if self.vlek else "SEV-VCEK",
            self.key,
            tuple(extensions),
            not_before=self.not_before,
            not_after=self.not_after,
        )
        return NamedBytes(made, "vlek.der" if self.vlek else "vcek.der")

    def _stepping(self) -> str:
        return self.product.value if self.vlek else f"{self.product.value}-B1"

    def endorsements(self, **changes: Any) -> Endorsements:
        """Its chain, with its root as the operator's anchor."""
        values: dict[str, Any] = {
            "anchors": (self.ark.anchor,),
            "certificates": (self.signer_certificate, self.ask_certificate, self.ark_certificate),
        }
        return Endorsements(**{**values, **changes})

    def context(self, *, at: datetime = AT, nonce: bytes | None = None, **changes: Any) -> Context:
        return Context(at=at, nonce=nonce, endorsements=self.endorsements(**changes))

    def report(self, *, version: int = 3, policy: int = SMT_ALLOWED, **fields: Any) -> Report:
        """A report that is not signed yet."""
        tcb = sev_snp.join_tcb(self.levels, self.product)
        report = Report(
            version=version,
            guest_svn=2,
            policy=Policy(policy | _RESERVED_ONE | 0x0137),
            family_id=b"\1" * 16,
            image_id=b"\2" * 16,
            vmpl=0,
            signature_algorithm=1,
            current_tcb=tcb,
            platform_info=PlatformInfo(0x25),
            author_key_enabled=False,
            mask_chip_key=False,
            signing_key=SigningKey.VLEK if self.vlek else SigningKey.VCEK,
            report_data=bytes(64),
            measurement=b"\x33" * 48,
            host_data=b"\x44" * 32,
            id_key_digest=b"\x55" * 48,
            author_key_digest=bytes(48),
            report_id=b"\x66" * 32,
            report_id_ma=b"\xff" * 32,
            reported_tcb=tcb,
            cpu=_CPUS[self.product] if version >= 3 else None,
            chip_id=bytes(64) if self.masked else self.chip_id,
            committed_tcb=tcb,
            current_version=(1, 55, 29),
            committed_version=(1, 55, 28),
            launch_tcb=tcb,
            launch_mitigations=3 if version >= 5 else None,
            current_mitigations=7 if version >= 5 else None,
        )
        return dataclasses.replace(report, **fields)

    def sign(self, report: Report) -> bytes:
        """A report's bytes under this platform's key."""
        made = self.key.sign(sev_snp.encode_signed_part(report), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(made)
        signature = r.to_bytes(48, "big") + s.to_bytes(48, "big")
        return sev_snp.encode(dataclasses.replace(report, signature=signature))

    def evidence(self, **fields: Any) -> Piece:
        """A signed report."""
        return Piece(self.sign(self.report(**fields)), "report.bin")


def _extension(arcs: str, value: bytes) -> x509.Extension:
    return x509.Extension(f"1.3.6.1.4.1.3704.1.{arcs}", False, value)
